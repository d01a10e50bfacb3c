package regate.approval_test

import data.regate.inputs_test as inputs

decide(names, kind, access) := result if {
	result := inputs.judge(inputs.statement(names, kind, access), inputs.groups, {})
}

writing(actions, filtered) := {"effects": ["write"], "filtered": filtered, "unfiltered": filtered == false, "relations": [inputs.relation("orders", actions)]}

test_update_and_delete_without_where_are_held if {
	every kind in ["update", "delete"] {
		held := decide(["engineers"], kind, writing([kind], false))
		held.action == "approve"
		held.rule == "regate.approval.unfiltered"
		held.approval == inputs.approvals
	}
}

test_update_and_delete_with_where_pass if {
	every kind in ["update", "delete"] {
		decide(["engineers"], kind, writing([kind], true)).action == "allow"
	}
}

test_admins_are_held_too if decide(["admins"], "delete", writing(["delete"], false)).action == "approve"

test_truncate_is_a_delete_of_everything if decide(["engineers"], "truncate", writing(["truncate"], false)).action == "approve"

test_insert_has_no_where if decide(["engineers"], "insert", writing(["insert"], false)).action == "allow"

test_a_delete_without_where_inside_with_is_held if {
	access := object.union(writing(["delete", "select"], true), {"unfiltered": true})
	decide(["engineers"], "select", access).rule == "regate.approval.unfiltered"
}

test_a_delete_with_where_inside_with_passes if {
	access := object.union(writing(["delete", "select"], false), {"unfiltered": false})
	decide(["engineers"], "select", access).action == "allow"
}

test_a_merge_that_names_no_rows_is_held if decide(["engineers"], "merge", writing(["delete", "select"], false)).rule == "regate.approval.unfiltered"

test_what_does_not_say_whether_it_names_rows_is_held if {
	said := inputs.statement(["engineers"], "delete", writing(["delete"], true))
	unsaid := json.remove(said, ["/access/unfiltered"])
	held := inputs.judge(unsaid, inputs.groups, {})
	held.rule == "regate.approval.unfiltered"
}

test_an_approved_statement_runs if {
	asked := object.union(
		inputs.statement(["engineers"], "delete", writing(["delete"], false)),
		{"approval": {"id": "a1", "outcome": "approved", "by": ["grace"], "at": "2026-01-01T00:00:00Z"}},
	)
	result := inputs.judge(asked, inputs.groups, {})
	result.action == "allow"
}

test_an_approval_lifts_no_denial if {
	asked := object.union(
		inputs.statement(["agents"], "delete", writing(["delete"], true)),
		{"approval": {"id": "a1", "outcome": "approved", "by": ["grace"], "at": "2026-01-01T00:00:00Z"}},
	)
	result := inputs.judge(asked, inputs.groups, {})
	result.action == "deny"
}

test_another_outcome_is_no_approval if {
	asked := object.union(
		inputs.statement(["engineers"], "delete", writing(["delete"], false)),
		{"approval": {"id": "a1", "outcome": "rejected", "by": ["grace"], "at": "2026-01-01T00:00:00Z"}},
	)
	result := inputs.judge(asked, inputs.groups, {})
	result.action == "approve"
}

estimating := {"analysts": {"read": ["*"], "estimate": {"rows": 1000, "above": "approve"}}}

estimated(rows, groups) := result if {
	asked := object.union(
		inputs.statement(["analysts"], "select", inputs.reading([])),
		{"estimate": {"cost": 10, "rows": 1, "rows_max": rows, "nodes": ["Nested Loop"]}},
	)
	result := inputs.judge(asked, groups, {})
}

test_an_estimate_is_asked_for_what_would_pass if {
	asked := inputs.judge(inputs.statement(["analysts"], "select", inputs.reading([])), estimating, {})
	asked.action == "deny"
	asked.asks == ["estimate"]
}

test_no_estimate_is_asked_for_what_is_denied if {
	denied := inputs.judge(inputs.statement(["analysts"], "delete", writing(["delete"], true)), estimating, {})
	denied.action == "deny"
	not denied.asks
}

asked_of(kind, ast) if {
	asked := object.union(
		inputs.statement(["analysts"], kind, inputs.reading([])),
		{"statement": {"ast": ast}},
	)
	decision := inputs.judge(asked, estimating, {})
	decision.asks == ["estimate"]
}

