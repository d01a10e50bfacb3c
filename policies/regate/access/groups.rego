# METADATA
# title: Who may do what
# description: |
#   Rights come from `data.regate.groups`. Several groups add up: a right that one of them gives is given. A group
#   with databases counts only in them, one with windows only inside them, one with a statement list only for those
#   statements.
# schemas:
#   - input: schema.statement.input
package regate.access

# METADATA
# description: The groups of the user that the data knows and that count for this statement.
groups := [group |
	some group in known_groups
	_counts(group)
]

# METADATA
# description: The user's groups that the data knows and that count in this database, whether they count now or not.
known_groups := [group |
	some name in input.identity.groups
	group := data.regate.groups[name]
	_here(group)
]

# METADATA
# description: The decision depends on the time of day, which has not been given yet.
wants_time if {
	input.time == null
	some group in known_groups
	count(group.windows) > 0
}

# METADATA
# title: No group, no rights
# description: A user none of whose groups is known to the policy, or counts now, may do nothing.
# custom:
#   id: regate.access.groups
group_denial := {
	"rule": "regate.access.groups",
	"reason": concat("", ["none of your groups has any rights here: ", _list(object.get(input, ["identity", "groups"], []))]),
	"hint": "ask for membership in one of the groups that the policy names",
} if {
	count(known_groups) == 0
} else := {
	"rule": "regate.access.groups",
	"reason": "your groups may not run this statement now",
	"hint": concat("", [
		"rights of your groups are limited to certain hours or to a list of statements; this statement has the fingerprint ",
		object.get(input, ["statement", "fingerprint"], "unknown"),
	]),
} if {
	count(groups) == 0
}

# METADATA
# description: |
#   What every statement that is not denied must fulfil, said positively: a denial that came out undefined, because a
#   field was missing, must not become an allow.
may_run if {
	count(groups) > 0
	incomplete_verdict != "deny"
	count([v | some v in relation_verdicts; v.verdict == "deny"]) == 0
	count([v | some v in effect_verdicts; v.verdict == "deny"]) == 0
}

# METADATA
# description: |
#   Trusted with everything: sees every class in clear, may infer, reads and writes everywhere. Only such a user may
#   run what the analysis could not follow to its end.
trusted if {
	sees_everything
	some infers in groups
	infers.infer == true
	relation_verdict("read", _anything) == "allow"
	relation_verdict("write", _anything) == "allow"
}

# METADATA
# description: One of the groups may see every class unmasked.
sees_everything if {
	some group in groups
	"*" in group.unmask
}

# A relation that only the pattern * covers.
_anything := {"id": "*", "schema": "*", "name": "*", "system": false}

# What a group gives it gives in its databases.
_here(group) if not group.databases

_here(group) if {
	some pattern in group.databases
	pattern in {"*", input.session.database}
}

_counts(group) if {
	_open(group)
	_listed(group)
}

_open(group) if count(object.get(group, "windows", [])) == 0

_open(group) if {
	some window in group.windows
	_inside(window)
}

# Minutes are UTC, shifted by the window's own offset. A window may run past midnight.
_inside(window) if {
	now := ((input.time.minute_of_week + object.get(window, "utc_offset_minutes", 0)) + 10080) % 10080
	minute := now % 1440
	from := _minute(object.get(window, "from", "00:00"))
	to := _minute(object.get(window, "to", "24:00"))
	_between(minute, from, to)
	_day(window, _started(now, minute, from, to))
}

_between(minute, from, to) if {
	from <= to
	minute >= from
	minute < to
}

_between(minute, from, to) if {
	from > to
	minute >= from
}

_between(minute, from, to) if {
	from > to
	minute < to
}

# The minute of the week at which a window that runs past midnight began.
_started(now, minute, from, to) := (now + 8640) % 10080 if {
	from > to
	minute < to
} else := now

_day(window, _) if not window.days

_day(window, minute) if {
	day := floor(minute / 1440)
	["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"][day] in window.days
}

_minute(text) := (to_number(parts[0]) * 60) + to_number(parts[1]) if parts := split(text, ":")

_listed(group) if count(object.get(group, "statements", [])) == 0

_listed(group) if input.statement.fingerprint in group.statements

_list(names) := concat(", ", names) if count(names) > 0

_list(names) := "(none)" if count(names) == 0
