package regate.statement_test

import data.regate.inputs_test as inputs
import data.regate.statement

decide(names, groups) := result if {
	result := statement.decision with input as inputs.statement(names, "select", {})
		with data.regate.groups as groups
		with data.regate.columns as {}
}

test_every_decision_has_an_action_and_a_rule if {
	every names in [[], ["agents"], ["engineers"], ["admins"], ["nobody"]] {
		decided := decide(names, inputs.groups)
		decided.action in {"allow", "deny", "mask", "approve"}
		decided.rule != ""
	}
}

test_an_empty_input_is_denied if {
	denied := statement.decision with input as {}
	denied.action == "deny"
}

test_limits_of_a_group if decide(["agents"], inputs.groups).limits == {"rows": 100, "bytes": null, "time": "30s", "budget": null}

test_no_limits_where_no_group_sets_any if decide(["admins"], inputs.groups).limits == null

test_the_most_generous_limit_counts if {
	groups := {
		"a": {"read": ["*"], "limits": {"rows": 10, "time": "500ms"}},
		"b": {"read": ["*"], "limits": {"rows": 20, "time": "2m"}},
	}
	limits := decide(["a", "b"], groups).limits
	limits.rows == 20
	limits.time == "2m"
}

test_null_lifts_a_limit if {
	groups := {"a": {"read": ["*"], "limits": {"rows": 10}}, "b": {"read": ["*"], "limits": {"rows": null}}}
	decide(["a", "b"], groups).limits.rows == null
}

test_a_budget_of_rows if {
	groups := {"a": {"read": ["*"], "limits": {"budget": {"rows": 1000, "per": "1h"}}}}
	decide(["a"], groups).limits.budget == {"rows": 1000, "per": "1h"}
}
