# METADATA
# description: |
#   Input documents for the tests of the pack, small and complete, and the data they are judged by. Nothing here reads
#   data.json or rules of your own, so the tests of the pack hold whatever you write there.
package regate.inputs_test

# METADATA
# description: What the pack decides on this input where groups and columns are these, and there are no rules of your own.
judge(asked, groups_, columns_) := decision if {
	decision := data.regate.statement.decision with input as asked
		with data.regate.groups as groups_
		with data.regate.columns as columns_
		with data.regate.approvals as approvals
		with data.regate.custom as {}
}

# METADATA
# description: The same with denials of your own, as `data.regate.custom.deny` gives them.
judge_denied(asked, groups_, denials) := decision if {
	decision := data.regate.statement.decision with input as asked
		with data.regate.groups as groups_
		with data.regate.columns as {}
		with data.regate.approvals as approvals
		with data.regate.custom as {"deny": denials}
}

approvals := {"groups": ["reviewers"], "quorum": 1, "wait": "10s", "ttl": "5m"}

# METADATA
# description: Columns and groups as the tests know them.
columns := {
	"public.users.ssn": {"class": "pii", "mask": {"kind": "redact"}},
	"public.users.email": {"class": "contact", "mask": {"kind": "partial", "keep_end": 4}},
}

groups := {
	"agents": {"read": ["*"], "write": ["public.scratch"], "ddl": "deny", "unmask": [], "infer": false, "limits": {"rows": 100, "time": "30s"}},
	"engineers": {
		"read": ["*"],
		"write": {"public.orders": "allow", "public.secret_*": "deny", "*": "approve"},
		"ddl": "approve",
		"unmask": ["contact"],
		"infer": false,
		"effects": {"procedure": "approve"},
		"settings": {"statement_timeout": "60s"},
	},
	"admins": {"read": ["*"], "write": ["*"], "ddl": "allow", "unmask": ["*"], "infer": true},
	"root": {"read": ["*"], "write": ["*"], "ddl": "allow", "unmask": ["*"], "infer": true, "effects": {"*": "allow"}},
}

# METADATA
# description: A statement of these groups with this access; what is not said is empty.
statement(names, kind, access) := {
	"statement": {
		"text": "…", "kind": kind, "index": 0, "count": 1, "protocol": "simple",
		"ast": {"SelectStmt": {}}, "fingerprint": "f00d", "parser_version": 180004,
	},
	"access": object.union(
		{
			"complete": true, "incomplete": [], "effects": ["read"], "relations": [], "columns": [], "outputs": [],
			"flows": [], "functions": [], "settings": [], "filtered": false, "unfiltered": false, "limited": false,
		},
		access,
	),
	"identity": {
		"subject": "ada", "user": "ada", "email": null, "groups": names, "type": "human", "on_behalf_of": null,
		"method": "scram", "claims": {},
	},
	"session": {
		"database": "shop", "role": "app", "application_name": "psql", "transaction": "idle",
		"search_path": ["public"], "id": null, "client_address": null,
	},
	"approval": null, "parameters": null, "time": null, "estimate": null,
}

# METADATA
# description: A relation of schema public that the client named.
relation(name, actions) := relation_in("public", name, actions)

relation_in(schema, name, actions) := {
	"schema": schema, "name": name, "id": concat(".", [schema, name]), "kind": "table", "actions": actions,
	"through": null, "by_path": false,
}

# METADATA
# description: A column of public.users.
column(name, uses) := {
	"schema": "public", "relation": "users", "name": name, "id": concat(".", ["public", "users", name]),
	"uses": uses, "through": null,
}

setting(name, action, value) := {"name": name, "action": action, "value": value, "through": null}

function_of(schema, name, class) := {
	"schema": schema, "name": name, "language": "sql", "volatility": "volatile", "security_definer": false,
	"class": class, "analysed": class != "opaque",
}

# METADATA
# description: Reading public.users, with these columns.
reading(columns_) := {"relations": [relation("users", ["select"])], "columns": columns_}
