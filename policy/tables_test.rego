# The promises of tables.rego about the catalogue as it is.
package soma.tables_test

import rego.v1

import data.soma.tables

test_an_action_is_covered_by_itself_and_three_kinds_of_pattern if {
	{p | some p in tables.covering["billing:view_usage"]} == {"billing:view_usage", "*", "billing:*", "billing:view_*"}
	{p | some p in tables.covering["agent:read"]} == {"agent:read", "*", "agent:*"}
	{p | some p in tables.covering["voice_persona:set_default"]} == {"voice_persona:set_default", "*", "voice_persona:*", "voice_persona:set_*"}
}

test_every_action_has_its_patterns if {
	{a | some a, _ in tables.covering} == object.keys(data.actions)
}

test_a_tenants_names_stand_for_roles if {
	tables.names.owner == ["tenant_admin", "billing_admin", "security_auditor"]
	tables.names.admin == ["tenant_admin"]
	tables.names.member == ["user"]
	tables.names.viewer == ["viewer"]
	tables.names.security_auditor == ["security_auditor"]
}

test_grants_name_the_role_behind_the_name if {
	tables.grants.owner["tool:execute"] == "tenant_admin"
	tables.grants.owner["billing:change_plan"] == "billing_admin"
	tables.grants.owner["billing:view_usage"] == "tenant_admin"
	tables.grants.owner["audit:export"] == "security_auditor"
	tables.grants.member["conversation:update"] == "user"
}

test_a_pattern_grants_its_own_resource_only if {
	not tables.grants.admin["billing:change_plan"]
	not tables.grants.admin["tenant:delete"]
	not tables.grants.viewer["conversation:create"]
	not tables.grants.billing_admin["agent:read"]
}

test_everything_is_granted_to_the_platforms_administrator_alone if {
	[name | some name, granted in tables.grants; count(granted) == count(data.actions)] == ["saas_super_admin"]
}

test_a_role_of_an_agent_is_not_held_as_a_plain_one if {
	{name | some name, _ in tables.grants} - {name | some name, _ in tables.held} == {"agent_owner", "agent_operator"}
	every name, granted in tables.held { granted == tables.grants[name] }
}
