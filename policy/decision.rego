# The one policy: may this subject do this to that?
#
# Input:  {tenant, subject: {user_id, roles, scopes, grants: [{id, role, permissions, effect, scope, agent}]}, action,
#          resource: {type, id, attributes: {tenant, agent}}, context}
# Output: data.soma.policy.decision = {effect: "allow" | "deny" | "ask", reason, obligations}
#
# Rights are proven: whatever leads to an allow is a conjunction of facts, in which a part of the input that is absent
# or of another type leaves a fact unproven. Never the other way round, `allow if not <objection>`: where a part is
# absent, OPA leaves an objection undefined that regorus would raise.
#
# Written for OPA 1.2+ and regorus alike: no jwt, net or time built-ins. The rules on the way to an allow are few, for
# each costs the embedded engine 3 microseconds.
package soma.policy

import rego.v1

import data.soma.tables

decision := allow(ground) if {
	ground := entitlement
	input.action != "tool:execute"
}

# A tool call needs more than the right to make calls: a tool that is enabled and on the agent's list.
else := call(ground, tool) if {
	ground := entitlement
	tool := enabled_tool(input.resource.id)
	input.resource.id in input.context.agent_tools
}

else := refusal

# The right alone, whatever the tool: what may be given on, and what a subject is told that it may.
right := allow(ground) if ground := entitlement

else := refusal

refusal := {"effect": "deny", "reason": objection, "obligations": {}}

allow(ground) := {
	"effect": "allow",
	"reason": concat("", [ground, " grants ", input.action]),
	"obligations": {},
}

# That by which the subject may do this, if tenant, denials and scopes all agree.
entitlement := ground if {
	input.tenant
	input.subject.user_id
	is_array(input.subject.grants)
	ground := title
	within_tenant(input.tenant)
	every entry in data.deny_list { spares(entry) }
	denials := [grant | some grant in input.subject.grants; not grant.effect == "allow"]
	every denial in denials { passes(denial) }
	some pattern in tables.covering[input.action]
	pattern in input.subject.scopes
}

# The first role that grants the action, else the first grant that does.
title := concat(" ", ["role", role]) if role := granting[0]

else := named(grant) if grant := entitling[0]

named(grant) := concat("", ["grant ", grant.id, " (role ", grant.role, ")"]) if is_string(grant.role)

else := concat(" ", ["grant", grant.id])

# The roles of the subject that grant the action, in the order in which the subject carries them.
granting := [role |
	is_array(input.subject.roles)
	some name in input.subject.roles
	role := tables.held[name][input.action]
]

# The subject's grants that allow the action, in their order.
entitling := [grant |
	is_array(input.subject.grants)
	some grant in input.subject.grants
	grant.effect == "allow"
	reaches(grant)
	covers(grant)
]

# A grant about one agent counts where that agent is what the resource is, or belongs to.
reaches(grant) if grant.agent == null

reaches(grant) if {
	is_string(grant.agent)
	grant.agent == agent
}

default agent := null

agent := id if id := input.resource.attributes.agent

else := input.resource.id if input.resource.type == "agent"

# A grant says what it allows or denies by patterns, or by the name of a role of the catalogue.
covers(grant) if {
	is_array(grant.permissions)
	some pattern in grant.permissions
	pattern in tables.covering[input.action]
}

covers(grant) if {
	grant.permissions == []
	tables.grants[grant.role][input.action]
}

# Whether a denial is not of this: it is about another agent, or about other actions. One that can't be understood
# passes nothing.
passes(grant) if {
	is_string(grant.agent)
	grant.agent != agent
}

passes(grant) if {
	is_array(grant.permissions)
	grant.permissions != []
	every pattern in grant.permissions { not pattern in tables.covering[input.action] }
}

passes(grant) if {
	grant.permissions == []
	tables.names[grant.role]
	not tables.grants[grant.role][input.action]
}

# A resource that says whose it is belongs to the tenant in which the subject acts.
within_tenant(tenant) if {
	is_object(input.resource)
	object.get(input.resource, ["attributes", "tenant"], tenant) == tenant
}

# A platform role or grant does platform work on any tenant. To act inside one it must be a member, like everybody.
else if {
	data.actions[input.action].scope == "platform"
	some role in granting
	data.roles[role].scope == "platform"
}

else if {
	data.actions[input.action].scope == "platform"
	some grant in entitling
	grant.scope == "platform"
}

# An entry of the deny list names any of tenant, user, action (or a pattern) and tool. It spares whom it doesn't fit.
spares(entry) if entry.tenant != input.tenant

spares(entry) if entry.user != input.subject.user_id

spares(entry) if {
	entry.action
	patterns := tables.covering[input.action]
	not entry.action in patterns
}

spares(entry) if {
	entry.tool
	not is_tool(entry.tool)
}

is_tool(name) if {
	input.resource.type == "tool"
	input.resource.id == name
}

# The catalogue's entry of a tool that the catalogue enables and that the tenant has not switched off.
enabled_tool(name) := tool if {
	input.resource.type == "tool"
	tool := data.tool_catalog[name]
	tool.enabled == true
	flag := object.get(data.tenant_tool_flags, [input.tenant, name], {"enabled": true})
	flag.enabled == true
}

# Any approval but "none" asks, also a misspelt one. So does a list (context.agent_tools_ask) that is none.
call(ground, tool) := allow(ground) if {
	object.get(tool, "approval", "none") == "none"
	asking := object.get(input.context, "agent_tools_ask", [])
	is_array(asking)
	not input.resource.id in asking
}

else := {"effect": "ask", "reason": "approval_required", "obligations": {}}

# Why not: the first that holds. This explains a denial and decides nothing.
default objection := "no_rule_allows"

objection := "malformed_input" if not input.tenant

else := "malformed_input" if not input.subject.user_id

else := "malformed_input" if not input.action

else := "malformed_input" if not input.resource

else := "malformed_input" if not has_grants

else := "unknown_action" if not data.actions[input.action]

else := "other_tenant" if not within_tenant(input.tenant)

else := concat(" ", ["denied_by_grant", denying[0]]) if denying[0]

else := why_not_granted if not title

else := "scope_does_not_cover" if not scope_covers

else := "deny_listed" if {
	some entry in data.deny_list
	not spares(entry)
}

else := "unknown_tool" if not known_tool

else := "tool_disabled" if not enabled_tool(input.resource.id)

else := "tool_not_on_agent"

# A rule, since `not` over a call is undefined in OPA where what is called with is absent.
has_grants if is_array(input.subject.grants)

# The grants that deny this, whatever allows it.
denying := [id |
	is_array(input.subject.grants)
	some grant in input.subject.grants
	not grant.effect == "allow"
	not passes(grant)
	id := grant.id
]

scope_covers if {
	some pattern in tables.covering[input.action]
	pattern in input.subject.scopes
}

known_tool if {
	input.resource.type == "tool"
	data.tool_catalog[input.resource.id]
}

# A role that is about one agent is held by a grant that names the agent.
why_not_granted := "role_needs_an_agent" if {
	is_array(input.subject.roles)
	some name in input.subject.roles
	tables.grants[name][input.action]
	not tables.held[name][input.action]
}

else := "no_role_allows" if {
	is_array(input.subject.roles)
	some name in input.subject.roles
	tables.names[name]
}

else := "no_grant_allows" if input.subject.grants != []

else := "unknown_role"
