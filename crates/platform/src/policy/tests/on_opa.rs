//! The policy on a real OPA server: it decides what this process would, or nothing.
//!
//! `scripts/engines` starts the servers. A test that can't have one fails.

use std::{path::Path, pin::pin};

use contracts::policy::{Decision, Effect};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::engines::engines;
use url::Url;

use super::{DATA, POLICY, document, over, questions::Questions, read};
use crate::{
    egress::{AllowList, Egress},
    policy::{BundleError, DECISION, Policy, RIGHT, Server},
};

const QUESTIONS: usize = 100_000;
const SEED: u64 = 5;
/// Of so many questions one is also asked about the right alone.
const RIGHT_OF_EACH: usize = 4;
const AT_ONCE: usize = 16;

/// A server of a test's own with what is in a folder. Gone with it.
struct Opa {
    name: String,
    folder: TempDir,
}

impl Opa {
    fn new(label: &str) -> Self {
        Self { name: format!("opa-{label}-{}", std::process::id()), folder: tempfile::tempdir().unwrap() }
    }

    fn with(label: &str, policy: &Policy) -> Self {
        let opa = Self::new(label);
        policy.write_bundle(opa.bundle()).unwrap();
        opa
    }

    fn bundle(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it, and is the policy that asks it.
    fn up(&self, policy: &Policy) -> Policy {
        let bundle = self.bundle().to_str().unwrap();
        let printed = engines(&["up", "opa", "--name", &self.name, "--file", bundle]);
        policy.clone().on(server(printed.setting("SA01_OPA_URL")))
    }

    fn tell(&self, action: &str) {
        engines(&[action, "opa", "--name", &self.name]);
    }
}

impl Drop for Opa {
    fn drop(&mut self) {
        engines(&["down", "opa", "--name", &self.name, "--forget"]);
    }
}

fn server(base: &str) -> Server {
    Server::new(&base.parse::<Url>().unwrap(), &Egress::new(AllowList::default())).unwrap()
}

async fn check_undecided(policy: &Policy, why: &str) {
    let decision = policy.decide(&read()).await;
    assert!(decision.is_undecided() && decision.reason.contains(why), "{decision:?}");
    assert_eq!((decision.effect, decision.revision.as_str()), (Effect::Deny, policy.revision()));
    for decision in policy.decide_all(&[read(), read()]).await.iter().chain(&policy.rights(&[read()]).await) {
        assert!(decision.is_undecided(), "{decision:?}");
    }
    policy.ready().await.unwrap_err();
}

async fn check_decides(policy: &Policy) {
    assert_eq!(policy.decide(&read()).await.reason, "role user grants conversation:read");
    policy.ready().await.unwrap();
}

/// What both say of a question, where it is not the same. Where this process stops at a broken part, OPA takes the rule
/// as not there and may name another reason; both deny.
async fn differs(server: &Policy, rule: &str, question: &Value) -> Option<String> {
    let compiled = if rule == RIGHT { &POLICY.loaded.right } else { &POLICY.loaded.decision };
    let here = POLICY.ask(compiled, document::from_json(question.clone()).unwrap());
    let there = server.ask_server(server.server.as_ref().unwrap(), rule, question).await;
    let stopped = here.reason.starts_with("policy_error") && there.effect == Effect::Deny;
    (here != there && !stopped).then(|| format!("{rule} of {question}\n  here  {here:?}\n  there {there:?}"))
}

#[tokio::test]
async fn it_decides_what_this_process_decides() {
    let opa = Opa::with("equal", &POLICY);
    let policy = opa.up(&POLICY);
    let policy = &policy;
    let asked = Questions::new(SEED).take(QUESTIONS).enumerate().map(|(index, question)| async move {
        // It is the same rule but for what is said of the tool.
        let right = match index % RIGHT_OF_EACH {
            0 => differs(policy, RIGHT, &question).await,
            _ => None,
        };
        right.or(differs(policy, DECISION, &question).await)
    });
    let mut compared = pin!(stream::iter(asked).buffer_unordered(AT_ONCE));
    let mut count = 0;
    while let Some(difference) = compared.next().await {
        assert!(difference.is_none(), "{}", difference.unwrap_or_default());
        count += 1;
    }
    assert_eq!(count, QUESTIONS);
}

#[test]
fn questions_by_chance_are_allowed_denied_and_asked_about() {
    let decisions: Vec<Decision> = Questions::new(SEED).take(2000).map(|it| POLICY.evaluate(it)).collect();
    for effect in [Effect::Allow, Effect::Deny, Effect::Ask] {
        let of_it = decisions.iter().filter(|decision| decision.effect == effect).count();
        assert!(of_it > 20, "{effect:?}: {of_it} of {}", decisions.len());
    }
    let mut reasons: Vec<&str> = decisions.iter().filter_map(|it| it.reason.split(' ').next()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert!(reasons.len() >= 14, "{reasons:?}");
}

#[test]
fn the_policys_own_tests_pass_on_it() {
    let opa = Opa::with("suite", &POLICY);
    opa.up(&POLICY);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy");
    let said = engines(&[
        "client",
        "opa",
        "--name",
        &opa.name,
        "--",
        "test",
        folder.to_str().unwrap(),
        "--format",
        "json",
    ]);
    let results: Vec<Value> = serde_json::from_str(said.text()).unwrap();
    let failed: Vec<_> =
        results.iter().filter(|result| !result["fail"].is_null() || !result["error"].is_null()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(results.len(), Policy::test().results.len());
}

#[tokio::test]
async fn while_it_is_away_nothing_is_decided_and_after_that_everything_is() {
    let opa = Opa::with("away", &POLICY);
    let policy = opa.up(&POLICY);
    check_decides(&policy).await;
    opa.tell("kill");
    check_undecided(&policy, "can't be reached").await;
    opa.up(&POLICY);
    check_decides(&policy).await;
    opa.tell("pause");
    check_undecided(&policy, "has not answered within 1 s").await;
    opa.tell("continue");
    check_decides(&policy).await;
}

#[tokio::test]
async fn another_policy_than_ours_decides_nothing() {
    let other = over(|data| data["deny_list"] = json!([{"tool": "timestamp"}])).unwrap();
    let opa = Opa::with("other", &other);
    let policy = opa.up(&POLICY);
    check_undecided(&policy, &format!("serves revision `{}`", other.revision())).await;
    assert!(policy.ready().await.unwrap_err().contains("soma policy bundle"));
    check_decides(&other.clone().on(policy.server.clone().unwrap())).await;

    // The right rules without a revision may be anybody's.
    std::fs::remove_file(opa.bundle().join(".manifest")).unwrap();
    let policy = opa.up(&POLICY);
    check_undecided(&policy, "no bundle with a revision").await;

    // And the right bundle takes the place of another one.
    POLICY.write_bundle(opa.bundle()).unwrap();
    check_decides(&opa.up(&POLICY)).await;
}

#[tokio::test]
async fn a_server_without_our_rules_allows_nothing() {
    let opa = Opa::new("empty");
    let manifest = json!({ "revision": POLICY.revision() }).to_string();
    std::fs::write(opa.bundle().join(".manifest"), manifest).unwrap();
    std::fs::write(opa.bundle().join("data.json"), DATA).unwrap();
    let decision = opa.up(&POLICY).decide(&read()).await;
    assert_eq!((decision.effect, decision.reason.as_str()), (Effect::Deny, "malformed_decision"));
}

#[test]
fn a_bundle_is_written_only_where_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("new/bundle");
    for _ in 0..2 {
        POLICY.write_bundle(&place).unwrap();
    }
    let manifest: Value = serde_json::from_slice(&std::fs::read(place.join(".manifest")).unwrap()).unwrap();
    assert_eq!(manifest["revision"], POLICY.revision());
    std::fs::write(place.join("more.rego"), "package more").unwrap();
    let refused = POLICY.write_bundle(&place).unwrap_err();
    assert!(matches!(&refused, BundleError::Occupied(_, name) if name == "more.rego"), "{refused}");
}
