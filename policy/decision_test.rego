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
		"subject": {"user_id": user, "roles": ["member"], "scopes": ["*"], "grants": []},
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

# One that holds no role but these grants.
granted(grants, changes) := object.union(asks({"subject": {"roles": [], "grants": grants}}), changes)

of_agent(agent) := {"resource": {"type": "conversation", "id": "c", "attributes": {"tenant": here, "agent": agent}}}

# A grant of the catalogue's role `user` in the whole tenant; each test changes what it is about.
grant(changes) := object.union(
	{"id": "g", "role": "user", "permissions": [], "effect": "allow", "scope": "tenant", "agent": null},
	changes,
)

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
	policy.decision == denied("malformed_input") with input as asks({"subject": {"grants": null}})
	policy.decision == denied("malformed_input") with input as object.remove(asks({}), ["subject"])
	without := {"tenant": here, "subject": {"user_id": user, "roles": ["member"], "scopes": ["*"]}, "action": "agent:read", "resource": {"type": "agent"}}
	policy.decision == denied("malformed_input") with input as without
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

test_a_grant_of_a_role_allows_what_the_role_grants if {
	policy.decision == allowed("grant g (role user) grants conversation:read") with input as granted([grant({})], {})
	policy.decision == denied("no_grant_allows") with input as granted([grant({})], {"action": "user:delete"})
	policy.decision == denied("no_grant_allows") with input as granted([grant({"role": "root"})], {})
	policy.decision == denied("no_grant_allows") with input as granted([grant({"effect": "ALLOW"})], {"action": "user:delete"})
}

test_a_grant_of_permissions_allows_what_its_patterns_cover if {
	own := grant({"role": "reviewer", "permissions": ["conversation:re*", "conversation:view_*", "audit:read"]})
	bare := object.union(own, {"role": null})
	policy.decision == allowed("grant g (role reviewer) grants audit:read") with input as granted([own], {"action": "audit:read"})
	policy.decision == allowed("grant g grants conversation:view_history") with input as granted([bare], {"action": "conversation:view_history"})
	policy.decision == denied("no_grant_allows") with input as granted([own], {})

	# A tenant's own role is what its patterns say, whatever its name.
	shadow := object.union(own, {"role": "saas_super_admin"})
	policy.decision == denied("no_grant_allows") with input as granted([shadow], {"action": "platform:manage"})
}

test_roles_come_before_grants_and_the_first_grant_names_itself if {
	two := [grant({"id": "no", "permissions": ["audit:read"]}), grant({"id": "yes"}), grant({"id": "later"})]
	policy.decision == allowed("role user grants conversation:read") with input as asks({"subject": {"grants": two}})
	policy.decision == allowed("grant yes (role user) grants conversation:read") with input as granted(two, {})
}

test_a_grant_about_an_agent_counts_for_that_agent_only if {
	operator := [grant({"role": "agent_operator", "scope": "agent", "agent": "a"})]
	policy.decision == allowed("grant g (role agent_operator) grants conversation:read") with input as granted(operator, of_agent("a"))
	policy.decision == denied("no_grant_allows") with input as granted(operator, of_agent("b"))
	policy.decision == denied("no_grant_allows") with input as granted(operator, of_agent(null))
	policy.decision == denied("no_grant_allows") with input as granted(operator, {})
	start := {"action": "agent:start", "resource": {"type": "agent", "id": "a", "attributes": null}}
	policy.decision == allowed("grant g (role agent_operator) grants agent:start") with input as granted(operator, start)
	policy.decision == denied("no_grant_allows") with input as granted(operator, object.union(start, {"resource": {"id": "b"}}))

	# Nothing reaches everywhere by leaving its agent out.
	policy.decision == denied("no_grant_allows") with input as granted([object.remove(operator[0], ["agent"])], of_agent("a"))
	policy.decision == denied("no_grant_allows") with input as granted([grant({"agent": false})], {})
}

test_a_role_of_an_agent_is_held_by_a_grant_alone if {
	policy.decision == denied("role_needs_an_agent") with input as asks(holding(["agent_owner"]))
	policy.decision == denied("role_needs_an_agent") with input as object.union(asks(holding(["agent_operator"])), of_agent("a"))
	policy.decision == allowed("role user grants conversation:read") with input as asks(holding(["agent_owner", "member"]))
}

