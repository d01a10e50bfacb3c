# METADATA
# description: Everybody may connect.
package regate.connect

# METADATA
# entrypoint: true
default decision := {"action": "allow"}
