//! What the policy promises to the rest of the program.

mod catalogue;
mod closed;
mod facts;
mod grants;
mod on_opa;
mod questions;
mod server;

use std::sync::LazyLock;

use contracts::{
    TenantId, UserId,
    policy::{Decision, Effect, Request, Resource, Subject},
};
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::{DATA, DECISION_MODULE, LoadError, Policy, TABLES_MODULE, document};

static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy::load().unwrap());

fn request(roles: &[&str], action: &str, resource: Resource) -> Request {
    let subject = Subject {
        user_id: UserId::new(),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        scopes: vec!["*".to_owned()],
        impersonator: None,
        grants: Vec::new(),
    };
    let action = action.to_owned();
    Request { tenant: TenantId::new(), subject, action, resource, context: Value::Null }
}

fn of_tenant(kind: &str, tenant: TenantId) -> Resource {
    let mut resource = Resource::new(kind, "some");
    resource.attributes = json!({"tenant": tenant});
    resource
}

fn tool_call(roles: &[&str], tool: &str, agent_tools: &[&str]) -> Request {
    request(roles, "tool:execute", Resource::new("tool", tool))
        .with_context(json!({"agent_tools": agent_tools}))
}

/// In this process nobody is waited for.
fn decided(policy: &Policy, request: &Request) -> Decision {
    policy.decide(request).now_or_never().expect("a decision")
}

#[track_caller]
fn check(policy: &Policy, request: &Request, effect: Effect, reason: &str) {
    let made_here = reason == "malformed_decision" || reason.starts_with("policy_error");
    let obligations = if made_here { Value::Null } else { json!({}) };
    let revision = policy.revision().to_owned();
    let reason = reason.to_owned();
    assert_eq!(decided(policy, request), Decision { effect, reason, obligations, revision });
}

#[track_caller]
fn denies(request: &Request, reason: &str) {
    check(&POLICY, request, Effect::Deny, reason);
}

#[track_caller]
fn allows(request: &Request, reason: &str) {
    check(&POLICY, request, Effect::Allow, reason);
}

/// The shipped policy over changed data.
fn over(change: impl FnOnce(&mut Value)) -> Result<Policy, LoadError> {
    let mut data = document::parse(DATA).unwrap();
    change(&mut data);
    Policy::from_texts(DECISION_MODULE.1, TABLES_MODULE.1, data)
}

fn read() -> Request {
    request(&["member"], "conversation:read", Resource::new("conversation", "some"))
}

#[test]
fn the_policys_own_tests_pass() {
    let report = Policy::test();
    let failed: Vec<_> = report.results.iter().filter(|result| !result.passed).collect();
    assert!(report.passed(), "{failed:#?}");
    assert!(report.results.len() > 20, "{report:#?}");
}

#[test]
fn a_report_without_tests_has_not_passed() {
    assert!(!super::TestReport { results: Vec::new() }.passed());
}

#[test]
fn a_role_allows_what_it_grants_and_nothing_else() {
    allows(&read(), "role user grants conversation:read");
    denies(&request(&["member"], "user:delete", Resource::any("user")), "no_role_allows");
}

#[test]
fn an_unknown_action_is_denied_to_everyone() {
    for action in ["conversation.send", "conversation:*", "*", "", "conversation:read "] {
        let request = request(&["saas_super_admin"], action, Resource::any("conversation"));
        denies(&request, "unknown_action");
        assert!(!POLICY.is_action(action));
    }
}

#[test]
fn an_unknown_role_grants_nothing() {
    let resource = || Resource::any("agent");
    denies(&request(&[], "agent:read", resource()), "unknown_role");
    denies(&request(&["root", "*"], "agent:read", resource()), "unknown_role");
    denies(&request(&["root", "viewer"], "agent:create", resource()), "no_role_allows");
    allows(&request(&["root", "viewer"], "agent:read", resource()), "role viewer grants agent:read");
}

#[test]
fn scopes_narrow_what_roles_allow() {
    let scoped = |action: &str, scopes: &[&str]| {
        let mut request = request(&["member"], action, Resource::any("conversation"));
        request.subject.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        request
    };
    for scopes in [&[][..], &["agent:*"], &["conv*"], &["conversation:re*"], &["*:read"], &["**"]] {
        denies(&scoped("conversation:read", scopes), "scope_does_not_cover");
    }
    for scopes in [&["*"][..], &["conversation:read"], &["agent:read", "conversation:*"]] {
        allows(&scoped("conversation:read", scopes), "role user grants conversation:read");
    }
    let wide = &["conversation:view_*"];
    allows(&scoped("conversation:view_history", wide), "role user grants conversation:view_history");
    denies(&scoped("conversation:export", &["*"]), "no_role_allows");
}

#[test]
fn another_tenants_resource_is_out_of_reach() {
    let mut request = read();
    request.resource = of_tenant("conversation", TenantId::new());
    denies(&request, "other_tenant");
    request.resource = of_tenant("conversation", request.tenant);
    allows(&request, "role user grants conversation:read");
}

#[test]
fn a_platform_role_does_platform_work_on_any_tenant_but_calls_no_tools_there() {
    let elsewhere = TenantId::new();
    let suspend = |roles: &[&str]| request(roles, "tenant:suspend", of_tenant("tenant", elsewhere));
    allows(&suspend(&["saas_super_admin"]), "role saas_super_admin grants tenant:suspend");
    denies(&suspend(&["owner"]), "other_tenant");
    let read = request(&["saas_super_admin"], "agent:read", of_tenant("agent", elsewhere));
    denies(&read, "other_tenant");
    let mut call = tool_call(&["saas_super_admin"], "timestamp", &["timestamp"]);
    call.resource.attributes = json!({"tenant": elsewhere});
    denies(&call, "other_tenant");
}

