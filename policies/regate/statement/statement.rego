# METADATA
# title: The decision on a statement
# description: |
#   regate asks this once per statement. The first denial decides; then what is missing (time, estimate) is asked for;
#   then what needs approval is held; the rest is allowed, masked where columns are masked.
# schemas:
#   - input: schema.statement.input
package regate.statement

import data.regate.access
import data.regate.approval
import data.regate.masking

# METADATA
# title: decision
# description: What happens to the statement.
# entrypoint: true
# custom:
#   regate:
#     inputs: [time, estimate]
#     on_demand: [time, estimate]
#     classification: data
#     data: pack
decision := {
	"action": "deny",
	"rule": "regate.statement.asks",
	"reason": "the decision depends on the time of day, which is not known",
	"asks": ["time"],
} if {
	access.wants_time
} else := object.union(_denial, {"action": "deny"}) if {
	_denial
} else := {
	"action": "deny",
	"rule": "regate.statement.asks",
	"reason": "the decision depends on the server's estimate, which is not known",
	"hint": "the estimate is the server's own EXPLAIN: of a statement that it can plan, outside of an aborted transaction",
	"asks": ["estimate"],
} if {
	approval.wants_estimate
	not approval.waits
} else := {
	"action": "approve",
	"rule": approval.reason.rule,
	"reason": approval.reason.reason,
	"hint": approval.reason.hint,
	"masks": masking.masks,
	"approval": approval.terms,
	"limits": _limits,
} if {
	access.may_run
	approval.reason
	not approval.approved
} else := {
	"action": "mask",
	"rule": "regate.masking.masks",
	"reason": "columns that are masked for you come masked",
	"masks": masking.masks,
	"limits": _limits,
} if {
	access.may_run
	approval.settled
	masking.masked
} else := {
	"action": "allow",
	"rule": "regate.access.allowed",
	"limits": _limits,
} if {
	access.may_run
	approval.settled
} else := {
	"action": "deny",
	"rule": "regate.statement.default",
	"reason": "no rule of the policy allows this statement",
	"hint": "this is a fault of the policy or of its input: tell the people who own it",
}

_denial := denial if {
	denial := access.group_denial
} else := denial if {
	denial := access.incomplete_denial
} else := denial if {
	denial := access.setting_denial
} else := denial if {
	denial := access.effect_denial
} else := denial if {
	denial := access.function_denial
} else := denial if {
	denial := access.catalog_denial
} else := denial if {
	denial := access.relation_denial
} else := denial if {
	masking.masked
	denial := masking.inference_denial
} else := denial if {
	masking.masked
	denial := masking.flow_denial
} else := denial if {
	masking.masked
	denial := masking.write_denial
} else := denial if {
	masking.masked
	denial := masking.derivation_denial
} else := denial if {
	denial := masking.rename_denial
} else := denial if {
	denial := _custom_denial
} else := denial if {
	denial := approval.estimate_denial
}

# METADATA
# title: Rules of your own
# description: |
#   Each element of the set `data.regate.custom.deny` is a reason against the statement: an object with `reason`, and
#   `rule` and `hint` if you like, or the reason alone. Whatever else is there denies too, but for `false`.
# custom:
#   id: regate.custom.deny
_custom_denial := object.union(
	{"rule": "regate.custom.deny", "reason": "a rule of your own denies this statement"},
	_custom_words(_custom_denials[0]),
)

_custom_denials := [denial | some denial in data.regate.custom.deny] if {
	type_name(data.regate.custom.deny) in {"set", "array"}
} else := [data.regate.custom.deny] if {
	data.regate.custom.deny != false
}

_custom_words(denial) := {name: text |
	some name in ["rule", "reason", "hint"]
	text := denial[name]
	is_string(text)
} if {
	is_object(denial)
} else := {"reason": denial} if {
	is_string(denial)
} else := {}

# Of several groups the most generous limit counts; null lifts it. A group that sets none lifts none.
_limits := {
	"rows": _limit("rows"),
	"bytes": _limit("bytes"),
	"time": _time_limit,
	"budget": _budget,
} if {
	some group in access.groups
	group.limits
} else := null

_limit(name) := max(given) if {
	given := [value |
		some group in access.groups
		value := group.limits[name]
	]
	count(given) > 0
	not null in given
} else := null

_time_limit := longest if {
	given := [time |
		some group in access.groups
		time := group.limits.time
	]
	count(given) > 0
	not null in given
	ranked := [[_seconds(time), time] | some time in given]
	longest := max(ranked)[1]
} else := null

_seconds(time) := to_number(trim_suffix(time, "ms")) / 1000 if {
	endswith(time, "ms")
} else := to_number(trim_suffix(time, "s")) if {
	endswith(time, "s")
} else := to_number(trim_suffix(time, "m")) * 60 if {
	endswith(time, "m")
} else := to_number(trim_suffix(time, "h")) * 3600 if {
	endswith(time, "h")
}

_budget := budget if {
	budgets := [[group.limits.budget.rows, group.limits.budget] |
		some group in access.groups
		group.limits.budget.rows
	]
	budget := max(budgets)[1]
} else := null