test_an_estimate_is_asked_for_whatever_a_query_is_wrapped_in if {
	every kind in ["select", "declarecursor", "execute"] {
		asked_of(kind, {})
	}
	asked_of("copy", {"CopyStmt": {"query": {}}})
	asked_of("explain", {"ExplainStmt": {"options": [{"DefElem": {"defname": "verbose"}}, {"DefElem": {"defname": "analyze"}}]}})
	not asked_of("copy", {"CopyStmt": {"is_from": true}})
	not asked_of("explain", {"ExplainStmt": {}})
}

test_what_cannot_be_estimated_is_above_every_threshold if {
	asked := object.union(
		inputs.statement(["analysts"], "select", inputs.reading([])),
		{"estimate": {"cost": 1.7e308, "rows": 1.7e308, "rows_max": 1.7e308, "nodes": ["unknown"]}},
	)
	decision := inputs.judge(asked, {"analysts": {"read": ["*"], "estimate": {"cost": 9e99, "above": "deny"}}}, {})
	decision.action == "deny"
	contains(decision.reason, "cannot be estimated")
}

test_below_the_threshold if estimated(1000, estimating).action == "allow"

test_above_the_threshold if estimated(1001, estimating).action == "approve"

test_above_a_threshold_that_denies if {
	denied := estimated(1001, {"analysts": {"read": ["*"], "estimate": {"rows": 1000, "above": "deny"}}})
	denied.action == "deny"
	denied.rule == "regate.approval.estimate"
}

test_null_lifts_a_threshold if estimated(1001, {"analysts": {"read": ["*"], "estimate": null}}).action == "allow"

test_terms_of_a_group_come_first if {
	groups := {"interns": {"read": ["*"], "write": {"*": "approve"}, "approval": {"quorum": 2}}}
	asked := inputs.statement(["interns"], "insert", writing(["insert"], false))
	held := data.regate.statement.decision with input as asked
		with data.regate.groups as groups
		with data.regate.columns as {}
		with data.regate.approvals as {"groups": ["dba"], "ttl": "1h"}
		with data.regate.custom as {}
	held.approval == {"groups": ["dba"], "quorum": 2, "ttl": "1h"}
}

test_times_that_the_data_does_not_give_are_left_to_the_configuration if {
	groups := {"interns": {"read": ["*"], "write": {"*": "approve"}}}
	asked := inputs.statement(["interns"], "insert", writing(["insert"], false))
	held := data.regate.statement.decision with input as asked
		with data.regate.groups as groups
		with data.regate.columns as {}
		with data.regate.approvals as {}
		with data.regate.custom as {}
	held.approval == {"groups": ["admins"], "quorum": 1}
}

test_an_estimate_beyond_all_numbers_is_above_every_threshold if {
	estimated(179769313486231570000000000000, estimating).action == "approve"
}

test_an_approval_lifts_no_estimate_that_denies if {
	asked := object.union(
		inputs.statement(["analysts"], "select", inputs.reading([])),
		{
			"estimate": {"cost": 10, "rows": 1, "rows_max": 5000, "nodes": []},
			"approval": {"id": "a1", "outcome": "approved", "by": ["grace"], "at": "2026-01-01T00:00:00Z"},
		},
	)
	result := inputs.judge(asked, {"analysts": {"read": ["*"], "estimate": {"rows": 1000, "above": "deny"}}}, {})
	result.action == "deny"
}

denying := {"analysts": {"read": ["*"], "write": ["*"], "estimate": {"rows": 1000, "above": "deny"}}}

unfiltered(more) := result if {
	asked := object.union(inputs.statement(["analysts"], "delete", writing(["delete"], false)), more)
	result := inputs.judge(asked, denying, {})
}

given := {"id": "a1", "outcome": "approved", "by": ["grace"], "at": "2026-01-01T00:00:00Z"}

test_an_estimate_that_denies_is_asked_for_before_people_are if unfiltered({}).asks == ["estimate"]

test_an_estimate_that_denies_is_asked_for_when_people_have_agreed if unfiltered({"approval": given}).asks == ["estimate"]

test_below_a_threshold_that_denies_people_are_asked if {
	few := {"cost": 10, "rows": 1, "rows_max": 5, "nodes": []}
	unfiltered({"estimate": few}).action == "approve"
	unfiltered({"estimate": few, "approval": given}).action == "allow"
}
