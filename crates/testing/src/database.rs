//! A database for one test: a file of SQLite's in a folder of its own, or, where `SOMA_TEST_PG` is the connection string
//! of a PostgreSQL server, a database on that server. It is gone with the test.
//!
//! One is made as a copy of another, which is quicker than its migrations. What is copied first is migrated once for each
//! build of a test program, whichever of its processes comes first.

use std::{
    future::Future,
    hash::{Hash, Hasher},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::JoinHandle,
    time::Duration,
};

use platform::database::{Database, Location, MigratorTrait};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use url::Url;

use crate::engines;

/// Where tests find a PostgreSQL server. Whoever it names must be allowed to make databases.
pub const SERVER: &str = "SOMA_TEST_PG";
/// How often a copy is tried while somebody who is just leaving is still connected to what is copied.
const COPY_TRIES: u32 = 100;
const COPY_AGAIN: Duration = Duration::from_millis(50);
/// What one who copies, or makes what is copied, locks.
const LOCK: i64 = 0x74_65_73_74;
const FILE: &str = "sqlite://";
/// How names of databases begin; what follows is the number of the process that made them.
const PREFIX: &str = "test_";
/// Once in a process is enough.
static TIDIED: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
pub struct TestDatabase {
    dsn: String,
    /// What is removed with it.
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Folder {
        _folder: tempfile::TempDir,
    },
    OnServer {
        server: Url,
        name: String,
    },
    /// On the server, for whoever comes next.
    Shared {
        server: Url,
        name: String,
    },
    /// Somebody else's folder.
    Nothing,
}

impl TestDatabase {
    /// With nothing in it.
    #[must_use]
    pub fn empty() -> Self {
        server().map_or_else(Self::in_folder, |server| Self::copy_of(server, "template0"))
    }

    /// The same on a PostgreSQL server, which `scripts/engines` starts if tests have none.
    #[must_use]
    pub fn on_postgres() -> Self {
        Self::copy_of(server().unwrap_or_else(started), "template0")
    }

    /// With the program's schema.
    #[must_use]
    pub fn migrated<M: MigratorTrait>() -> Self {
        let Some(server) = server() else {
            let new = Self::in_folder();
            let dsn = new.dsn.clone();
            apart(move || async move { migrate::<M>(&dsn).await });
            return new;
        };
        let (template, _) = template(&server, &(), |dsn| async move {
            migrate::<M>(&dsn).await;
            String::new()
        });
        Self::copy_of(server, &template)
    }

    /// One to copy, which the first process that wants it fills by `make`, for itself and all after it; and what that said
    /// of it. Others have another `key`. `None` where tests have no server.
    #[must_use]
    pub fn shared_on_server(
        key: &impl Hash,
        make: impl FnOnce(&str) -> String + Send + 'static,
    ) -> Option<(Self, String)> {
        let server = server()?;
        let (name, said) = template(&server, key, |dsn| async move { make(&dsn) });
        Some((Self { dsn: at(&server, &name), kept: Kept::Shared { server, name } }, said))
    }

    /// A copy of this one. `file` is where it goes if it is a file.
    #[must_use]
    pub fn copied_to(&self, file: &Path) -> Self {
        match &self.kept {
            Kept::OnServer { server, name } | Kept::Shared { server, name } => {
                Self::copy_of(server.clone(), name)
            }
            Kept::Folder { .. } | Kept::Nothing => {
                let from = self.dsn.strip_prefix(FILE).expect("a file of SQLite's");
                std::fs::copy(from, file).expect("a file can be copied");
                Self { dsn: format!("{FILE}{}", file.display()), kept: Kept::Nothing }
            }
        }
    }

    /// For `SA01_DB_DSN`.
    #[must_use]
    pub fn dsn(&self) -> &str {
        &self.dsn
    }

    fn in_folder() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dsn = format!("{FILE}{}/soma.db", folder.path().display());
        Self { dsn, kept: Kept::Folder { _folder: folder } }
    }

    fn copy_of(server: Url, template: &str) -> Self {
        let unique = contracts::RunId::new().to_string().replace('-', "");
        let name = format!("{PREFIX}{}_{unique}", std::process::id());
        let sql = format!("CREATE DATABASE {name} TEMPLATE {template}");
        let administered = server.clone();
        apart(move || async move {
            let mut connection = connect(&administered).await;
            if !TIDIED.swap(true, Ordering::Relaxed) {
                tidy(&mut connection).await;
            }
            again(&mut connection, &sql).await;
        });
        Self { dsn: at(&server, &name), kept: Kept::OnServer { server, name } }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Kept::OnServer { server, name } = &self.kept else { return };
        let (options, sql) = (options(server), removal(name));
        // Not waited for: before the server drops one it hears from all who are connecting to it, and they may need this
        // thread. What is not done when the process ends, or on a server that a test has stopped, `tidy` does.
        drop(on_thread(move || async move {
            if let Ok(mut connection) = PgConnection::connect_with(&options).await {
                drop(execute(&mut connection, &sql).await);
            }
        }));
    }
}

