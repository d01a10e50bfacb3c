# METADATA
# title: The decision on a connection
# description: |
#   regate asks this once per session: which upstream login it gets, which settings it starts with, which of them it may
#   not change. What the pack sets it locks.
# schemas:
#   - input: schema.connect.input
package regate.connect

# METADATA
# title: decision
# description: Whether the session may begin, and as what.
# entrypoint: true
decision := {
	"action": "deny",
	"rule": "regate.connect.groups",
	"reason": "none of your groups may connect",
	"hint": "ask for membership in one of the groups that the policy names",
} if {
	count(_groups) == 0
} else := {
	"action": "deny",
	"rule": "regate.connect.database",
	"reason": "none of your groups may connect to this database",
	"hint": "connect to another database, or ask for access to this one",
} if {
	count(_admitted) == 0
} else := {
	"action": "deny",
	"rule": "regate.connect.role",
	"reason": concat("", ["your groups give different roles or settings: ", concat(", ", _conflicts)]),
	"hint": "the policy's owner gives one of the groups a higher \"priority\"",
} if {
	count(_conflicts) > 0
} else := {
	"action": "deny",
	"rule": "regate.connect.settings",
	"reason": concat("", ["you may not set ", _refused_settings[0], " when connecting"]),
	"hint": "leave it out of PGOPTIONS and of the connection string; what SET may not change may not be set at the start either",
} if {
	count(_refused_settings) > 0
} else := {
	"action": "allow",
	"rule": "regate.connect.allowed",
	"role": _role,
	"settings": _settings,
	"locked": [name | some name, _ in _locked],
}

_groups := [group |
	some name in input.identity.groups
	group := data.regate.groups[name]
]

# A group without a list of databases may connect to all.
_admitted := [group |
	some group in _groups
	_admits(group)
]

_admits(group) if not group.databases

_admits(group) if {
	some pattern in group.databases
	pattern in {"*", input.startup.database}
}

# Of the groups that say something about a thing those with the highest priority decide.
_role := [role | some role in _said("role")][0] if {
	count(_said("role")) > 0
} else := null

_said(key) := {value |
	ranks := [object.get(group, "priority", 0) | some group in _admitted; group[key]]
	some group in _admitted
	object.get(group, "priority", 0) == max(ranks)
	value := group[key]
}

_setting_names := {name |
	some group in _admitted
	some name, _ in group.settings
}

_values(name) := {value |
	ranks := [object.get(group, "priority", 0) | some group in _admitted; group.settings[name]]
	some group in _admitted
	object.get(group, "priority", 0) == max(ranks)
	value := group.settings[name]
}

_settings := {name: [value | some value in _values(name)][0] | some name in _setting_names}

_conflicts := array.concat(
	["role" | count(_said("role")) > 1],
	[name |
		some name in _setting_names
		count(_values(name)) > 1
	],
)

_locked[name] := true if some name in _setting_names

_locked[name] := true if {
	some group in _admitted
	some name in group.locked
}

# What SET may not change (regate.access.settings) may not be brought along either.
_refused_settings := [name |
	some name, value in input.startup
	not name in {"user", "database"}
	not _may_bring(name, value)
]

_may_bring(name, _) if data.regate.tables.harmless_settings[name]

_may_bring(name, value) if lower(value) in data.regate.tables.pinned_settings[name]

# The policy's own value takes its place.
_may_bring(name, _) if {
	some given in _setting_names
	lower(given) == name
}

_may_bring(name, _) if {
	some group in _admitted
	some pattern in group.settable
	_fits(pattern, name)
}

_may_bring(_, _) if {
	some group in _admitted
	group.effects["*"] == "allow"
}

_fits(pattern, name) if pattern == name

_fits(pattern, name) if {
	endswith(pattern, "*")
	startswith(name, trim_suffix(pattern, "*"))
}
