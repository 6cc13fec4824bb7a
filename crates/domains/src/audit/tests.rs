//! The chain on a real database: undone changes, other writers, and entries that are older than it.

use contracts::{
    AgentId, TenantId, UserId,
    policy::{Decision, Effect, Request, Resource, Subject},
};
use platform::{
    database::{Database, Error, Location, Migration, Sql, migrate},
    params,
};
use serde_json::json;
use testing::TestDatabase;

use super::{
    Broken, Entry, Noted, Verification, add, add_all,
    chain::{self, Head, Record},
    store, verify,
};

async fn database() -> (TestDatabase, Database) {
    let place = TestDatabase::empty();
    let database = Database::open(&place.dsn().parse().unwrap()).await.unwrap();
    (place, database)
}

fn entry(tenant: TenantId) -> Entry {
    let subject = Subject {
        user_id: UserId::new(),
        roles: Vec::new(),
        scopes: Vec::new(),
        impersonator: None,
        grants: Vec::new(),
    };
    let resource = Resource::new("agent", AgentId::new());
    let request = Request { tenant, subject, action: "agent:update".into(), resource, context: json!(null) };
    let decision = Decision {
        effect: Effect::Allow,
        reason: "a role grants it".into(),
        obligations: json!({}),
        revision: "1".into(),
    };
    Entry::new(&request, &decision, json!({ "a": [1.5, "ü"] }))
}

async fn change(database: &Database, tenant: TenantId, succeeds: bool) -> Result<(), Error> {
    let entry = entry(tenant);
    database
        .write(move |tx| {
            Box::pin(async move {
                add(tx, &entry).await?;
                if succeeds { Ok(()) } else { Err(Error::Corrupt("the change failed".into())) }
            })
        })
        .await
}

async fn found(database: &Database, tenant: TenantId) -> (i64, i64, Option<Broken>) {
    let Verification { entries, earlier, broken, .. } = verify(database, tenant, None).await.unwrap();
    (entries, earlier, broken)
}

#[tokio::test]
async fn changes_at_once_of_which_some_are_undone_leave_a_whole_chain_in_each_tenant() {
    let (_folder, database) = database().await;
    migrate::<crate::Migrator>(&database).await.unwrap();
    let tenants = [TenantId::new(), TenantId::new()];
    let changes = (0..90).map(|number| change(&database, tenants[number % 2], number % 3 != 0));
    let done = futures::future::join_all(changes).await.iter().filter(|change| change.is_ok()).count();
    assert_eq!(done, 60);
    for tenant in tenants {
        assert_eq!(found(&database, tenant).await, (30, 0, None));
    }
}

#[tokio::test]
async fn entries_that_are_added_together_are_as_whole_as_those_added_alone() {
    let (_folder, database) = database().await;
    migrate::<crate::Migrator>(&database).await.unwrap();
    let tenants = [TenantId::new(), TenantId::new()];
    let mut entries: Vec<Entry> =
        (0..75).map(|number| entry(tenants[usize::from(number % 3 == 0)])).collect();
    entries[1].resource_id = Some("a\0b \u{1f600} \" '".to_owned());
    let added: Result<(), Error> =
        database.write(move |tx| Box::pin(async move { add_all(tx, entries.iter()).await })).await;
    added.unwrap();
    assert_eq!(found(&database, tenants[0]).await, (50, 0, None));
    assert_eq!(found(&database, tenants[1]).await, (25, 0, None));
}

#[tokio::test]
async fn an_entry_of_another_process_is_followed_and_not_forked_from() {
    let (_folder, database) = database().await;
    migrate::<crate::Migrator>(&database).await.unwrap();
    let tenant = TenantId::new();
    change(&database, tenant, true).await.unwrap();
    let stale = store::after(database.read(), &tenant.to_string(), None, 1).await.unwrap().remove(0);
    change(&database, tenant, true).await.unwrap();
    // What this process would remember if another had written the second.
    chain::remember(&stale);
    change(&database, tenant, true).await.unwrap();
    assert_eq!(found(&database, tenant).await, (3, 0, None));
}