/// Runs something to its end in a runtime of its own: whoever calls may be in one, or in none.
fn apart<T, F, Fut>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T>,
{
    on_thread(work).join().expect("what a test's database needs is done")
}

fn on_thread<T, F, Fut>(work: F) -> JoinHandle<T>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T>,
{
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work())
    })
}

fn server() -> Option<Url> {
    #[expect(clippy::disallowed_methods, reason = "of the tests, not of the program's configuration")]
    let dsn = std::env::var(SERVER).ok().filter(|dsn| !dsn.is_empty())?;
    Some(Url::parse(&dsn).expect("SOMA_TEST_PG is a connection string"))
}

fn started() -> Url {
    let printed = engines(&["up", "postgres"]);
    Url::parse(printed.setting("SA01_DB_DSN")).expect("a connection string")
}

fn at(server: &Url, name: &str) -> String {
    let mut url = server.clone();
    url.set_path(name);
    url.into()
}

fn options(server: &Url) -> PgConnectOptions {
    server.as_str().parse().expect("SOMA_TEST_PG is a connection string")
}

async fn connect(server: &Url) -> PgConnection {
    PgConnection::connect_with(&options(server)).await.expect("the server of SOMA_TEST_PG answers")
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// Makes a template by `fill`, unless there is one: answers its name, and what was said of it when it was made.
fn template<F, Fut>(server: &Url, key: &impl Hash, fill: F) -> (String, String)
where
    F: FnOnce(String) -> Fut + Send + 'static,
    Fut: Future<Output = String>,
{
    let name = template_name(key);
    let (server, made) = (server.clone(), name.clone());
    let said = apart(move || async move { make_template(&server, &made, fill).await });
    (name, said)
}

async fn make_template<F, Fut>(server: &Url, name: &str, fill: F) -> String
where
    F: FnOnce(String) -> Fut,
    Fut: Future<Output = String>,
{
    let mut connection = connect(server).await;
    execute(&mut connection, &format!("SELECT pg_advisory_lock({LOCK})")).await.expect("the lock is taken");
    let sql = "SELECT count(*) FROM pg_database WHERE datname = $1";
    let found: Result<i64, _> = sqlx::query_scalar(sql).bind(name).fetch_one(&mut connection).await;
    if found.expect("databases are listed") == 0 {
        let unfinished = format!("{name}_unfinished");
        execute(&mut connection, &format!("DROP DATABASE IF EXISTS {unfinished}"))
            .await
            .expect("it is dropped");
        again(&mut connection, &format!("CREATE DATABASE {unfinished} TEMPLATE template0")).await;
        let said = fill(at(server, &unfinished)).await.replace('\'', "''");
        // A copy does not have it.
        execute(&mut connection, &format!("COMMENT ON DATABASE {unfinished} IS '{said}'"))
            .await
            .expect("it is told");
        again(&mut connection, &format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await;
    }
    let sql =
        "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = $1";
    let said = sqlx::query_scalar(sql).bind(name).fetch_one(&mut connection).await;
    // The lock goes with it.
    connection.close().await.expect("a connection is closed");
    said.expect("what was said of it is read")
}

async fn migrate<M: MigratorTrait>(dsn: &str) {
    let location: Location = dsn.parse().expect("a connection string");
    let database = Database::open(&location).await.expect("the database opens");
    platform::database::migrate::<M>(&database).await.expect("the schema is made");
}

/// Copying and renaming want that nobody is connected, and connections are closed a moment after they were given up.
async fn again(connection: &mut PgConnection, sql: &str) {
    for _ in 0..COPY_TRIES {
        match execute(connection, sql).await {
            Ok(()) => return,
            Err(sqlx::Error::Database(busy)) if busy.code().as_deref() == Some("55006") => {
                tokio::time::sleep(COPY_AGAIN).await;
            }
            Err(error) => panic!("{sql}: {error}"),
        }
    }
    panic!("{sql}: somebody stays connected");
}

fn removal(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
}

/// Removes what processes that are gone have left: they were killed, or kept it to their end.
async fn tidy(connection: &mut PgConnection) {
    let sql = "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)";
    let found: Result<Vec<String>, _> =
        sqlx::query_scalar(sql).bind(PREFIX).fetch_all(&mut *connection).await;
    for name in found.expect("databases are listed") {
        let maker = name[PREFIX.len()..].split('_').next().unwrap_or_default();
        if !Path::new("/proc").join(maker).exists() {
            // Another process may be removing it at this moment.
            drop(execute(connection, &removal(&name)).await);
        }
    }
}

/// Named after the test program's build: another one may have other migrations.
fn template_name(key: &impl Hash) -> String {
    let program = std::env::current_exe().expect("a program");
    let built = program.metadata().and_then(|file| file.modified()).expect("a time");
    let mut hash = std::hash::DefaultHasher::new();
    (program, built, key).hash(&mut hash);
    format!("template_{:016x}", hash.finish())
}
