# The promises of decision.rego. `soma policy test` and `opa test policy/` run them.
package soma.policy_test

import rego.v1

import data.soma.policy

here := "0198a3f0-0000-7000-8000-00000000000a"

elsewhere := "0198a3f0-0000-7000-8000-00000000000b"

user := "0198a3f0-0000-7000-8000-0000000000ff"

# A request of a member's session; each test changes what it is about.
asks(changes) := object.union(
	{
		"tenant": here,
		"subject": {"user_id": user, "roles": ["member"], "scopes": ["*"]},
		"action": "conversation:read",
		"resource": {"type": "conversation", "id": "c", "attributes": {"tenant": here}},
		"context": null,
	},
	changes,
)

calls(tool, context) := asks({
	"action": "tool:execute",
	"resource": {"type": "tool", "id": tool, "attributes": {"tenant": here}},
	"context": context,
})

holding(roles) := {"subject": {"user_id": user, "roles": roles, "scopes": ["*"]}}

limited(scopes) := asks({"subject": {"user_id": user, "roles": ["member"], "scopes": scopes}})

denied(reason) := {"effect": "deny", "reason": reason, "obligations": {}}

allowed(reason) := {"effect": "allow", "reason": reason, "obligations": {}}

test_a_role_allows_what_it_grants if {
	policy.decision == allowed("role user grants conversation:read") with input as asks({})
}

test_nothing_is_allowed_without_input if {
	policy.decision == denied("malformed_input") with input as {}
	policy.decision == denied("malformed_input") with input as object.remove(asks({}), ["tenant"])
	policy.decision == denied("malformed_input") with input as object.remove(asks({}), ["action"])
	policy.decision == denied("malformed_input") with input as object.remove(asks({}), ["resource"])
	policy.decision == denied("malformed_input") with input as asks({"subject": {"user_id": false}})
}

test_an_unknown_action_is_denied if {
	policy.decision == denied("unknown_action") with input as asks({"action": "conversation.send"})
	policy.decision == denied("unknown_action") with input as asks({"action": "conversation:*"})
	policy.decision == denied("unknown_action") with input as asks({"action": null})
}

test_an_unknown_role_grants_nothing if {
	policy.decision == denied("unknown_role") with input as asks(holding(["root"]))
	policy.decision == denied("unknown_role") with input as asks(holding([]))
	policy.decision == denied("no_role_allows") with input as object.union(asks(holding(["root", "viewer"])), {"action": "conversation:create"})
	policy.decision == allowed("role user grants conversation:read") with input as asks(holding(["root", "user"]))
}

test_what_no_role_grants_is_denied if {
	policy.decision == denied("no_role_allows") with input as asks({"action": "user:delete"})
}

test_scopes_narrow_what_roles_allow if {
	policy.decision == denied("scope_does_not_cover") with input as limited([])
	policy.decision == denied("scope_does_not_cover") with input as limited(["agent:read"])
	policy.decision == denied("scope_does_not_cover") with input as limited(["conversation:r*", "conv*", "*:read"])
	policy.decision.effect == "allow" with input as limited(["agent:read", "conversation:read"])
	policy.decision.effect == "allow" with input as limited(["conversation:*"])
	policy.decision == denied("no_role_allows") with input as object.union(limited(["user:delete"]), {"action": "user:delete"})
}

test_another_tenants_resource_is_denied if {
	policy.decision == denied("other_tenant") with input as asks({"resource": {"attributes": {"tenant": elsewhere}}})
	policy.decision == denied("other_tenant") with input as asks({"resource": {"attributes": {"tenant": null}}})
	policy.decision.effect == "allow" with input as asks({"resource": {"type": "conversation", "attributes": null}})
}

test_a_platform_role_reaches_other_tenants_for_platform_work_only if {
	suspends := {"action": "tenant:suspend", "resource": {"type": "tenant", "attributes": {"tenant": elsewhere}}}
	executes := {
		"action": "tool:execute",
		"resource": {"type": "tool", "id": "timestamp", "attributes": {"tenant": elsewhere}},
		"context": {"agent_tools": ["timestamp"]},
	}
	reads := {"resource": {"attributes": {"tenant": elsewhere}}}
	admin := holding(["saas_super_admin"])
	policy.decision == allowed("role saas_super_admin grants tenant:suspend") with input as asks(object.union(admin, suspends))
	policy.decision == denied("other_tenant") with input as asks(object.union(admin, executes))
	policy.decision == denied("other_tenant") with input as asks(object.union(admin, reads))

	# A tenant's own administrator reads its tenant, and no other.
	policy.decision == denied("other_tenant") with input as asks(object.union(
		holding(["owner"]),
		object.union(suspends, {"action": "tenant:read"}),
	))
}

test_the_deny_list_outranks_roles if {
	policy.decision == denied("deny_listed") with input as asks({}) with data.deny_list as [{"user": user}]
	policy.decision == denied("deny_listed") with input as asks({}) with data.deny_list as [{"tenant": here}]
	policy.decision == denied("deny_listed") with input as asks({}) with data.deny_list as [{"action": "conversation:read"}]
	policy.decision == denied("deny_listed") with input as asks({}) with data.deny_list as [{"user": "x"}, {"action": "conversation:*"}]
	policy.decision == denied("deny_listed") with input as calls("timestamp", {"agent_tools": ["timestamp"]})
		with data.deny_list as [{"tool": "timestamp", "user": user, "tenant": here, "action": "tool:execute"}]
	policy.decision == denied("deny_listed") with input as asks(holding(["saas_super_admin"])) with data.deny_list as [{"user": user}]
}