fn is_on_a_server(database: &Database) -> bool {
    matches!(database.location(), Location::Postgres(_))
}

async fn apply(database: &Database, migrations: &'static [Migration]) {
    let applied: Result<(), Error> = database
        .write(move |tx| {
            Box::pin(async move {
                for migration in migrations {
                    migration.apply(tx).await?;
                }
                Ok(())
            })
        })
        .await;
    applied.unwrap();
}

async fn run(database: &Database, sql: &'static str) -> Result<u64, Error> {
    database.write(move |tx| Box::pin(async move { tx.run(sql, params![]).await })).await
}

#[tokio::test]
async fn entries_from_before_the_chain_are_kept_counted_and_missed() {
    let (_folder, database) = database().await;
    if is_on_a_server(&database) {
        // No version without a chain ran there.
        return;
    }
    apply(&database, &store::MIGRATIONS[..1]).await;
    let tenant = TenantId::new();
    for old in [entry(tenant), entry(tenant), entry(TenantId::new()), entry(tenant)] {
        let added: Result<u64, Error> = database
            .write(move |tx| {
                Box::pin(async move {
                    let sql = "INSERT INTO audit_entries VALUES ($1, $2, 5, 'a', 'b', 'c', NULL, 'allow', 'd', 'e', '{}')";
                    tx.run(sql, params![old.id.to_string(), old.tenant]).await
                })
            })
            .await;
        added.unwrap();
    }
    apply(&database, &store::MIGRATIONS[1..]).await;
    assert_eq!(found(&database, tenant).await, (0, 3, None));
    change(&database, tenant, true).await.unwrap();
    assert_eq!(found(&database, tenant).await, (1, 3, None));
    let all = store::after(database.read(), &tenant.to_string(), None, 10).await.unwrap();
    assert_eq!(all.iter().map(|record| record.sequence).collect::<Vec<_>>(), [-2, -1, 0, 1]);

    run(&database, "DROP TRIGGER audit_entries_no_delete").await.unwrap();
    run(&database, "DELETE FROM audit_entries WHERE sequence = -1").await.unwrap();
    assert_eq!(found(&database, tenant).await, (1, 2, Some(Broken::Earlier)));
}

#[tokio::test]
async fn a_chain_made_anew_holds_but_not_against_a_head_that_was_noted() {
    let (_folder, database) = database().await;
    migrate::<crate::Migrator>(&database).await.unwrap();
    let tenant = TenantId::new();
    for _ in 0..3 {
        change(&database, tenant, true).await.unwrap();
    }
    let noted = Noted { sequence: 3, hash: verify(&database, tenant, None).await.unwrap().head };
    change(&database, tenant, true).await.unwrap();
    assert_eq!(verify(&database, tenant, Some(&noted)).await.unwrap().broken, None);

    let unguard = if is_on_a_server(&database) {
        ["DROP TRIGGER audit_entries_stay ON audit_entries", "DROP TRIGGER audit_heads_stay ON audit_heads"]
    } else {
        ["DROP TRIGGER audit_entries_no_delete", "DROP TRIGGER audit_heads_no_delete"]
    };
    for sql in unguard.into_iter().chain(["DELETE FROM audit_entries", "DELETE FROM audit_heads"]) {
        run(&database, sql).await.unwrap();
    }
    let (mut head, mut broken) = (Head::genesis(), Vec::new());
    for _ in 0..3 {
        let record = Record::after(&head, &entry(tenant));
        head = Head { sequence: record.sequence, hash: record.sealed() };
        let added = database.write(move |tx| Box::pin(async move { store::insert(tx, &[record]).await }));
        assert!(added.await.unwrap());
        assert_eq!(found(&database, tenant).await.2, None);
        broken.push(verify(&database, tenant, Some(&noted)).await.unwrap().broken);
    }
    assert_eq!(broken, [(); 3].map(|()| Some(Broken::NotAsNoted(3))));
}
