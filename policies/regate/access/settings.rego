package regate.access

# METADATA
# title: Settings
# description: |
#   Harmless settings (data.regate.tables.harmless_settings) may be changed with the effect `session`. Settings that the
#   connect policy gave or locked, those that change how SQL is read, roles and session authorization never count as
#   harmless; other settings need `settable` or the effect `*`.
# custom:
#   id: regate.access.settings
setting_denial := {
	"rule": "regate.access.settings",
	"reason": concat("", ["you may not change ", finding]),
	"hint": "settings for display, time zone, search_path, timeouts and the planner may be changed; this one may not",
} if {
	finding := [name |
		some setting in input.access.settings
		not setting.action in {"show"}
		name := _forbidden(setting)
	][0]
}

_forbidden(setting) := "a setting whose name is not constant" if {
	_unknown(setting)
	not trusted
}

_forbidden(setting) := concat("", [setting.name, ": it is locked for your session"]) if locked[setting.name]

_forbidden(setting) := concat("", [setting.name, ": it decides how SQL is read, or whose rights count"]) if {
	not locked[setting.name]
	object.get(data.regate.tables.pinned_settings, setting.name, null) != null
	not _restores_pin(setting)
}

_forbidden(setting) := setting.name if {
	not locked[setting.name]
	is_string(setting.name)
	object.get(data.regate.tables.pinned_settings, setting.name, null) == null
	not data.regate.tables.harmless_settings[setting.name]
	not _settable(setting.name)
}

_forbidden(setting) := "all settings at once while some are locked" if {
	setting.action in {"reset_all", "discard"}
	count(locked) > 0
}

_unknown(setting) if {
	setting.name == null
	not setting.action in {"reset_all", "discard"}
}

# SET client_encoding TO 'UTF8' and the like change nothing. Resetting goes back to the pinned value.
_restores_pin(setting) if lower(replace(setting.value, "-", "")) in data.regate.tables.pinned_settings[setting.name]

_restores_pin(setting) if setting.action == "reset"

_settable(name) if {
	some group in groups
	some pattern in group.settable
	_setting_matches(pattern, name)
}

_settable(_) if {
	some group in groups
	group.effects["*"] == "allow"
}

_setting_matches(pattern, name) if pattern == name

_setting_matches(pattern, name) if {
	endswith(pattern, "*")
	startswith(name, trim_suffix(pattern, "*"))
}

# METADATA
# description: Settings that the connect policy gave to or locked for the user's groups, lower case.
locked[name] := true if {
	some group in known_groups
	some key, _ in group.settings
	name := lower(key)
}

locked[name] := true if {
	some group in known_groups
	some key in group.locked
	name := lower(key)
}
