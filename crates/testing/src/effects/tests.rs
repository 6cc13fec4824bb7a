//! Tests of the effect ledger, over real HTTP.

use serde_json::{Value, json};

use super::*;

const SOON: Duration = Duration::from_secs(5);

#[expect(clippy::disallowed_methods, reason = "a test's own client to a test's own server")]
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

fn post_effect(ledger: &EffectLedger, path: &str, call: &str) -> reqwest::RequestBuilder {
    let url = format!("{}/effects/{path}", ledger.url());
    client().post(url).json(&json!({"run": "r", "call": call, "note": "n"}))
}

#[tokio::test]
async fn without_a_key_each_request_is_an_effect() {
    let ledger = EffectLedger::start();
    for _ in 0..2 {
        assert_eq!(post_effect(&ledger, "mail", "c").send().await.unwrap().status(), 201);
    }
    let counts = ledger.counts();
    assert_eq!((counts.applied, counts.by_class["mail"], counts.by_call["c"]), (2, 2, 2));
}

#[tokio::test]
async fn with_a_key_the_effect_is_applied_once_and_answered_alike() {
    let ledger = EffectLedger::start();
    let keyed = |class, call| post_effect(&ledger, class, call).header("Idempotency-Key", "k");
    let first = keyed("mail", "c").send().await.unwrap();
    let second = keyed("mail", "c").send().await.unwrap();
    assert_eq!(
        (first.status(), second.status()),
        (reqwest::StatusCode::CREATED, reqwest::StatusCode::CREATED)
    );
    assert_eq!(second.headers()["idempotent-replayed"], "true");
    assert_eq!(first.text().await.unwrap(), second.text().await.unwrap());
    assert_eq!(keyed("mail", "other").send().await.unwrap().status(), 422);
    assert_eq!(keyed("payment", "c").send().await.unwrap().status(), 201);
    let counts = ledger.counts();
    assert_eq!((counts.requests, counts.applied, counts.replayed, counts.conflicts), (4, 2, 1, 1));

    let listed: Value =
        client().get(format!("{}/effects", ledger.url())).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        listed[0],
        json!({"number": 1, "class": "mail", "key": "k", "run": "r", "call": "c", "note": "n"})
    );
    assert_eq!(ledger.effects().len(), 2);
    let stats: Counts =
        client().get(format!("{}/stats", ledger.url())).send().await.unwrap().json().await.unwrap();
    assert_eq!(stats, counts);
}

#[tokio::test]
async fn many_at_once_under_one_key_are_one_effect() {
    let ledger = EffectLedger::start();
    let requests = (0..32).map(|_| post_effect(&ledger, "mail", "c").header("Idempotency-Key", "k").send());
    for response in futures::future::join_all(requests).await {
        assert_eq!(response.unwrap().status(), 201);
    }
    assert_eq!((ledger.counts().applied, ledger.counts().replayed), (1, 31));
}

#[tokio::test]
async fn an_effect_whose_answer_was_not_waited_for_has_happened() {
    let ledger = EffectLedger::start();
    let lost =
        post_effect(&ledger, "mail?after_ms=60000", "c").timeout(Duration::from_millis(200)).send().await;
    assert!(lost.unwrap_err().is_timeout());
    ledger.wait_for(SOON, |counts| counts.applied == 1).await;
    let early =
        post_effect(&ledger, "mail?before_ms=60000", "d").timeout(Duration::from_millis(200)).send().await;
    assert!(early.unwrap_err().is_timeout());
    let counts = ledger.wait_for(SOON, |counts| counts.requests == 2).await;
    assert_eq!(counts.applied, 1);
}

#[tokio::test]
async fn the_file_outlives_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { file: Some(folder.path().join("effects.jsonl")), ..Options::default() };
    let effects = {
        let ledger = EffectLedger::start_with(options.clone()).unwrap();
        post_effect(&ledger, "mail", "c").header("Idempotency-Key", "k").send().await.unwrap();
        post_effect(&ledger, "mail", "d").send().await.unwrap();
        ledger.effects()
    };
    let ledger = EffectLedger::start_with(options).unwrap();
    assert_eq!((ledger.effects(), ledger.counts().applied), (effects, 2));
    let again = post_effect(&ledger, "mail", "c").header("Idempotency-Key", "k").send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    post_effect(&ledger, "mail", "e").send().await.unwrap();
    assert_eq!(ledger.effects().iter().map(|effect| effect.number).collect::<Vec<_>>(), [1, 2, 3]);
}