test_a_tool_call_may_rest_on_a_grant_about_the_calling_agent if {
	operator := [grant({"role": "agent_operator", "scope": "agent", "agent": "a"})]
	call := {
		"action": "tool:execute",
		"resource": {"type": "tool", "id": "timestamp", "attributes": {"tenant": here, "agent": "a"}},
		"context": {"agent_tools": ["timestamp"]},
	}
	policy.decision == allowed("grant g (role agent_operator) grants tool:execute") with input as granted(operator, call)
	policy.decision == denied("tool_not_on_agent") with input as granted(operator, object.union(call, {"context": {"agent_tools": []}}))
	policy.decision == denied("no_grant_allows") with input as granted(operator, object.union(call, {"resource": {"attributes": {"agent": "b"}}}))
}

denies(changes) := asks({"subject": {"grants": [grant(object.union({"effect": "deny"}, changes))]}})

test_a_denial_outranks_roles_and_grants if {
	policy.decision == denied("denied_by_grant g") with input as denies({})
	policy.decision == denied("denied_by_grant g") with input as denies({"role": null, "permissions": ["agent:read", "conversation:*"]})
	policy.decision == denied("denied_by_grant g") with input as object.union(denies({}), holding(["saas_super_admin"]))
	policy.decision == denied("denied_by_grant no") with input as granted([grant({"id": "yes"}), grant({"id": "no", "effect": "deny"})], {})
	call := object.union(denies({"role": null, "permissions": ["tool:execute"]}), {
		"action": "tool:execute",
		"resource": {"type": "tool", "id": "timestamp"},
		"context": {"agent_tools": ["timestamp"]},
	})
	policy.decision == denied("denied_by_grant g") with input as call
}

test_a_denial_of_other_actions_denies_nothing if {
	yes := allowed("role user grants conversation:read")
	policy.decision == yes with input as denies({"role": "billing_admin"})
	policy.decision == yes with input as denies({"role": null, "permissions": ["agent:read", "conversation:re*"]})
}

test_a_denial_about_an_agent_counts_for_that_agent_only if {
	about := denies({"scope": "agent", "agent": "a"})
	policy.decision == denied("denied_by_grant g") with input as object.union(about, of_agent("a"))
	policy.decision.effect == "allow" with input as object.union(about, of_agent("b"))
	policy.decision.effect == "allow" with input as about
}

test_a_denial_that_is_not_understood_denies if {
	policy.decision == denied("denied_by_grant g") with input as denies({"role": "root"})
	policy.decision == denied("denied_by_grant g") with input as denies({"role": null})
	policy.decision == denied("denied_by_grant g") with input as denies({"permissions": "agent:read"})
	policy.decision == denied("denied_by_grant g") with input as denies({"permissions": null})
	policy.decision.effect == "deny" with input as asks({"subject": {"grants": [{"effect": "deny"}]}})
	policy.decision.effect == "deny" with input as asks({"subject": {"grants": ["deny"]}})
}

test_scopes_and_the_deny_list_narrow_grants_too if {
	policy.decision == denied("scope_does_not_cover") with input as granted([grant({})], {"subject": {"scopes": ["agent:*"]}})
	policy.decision == denied("deny_listed") with input as granted([grant({})], {}) with data.deny_list as [{"user": user}]
	policy.decision == denied("other_tenant") with input as granted([grant({})], {"resource": {"attributes": {"tenant": elsewhere}}})
}

test_a_grant_of_the_platform_reaches_other_tenants_for_platform_work_only if {
	suspends := {"action": "tenant:suspend", "resource": {"type": "tenant", "attributes": {"tenant": elsewhere}}}
	platform := grant({"role": null, "permissions": ["tenant:suspend", "conversation:read"], "scope": "platform"})
	policy.decision == allowed("grant g grants tenant:suspend") with input as granted([platform], suspends)
	policy.decision == denied("other_tenant") with input as granted([object.union(platform, {"scope": "tenant"})], suspends)
	policy.decision == denied("other_tenant") with input as granted([platform], {"resource": {"attributes": {"tenant": elsewhere}}})
}
