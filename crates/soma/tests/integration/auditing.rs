//! The audit: every change is in it or is not made, what is in it stays as it was written, and who may see it can
//! find, take away and verify it.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use platform::{
    database::{Database, Error, Location, Sql},
    params,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, Server, text};

async fn run(database: &Database, sql: &'static str) -> Result<u64, Error> {
    database.write(move |tx| Box::pin(async move { tx.run(sql, params![]).await })).await
}

/// Some changes and a denial, so that there are entries.
async fn work(server: &Server) {
    let admin = server.api();
    for slug in ["one", "two", "three"] {
        admin.post("/api/v2/agents", json!({ "slug": slug, "name": "=1+1" })).await.expect(201);
    }
    let viewer = server.member("viewer@example.org", &["viewer"]).await;
    viewer.post("/api/v2/agents", json!({ "slug": "four", "name": "Four" })).await.problem(403);
    admin.conversation().await;
}

async fn entries(api: &Api, query: &str) -> Vec<Value> {
    let page = api.get(&format!("/api/v2/audit{query}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_chain_is_whole_and_an_export_proves_it_to_others() {
    let server = Server::start().await;
    work(&server).await;
    let admin = server.api();
    let lines = admin.get("/api/v2/audit/export").await;
    assert_eq!(lines.headers["content-type"], "application/jsonl");
    let lines = lines.expect(200).as_str().unwrap().to_owned();
    let found = admin.get("/api/v2/audit/verify").await.expect(200);
    let (head, count) = (found["head"].as_str().unwrap(), found["entries"].as_i64().unwrap());
    assert_eq!(found, json!({ "ok": true, "entries": count, "head": head, "earlier": 0 }));
    assert_eq!(lines.lines().count(), usize::try_from(count).unwrap(), "the export is its own last entry");

    let by_hand = verified_by_python(&lines);
    assert_eq!(by_hand, (true, format!("{count}:{head}\n")));
    let changed = lines.replacen("agent:create", "agent:delete", 1);
    assert!(!verified_by_python(&changed).0);

    let printed = server.run(&["audit", "verify", "--tenant", "default"]);
    assert!(printed.status.success());
    assert_eq!(text(&printed.stdout), format!("ok    default: {count} entries, head {count}:{head}\n"));
    let noted = format!("{count}:{}", "0".repeat(64));
    let printed = server.run(&["audit", "verify", "--tenant", "default", "--noted", &noted]);
    assert_eq!(printed.status.code(), Some(1));
    assert!(text(&printed.stdout).contains("is not the one that was noted"));
}

/// Runs the program that docs/audit.md gives to those who verify an export.
fn verified_by_python(lines: &str) -> (bool, String) {
    let page = include_str!("../../../../docs/audit.md");
    let program = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let mut python = Command::new("python3");
    python
        .args(["-X", "utf8", "-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut python = python.spawn().unwrap();
    // It may end before it has read all.
    drop(python.stdin.take().unwrap().write_all(lines.as_bytes()));
    let output = python.wait_with_output().unwrap();
    (output.status.success(), text(&output.stdout))
}

#[tokio::test]
async fn an_entry_that_was_changed_removed_or_put_in_between_is_found_and_named() {
    let mut server = Server::start().await;
    work(&server).await;
    server.kill().await;
    let whole = std::fs::read_dir(server.data()).unwrap().map(|file| file.unwrap().path());
    let whole: Vec<_> =
        whole.filter(|path| path.is_file()).map(|path| (std::fs::read(&path).unwrap(), path)).collect();

    let cases: &[(&[&str], i64, &str)] = &[
        (&["UPDATE audit_entries SET reason = 'other' WHERE sequence = 3"], 3, "was changed"),
        (&["UPDATE audit_entries SET at = at + 1 WHERE sequence = 1"], 1, "was changed"),
        (&["UPDATE audit_entries SET details = details || ' ' WHERE sequence = 2"], 2, "was changed"),
        (&["UPDATE audit_entries SET previous_hash = hash WHERE sequence = 2"], 2, "does not follow"),
        (&["DELETE FROM audit_entries WHERE sequence = 2"], 2, "is missing"),
        (
            &["DELETE FROM audit_entries WHERE sequence = 2", "UPDATE audit_entries SET sequence = sequence - 1 WHERE sequence = 3"],
            2,
            "does not follow",
        ),
        (
            &["DELETE FROM audit_entries WHERE sequence = (SELECT MAX(sequence) FROM audit_entries)"],
            5,
            "is missing",
        ),
        (
            &[
                "DROP INDEX audit_entries_sequence",
                "UPDATE audit_entries SET sequence = sequence + 1 WHERE sequence > 2",
                "INSERT INTO audit_entries SELECT 'x', tenant_id, at, actor_id, action, resource_type, resource_id, effect,
                     reason, policy_revision, details, impersonator_id, 3, hash, hash FROM audit_entries WHERE sequence = 2",
            ],
            3,
            "was changed",
        ),
        (
            &["INSERT INTO audit_entries SELECT 'x', tenant_id, at, actor_id, action, resource_type, resource_id, effect,
                   reason, policy_revision, details, impersonator_id, sequence + 1, hash, hash
               FROM audit_entries WHERE sequence = 5"],
            6,
            "was changed",
        ),
    ];
    for (tampering, at, what) in cases {
        for (bytes, path) in &whole {
            std::fs::write(path, bytes).unwrap();
        }
        let database = server.database().await;
        for trigger in [
            "DROP TRIGGER audit_entries_no_update",
            "DROP TRIGGER audit_entries_no_delete",
            "DROP TRIGGER audit_entries_only_next",
            "DROP TRIGGER audit_entries_head",
        ] {
            run(&database, trigger).await.unwrap();
        }
        for sql in *tampering {
            assert!(run(&database, sql).await.is_ok(), "{sql}");
        }
        drop(database);
        let output = server.run(&["audit", "verify"]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{tampering:?}: {said}");
        assert!(said.contains(&format!("FAIL  default: entry {at} {what}")), "{tampering:?}: {said}");
        server.restart().await;
        let found = server.api().get("/api/v2/audit/verify").await.expect(200);
        assert_eq!((&found["ok"], &found["broken_at"]), (&json!(false), &json!(at)), "{found}");
        server.kill().await;
    }
}

#[tokio::test]
async fn the_database_itself_takes_no_change_of_an_entry() {
    let server = Server::start().await;
    work(&server).await;
    let database = server.database().await;
    for sql in [
        "UPDATE audit_entries SET reason = 'other'",
        "DELETE FROM audit_entries",
        "INSERT OR REPLACE INTO audit_entries SELECT * FROM audit_entries WHERE sequence = 2",
        "INSERT INTO audit_entries SELECT 'x', tenant_id, at, actor_id, action, resource_type, resource_id, effect,
             reason, policy_revision, details, impersonator_id, sequence + 9, hash, hash FROM audit_entries LIMIT 1",
        "UPDATE audit_heads SET sequence = 1",
        "DELETE FROM audit_heads",
        "TRUNCATE audit_entries",
        "TRUNCATE audit_heads",
    ] {
        assert!(run(&database, sql).await.is_err(), "{sql}");
    }
    assert_eq!(server.api().get("/api/v2/audit/verify").await.expect(200)["ok"], true);
}

#[tokio::test]
async fn what_the_audit_cannot_take_is_not_done() {
    let server = Server::start().await;
    let admin = server.api();
    let conversation = admin.conversation().await;
    let database = server.database().await;
    let (broken, mended): (&[&str], _) = match database.location() {
        Location::Sqlite(_) => (
            &[
                "CREATE TRIGGER broken BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'broken'); END",
            ],
            "DROP TRIGGER broken",
        ),
        Location::Postgres(_) => (
            &[
                "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$",
                "CREATE TRIGGER broken BEFORE INSERT ON audit_entries EXECUTE FUNCTION broken()",
            ],
            "DROP TRIGGER broken ON audit_entries",
        ),
    };
    for sql in broken {
        run(&database, sql).await.unwrap();
    }
    let before = admin.get("/api/v2/agents").await.expect(200);
    let keys = admin.get("/api/v2/api-keys").await.expect(200);
    for (method, path, body) in [
        (Method::POST, "/api/v2/agents".to_owned(), json!({ "slug": "new", "name": "New" })),
        (Method::PATCH, "/api/v2/agents/default".to_owned(), json!({ "name": "Other" })),
        (Method::POST, "/api/v2/api-keys".to_owned(), json!({ "name": "new" })),
        (
            Method::POST,
            format!("/api/v2/conversations/{conversation}/messages"),
            json!({ "content": "hello" }),
        ),
        (Method::GET, "/api/v2/audit/export".to_owned(), Value::Null),
    ] {
        let reply = admin.call(method, &path, Some(&body)).await;
        assert_eq!(reply.problem(503), "database_stopped", "{path}");
    }
    assert_eq!(admin.get("/api/v2/agents").await.expect(200), before);
    assert_eq!(admin.get("/api/v2/api-keys").await.expect(200), keys);
    assert_eq!(admin.transcript(&conversation).await, []);
    let viewer = server.member("viewer@example.org", &["viewer"]).await;
    assert_eq!(viewer.get("/api/v2/audit").await.problem(403), "denied", "a denial stays one");

    run(&database, mended).await.unwrap();
    assert_eq!(admin.turn(&conversation, "[[say again]]").await.answer(), "again");
    assert_eq!(admin.get("/api/v2/audit/verify").await.expect(200)["ok"], true);
}

#[tokio::test]
async fn a_search_finds_what_fits_and_names_a_parameter_that_is_wrong() {
    let server = Server::start().await;
    work(&server).await;
    let admin = server.api();
    let all = entries(&admin, "").await;
    assert_eq!(all.len(), 5);
    let denied = entries(&admin, "?effect=deny").await;
    assert_eq!(denied.len(), 1);
    assert_eq!((&denied[0]["action"], &denied[0]["impersonator_id"]), (&json!("agent:create"), &Value::Null));
    let viewer = denied[0]["actor_id"].as_str().unwrap();
    let resource = all[0]["resource_id"].as_str();
    for (query, count) in [
        (format!("?actor={viewer}"), 1),
        (format!("?actor={viewer}&effect=allow"), 0),
        ("?action=agent:create".into(), 4),
        ("?action=agent:create&effect=allow&resource_type=agent".into(), 3),
        ("?resource_type=conversation".into(), 1),
        ("?q=AGENT:CRE".into(), 4),
        ("?q=three".into(), 1),
        ("?q=%25".into(), 0),
        ("?from=2026-01-01T00:00:00Z".into(), 5),
        ("?to=2026-01-01T00:00:00Z".into(), 0),
        (format!("?from={}&to={}", all[1]["at"].as_str().unwrap(), "2999-01-01T00:00:00Z"), 2),
        (format!("?resource_id={}", resource.unwrap_or("none")), usize::from(resource.is_some())),
    ] {
        let found = entries(&admin, &query).await;
        assert_eq!(found.len(), count, "{query}: {found:?}");
        assert!(found.iter().all(|entry| all.contains(entry)), "{query}");
    }
    let mut walked = Vec::new();
    let mut path = "/api/v2/audit?action=agent:create&limit=1".to_owned();
    loop {
        let page = admin.get(&path).await.expect(200);
        walked.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v2/audit?action=agent:create&limit=1&cursor={cursor}");
    }
    assert_eq!(walked, entries(&admin, "?action=agent:create").await);
    for (query, field) in [
        ("actor=x", "actor"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("tenant=x", "tenant"),
        ("from=x", "from"),
    ] {
        let reply = admin.get(&format!("/api/v2/audit?{query}")).await;
        assert_eq!(reply.problem(422), "invalid");
        assert_eq!(reply.body["errors"][0]["field"], field, "{}", reply.body);
    }
}

#[tokio::test]
async fn an_export_is_for_those_who_may_and_is_itself_in_the_audit() {
    let server = Server::start().await;
    work(&server).await;
    let auditor = server.member("auditor@example.org", &["security_auditor"]).await;
    let manager = server.member("manager@example.org", &["tenant_admin"]).await;
    assert_eq!(manager.get("/api/v2/audit/export?format=csv").await.problem(403), "denied");

    let csv = auditor.get("/api/v2/audit/export?format=csv&action=agent:create&effect=allow").await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let name = csv.headers["content-disposition"].to_str().unwrap();
    assert!(name.starts_with("attachment; filename=\"audit-2") && name.ends_with(".csv\""), "{name}");
    let csv = csv.expect(200).as_str().unwrap().to_owned();
    assert_eq!(csv.lines().count(), 4);
    assert!(csv.starts_with("\"sequence\",\"at\",\"id\",\"tenant_id\",\"actor_id\""), "{csv}");

    let noted = &entries(&auditor, "?limit=1").await[0];
    assert_eq!((&noted["action"], &noted["effect"]), (&json!("audit:export"), &json!("allow")));
    let filter = json!({ "action": "agent:create", "effect": "allow" });
    assert_eq!(noted["details"], json!({ "format": "csv", "filter": filter }));
    for (query, field) in [("format=xml", "format"), ("limit=5", "limit")] {
        let reply = auditor.get(&format!("/api/v2/audit/export?{query}")).await;
        assert_eq!((reply.problem(422), &reply.body["errors"][0]["field"]), ("invalid", &json!(field)));
    }

    let stranger = server.stranger().await;
    assert_eq!(stranger.get("/api/v2/audit/verify").await.expect(200)["entries"], 0);
    assert_eq!(stranger.get("/api/v2/audit/export").await.problem(403), "denied");
    let theirs = entries(&stranger, "").await;
    assert_eq!((theirs.len(), &theirs[0]["sequence"]), (1, &json!(1)), "each tenant has a chain of its own");
}