test_an_entry_of_the_deny_list_hits_only_if_all_it_names_fit if {
	policy.decision.effect == "allow" with input as asks({}) with data.deny_list as [
		{"user": "x"},
		{"tenant": elsewhere},
		{"action": "conversation:update"},
		{"tool": "timestamp"},
		{"user": user, "action": "agent:*"},
		{"action": "conversation:*", "tool": "timestamp"},
	]
	policy.decision.effect == "allow" with input as calls("timestamp", {"agent_tools": ["timestamp"]})
		with data.deny_list as [{"tool": "http_fetch"}]
}

test_a_tool_on_the_agents_list_may_be_called if {
	policy.decision == allowed("role user grants tool:execute") with input as calls("timestamp", {"agent_tools": ["file_read", "timestamp"]})
}

test_a_tool_that_the_catalogue_lacks_is_denied if {
	policy.decision == denied("unknown_tool") with input as calls("rm_rf", {"agent_tools": ["rm_rf"]})
	policy.decision == denied("unknown_tool") with input as asks({
		"action": "tool:execute",
		"resource": {"type": "conversation", "id": "timestamp"},
		"context": {"agent_tools": ["timestamp"]},
	})
	policy.decision == denied("unknown_tool") with input as asks({"action": "tool:execute", "resource": {"type": "tool"}})
}

test_a_disabled_tool_is_denied if {
	call := calls("timestamp", {"agent_tools": ["timestamp"]})
	policy.decision == denied("tool_disabled") with input as call with data.tool_catalog as {"timestamp": {"enabled": false}}
	policy.decision == denied("tool_disabled") with input as call with data.tool_catalog as {"timestamp": {}}
	policy.decision == denied("tool_disabled") with input as call with data.tool_catalog as {"timestamp": {"enabled": "no"}}
}

test_a_tenant_may_switch_a_tool_off if {
	call := calls("timestamp", {"agent_tools": ["timestamp"]})
	policy.decision == denied("tool_disabled") with input as call with data.tenant_tool_flags as {here: {"timestamp": {"enabled": false}}}
	policy.decision == denied("tool_disabled") with input as call with data.tenant_tool_flags as {here: {"timestamp": {}}}
	policy.decision.effect == "allow" with input as call with data.tenant_tool_flags as {here: {"timestamp": {"enabled": true}}}
	policy.decision.effect == "allow" with input as call with data.tenant_tool_flags as {elsewhere: {"timestamp": {"enabled": false}}}
	policy.decision.effect == "allow" with input as call with data.tenant_tool_flags as {here: {"http_fetch": {"enabled": false}}}

	# What the catalogue disables, no tenant enables.
	policy.decision == denied("tool_disabled") with input as call
		with data.tool_catalog as {"timestamp": {"enabled": false}}
		with data.tenant_tool_flags as {here: {"timestamp": {"enabled": true}}}
}

test_a_tool_off_the_agents_list_is_denied if {
	policy.decision == denied("tool_not_on_agent") with input as calls("timestamp", {"agent_tools": ["http_fetch"]})
	policy.decision == denied("tool_not_on_agent") with input as calls("timestamp", {"agent_tools": []})
	policy.decision == denied("tool_not_on_agent") with input as calls("timestamp", {})
	policy.decision == denied("tool_not_on_agent") with input as calls("timestamp", null)
	policy.decision == denied("tool_not_on_agent") with input as calls("timestamp", {"agent_tools": "timestamp"})
}

test_a_tool_that_wants_approval_asks if {
	ask := {"effect": "ask", "reason": "approval_required", "obligations": {}}
	call := calls("timestamp", {"agent_tools": ["timestamp"]})
	policy.decision == ask with input as call with data.tool_catalog as {"timestamp": {"enabled": true, "approval": "required"}}
	policy.decision == ask with input as call with data.tool_catalog as {"timestamp": {"enabled": true, "approval": "requird"}}
	policy.decision == ask with input as call with data.tool_catalog as {"timestamp": {"enabled": true, "approval": false}}
	policy.decision.effect == "allow" with input as call with data.tool_catalog as {"timestamp": {"enabled": true, "approval": "none"}}
	policy.decision == ask with input as calls("timestamp", {"agent_tools": ["timestamp"], "agent_tools_ask": ["timestamp"]})
	policy.decision == ask with input as calls("timestamp", {"agent_tools": ["timestamp"], "agent_tools_ask": "timestamp"})
	policy.decision.effect == "allow" with input as calls("timestamp", {"agent_tools": ["timestamp"], "agent_tools_ask": ["http_fetch"]})
	policy.decision.effect == "allow" with input as calls("timestamp", {"agent_tools": ["timestamp"]})
}

test_approval_does_not_open_what_is_closed if {
	policy.decision == denied("tool_not_on_agent") with input as calls("timestamp", {"agent_tools": [], "agent_tools_ask": ["timestamp"]})
}

test_the_right_to_make_calls_comes_first if {
	call := calls("timestamp", {"agent_tools": ["timestamp"]})
	policy.decision == denied("no_role_allows") with input as object.union(call, holding(["viewer"]))
	policy.decision == denied("scope_does_not_cover") with input as object.union(
		call,
		{"subject": {"scopes": ["conversation:*"]}},
	)
}
