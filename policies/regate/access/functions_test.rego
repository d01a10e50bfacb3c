package regate.access_test

import data.regate.inputs_test as inputs

test_total_partial_and_volatile_functions_are_open if {
	every class in ["total", "partial", "volatile"] {
		decide(["agents"], "select", {"functions": [inputs.function_of("pg_catalog", "f", class)]}).action == "allow"
	}
}

test_functions_that_reach_around_are_closed if {
	every class in ["reads_by_text", "file", "admin", "opaque"] {
		denied := decide(["agents"], "select", {"functions": [inputs.function_of("pg_catalog", "f", class)]})
		denied.rule == "regate.access.functions"
	}
}

test_a_function_can_be_granted_by_name if {
	asked := inputs.statement(["runners"], "select", {"functions": [inputs.function_of("public", "report", "opaque")]})
	result := inputs.judge(asked, {"runners": {"read": ["*"], "functions": {"public.report": "allow"}}}, {})
	result.action == "allow"
	held := inputs.judge(asked, {"runners": {"read": ["*"], "functions": {"public.report": "approve"}}}, {})
	held.action == "approve"
}

test_a_grant_for_a_builtin_is_none_for_a_namesake if {
	asked := inputs.statement(["runners"], "select", {"functions": [inputs.function_of("evil", "pg_read_file", "opaque")]})
	result := inputs.judge(asked, {"runners": {"read": ["*"], "functions": {"pg_read_file": "allow"}}}, {})
	result.action == "deny"
}

test_admins_who_see_everything_may_run_what_is_opaque if {
	decide(["admins"], "select", {"functions": [inputs.function_of("public", "f", "opaque")]}).action == "allow"
	decide(["admins"], "select", {"functions": [inputs.function_of("pg_catalog", "pg_read_file", "file")]}).action == "deny"
}

test_what_cannot_be_analysed_is_denied if {
	denied := decide(["agents"], "select", {"complete": false, "incomplete": ["dynamic SQL in f"]})
	denied.rule == "regate.access.incomplete"
	contains(denied.reason, "dynamic SQL")
}

test_what_cannot_be_analysed_is_open_to_those_who_may_everything if {
	decide(["admins"], "select", {"complete": false, "incomplete": ["…"]}).action == "allow"
}

test_a_missing_complete_is_no_completeness if {
	asked := inputs.statement(["agents"], "select", {})
	bare := object.union(object.remove(asked, ["access"]), {"access": object.remove(asked.access, ["complete"])})
	result := inputs.judge(bare, inputs.groups, {})
	result.action == "deny"
}
