package regate.access_test

import data.regate.inputs_test as inputs

test_harmless_effects_need_no_right if {
	every effect in ["read", "transaction", "session"] {
		decide(["agents"], "select", {"effects": [effect]}).action == "allow"
	}
}

test_other_effects_are_denied if {
	every effect in ["write", "ddl", "dcl", "procedure", "file", "program", "lock", "notify", "maintenance", "something_new"] {
		denied := decide(["agents"], "select", {"effects": ["read", effect]})
		denied.action == "deny"
		denied.rule == "regate.access.effects"
	}
}

test_a_group_may_hold_an_effect if {
	decide(["engineers"], "do", {"effects": ["procedure"]}).action == "approve"
}

test_a_star_allows_all_effects if {
	every effect in ["dcl", "procedure", "file", "program", "lock", "notify", "maintenance"] {
		decide(["root"], "select", {"effects": [effect]}).action == "allow"
	}
}

test_write_without_a_relation_is_an_effect if {
	denied := decide(["agents"], "select", {"effects": ["read", "write"]})
	denied.rule == "regate.access.effects"
}

test_a_group_may_forbid_transactions if {
	result := inputs.judge(inputs.statement(["strict"], "transaction", {"effects": ["transaction"]}), {"strict": {"read": ["*"], "effects": {"transaction": "deny"}}}, {})
	result.action == "deny"
}
