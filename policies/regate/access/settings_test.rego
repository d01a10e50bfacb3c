package regate.access_test

import data.regate.inputs_test as inputs

changing(names, setting) := decide(names, "variableset", {"effects": ["session"], "settings": [setting]})

# pg_dump sets it: off makes an error of what row security would filter, and shows no more.
test_row_security_is_open_where_it_is_not_locked if {
	decide(["agents"], "variableset", {"effects": ["session"], "settings": [inputs.setting("row_security", "set", "off")]}).action == "allow"
}

test_harmless_settings_are_open if {
	every name in ["datestyle", "timezone", "statement_timeout", "search_path", "application_name", "extra_float_digits", "client_min_messages"] {
		changing(["agents"], inputs.setting(name, "set", "x")).action == "allow"
	}
}

test_other_settings_are_closed if {
	every name in ["session_replication_role", "work_mem", "app.tenant", "allow_system_table_mods"] {
		changing(["agents"], inputs.setting(name, "set", "x")).rule == "regate.access.settings"
	}
}

test_roles_are_never_harmless if {
	every name in ["role", "session_authorization"] {
		changing(["agents"], inputs.setting(name, "set", "postgres")).action == "deny"
		changing(["root"], inputs.setting(name, "set", "postgres")).action == "deny"
	}
}

test_pinned_settings_stay if {
	changing(["root"], inputs.setting("standard_conforming_strings", "set", "off")).action == "deny"
	changing(["root"], inputs.setting("client_encoding", "set", "SJIS")).action == "deny"
	changing(["root"], inputs.setting("backslash_quote", "set", "on")).action == "deny"
}

test_setting_a_pinned_setting_to_what_it_is_changes_nothing if {
	changing(["agents"], inputs.setting("client_encoding", "set", "UTF-8")).action == "allow"
	changing(["agents"], inputs.setting("standard_conforming_strings", "set", "on")).action == "allow"
}

test_what_the_policy_set_is_locked if {
	changing(["engineers"], inputs.setting("statement_timeout", "set", "0")).action == "deny"
	changing(["engineers"], inputs.setting("statement_timeout", "reset", null)).action == "deny"
	changing(["engineers"], inputs.setting(null, "reset_all", null)).action == "deny"
	changing(["engineers"], inputs.setting(null, "discard", null)).action == "deny"
}

test_resetting_everything_is_open_where_nothing_is_locked if {
	changing(["agents"], inputs.setting(null, "reset_all", null)).action == "allow"
}

test_a_name_that_is_not_constant_is_closed if {
	changing(["agents"], inputs.setting(null, "set", null)).action == "deny"
}

test_showing_is_open if changing(["agents"], inputs.setting("work_mem", "show", null)).action == "allow"

test_a_group_may_name_settings if {
	asked := inputs.statement(["apps"], "variableset", {"effects": ["session"], "settings": [inputs.setting("app.tenant", "set", "7")]})
	result := inputs.judge(asked, {"apps": {"read": ["*"], "settable": ["app.*"]}}, {})
	result.action == "allow"
}
