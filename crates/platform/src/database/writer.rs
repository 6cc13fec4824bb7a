//! The one writer: takes changes from a queue, commits them together, then answers each.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Error, Location, Tx,
    postgres::{Marks, Turn},
};
use crate::outbox::{self, Switch};

/// Changes that may wait. A sender past this waits in turn, which slows whoever makes too many.
const QUEUE_MAX: usize = 1024;
/// Changes in one commit. More would make the first wait too long for the last.
const BATCH_MAX: usize = 128;

/// How long a connection that is given up may take to close.
const CLOSE_WAIT: std::time::Duration = std::time::Duration::from_secs(2);
/// How long before the commit the fault `ack_early` answers.
const EARLY: std::time::Duration = std::time::Duration::from_millis(10);

const SAVEPOINT: &str = "SAVEPOINT change";
const UNDO: &str = "ROLLBACK TO change";
const KEEP: &str = "RELEASE change";

#[derive(Clone)]
pub(super) struct Handle {
    queue: mpsc::Sender<Box<dyn Job>>,
}

trait Job: Send {
    /// Runs the change; false when it failed and must be undone.
    fn run<'a>(&'a mut self, tx: &'a Tx) -> BoxFuture<'a, bool>;
    /// Tells whoever waits. `committed` is what became of the transaction.
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

struct Change<T, E, F> {
    change: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Job for Change<T, E, F>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<T, E>> + Send + 'static,
{
    fn run<'a>(&'a mut self, tx: &'a Tx) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let Some(change) = self.change.take() else { return false };
            // One change that panics is one that failed: all others need this task.
            let changed = std::panic::AssertUnwindSafe(async { change(tx).await }).catch_unwind().await;
            let result = changed.unwrap_or_else(|_| Err(E::from(Error::Panicked)));
            let kept = result.is_ok();
            self.result = Some(result);
            kept
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let result = match (self.result, committed) {
            (Some(Err(own)), _) => Err(own),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (_, Err(error)) => Err(E::from(error)),
            (None, Ok(())) => Err(E::from(Error::Stopped("the change was not run".into()))),
        };
        // Whoever waited may be gone; the change stands all the same.
        drop(self.reply.send(result));
    }
}

impl Handle {
    /// Whether changes are taken at all.
    pub(super) fn at_work(&self) -> bool {
        !self.queue.is_closed()
    }

    pub(super) async fn submit<T, E, F>(&self, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<T, E>> + Send + 'static,
    {
        let stopped = || E::from(Error::Stopped("its writer has ended".into()));
        let (reply, answer) = oneshot::channel();
        let job = Change { change: Some(change), result: None, reply };
        self.queue.send(Box::new(job)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

pub(super) fn start(connection: DatabaseConnection, location: Arc<Location>, outbox: Switch) -> Handle {
    let (queue, mut waiting) = mpsc::channel::<Box<dyn Job>>(QUEUE_MAX);
    let mut writer =
        Writer { location, connection: Some(connection), looked: false, marks: Marks::new(), outbox };
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let committed = writer.commit(&mut batch).await;
            for job in batch.drain(..) {
                job.answer(committed.clone());
            }
        }
    });
    Handle { queue }
}

struct Writer {
    location: Arc<Location>,
    /// `None` after a failure.
    connection: Option<DatabaseConnection>,
    /// Whether the connection was asked for marks.
    looked: bool,
    marks: Marks,
    outbox: Switch,
}

/// A transaction that nothing was changed in yet.
struct Begun {
    connection: DatabaseConnection,
    tx: Tx,
    /// On PostgreSQL.
    turn: Option<Turn>,
}

impl Writer {
    /// After a failure the connection is given up. SQLite may have rolled back by itself (a full disk does that), which
    /// the driver doesn't notice: it would take later changes into a transaction that nobody ever commits.
    async fn commit(&mut self, batch: &mut Vec<Box<dyn Job>>) -> Result<(), Error> {
        let Begun { connection, tx, turn } = self.begin().await.map_err(stopped)?;
        let error = match run(tx, batch, turn.is_none(), &self.outbox).await {
            Ok(events) => {
                self.connection = Some(connection);
                if events {
                    self.outbox.tell();
                }
                return Ok(());
            }
            Err(error) => error,
        };
        close(connection).await;
        if let (Location::Postgres(at), Some(turn)) = (&*self.location, turn) {
            return match self.marks.was_committed(at, &turn).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(stopped(error)),
                Err(doubt) => Err(Error::Unknown(doubt.to_string())),
            };
        }
        Err(stopped(error))
    }

