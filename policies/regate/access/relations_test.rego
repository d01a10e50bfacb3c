package regate.access_test

import data.regate.inputs_test as inputs

test_agents_read if decide(["agents"], "select", inputs.reading([])).action == "allow"

test_agents_do_not_write if {
	denied := decide(["agents"], "update", {
		"effects": ["read", "write"], "filtered": true,
		"relations": [inputs.relation("orders", ["select", "update"])],
	})
	denied.rule == "regate.access.relations"
	contains(denied.reason, "public.orders")
}

test_a_list_grants_what_it_names if {
	decide(["agents"], "insert", {"effects": ["write"], "relations": [inputs.relation("scratch", ["insert"])]}).action == "allow"
}

test_a_name_is_more_specific_than_a_star if {
	decide(["engineers"], "insert", {"effects": ["write"], "relations": [inputs.relation("orders", ["insert"])]}).action == "allow"
	decide(["engineers"], "insert", {"effects": ["write"], "relations": [inputs.relation("other", ["insert"])]}).action == "approve"
}

test_a_longer_pattern_is_more_specific_than_a_shorter_one if {
	decide(["engineers"], "insert", {"effects": ["write"], "relations": [inputs.relation("secret_keys", ["insert"])]}).action == "deny"
}

test_rights_of_several_groups_add_up if {
	decide(["agents", "engineers"], "insert", {"effects": ["write"], "relations": [inputs.relation("scratch", ["insert"])]}).action == "allow"
}

test_one_denied_relation_denies_the_statement if {
	denied := decide(["agents"], "insert", {
		"effects": ["read", "write"],
		"relations": [inputs.relation("scratch", ["insert"]), inputs.relation("orders", ["delete"])],
	})
	denied.action == "deny"
}

test_ddl_needs_its_grant if {
	access := {"effects": ["ddl"], "relations": [inputs.relation("t", ["create"])]}
	decide(["agents"], "create", access).action == "deny"
	decide(["engineers"], "create", access).action == "approve"
	decide(["admins"], "create", access).action == "allow"
}

test_ddl_without_a_relation_needs_its_grant if {
	decide(["agents"], "createextension", {"effects": ["ddl"]}).action == "deny"
	decide(["engineers"], "createextension", {"effects": ["ddl"]}).action == "approve"
	decide(["admins"], "createextension", {"effects": ["ddl"]}).action == "allow"
}

test_an_unknown_action_counts_as_ddl if {
	decide(["agents"], "select", {"relations": [inputs.relation("t", ["frobnicate"])]}).action == "deny"
}

test_a_grant_on_a_view_is_a_grant_on_what_it_reads if {
	groups := {"viewers": {"read": ["public.v"]}}
	base := object.union(inputs.relation("users", ["select"]), {"through": "view"})
	access := {"relations": [inputs.relation("v", ["select"]), base]}
	result := inputs.judge(inputs.statement(["viewers"], "select", access), groups, {})
	result.action == "allow"
}

test_what_a_function_reads_needs_a_grant_unless_the_function_has_one if {
	base := object.union(inputs.relation("users", ["select"]), {"through": "function"})
	access := {"relations": [base], "functions": [inputs.function_of("public", "f", "volatile")]}
	asked := inputs.statement(["callers"], "select", access)
	denied := inputs.judge(asked, {"callers": {"read": []}}, {})
	denied.action == "deny"
	allowed := inputs.judge(asked, {"callers": {"read": [], "functions": {"public.f": "allow"}}}, {})
	allowed.action == "allow"
}

test_a_relation_without_the_field_through_needs_a_grant if {
	bare := object.remove(inputs.relation("orders", ["delete"]), ["through"])
	decide(["agents"], "delete", {"effects": ["write"], "filtered": true, "relations": [bare]}).action == "deny"
}

test_a_relation_without_an_id_is_known_by_its_names if {
	bare := object.remove(inputs.relation("orders", ["delete"]), ["id"])
	decide(["agents"], "delete", {"effects": ["write"], "filtered": true, "relations": [bare]}).action == "deny"
}

test_a_star_reads_catalogs if {
	decide(["agents"], "select", {"relations": [inputs.relation_in("pg_catalog", "pg_class", ["select"])]}).action == "allow"
}

test_a_star_writes_no_catalog if {
	access := {"effects": ["write"], "filtered": true, "relations": [inputs.relation_in("pg_catalog", "pg_settings", ["update"])]}
	decide(["admins"], "update", access).action == "deny"
}