#[test]
fn the_deny_list_outranks_every_role() {
    let mut request = read();
    request.subject.roles.push("saas_super_admin".to_owned());
    let user = request.subject.user_id;
    for entry in [json!({"user": user}), json!({"action": "conversation:*"})] {
        let policy = over(|data| data["deny_list"] = json!([{"user": "x"}, entry])).unwrap();
        check(&policy, &request, Effect::Deny, "deny_listed");
    }
    let policy = over(|data| data["deny_list"] = json!([{"tool": "timestamp"}])).unwrap();
    check(&policy, &request, Effect::Allow, "role user grants conversation:read");
    let call = tool_call(&["owner"], "timestamp", &["timestamp"]);
    check(&policy, &call, Effect::Deny, "deny_listed");
}

#[test]
fn a_tool_call_needs_catalogue_tenant_and_agent() {
    allows(
        &tool_call(&["owner"], "timestamp", &["file_read", "timestamp"]),
        "role tenant_admin grants tool:execute",
    );
    denies(&tool_call(&["owner"], "echo", &["echo"]), "unknown_tool");
    denies(&tool_call(&["owner"], "timestamp", &[]), "tool_not_on_agent");
    denies(&tool_call(&["owner"], "timestamp", &["file_read"]), "tool_not_on_agent");
    denies(&tool_call(&["saas_super_admin"], "timestamp", &[]), "tool_not_on_agent");
    let call = tool_call(&["owner"], "timestamp", &["timestamp"]);
    denies(&call.clone().with_context(Value::Null), "tool_not_on_agent");

    let off = over(|data| data["tool_catalog"]["timestamp"]["enabled"] = json!(false)).unwrap();
    check(&off, &call, Effect::Deny, "tool_disabled");
    let flags = json!({call.tenant.to_string(): {"timestamp": {"enabled": false}}});
    let off = over(|data| data["tenant_tool_flags"] = flags).unwrap();
    check(&off, &call, Effect::Deny, "tool_disabled");
    let elsewhere = tool_call(&["owner"], "timestamp", &["timestamp"]);
    check(&off, &elsewhere, Effect::Allow, "role tenant_admin grants tool:execute");
}

#[test]
fn a_tool_that_wants_approval_asks() {
    let call = tool_call(&["owner"], "timestamp", &["timestamp"]);
    let approval = |value: &str| over(|data| data["tool_catalog"]["timestamp"]["approval"] = json!(value));
    check(&approval("required").unwrap(), &call, Effect::Ask, "approval_required");
    let reason = "role tenant_admin grants tool:execute";
    check(&approval("none").unwrap(), &call, Effect::Allow, reason);
    let context = json!({"agent_tools": ["timestamp"], "agent_tools_ask": ["timestamp"]});
    check(&POLICY, &call.with_context(context), Effect::Ask, "approval_required");
}

#[test]
fn more_data_may_be_added_but_not_changed() {
    let tool = json!({"tool_catalog": {"fx_repeatable": {"enabled": true}}});
    let policy = Policy::load_with(tool).unwrap();
    let call = tool_call(&["owner"], "fx_repeatable", &["fx_repeatable"]);
    check(&policy, &call, Effect::Allow, "role tenant_admin grants tool:execute");
    denies(&call, "unknown_tool");
    assert_ne!(policy.revision(), POLICY.revision());

    let change = json!({"tool_catalog": {"timestamp": {"enabled": false}}});
    assert!(matches!(Policy::load_with(change), Err(LoadError::Catalogue(_))));
    let entry = json!({"deny_list": [{"tool": "timestamp"}]});
    let call = tool_call(&["owner"], "timestamp", &["timestamp"]);
    check(&Policy::load_with(entry).unwrap(), &call, Effect::Deny, "deny_listed");
}

#[test]
fn the_revision_follows_text_and_data() {
    let shipped = POLICY.revision();
    assert_eq!(shipped.len(), 16);
    assert_eq!(Policy::load().unwrap().revision(), shipped);
    let text = format!("{}\n", DECISION_MODULE.1);
    let policy = Policy::from_texts(&text, TABLES_MODULE.1, document::parse(DATA).unwrap());
    assert_ne!(policy.unwrap().revision(), shipped);
    let policy = over(|data| data["deny_list"] = json!([{"user": "x"}])).unwrap();
    assert_ne!(policy.revision(), shipped);
}

#[test]
fn the_input_document_is_the_serialised_request() {
    let mut request = tool_call(&["owner"], "timestamp", &["timestamp"]);
    for resource in [request.resource.clone(), Resource::any("agent"), of_tenant("agent", request.tenant)] {
        request.resource = resource;
        request.subject.grants.push(grants::grant("agent_operator"));
        let document = document::from_request(&request).unwrap();
        assert_eq!(document, regorus::Value::from(serde_json::to_value(&request).unwrap()));
        let raw = POLICY.evaluate(serde_json::to_value(&request).unwrap());
        assert_eq!(raw, decided(&POLICY, &request));
    }
}

#[test]
fn any_document_gets_an_answer() {
    for input in [json!(null), json!({}), json!([]), json!("x"), json!({"tenant": 1})] {
        let decision = POLICY.evaluate(input);
        assert_eq!((decision.effect, decision.reason.as_str()), (Effect::Deny, "malformed_input"));
        assert_eq!(decision.revision, POLICY.revision());
    }
}

#[test]
fn a_policy_is_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    shared(&*POLICY);
}
