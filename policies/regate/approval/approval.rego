# METADATA
# title: What people have to approve
# description: |
#   A statement that is granted as `approve`, that would change a relation without WHERE, or that the server estimates
#   above a group's threshold is held until members of `data.regate.approvals.groups` agreed.
# schemas:
#   - input: schema.statement.input
package regate.approval

import data.regate.access

# METADATA
# description: Why this statement has to be approved; undefined where it need not be.
reason := {
	"rule": "regate.approval.unfiltered",
	"reason": "a change of all rows (no WHERE) needs approval",
	"hint": "add a WHERE clause that names the rows, then no approval is needed",
} if {
	_unfiltered
	not _may_skip_filter
} else := {
	"rule": "regate.approval.grant",
	"reason": concat("", ["to ", _verbs[finding.right], " ", finding.id, " you need approval"]),
	"hint": "the statement waits for a reviewer; it can be sent again unchanged once it is approved",
} if {
	finding := access.relation_verdicts[0]
} else := {
	"rule": "regate.approval.effect",
	"reason": concat("", ["statements with the effect ", finding.effect, " need approval"]),
	"hint": "the statement waits for a reviewer; it can be sent again unchanged once it is approved",
} if {
	finding := access.effect_verdicts[0]
} else := {
	"rule": "regate.approval.function",
	"reason": concat("", ["calling ", name, " needs approval"]),
	"hint": "the statement waits for a reviewer; it can be sent again unchanged once it is approved",
} if {
	name := access.functions_to_approve[0]
} else := {
	"rule": "regate.approval.incomplete",
	"reason": "what this statement touches cannot be determined, so it needs approval",
	"hint": "name tables and columns directly, without dynamic SQL, then no approval is needed",
} if {
	access.incomplete_verdict == "approve"
} else := {
	"rule": "regate.approval.estimate",
	"reason": concat("", [_expected, ", which needs approval"]),
	"hint": _narrow,
} if {
	estimate_verdict == "approve"
}

# METADATA
# description: |
#   The same as `reason`, said without texts: what needs approval and has none must not run because a text came out
#   undefined.
needed if {
	_unfiltered
	not _may_skip_filter
}

needed if count(access.relation_verdicts) > 0

needed if count(access.effect_verdicts) > 0

needed if count(access.functions_to_approve) > 0

needed if access.incomplete_verdict == "approve"

needed if estimate_verdict != "allow"

# METADATA
# description: |
#   People have to agree first, and the estimate is theirs to look at. One that denies is asked for before they are, and
#   again when they have agreed: they lift no denial.
waits if {
	reason
	not approved
	not _estimate_denies
}

# METADATA
# description: Nothing stands against running the statement.
settled if not needed

settled if {
	approved
	estimate_verdict != "deny"
}

# METADATA
# title: Too large by the server's own estimate
# description: The server's EXPLAIN expects more rows or cost than the groups may use (`estimate` in a group).
# custom:
#   id: regate.approval.estimate
estimate_denial := {
	"rule": "regate.approval.estimate",
	"reason": concat("", [_expected, ", more than you may use"]),
	"hint": _narrow,
} if {
	estimate_verdict == "deny"
}

# METADATA
# description: The statement's estimate decides and has not been given yet.
wants_estimate if {
	input.estimate == null
	_runs_query
	count(_thresholds) > 0
}

# METADATA
# description: |
#   What runs a query. Some of it the server cannot explain (COPY, EXPLAIN ANALYZE, several statements in one query
#   string): that comes with an estimate above everything.
_runs_query if {
	input.statement.kind in {
		"select", "insert", "update", "delete", "merge",
		"declarecursor", "createtableas", "execute", "refreshmatview",
	}
}

_runs_query if {
	input.statement.kind == "copy"
	not input.statement.ast.CopyStmt.is_from
}

# Whatever the option's value: the last of several counts for the server.
_runs_query if {
	input.statement.kind == "explain"
	some option in input.statement.ast.ExplainStmt.options
	option.DefElem.defname == "analyze"
}

# METADATA
# description: The most generous verdict of the groups that set a threshold.
estimate_verdict := "allow" if {
	input.estimate == null
} else := "allow" if {
	count(_thresholds) == 0
} else := "allow" if {
	some threshold in _thresholds
	_within(threshold)
} else := "approve" if {
	some threshold in _thresholds
	object.get(threshold, "above", "approve") == "approve"
} else := "deny"

# METADATA
# description: Who may approve and how long it may take; a group's own terms come first.
terms := object.union(_default_terms, given) if {
	given := [group.approval | some group in access.groups; is_object(group.approval)][0]
} else := _default_terms

# METADATA
# description: A reviewer has approved exactly this statement.
approved if input.approval.outcome == "approved"

# Without `wait` and `ttl`: what the data leaves open is `approvals.wait` and `approvals.ttl` of regate.yaml.
_default_terms := object.union({"groups": ["admins"], "quorum": 1}, _given_terms)

_given_terms := data.regate.approvals

_given_terms := {} if not data.regate.approvals

# A group whose threshold is null is not limited, and rights add up.
_thresholds := [] if {
	some group in access.groups
	group.estimate == null
} else := [group.estimate |
	some group in access.groups
	is_object(group.estimate)
]

_estimate_denies if {
	some threshold in _thresholds
	threshold.above == "deny"
}

_within(threshold) if {
	input.estimate.rows_max <= object.get(threshold, "rows", input.estimate.rows_max)
	input.estimate.cost <= object.get(threshold, "cost", input.estimate.cost)
}

_verbs := {"read": "read", "write": "write to", "ddl": "create, change or drop"}

_expected := "this cannot be estimated" if {
	"unknown" in input.estimate.nodes
} else := concat("", ["the server expects ", _number(input.estimate.rows_max), " rows at a cost of ", _number(input.estimate.cost)])

_narrow := "send it as a plain statement by itself: the server explains only those, and only with functions that regate can read" if {
	"unknown" in input.estimate.nodes
} else := "narrow the statement: join on keys, filter, or aggregate less"

_number(value) := format_int(ceil(value), 10) if {
	value < 1000000000000
} else := "very many"

_may_skip_filter if {
	some group in access.groups
	group.unfiltered == "allow"
}

# UPDATE, DELETE and MERGE that name no rows, wherever in the statement they stand. Said so that an input without the
# field counts as such.
_unfiltered if {
	"write" in input.access.effects
	_changes_rows
	not input.access.unfiltered == false
}

_unfiltered if {
	some relation in input.access.relations
	"truncate" in relation.actions
	relation.through == null
}

_changes_rows if {
	some relation in input.access.relations
	some action in relation.actions
	action in {"update", "delete"}
	relation.through == null
}
