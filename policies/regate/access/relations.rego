package regate.access

# METADATA
# description: |
#   What the statement does to relations that needs more than a plain allow, as {id, right, verdict}. Relations that
#   came in through a view, partition, rule, trigger or generated column are covered by the grant on what was named,
#   but for those that the session's own search_path chose.
relation_verdicts := [finding |
	some relation in input.access.relations
	not _covered(relation)
	subject := _subject(relation)
	some action in relation.actions
	right := object.get(data.regate.tables.rights, action, "ddl")
	right != "lock"
	verdict := relation_verdict(right, subject)
	verdict != "allow"
	finding := {"id": subject.id, "right": right, "verdict": verdict}
]

# METADATA
# description: |
#   The verdict of all groups together for a right (read, write, ddl) on a relation {id, schema, name, system}.
relation_verdict(right, relation) := "allow" if {
	some group in groups
	_grant(group[right], right, relation) == "allow"
} else := "approve" if {
	some group in groups
	_grant(group[right], right, relation) == "approve"
} else := "deny"

# METADATA
# title: Reading and writing need a grant
# description: Each relation a statement names must be granted to one of the user's groups by the most specific pattern.
# custom:
#   id: regate.access.relations
relation_denial := {
	"rule": "regate.access.relations",
	"reason": concat(" ", ["you may not", _verbs[finding.right], finding.id]),
	"hint": _relation_hint(finding),
} if {
	finding := [finding | some finding in relation_verdicts; finding.verdict == "deny"][0]
}

_verbs := {"read": "read", "write": "write to", "ddl": "create, change or drop"}

_relation_hint(finding) := "only reading is granted to you: SELECT from it, or ask for approval of the change out of band" if {
	finding.right == "write"
} else := "DDL is not granted to your groups; describe the change to the people who own the schema" if {
	finding.right == "ddl"
} else := "read a relation that is granted to your groups, or ask for a grant on this one"

# A grant on what the client named is a grant on what comes in through it.
_covered(relation) if {
	relation.through in {"view", "partition", "rule", "trigger", "generated"}
	not object.get(relation, "by_path", false)
}

_covered(relation) if _covered_by_function(relation)

# What a function reads is covered where the function itself is granted by name: its owner chose what that is, unless
# the search_path of the session did.
_covered_by_function(relation) if {
	relation.through == "function"
	not object.get(relation, "by_path", false)
	not _ungranted_function
}

_ungranted_function if {
	some function in input.access.functions
	function.schema != "pg_catalog"
	not function_granted(function)
}

# METADATA
# title: Catalogs that hold values
# description: |
#   Statistics, activity and other catalogs that show values of rows or the text of statements are not covered by `*`.
#   They need a grant by their own name, or the right to see everything.
# custom:
#   id: regate.access.catalogs
catalog_denial := {
	"rule": "regate.access.catalogs",
	"reason": concat("", [id, " may show values of rows or statements of others"]),
	"hint": "other system catalogs are open: pg_class, pg_attribute, information_schema.columns and the like; name columns instead of * where only some of them are closed",
} if {
	id := [id | some id in _catalogs; not _catalog_granted(id)][0]
}

_catalogs := array.concat(
	[id |
		some relation in input.access.relations
		_system_schema(relation.schema)
		id := relation_id(relation)
		_holds_values(relation, id)
	],
	[id |
		some column in input.access.columns
		_system_schema(column.schema)
		id := column_id(column)
		data.regate.tables.value_columns[id]
	],
)

# Base catalogs below a view are the view's business, and those of a granted function the function's.
_holds_values(relation, id) if {
	data.regate.tables.value_relations[id]
	object.get(relation, "through", null) != "view"
	not _covered_by_function(relation)
}

_holds_values(relation, _) if relation.schema == "pg_toast"

_catalog_granted(_) if sees_everything

_catalog_granted(id) if {
	some group in groups
	_names(group.read, id)
}

_names(grant, id) if {
	is_array(grant)
	id in grant
}

_names(grant, id) if {
	is_object(grant)
	grant[id] == "allow"
}

# METADATA
# description: The dotted name of a relation of the input.
relation_id(relation) := relation.id

relation_id(relation) := concat(".", [quoted(relation.schema), quoted(relation.name)]) if not relation.id

# METADATA
# description: The dotted name of a column of the input.
column_id(column) := column.id

column_id(column) := concat(".", [quoted(column.schema), quoted(column.relation), quoted(column.name)]) if not column.id

# METADATA
# description: A name as quote_ident writes it, keywords aside.
quoted(name) := name if {
	regex.match(`^[a-z_][a-z0-9_]*$`, name)
} else := concat("", [`"`, replace(name, `"`, `""`), `"`])

_subject(relation) := {
	"id": relation_id(relation),
	"schema": relation.schema,
	"name": relation.name,
	"system": _system_schema(relation.schema),
} if {
	_system_schema(relation.schema)
} else := {"id": relation_id(relation), "schema": relation.schema, "name": relation.name, "system": false}

# Temporary relations are the session's own: pg_temp is no system schema.
_system_schema(schema) if {
	startswith(schema, "pg_")
	not startswith(schema, "pg_temp")
}

_system_schema("information_schema")

_grant(grant, _, relation) := grant if {
	is_string(grant)
	not relation.system
}

_grant(grant, right, relation) := grant if {
	is_string(grant)
	relation.system
	right != "write"
}

_grant(grant, right, relation) := "allow" if {
	is_array(grant)
	some pattern in grant
	_covers(pattern, right, relation)
}

_grant(grant, right, relation) := verdict if {
	is_object(grant)
	verdict := _most_specific(grant, right, relation)
}

_most_specific(grant, right, relation) := grant[relation.id] if {
	grant[relation.id]
} else := max(candidates)[1] if {
	candidates := [[count(pattern), verdict] |
		some pattern, verdict in grant
		_covers(pattern, right, relation)
	]
	count(candidates) > 0
}

# The pattern is the name itself, or ends or begins with a star, or holds stars elsewhere.
_covers(pattern, _, relation) if pattern == relation.id

_covers("*", _, relation) if relation.system == false

_covers("*", right, relation) if {
	relation.system == true
	right != "write"
}

_covers(pattern, right, relation) if {
	pattern != "*"
	endswith(pattern, "*")
	prefix := trim_suffix(pattern, "*")
	not contains(prefix, "*")
	startswith(relation.id, prefix)
	_own_schema(prefix, right, relation)
}

_covers(pattern, right, relation) if {
	prefix := trim_suffix(pattern, "*")
	contains(prefix, "*")
	glob.match(pattern, [], relation.id)
	_own_schema(prefix, right, relation)
}

# Writing to a system catalog needs a pattern that names its schema.
_own_schema(_, _, relation) if relation.system == false

_own_schema(_, right, relation) if {
	relation.system == true
	right != "write"
}

_own_schema(prefix, "write", relation) if {
	relation.system == true
	startswith(prefix, concat("", [relation.schema, "."]))
}
