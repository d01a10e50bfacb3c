# METADATA
# description: Everything may run; the suites of PostgreSQL are judged by it.
package regate.statement

# METADATA
# entrypoint: true
# custom:
#   regate:
#     classification: data
#     catalog: polled
default decision := {"action": "allow", "reason": "allowed", "rule": "conformance.allow"}
