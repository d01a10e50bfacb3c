# METADATA
# description: |
#   What three groups may do with the demo's shop. Tests written against SQL: the statements are in shop.fixture.sql.
#   Copy this pair for policies and tables of your own; without `with data.regate…` a test judges by your data.json.
package regate.examples_test

import data.regate.inputs_test as inputs

columns := {
	"public.customers.email": {"class": "contact", "mask": {"kind": "partial", "email": true}},
	"public.customers.ssn": {"class": "pii", "mask": {"kind": "redact"}},
}

groups := {
	"agents": {"read": ["*"], "write": [], "ddl": "deny", "unmask": [], "infer": false},
	"engineers": {
		"read": ["*"],
		"write": {"public.orders": "allow", "*": "approve"},
		"ddl": "approve",
		"unmask": ["contact"],
		"infer": false,
		"settings": {"statement_timeout": "60s"},
	},
	"admins": {"read": ["*"], "write": ["*"], "ddl": "allow", "unmask": ["*"], "infer": true},
}

judge(name) := inputs.judge(data.fixtures[name], groups, columns)

test_agents_read_what_is_not_classified if {
	judge("agent_reads_names").action == "allow"
	judge("agent_counts").action == "allow"
	judge("agent_lists_tables").action == "allow"
}

test_agents_see_masks if {
	decision := judge("agent_reads_ssn")
	decision.action == "mask"
	decision.masks["public.customers.ssn"] == {"kind": "redact"}
}

test_a_star_is_masked_column_by_column if {
	object.keys(judge("agent_reads_everything").masks) == {"public.customers.email", "public.customers.ssn"}
}

test_an_expression_does_not_hide_a_column if {
	judge("agent_hides_ssn_in_an_expression").masks["public.customers.ssn"]
}

test_what_is_masked_does_not_filter if {
	decision := judge("agent_filters_by_ssn")
	decision.action == "deny"
	decision.rule == "regate.masking.inference"
}

test_errors_do_not_tell if judge("agent_divides_by_zero_on_purpose").action == "deny"

test_masked_values_are_not_copied if judge("engineer_copies_ssn").rule == "regate.masking.flow"

test_agents_change_nothing if {
	every name in ["agent_deletes", "agent_deletes_inside_with", "agent_drops", "agent_runs_code"] {
		judge(name).action == "deny"
	}
}

test_agents_find_no_way_around if {
	every name in ["agent_reads_a_file", "agent_reads_statistics", "agent_becomes_somebody_else"] {
		judge(name).action == "deny"
	}
}

test_settings if {
	judge("agent_sets_the_time_zone").action == "allow"
	judge("engineer_sets_a_timeout_that_is_locked").action == "deny"
}

test_engineers_write_orders if {
	judge("engineer_updates_an_order").action == "allow"
	judge("engineer_reads_email").action == "allow"
}

test_engineers_ask_for_the_rest if {
	judge("engineer_updates_all_orders").rule == "regate.approval.unfiltered"
	judge("engineer_changes_a_price").rule == "regate.approval.grant"
}

test_admins_see_everything if judge("admin_reads_ssn").action == "allow"
