//! What the database of a killed program holds, read without touching it: a read-only connection recovers no log
//! and makes no checkpoint, so that the next start finds what the kill left.

use std::collections::{BTreeMap, HashMap, HashSet};

use platform::{
    database::{Database, Location, Row, Sql},
    params,
};
use sea_orm::{ConnectOptions, DatabaseConnection};

/// A step of a run: the run's id and the step's ordinal.
pub(super) type StepId = (String, i64);

pub(super) async fn open(database: &Location) -> DatabaseConnection {
    let file = match database {
        Location::Sqlite(file) => file.clone(),
        Location::Postgres(_) => {
            let opened = Database::open(database).await;
            return opened.expect("the database can be read").read().clone();
        }
    };
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.max_connections(1).sqlx_logging(false).map_sqlx_sqlite_opts(move |sqlite| {
        sqlite.in_memory(false).shared_cache(false).filename(&file).read_only(true)
    });
    sea_orm::Database::connect(options).await.expect("the database can be read")
}

async fn all(connection: &DatabaseConnection, sql: &'static str) -> Vec<Row> {
    connection.all(sql, params![]).await.expect("the query fits the schema")
}

fn text(row: &Row, column: &str) -> String {
    row.text_opt(column).expect("a column of text").unwrap_or_default()
}

fn int(row: &Row, column: &str) -> i64 {
    row.int(column).expect("a column of numbers")
}

/// The at_most_once calls that these processes have begun and not ended: those that their kill fell inside of.
pub(super) async fn cut_off(database: &Location, processes: &[u32]) -> HashSet<StepId> {
    let connection = open(database).await;
    let sql = "SELECT run_id, ordinal, owner FROM steps WHERE effect = 'at_most_once' AND state = 'started'";
    let rows = all(&connection, sql).await;
    let of_these = |row: &&Row| {
        let owner = text(row, "owner");
        processes.iter().any(|process| owner.starts_with(&format!("{process}-")))
    };
    let steps = rows.iter().filter(of_these).map(|row| (text(row, "run_id"), int(row, "ordinal"))).collect();
    connection.close().await.expect("a connection can be closed");
    steps
}

#[derive(Debug)]
pub(super) struct RunRow {
    pub state: String,
    pub code: String,
    pub cost: i64,
}

#[derive(Debug)]
pub(super) struct CallRow {
    pub tool: String,
    pub arguments: String,
    /// Empty when the call has no result.
    pub status: String,
}

#[derive(Debug)]
pub(super) struct Account {
    pub reserved: i64,
    pub spent: i64,
}

/// Everything that the checks need, by run where it belongs to one.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub runs: HashMap<String, RunRow>,
    /// In the order in which they were asked for.
    pub calls: HashMap<String, Vec<CallRow>>,
    /// Ordinals of the steps that ran tools, ascending.
    pub tool_steps: HashMap<String, Vec<i64>>,
    pub events: HashMap<String, Vec<(i64, String)>>,
    pub user_messages: i64,
    /// Rows that transactional calls wrote: how often for each key and note.
    pub effects: BTreeMap<(String, String), i64>,
    pub accounts: Vec<Account>,
    pub open_reservations: i64,
    /// `ok`, or what SQLite finds wrong with the file.
    pub integrity: String,
}

impl Snapshot {
    pub(super) async fn read(database: &Location) -> Self {
        let connection = open(database).await;
        let rows = |sql| all(&connection, sql);
        let run = |row: &Row| {
            let run =
                RunRow { state: text(row, "state"), code: text(row, "code"), cost: int(row, "cost_micros") };
            (text(row, "id"), run)
        };
        let call = |row: &Row| {
            let call = CallRow {
                tool: text(row, "tool"),
                arguments: text(row, "arguments"),
                status: text(row, "status"),
            };
            (text(row, "run_id"), call)
        };
        let account =
            |row: &Row| Account { reserved: int(row, "reserved_micros"), spent: int(row, "spent_micros") };
        let count = |rows: Vec<Row>| rows.first().map_or(0, |row| int(row, "many"));
        let snapshot = Self {
            runs: rows("SELECT id, state, code, cost_micros FROM runs").await.iter().map(run).collect(),
            calls: grouped(
                rows("SELECT run_id, tool, arguments, status FROM tool_calls ORDER BY run_id, id").await,
                call,
            ),
            tool_steps: grouped(
                // A step that ended with a question to a person called nothing; its call is made by a later one.
                rows(
                    "SELECT run_id, ordinal FROM steps WHERE name = 'run_tool'
                       AND (state <> 'completed' OR result = 'null') ORDER BY run_id, ordinal",
                )
                .await,
                |row| (text(row, "run_id"), int(row, "ordinal")),
            ),
            events: grouped(
                rows("SELECT run_id, sequence, kind FROM run_events ORDER BY run_id, sequence").await,
                |row| (text(row, "run_id"), (int(row, "sequence"), text(row, "kind"))),
            ),
            user_messages: count(rows("SELECT COUNT(*) AS many FROM messages WHERE role = 'user'").await),
            effects: rows(
                "SELECT idempotency_key, note, COUNT(*) AS many FROM test_effects GROUP BY idempotency_key, note",
            )
            .await
            .iter()
            .map(|row| ((text(row, "idempotency_key"), text(row, "note")), int(row, "many")))
            .collect(),
            accounts: rows("SELECT reserved_micros, spent_micros FROM budget_accounts")
                .await
                .iter()
                .map(account)
                .collect(),
            open_reservations: count(
                rows("SELECT COUNT(*) AS many FROM reservations WHERE settled_micros IS NULL").await,
            ),
            integrity: match database {
                Location::Sqlite(_) => rows("SELECT integrity_check FROM pragma_integrity_check")
                    .await
                    .iter()
                    .map(|row| text(row, "integrity_check"))
                    .collect::<Vec<_>>()
                    .join("; "),
                // It was read, all of what is looked at; a server has no check of its own to ask for.
                Location::Postgres(_) => "ok".to_owned(),
            },
        };
        connection.close().await.expect("a connection can be closed");
        snapshot
    }
}

fn grouped<T>(rows: Vec<Row>, read: impl Fn(&Row) -> (String, T)) -> HashMap<String, Vec<T>> {
    let mut groups: HashMap<String, Vec<T>> = HashMap::new();
    for (run, value) in rows.iter().map(read) {
        groups.entry(run).or_default().push(value);
    }
    groups
}
