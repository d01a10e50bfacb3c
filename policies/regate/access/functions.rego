package regate.access

# METADATA
# title: Functions that reach around the policy
# description: |
#   Functions that run SQL given as text, read files, administrate the server or could not be analysed are denied unless
#   a group grants them by name in `functions`.
# custom:
#   id: regate.access.functions
function_denial := {
	"rule": "regate.access.functions",
	"reason": concat("", [finding.schema, ".", finding.name, " is not granted: it ", data.regate.tables.function_classes[finding.class]]),
	"hint": "write what it does as plain SQL, or ask for a grant on this function",
} if {
	finding := [function |
		some function in input.access.functions
		data.regate.tables.function_classes[function.class]
		function_verdict(function) == "deny"
	][0]
}

# METADATA
# description: Functions of the statement that a reviewer has to approve, by name.
functions_to_approve := [concat(".", [function.schema, function.name]) |
	some function in input.access.functions
	data.regate.tables.function_classes[function.class]
	function_verdict(function) == "approve"
]

# METADATA
# description: The verdict of all groups together for a function that needs a grant.
function_verdict(function) := "allow" if {
	function_granted(function)
} else := "allow" if {
	trusted
	function.class in {"reads_by_text", "opaque"}
} else := "allow" if {
	some group in groups
	group.effects["*"] == "allow"
	function.class in {"file", "admin"}
} else := "approve" if {
	some group in groups
	_function_grant(group, function) == "approve"
} else := "deny"

# METADATA
# description: One of the groups allows this function by name.
function_granted(function) if {
	some group in groups
	_function_grant(group, function) == "allow"
}

_function_grant(group, function) := verdict if {
	verdict := group.functions[concat(".", [quoted(function.schema), quoted(function.name)])]
} else := verdict if {
	function.schema == "pg_catalog"
	verdict := group.functions[function.name]
}

# METADATA
# title: What could not be analysed
# description: |
#   Where the analysis could not follow a statement to its end it may touch anything, so only those who may see and write
#   everything may run it. A group may say `"incomplete": "approve"`.
# custom:
#   id: regate.access.incomplete
incomplete_denial := {
	"rule": "regate.access.incomplete",
	"reason": concat("", ["what this statement touches cannot be determined: ", _list(object.get(input.access, "incomplete", []))]),
	"hint": "name tables and columns directly, without dynamic SQL and without functions that regate cannot look into",
} if {
	incomplete_verdict == "deny"
}

# METADATA
# description: The verdict for a statement whose analysis is incomplete.
incomplete_verdict := "allow" if {
	input.access.complete == true
} else := "allow" if {
	trusted
} else := "approve" if {
	some group in groups
	group.incomplete == "approve"
} else := "deny"
