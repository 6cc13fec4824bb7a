//! Whatever a server answers that is no decision of ours denies.

use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::{StatusCode, header},
    response::IntoResponse,
};
use contracts::policy::Effect;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{POLICY, read};
use crate::{
    egress::{AllowList, Egress},
    policy::{Policy, Server},
};

/// The policy on a server that answers everything with this.
async fn answering(status: StatusCode, body: impl Into<Bytes>) -> Policy {
    let body = body.into();
    let router = Router::new().fallback(async move |request: Request| {
        assert_eq!(request.uri().query(), Some("provenance=true"));
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/behind/a/path/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let egress = Egress::new(AllowList::default());
    POLICY.clone().on(Server::new(&base.parse().unwrap(), &egress).unwrap())
}

fn answer(revisions: &[&str], result: &Value) -> String {
    let bundles: Value = revisions
        .iter()
        .enumerate()
        .map(|(index, revision)| (format!("/{index}"), json!({ "revision": revision })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    json!({ "provenance": { "version": "1.22.2", "bundles": bundles }, "result": result }).to_string()
}

fn yes() -> Value {
    json!({ "effect": "allow", "reason": "r", "obligations": {} })
}

async fn check(status: StatusCode, body: impl Into<Bytes>, reason: &str) {
    let decision = answering(status, body).await.decide(&read()).await;
    assert_eq!(decision.effect, Effect::Deny);
    assert!(decision.reason.starts_with(reason), "{decision:?}");
}

#[tokio::test]
async fn an_answer_of_our_revision_counts() {
    let ours = POLICY.revision();
    let decision = answering(StatusCode::OK, answer(&[ours, ours], &yes())).await.decide(&read()).await;
    assert!(decision.allowed() && decision.revision == ours, "{decision:?}");
}

#[tokio::test]
async fn an_answer_of_any_other_revision_does_not() {
    let ours = POLICY.revision();
    for revisions in [&[][..], &[""], &["", ours], &[ours, ""], &[ours, "other"], &["other", ours]] {
        check(StatusCode::OK, answer(revisions, &yes()), "policy_unavailable: the OPA server serves").await;
    }
    check(StatusCode::OK, json!({ "result": yes() }).to_string(), "policy_unavailable").await;
}

#[tokio::test]
async fn an_answer_of_another_shape_is_a_denial() {
    let ours = [POLICY.revision()];
    for result in [json!(null), json!(true), json!("allow"), json!({ "effect": "allow" }), json!([yes()])] {
        check(StatusCode::OK, answer(&ours, &result), "malformed_decision").await;
    }
    for body in ["", "allow", "[]", "{\"result\": "] {
        check(StatusCode::OK, body, "policy_unavailable").await;
    }
    let long = json!({ "effect": "allow", "reason": "r".repeat(70_000), "obligations": {} });
    check(StatusCode::OK, answer(&ours, &long), "policy_unavailable: the OPA server's answer is longer")
        .await;
}

#[tokio::test]
async fn a_servers_fault_is_a_denial_that_names_it() {
    let fault = json!({ "code": "internal_error", "message": "of input" }).to_string();
    let said = "policy_unavailable: the OPA server answers 500 Internal Server Error (internal_error)";
    check(StatusCode::INTERNAL_SERVER_ERROR, fault, said).await;
    // Not even with an answer in it, nor by way of somebody else.
    for status in [StatusCode::BAD_GATEWAY, StatusCode::FOUND, StatusCode::ACCEPTED] {
        check(status, answer(&[POLICY.revision()], &yes()), "policy_unavailable").await;
    }
}
