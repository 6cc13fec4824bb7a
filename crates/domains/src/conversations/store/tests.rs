//! What an older version stored is found again by this one.

use contracts::{ConversationId, MessageId, TenantId};
use platform::{
    database::{Database, Error, Sql},
    params,
};
use testing::TestDatabase;

use super::{MIGRATIONS, search};

async fn apply(database: &Database, migration: usize) {
    let done: Result<(), Error> =
        database.write(move |tx| Box::pin(async move { Ok(MIGRATIONS[migration].apply(tx).await?) })).await;
    done.unwrap();
}

#[tokio::test]
async fn runs_that_were_stored_in_a_row_become_one_branch_in_that_order() {
    let place = TestDatabase::empty();
    let database = Database::open(&place.dsn().parse().unwrap()).await.unwrap();
    apply(&database, 0).await;
    let stored: Result<(), Error> = database
        .write(|tx| {
            Box::pin(async move {
                for (run, conversation) in [("r1", "a"), ("r3", "a"), ("r2", "b"), ("r4", "a"), ("r5", "b")] {
                    tx.run(
                        "INSERT INTO runs (id, tenant_id, conversation_id, agent_id, user_id, scopes, message_id, state,
                             deadline, created_at, finished_at) VALUES ($1, 't', $2, 'g', 'u', '[]', 'm', 'completed',
                             0, 5, 7)",
                        params![run, conversation],
                    )
                    .await?;
                }
                let sql = "INSERT INTO conversations (id, tenant_id, agent_id, user_id, created_at)
                           VALUES ($1, 't', 'g', 'u', 3)";
                tx.run(sql, params!["a"]).await?;
                tx.run(sql, params!["empty"]).await?;
                Ok(())
            })
        })
        .await;
    stored.unwrap();

    for migration in 1..MIGRATIONS.len() {
        apply(&database, migration).await;
    }

    let sql = "SELECT id, parent_run_id, branch_id, position FROM runs ORDER BY id";
    let rows = database.read().all(sql, params![]).await.unwrap();
    let found: Vec<(String, Option<String>, String, i64)> = rows
        .iter()
        .map(|row| {
            let parent = row.text_opt("parent_run_id").unwrap();
            let (id, branch) = (row.text("id").unwrap(), row.text("branch_id").unwrap());
            (id, parent, branch, row.int("position").unwrap())
        })
        .collect();
    let row = |id: &str, parent: Option<&str>, branch: &str, position| {
        (id.to_owned(), parent.map(str::to_owned), branch.to_owned(), position)
    };
    assert_eq!(
        found,
        [
            row("r1", None, "r1", 1),
            row("r2", None, "r2", 1),
            row("r3", Some("r1"), "r1", 2),
            row("r4", Some("r3"), "r1", 3),
            row("r5", Some("r2"), "r2", 2),
        ]
    );
    let sql = "SELECT id, updated_at FROM conversations ORDER BY id";
    let rows = database.read().all(sql, params![]).await.unwrap();
    let times: Vec<i64> = rows.iter().map(|row| row.int("updated_at").unwrap()).collect();
    assert_eq!(times, [7, 3], "a conversation was last changed when its last run ended, or when it was made");
}

#[tokio::test]
async fn what_was_said_before_the_search_knew_beginnings_is_found_by_them() {
    let place = TestDatabase::empty();
    let database = Database::open(&place.dsn().parse().unwrap()).await.unwrap();
    let of_beginnings = |migration: &platform::database::Migration| migration.name == search::BEGINNINGS.name;
    let before = MIGRATIONS.iter().position(of_beginnings).unwrap();
    for migration in 0..before {
        apply(&database, migration).await;
    }
    let (tenant, conversation, message) = (TenantId::new(), ConversationId::new(), MessageId::new());
    let stored: Result<(), Error> = database
        .write(move |tx| {
            Box::pin(async move {
                tx.run(
                    "INSERT INTO conversations (id, tenant_id, agent_id, user_id, created_at)
                     VALUES ($1, $2, 'g', 'u', 3)",
                    params![conversation, tenant],
                )
                .await?;
                tx.run(
                    "INSERT INTO messages (id, tenant_id, conversation_id, run_id, role, content, tool_calls, created_at)
                     VALUES ($1, $2, $3, 'r', 'user', 'Greetings from Bergen', '[]', 4)",
                    params![message, tenant, conversation],
                )
                .await?;
                tx.run("UPDATE conversations SET title = 'A journey' WHERE id = $1", params![conversation]).await
            })
        })
        .await
        .map(|_| ());
    stored.unwrap();

    for migration in before..MIGRATIONS.len() {
        apply(&database, migration).await;
    }

    let found = async |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let wanted = search::Wanted { tenant, words: &words, before: i64::MAX, limit: 10, without: "[]" };
        let hits = search::find(database.read(), &wanted).await.unwrap();
        hits.into_iter().map(|hit| hit.message).collect::<Vec<_>>()
    };
    assert_eq!(found(&["from", "be"]).await, [Some(message)]);
    assert_eq!(found(&["bergen"]).await, [Some(message)]);
    assert_eq!(found(&["jour"]).await, [None], "the title");
    assert_eq!(found(&["a"]).await, [None], "a letter is a word, not a beginning");
    assert!(found(&["ergen"]).await.is_empty());
}
