package regate.statement_test

import data.regate.inputs_test as inputs

decide(names, groups) := result if {
	result := inputs.judge(inputs.statement(names, "select", {}), groups, {})
}

test_every_decision_has_an_action_and_a_rule if {
	every names in [[], ["agents"], ["engineers"], ["admins"], ["nobody"]] {
		decided := decide(names, inputs.groups)
		decided.action in {"allow", "deny", "mask", "approve"}
		decided.rule != ""
	}
}

test_an_empty_input_is_denied if {
	denied := inputs.judge({}, {}, {})
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

denied_by(denials) := inputs.judge_denied(inputs.statement(["agents"], "select", {}), inputs.groups, denials)

test_a_rule_of_your_own_denies if {
	said := {"rule": "shop.no_star", "reason": "name the columns", "hint": "write them out"}
	denied_by([said]) == object.union(said, {"action": "deny"})
	denied_by(["name the columns"]) == {"action": "deny", "rule": "regate.custom.deny", "reason": "name the columns"}
	denied_by([]).action == "allow"
}

test_whatever_a_rule_of_your_own_gives_denies if {
	every odd in [{}, {"action": "allow"}, {"reason": 1}, null, false, 7, ["x"]] {
		denied_by([odd]).action == "deny"
		denied_by([odd]).rule == "regate.custom.deny"
	}
	every odd in [true, null, 7, "no", {}, {"reason": "no"}] {
		denied_by(odd).action == "deny"
	}
	denied_by(false).action == "allow"
}

test_a_rule_of_the_pack_comes_first if {
	inputs.judge_denied(inputs.statement([], "select", {}), inputs.groups, ["no"]).rule == "regate.access.groups"
}