test_catalogs_that_hold_values_are_closed if {
	access := {"relations": [inputs.relation_in("pg_catalog", "pg_stats", ["select"])]}
	decide(["agents"], "select", access).rule == "regate.access.catalogs"
	decide(["admins"], "select", access).action == "allow"
}

test_toast_tables_hold_values if {
	access := {"relations": [inputs.relation_in("pg_toast", "pg_toast_16384", ["select"])]}
	decide(["agents"], "select", access).rule == "regate.access.catalogs"
}

test_the_query_of_other_sessions_is_closed_the_rest_is_open if {
	column := {"schema": "pg_catalog", "relation": "pg_stat_activity", "name": "query", "uses": ["output"], "through": null}
	relation := inputs.relation_in("pg_catalog", "pg_stat_activity", ["select"])
	decide(["agents"], "select", {"relations": [relation], "columns": [column]}).rule == "regate.access.catalogs"
	decide(["agents"], "select", {"relations": [relation]}).action == "allow"
}

test_a_catalog_granted_by_name_is_open if {
	access := {"relations": [inputs.relation_in("pg_catalog", "pg_stats", ["select"])]}
	result := inputs.judge(inputs.statement(["dba"], "select", access), {"dba": {"read": ["*", "pg_catalog.pg_stats"]}}, {})
	result.action == "allow"
}

test_a_catalog_that_holds_values_is_closed_behind_a_function if {
	base := object.union(inputs.relation_in("pg_catalog", "pg_stats", ["select"]), {"through": "function"})
	access := {"relations": [base], "functions": [inputs.function_of("public", "ps", "volatile")]}
	asked := inputs.statement(["readers"], "select", access)
	denied := inputs.judge(asked, {"readers": {"read": ["*"]}}, {})
	denied.rule == "regate.access.catalogs"
	allowed := inputs.judge(asked, {"readers": {"read": ["*"], "functions": {"public.ps": "allow"}}}, {})
	allowed.action == "allow"
}

test_a_catalog_that_holds_values_is_closed_behind_a_trigger if {
	base := object.union(inputs.relation_in("pg_catalog", "pg_stats", ["select"]), {"through": "trigger"})
	access := {"effects": ["write"], "relations": [inputs.relation("scratch", ["insert"]), base]}
	decide(["agents"], "insert", access).rule == "regate.access.catalogs"
}

test_a_relation_that_the_search_path_chose_needs_a_grant_of_its_own if {
	every through in ["function", "trigger", "view"] {
		_chosen_by_path_needs_a_grant(through)
	}
}

_chosen_by_path_needs_a_grant(through) if {
	denied := _tenant_reads("t2", through, true)
	contains(denied.reason, "t2.cust")
	_tenant_reads("t2", through, false).action == "allow"
	_tenant_reads("t1", through, true).action == "allow"
}

# A member of a tenant reads a relation through something, by a function that is granted.
_tenant_reads(schema, through, by_path) := decision if {
	read := object.union(inputs.relation_in(schema, "cust", ["select"]), {"through": through, "by_path": by_path})
	access := {"relations": [read], "functions": [inputs.function_of("public", "lst", "volatile")]}
	groups := {"tenant": {"read": {"t1.*": "allow"}, "functions": {"public.lst": "allow"}}}
	decision := inputs.judge(inputs.statement(["tenant"], "select", access), groups, {})
}

test_subscriptions_are_open_but_for_their_connection if {
	relation := inputs.relation_in("pg_catalog", "pg_subscription", ["select"])
	secret := {"schema": "pg_catalog", "relation": "pg_subscription", "name": "subconninfo", "uses": ["output"], "through": null}
	decide(["agents"], "select", {"relations": [relation]}).action == "allow"
	decide(["agents"], "select", {"relations": [relation], "columns": [secret]}).rule == "regate.access.catalogs"
}

test_user_mappings_are_open_but_for_their_options if {
	relation := inputs.relation_in("pg_catalog", "pg_user_mappings", ["select"])
	secret := {"schema": "pg_catalog", "relation": "pg_user_mappings", "name": "umoptions", "uses": ["output"], "through": null}
	decide(["agents"], "select", {"relations": [relation]}).action == "allow"
	decide(["agents"], "select", {"relations": [relation], "columns": [secret]}).rule == "regate.access.catalogs"
}
