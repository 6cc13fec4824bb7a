# What the catalogue in data.json comes to: which patterns cover an action, and which role name is granted what.
#
# Nothing here looks at the input. The embedded engine therefore computes these tables once, when it loads, and
# decision.rego finds values in their place; an OPA server evaluates them in place.
package soma.tables

import rego.v1

# Every pattern that covers an action: the action itself, `*`, `resource:*` and `resource:prefix_*`.
# Roles, scopes and the deny list are compared with these, so no other form of wildcard ever matches.
covering[action] := patterns if {
	some action, _ in data.actions
	[resource, verb] := split(action, ":")
	prefixes := [concat("", [resource, ":", substring(verb, 0, index + 1), "*"]) |
		some index in indexof_n(verb, "_")
	]
	patterns := array.concat([action, "*", concat("", [resource, ":*"])], prefixes)
}

# The roles of the catalogue behind every name that a subject may carry: a role, or a tenant's name for some.
names[name] := roles if some name, roles in data.tenant_roles

names[name] := [name] if {
	some name, _ in data.roles
	not data.tenant_roles[name]
}

# The first role behind a name that grants an action; no entry where none does.
grants[name][action] := granting[0] if {
	some name, roles in names
	some action, patterns in covering
	granting := [role |
		some role in roles
		some pattern in data.roles[role].permissions
		pattern in patterns
	]
	count(granting) > 0
}

# The same for what a subject may hold as a plain role: one that is about an agent takes a grant that names the agent.
held[name][action] := role if {
	some name, granted in grants
	some action, role in granted
	data.roles[role].scope != "agent"
}
