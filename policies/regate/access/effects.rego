package regate.access

# METADATA
# description: Effects of the statement that need more than a plain allow, as {effect, verdict}.
effect_verdicts := [finding |
	some effect in input.access.effects
	not _by_relation(effect)
	verdict := effect_verdict(effect)
	verdict != "allow"
	finding := {"effect": effect, "verdict": verdict}
]

# METADATA
# description: |
#   The verdict of all groups together for an effect: what the group says of it, else of `*`, else the default (read,
#   transaction and session are allowed, all others denied).
effect_verdict(effect) := "allow" if {
	some group in groups
	_effect(group, effect) == "allow"
} else := "approve" if {
	some group in groups
	_effect(group, effect) == "approve"
} else := "deny"

# METADATA
# title: Effects need a right
# description: Locks, notifications, procedures, files, programs, roles and maintenance are denied unless a group names them.
# custom:
#   id: regate.access.effects
effect_denial := {
	"rule": "regate.access.effects",
	"reason": concat("", ["your groups may not run statements with the effect: ", finding.effect]),
	"hint": object.get(data.regate.tables.effect_hints, finding.effect, "leave that part out, or ask for the right"),
} if {
	finding := [finding | some finding in effect_verdicts; finding.verdict == "deny"][0]
}

_effect(group, effect) := group.effects[effect] if {
	group.effects[effect]
} else := group.effects["*"] if {
	group.effects["*"]
} else := group.ddl if {
	effect == "ddl"
	is_string(group.ddl)
} else := object.get(data.regate.tables.effects, effect, "deny")

# Writing and DDL are judged relation by relation (relations.rego) where the statement names one.
_by_relation("write") if {
	some relation in input.access.relations
	some action in relation.actions
	object.get(data.regate.tables.rights, action, "ddl") in {"write", "ddl"}
}

_by_relation("ddl") if {
	some relation in input.access.relations
	some action in relation.actions
	object.get(data.regate.tables.rights, action, "ddl") == "ddl"
}
