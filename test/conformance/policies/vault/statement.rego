# METADATA
# description: Everything may run but what touches the relation vault, or gives a parameter "forbidden".
package regate.statement

# METADATA
# entrypoint: true
# custom:
#   regate:
#     inputs: [parameters]
default decision := {"action": "allow", "reason": "allowed", "rule": "conformance.allow"}

decision := {
	"action": "deny",
	"reason": "the vault is closed",
	"rule": "conformance.vault",
	"hint": "Ask for something else.",
} if {
	some relation in input.access.relations
	relation.name == "vault"
} else := {
	"action": "deny",
	"reason": "this parameter is forbidden",
	"rule": "conformance.parameter",
	"hint": "Give another parameter.",
} if {
	some parameter in input.parameters
	parameter.value == "0"
}
