# METADATA
# title: Masks and what they forbid
# description: |
#   Columns are classified in `data.regate.columns`, by their dotted name. A user sees a class in clear if one of the
#   groups may unmask it. A masked column may be an output; without `infer` it may be nothing else, because a filter, a
#   sort or an error tells its value as well as the value itself would.
# schemas:
#   - input: schema.statement.input
package regate.masking

import data.regate.access

# METADATA
# description: The masks of this statement, by dotted base column.
masks[id] := mask if {
	some id in _reached
	column := data.regate.columns[id]
	not _unmasked(object.get(column, "class", ""))
	mask := object.get(column, "mask", {"kind": "redact"})
}

# METADATA
# description: Something the statement reaches is masked for this user.
masked if count(masks) > 0

# METADATA
# description: One of the groups may use masked columns for more than output.
infers if {
	some group in access.groups
	group.infer == true
}

# METADATA
# title: Inference
# description: Without `infer` a masked column may be an output and nothing else.
# custom:
#   id: regate.masking.inference
inference_denial := {
	"rule": "regate.masking.inference",
	"reason": concat("", [finding.id, " is masked for you and may not be used ", object.get(_use_texts, finding.use, finding.use)]),
	"hint": concat("", [_column_name(finding.id), " may be selected (masked) and counted: count(*) is fine; ", _column_name(finding.id), " may not appear in WHERE, JOIN, GROUP BY, ORDER BY, DISTINCT, LIMIT or a condition"]),
} if {
	finding := [{"id": id, "use": use} |
		some column in input.access.columns
		id := access.column_id(column)
		masks[id]
		some use in column.uses
		not use in {"output", "returning", "assign"}
	][0]
	not infers
}

# METADATA
# title: Derivations that tell
# description: |
#   A masked value may pass only through functions, operators and casts that cannot fail, whatever the value; then the
#   result is redacted. `1 / (salary - 7)` tells by its error.
# custom:
#   id: regate.masking.derivation
derivation_denial := {
	"rule": "regate.masking.derivation",
	"reason": concat("", [finding.column, " is masked for you, and the output \"", finding.output, "\" computes on it in a way that may fail or have an effect"]),
	"hint": "select the column itself (it comes masked), or leave it out of the expression",
} if {
	finding := [{"column": source.column, "output": output.name} |
		some output in input.access.outputs
		some source in output.sources
		masks[source.column]
		_telling(source)
	][0]
	not infers
}

# METADATA
# title: Laundering
# description: A masked value may not flow into another relation, where it would have another name and no mask.
# custom:
#   id: regate.masking.flow
flow_denial := {
	"rule": "regate.masking.flow",
	"reason": concat("", [finding.from, " is masked for you and may not be copied into ", finding.to]),
	"hint": "copy the other columns, or have the copy made by someone who may see this one",
} if {
	finding := [flow |
		some flow in input.access.flows
		masks[flow.from]
		flow.from != flow.to
	][0]
	not infers
}

# METADATA
# title: Writing what one sees masked
# description: |
#   Who sees a column masked may not write it, by itself, through a view or in a partition, unless the group lists its
#   class in `write_masked`: no write-back of the mask, no unique-key error as an oracle.
# custom:
#   id: regate.masking.write
write_denial := {
	"rule": "regate.masking.write",
	"reason": concat("", [id, " is masked for you, so you may not write it"]),
	"hint": "leave the column out of the statement; what you read from it was a mask, not its value",
} if {
	id := [id |
		some column in input.access.columns
		"assign" in column.uses
		column.through in {null, "view", "partition"}
		id := access.column_id(column)
		masks[id]
		not _may_write(data.regate.columns[id])
	][0]
}

# METADATA
# title: Renaming what is classified
# description: Renaming or dropping a classified column, or its relation, takes its classification away and needs `infer`.
# custom:
#   id: regate.masking.rename
rename_denial := {
	"rule": "regate.masking.rename",
	"reason": concat("", [id, " is classified; changing it by DDL would take its classification away"]),
	"hint": "ask someone of a group with \"infer\" to change it together with the classification",
} if {
	"ddl" in input.access.effects
	id := [id |
		some relation in input.access.relations
		some action in relation.actions
		action in {"alter", "drop", "rename"}
		some column in input.access.columns
		column.schema == relation.schema
		column.relation == relation.name
		id := access.column_id(column)
		data.regate.columns[id]
	][0]
	not infers
}

_reached contains id if {
	some column in input.access.columns
	id := access.column_id(column)
	data.regate.columns[id]
}

_reached contains source.column if {
	some output in input.access.outputs
	some source in output.sources
	data.regate.columns[source.column]
}

_reached contains flow.from if {
	some flow in input.access.flows
	data.regate.columns[flow.from]
}

_unmasked(class) if {
	some group in access.groups
	class in group.unmask
}

_unmasked(_) if access.sees_everything

_may_write(column) if {
	some group in access.groups
	some class in group.write_masked
	class in {column.class, "*"}
}

_telling(source) if {
	source.via == "derived"
	object.get(source, "total", false) != true
}

_telling(source) if not source.via in {"direct", "derived", "count"}

_column_name(id) := parts[count(parts) - 1] if parts := split(id, ".")

_use_texts := {
	"argument": "as an argument of something that may fail or have an effect",
	"cardinality": "where it decides how many rows come",
	"condition": "in a condition",
	"distinct": "in DISTINCT",
	"filter": "in WHERE",
	"group": "in GROUP BY",
	"having": "in HAVING",
	"join": "in a join condition",
	"limit": "in LIMIT or OFFSET",
	"order": "in ORDER BY",
	"set_operation": "in UNION, INTERSECT or EXCEPT",
	"window": "in a window",
}
