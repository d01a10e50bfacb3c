package regate.connect_test

import data.regate.connect

decide(names, groups) := result if {
	result := connect.decision with input as {
		"identity": {
			"subject": "ada", "user": "ada", "email": null, "groups": names, "type": "human", "on_behalf_of": null,
			"method": "scram", "claims": {},
		},
		"startup": {"user": "ada", "database": "shop"},
		"client_address": null,
		"time": {"unix_ms": 0, "rfc3339": "", "weekday": "", "minute_of_day": 0, "minute_of_week": 0},
	}
		with data.regate.groups as groups
}

test_nobody_may_not_connect if decide([], {"a": {}}).action == "deny"

test_unknown_groups_may_not_connect if decide(["b"], {"a": {}}).action == "deny"

test_a_group_connects_as_the_default_role if {
	decided := decide(["a"], {"a": {"read": ["*"]}})
	decided.action == "allow"
	decided.role == null
	decided.locked == []
}

test_role_and_settings_come_from_the_group_and_are_locked if {
	decided := decide(["a"], {"a": {"role": "readonly", "settings": {"statement_timeout": "30s"}, "locked": ["app.tenant"]}})
	decided.role == "readonly"
	decided.settings == {"statement_timeout": "30s"}
	{name | some name in decided.locked} == {"statement_timeout", "app.tenant"}
}

test_groups_that_agree if {
	decided := decide(["a", "b"], {"a": {"role": "r"}, "b": {"role": "r"}})
	decided.role == "r"
}

test_groups_that_disagree_are_refused if {
	denied := decide(["a", "b"], {"a": {"role": "r"}, "b": {"role": "s"}})
	denied.action == "deny"
	denied.rule == "regate.connect.role"
}

test_the_higher_priority_decides if {
	decided := decide(["a", "b"], {"a": {"role": "r"}, "b": {"role": "s", "priority": 1}})
	decided.role == "s"
}

test_settings_that_disagree_are_refused if {
	denied := decide(["a", "b"], {"a": {"settings": {"work_mem": "1MB"}}, "b": {"settings": {"work_mem": "2MB"}}})
	denied.action == "deny"
	contains(denied.reason, "work_mem")
}

test_databases_of_a_group if {
	decide(["a"], {"a": {"databases": ["shop"]}}).action == "allow"
	decide(["a"], {"a": {"databases": ["*"]}}).action == "allow"
	decide(["a"], {"a": {"databases": ["other"]}}).rule == "regate.connect.database"
}

test_an_empty_input_is_denied if {
	denied := connect.decision with input as {} with data.regate.groups as {}
	denied.action == "deny"
}

bringing(startup, group) := result if {
	result := connect.decision with input as {
		"identity": {
			"subject": "ada", "user": "ada", "email": null, "groups": ["a"], "type": "human", "on_behalf_of": null,
			"method": "scram", "claims": {},
		},
		"startup": object.union({"user": "ada", "database": "shop"}, startup),
		"client_address": null,
		"time": {"unix_ms": 0, "rfc3339": "", "weekday": "", "minute_of_day": 0, "minute_of_week": 0},
	}
		with data.regate.groups as {"a": group}
}

test_what_set_may_not_change_may_not_be_brought_along if {
	denied := bringing({"app.tenant": "7"}, {"read": ["*"]})
	denied.rule == "regate.connect.settings"
	contains(denied.reason, "app.tenant")
	bringing({"work_mem": "1GB"}, {}).action == "deny"
}

test_harmless_settings_may_be_brought_along if {
	bringing({"datestyle": "ISO", "extra_float_digits": "3", "application_name": "psql", "search_path": "public"}, {}).action == "allow"
	bringing({"backslash_quote": "safe_encoding"}, {}).action == "allow"
}

test_settable_settings_may_be_brought_along if {
	bringing({"app.page": "7"}, {"settable": ["app.*"]}).action == "allow"
	bringing({"work_mem": "1GB"}, {"settable": ["work_mem"]}).action == "allow"
	bringing({"work_mem": "1GB"}, {"effects": {"*": "allow"}}).action == "allow"
}

test_what_the_policy_sets_takes_the_place_of_what_is_brought_along if {
	allowed := bringing({"app.tenant": "7"}, {"settings": {"app.tenant": "1"}})
	allowed.action == "allow"
	allowed.settings["app.tenant"] == "1"
}