    /// A server that was started again has closed the connection: with nothing changed yet, another one is as good.
    async fn begin(&mut self) -> Result<Begun, Error> {
        let used = self.connection.take();
        let may_be_stale = used.is_some() && matches!(*self.location, Location::Postgres(_));
        let connection = match used {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        match self.begin_on(connection).await {
            Err(_) if may_be_stale => {
                let connection = self.connect().await?;
                Ok(self.begin_on(connection).await?)
            }
            begun => Ok(begun?),
        }
    }

    async fn connect(&mut self) -> Result<DatabaseConnection, Error> {
        self.looked = false;
        super::connect(&self.location, false).await
    }

    async fn begin_on(&mut self, connection: DatabaseConnection) -> Result<Begun, DbErr> {
        let begun = async {
            if connection.get_database_backend() == DbBackend::Postgres {
                if !self.looked {
                    self.marks.look(&connection).await?;
                    self.looked = true;
                }
                let tx = connection.begin().await?;
                let turn = self.marks.take_turn(&tx).await?;
                return Ok((tx, Some(turn)));
            }
            let options = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            };
            Ok((connection.begin_with_options(options).await?, None))
        };
        match begun.await {
            Ok((tx, turn)) => Ok(Begun { connection, tx, turn }),
            Err(error) => {
                close(connection).await;
                Err(error)
            }
        }
    }
}

/// A transaction that can't be begun, ended or undone is no fault of a change in it.
fn stopped(error: Error) -> Error {
    match error {
        Error::Query(cause) => Error::Stopped(cause.to_string()),
        other => other,
    }
}

async fn close(connection: DatabaseConnection) {
    drop(tokio::time::timeout(CLOSE_WAIT, connection.close()).await);
}

/// Runs the changes, stores the events that they put, and commits; answers whether there were events.
///
/// `bare` says that a change alone needs no savepoint. PostgreSQL takes a commit after an error for a rollback and says
/// nothing, where a savepoint can't be released: a change that overlooks an error must not pass for stored.
async fn run(tx: Tx, batch: &mut Vec<Box<dyn Job>>, bare: bool, outbox: &Switch) -> Result<bool, Error> {
    let mut events = Vec::new();
    if bare && let [only] = batch.as_mut_slice() {
        let (kept, put) = outbox.gather(only.run(&tx)).await;
        if !kept {
            answer_early(batch).await;
            tx.rollback().await?;
            return Ok(false);
        }
        events = put;
    } else {
        for job in batch.iter_mut() {
            tx.execute_unprepared(SAVEPOINT).await?;
            let (kept, put) = outbox.gather(job.run(&tx)).await;
            if kept {
                events.extend(put);
            } else {
                tx.execute_unprepared(UNDO).await?;
            }
            tx.execute_unprepared(KEEP).await?;
        }
    }
    outbox::store::insert(&tx, &events).await?;
    answer_early(batch).await;
    tx.commit().await?;
    Ok(!events.is_empty())
}

/// A broken promise for tests: whoever waits is answered before the commit, and long enough for a kill to fall between.
async fn answer_early(batch: &mut Vec<Box<dyn Job>>) {
    if crate::faults::broken("ack_early") {
        for job in batch.drain(..) {
            job.answer(Ok(()));
        }
        tokio::time::sleep(EARLY).await;
    }
}
