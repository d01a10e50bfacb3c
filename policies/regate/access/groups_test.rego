package regate.access_test

import data.regate.inputs_test as inputs

decide(names, kind, access) := result if {
	result := inputs.judge(inputs.statement(names, kind, access), inputs.groups, inputs.columns)
}

test_nobody_is_denied if {
	denied := decide([], "select", {})
	denied.action == "deny"
	denied.rule == "regate.access.groups"
}

test_unknown_groups_are_denied_by_name if {
	denied := decide(["strangers"], "select", {})
	denied.action == "deny"
	contains(denied.reason, "strangers")
}

test_unknown_groups_beside_known_ones_do_no_harm if {
	decide(["strangers", "agents"], "select", {}).action == "allow"
}

test_a_known_group_may_select_nothing_in_particular if {
	decide(["agents"], "select", {}).action == "allow"
}

windowed := {"shift": {"read": ["*"], "windows": [{"days": ["monday"], "from": "08:00", "to": "18:00"}]}}

at(minute_of_week) := result if {
	asked := object.union(
		inputs.statement(["shift"], "select", {}),
		{"time": {"unix_ms": 0, "rfc3339": "", "weekday": "", "minute_of_day": 0, "minute_of_week": minute_of_week}},
	)
	result := inputs.judge(asked, windowed, {})
}

test_windows_ask_for_the_time if {
	asked := inputs.judge(inputs.statement(["shift"], "select", {}), windowed, {})
	asked.action == "deny"
	asked.asks == ["time"]
}

test_inside_a_window if at(1920).action == "allow"

test_the_last_minute_of_a_window if at(2519).action == "allow"

test_a_window_ends if at(2520).action == "deny"

test_before_a_window if at(1919).action == "deny"

test_another_day if at(3480).action == "deny"

night := {"shift": {"read": ["*"], "windows": [{"days": ["monday"], "from": "22:00", "to": "06:00"}]}}

at_night(minute_of_week) := result if {
	asked := object.union(
		inputs.statement(["shift"], "select", {}),
		{"time": {"unix_ms": 0, "rfc3339": "", "weekday": "", "minute_of_day": 0, "minute_of_week": minute_of_week}},
	)
	result := inputs.judge(asked, night, {})
}

test_a_window_past_midnight_belongs_to_the_day_it_began if {
	at_night(2790).action == "allow"
	at_night(3080).action == "allow"
	at_night(1640).action == "deny"
	at_night(4230).action == "deny"
}

test_a_window_past_midnight_of_saturday_goes_on_on_sunday if {
	weekend := {"shift": {"read": ["*"], "windows": [{"days": ["saturday"], "from": "22:00", "to": "06:00"}]}}
	asked := object.union(
		inputs.statement(["shift"], "select", {}),
		{"time": {"unix_ms": 0, "rfc3339": "", "weekday": "", "minute_of_day": 0, "minute_of_week": 100}},
	)
	result := inputs.judge(asked, weekend, {})
	result.action == "allow"
}

listed := {"batch": {"read": ["*"], "statements": ["f00d"]}}

test_listed_statements_pass if {
	result := inputs.judge(inputs.statement(["batch"], "select", {}), listed, {})
	result.action == "allow"
}

test_statements_that_are_not_listed_are_denied_with_their_fingerprint if {
	asked := object.union(inputs.statement(["batch"], "select", {}), {"statement": {"fingerprint": "beef"}})
	result := inputs.judge(asked, listed, {})
	result.action == "deny"
	contains(result.hint, "beef")
}

in_databases(databases) := result if {
	asked := inputs.statement(["agents", "elsewhere"], "select", inputs.reading([inputs.column("ssn", ["output"])]))
	given := object.union(inputs.groups, {"elsewhere": {"read": ["*"], "unmask": ["*"], "databases": databases}})
	result := inputs.judge(asked, given, inputs.columns)
}

test_a_group_counts_in_its_databases if {
	in_databases(["shop"]).action == "allow"
	in_databases(["warehouse", "*"]).action == "allow"
	in_databases(["warehouse"]).action == "mask"
}
