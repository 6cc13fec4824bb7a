//! The ledger: what each step was asked, who is at it, and how it ended.
//!
//! Every completion is fenced by the attempt's number: an attempt that was overtaken, though it still runs somewhere,
//! changes nothing any more.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use contracts::RunId;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    Effect, Step, StepError,
    store::{self, Key, WAIT_ATTEMPT},
    unix_ms,
};
use crate::database::{self, Database, Tx};

/// How long whoever is at a step counts as alive after having said so. Shorter than it takes an engine to give a lost
/// process's step to another one, so that this costs no time; clocks may be apart by less than this.
const LEASE: Duration = Duration::from_secs(6);
/// How often it says so.
pub(super) const RENEWAL: Duration = Duration::from_millis(1500);
/// Stands in an owner's name between the process and its attempt.
const OF_CLAIM: char = '/';

fn leased_until() -> i64 {
    unix_ms().saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}

/// Hexadecimal digits of an input's hash that are kept: enough to notice a change, short enough to store often.
const HASH_DIGITS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Started,
    Completed,
    Failed,
    Cancelled,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Started, Self::Completed, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A row of the ledger.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub name: String,
    pub input_hash: String,
    pub attempt: i64,
    pub owner: String,
    pub leased_until: Option<i64>,
    pub state: State,
    pub result: Option<String>,
}

impl Recorded {
    /// How the attempt began that is at the step.
    fn begun(&self, effect: Effect) -> Begun {
        match effect {
            _ if self.attempt == 1 => Begun::Fresh,
            Effect::AtMostOnce => Begun::Lost,
            _ => Begun::Again,
        }
    }

    fn is_leased(&self) -> bool {
        self.state == State::Started && self.leased_until.is_some_and(|until| until > unix_ms())
    }

    /// The step's outcome, if it has one, after making sure that it is the same step.
    pub(super) fn outcome<S: Step>(&self, key: &Key) -> Result<Option<S::Output>, StepError> {
        self.same_as(key)?;
        let result = self.result.as_deref().unwrap_or("null");
        match self.state {
            State::Started => Ok(None),
            State::Cancelled => Err(StepError::Cancelled),
            State::Completed => serde_json::from_str(result).map(Some).map_err(corrupt),
            State::Failed => Err(serde_json::from_str(result).unwrap_or_else(corrupt)),
        }
    }

    /// A value that was recorded so that a replay sees the same.
    pub(super) fn value<T: DeserializeOwned>(&self, key: &Key) -> Result<T, StepError> {
        self.same_as(key)?;
        serde_json::from_str(self.result.as_deref().unwrap_or("null")).map_err(corrupt)
    }

    /// When a sleep is due, or `None` if it is over.
    pub(super) fn sleep(&self, key: &Key) -> Result<Option<i64>, StepError> {
        self.same_as(key)?;
        match self.state {
            State::Started => {
                serde_json::from_str(self.result.as_deref().unwrap_or("0")).map(Some).map_err(corrupt)
            }
            State::Cancelled => Err(StepError::Cancelled),
            State::Completed | State::Failed => Ok(None),
        }
    }

    /// Whether a wait for a signal is over.
    pub(super) fn received(&self, key: &Key) -> Result<bool, StepError> {
        self.same_as(key)?;
        match self.state {
            State::Started => Ok(false),
            State::Cancelled => Err(StepError::Cancelled),
            State::Completed | State::Failed => Ok(true),
        }
    }

    pub(super) fn same_as(&self, key: &Key) -> Result<(), StepError> {
        if self.name == key.name && self.input_hash == key.input_hash {
            return Ok(());
        }
        Err(StepError::Diverged {
            ordinal: key.ordinal,
            recorded: format!("{} ({})", self.name, self.input_hash),
            asked: format!("{} ({})", key.name, key.input_hash),
        })
    }
}

fn corrupt(error: serde_json::Error) -> StepError {
    StepError::failed("ledger_corrupt", format!("a recorded result can't be read: {error}"))
}

/// A step as it stands in the ledger, to be shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRecord {
    pub ordinal: u32,
    pub name: String,
    /// As [`super::input_hash`] makes it: tells which step this is the record of.
    pub input_hash: String,
    pub effect: String,
    pub attempt: i64,
    /// `started`, `completed`, `failed` or `cancelled`.
    pub state: String,
    /// Milliseconds since 1970.
    pub started_at: i64,
    pub finished_at: Option<i64>,
}

/// How an attempt begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Never started before.
    Fresh,
    /// An earlier attempt started and did not end; what it did may be done again.
    Again,
    /// An earlier attempt started and did not end, and its effect may not be done again: its outcome is unknown.
    /// The change given to [`super::Attempt::begin`] was not run.
    Lost,
}

/// What came of asking for a step.
pub(super) enum Claim {
    /// It begins, with the attempt's number.
    Begun(Begun, i64),
    /// Another process is at it, and alive; it may not be done twice.
    Elsewhere,
}

/// Who asks for a step.
#[derive(Debug, Clone)]
pub(super) struct Claimant {
    /// One attempt of one process: a begin whose answer was lost is known again by it.
    pub owner: String,
    /// Whether other processes may be at the step: then it says how long it counts as alive, and believes others.
    pub leased: bool,
}

#[derive(Debug, Clone)]
pub struct Ledger {
    database: Database,
    /// Names this process in the rows it owns.
    owner: Arc<str>,
}

impl Ledger {
    #[must_use]
    pub fn new(database: Database) -> Self {
        let owner = format!("{}-{}", std::process::id(), unix_ms());
        Self { database, owner: owner.into() }
    }

    /// A name for the next attempt.
    pub(super) fn claim(&self) -> String {
        static CLAIMS: AtomicU64 = AtomicU64::new(0);
        format!("{}{OF_CLAIM}{}", self.owner, CLAIMS.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether this process is at a step that may be done once only, and has not been overtaken.
    pub async fn is_at(&self, run: RunId, ordinal: u32) -> Result<bool, StepError> {
        let recorded = self.lookup(run, ordinal).await?;
        Ok(recorded.is_some_and(|row| {
            let of_this = row.owner.split(OF_CLAIM).next() == Some(&*self.owner);
            of_this && row.state == State::Started && row.leased_until.is_some()
        }))
    }

    /// Says that the attempt is alive.
    pub(super) async fn renew(&self, key: Key, owner: String) -> Result<(), StepError> {
        self.database
            .write(move |tx| {
                Box::pin(async move { Ok(store::renew(tx, &key, &owner, leased_until()).await?) })
            })
            .await
    }

    pub(super) fn key<S: Step>(run: RunId, ordinal: u32, step: &S) -> Result<Key, StepError> {
        let input = serde_json::to_vec(step).map_err(|error| StepError::failed("step_input", error))?;
        Ok(Self::plain_key(run, ordinal, S::NAME, &input))
    }

    pub(super) fn plain_key(run: RunId, ordinal: u32, name: &'static str, input: &[u8]) -> Key {
        let mut input_hash = hex::encode(Sha256::digest(input));
        input_hash.truncate(HASH_DIGITS);
        Key { run, ordinal, name, input_hash }
    }

    /// The steps of a run so far, in their order.
    pub async fn steps(&self, run: RunId) -> Result<Vec<StepRecord>, database::Error> {
        store::records(self.database.read(), run).await
    }

    pub(super) async fn load(&self, run: RunId) -> Result<HashMap<u32, Recorded>, StepError> {
        Ok(store::of_run(self.database.read(), run).await?.into_iter().collect())
    }

    pub(super) async fn lookup(&self, run: RunId, ordinal: u32) -> Result<Option<Recorded>, StepError> {
        Ok(store::one(self.database.read(), run, ordinal).await?)
    }

    /// Starts an attempt and runs `change` in the same commit. Asked once more by the same claimant, whose answer was
    /// lost, it answers the same again.
    pub(super) async fn begin<F>(
        &self,
        key: Key,
        effect: Effect,
        claimant: Claimant,
        change: F,
    ) -> Result<Claim, StepError>
    where
        F: for<'a> FnOnce(&'a Tx, Begun) -> BoxFuture<'a, Result<(), StepError>> + Send + 'static,
    {
        self.database
            .write(move |tx| {
                Box::pin(async move {
                    let Claimant { owner, leased } = claimant;
                    let leased = leased && effect == Effect::AtMostOnce;
                    let earlier = store::one(tx, key.run, key.ordinal).await?;
                    // With the ledger off (a fault switch) effects are repeated.
                    let forget = crate::faults::broken("ledger_off");
                    let (begun, attempt) = match earlier {
                        None => (Begun::Fresh, 1),
                        Some(row) if row.state == State::Started => {
                            row.same_as(&key)?;
                            if row.owner == owner {
                                return Ok(Claim::Begun(row.begun(effect), row.attempt));
                            }
                            if leased && row.is_leased() && !forget {
                                return Ok(Claim::Elsewhere);
                            }
                            let lost = effect == Effect::AtMostOnce && !forget;
                            (if lost { Begun::Lost } else { Begun::Again }, row.attempt + 1)
                        }
                        Some(_) => return Err(StepError::Superseded),
                    };
                    let until = leased.then(leased_until);
                    if !store::start(tx, &key, effect, attempt, &owner, until, unix_ms()).await? {
                        return Err(StepError::Superseded);
                    }
                    if begun != Begun::Lost {
                        change(tx, begun).await?;
                    }
                    Ok(Claim::Begun(begun, attempt))
                })
            })
            .await
    }

    /// Records the result and runs `change` in the same commit, unless another attempt owns the step.
    pub(super) async fn complete<F>(
        &self,
        key: Key,
        attempt: i64,
        result: String,
        change: F,
    ) -> Result<(), StepError>
    where
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<(), StepError>> + Send + 'static,
    {
        self.finish(key, attempt, State::Completed, result, change).await
    }

    /// Records that the step failed for good, so that a replay fails in the same way.
    pub(super) async fn fail(&self, key: Key, attempt: i64, error: &StepError) -> Result<(), StepError> {
        let result = serde_json::to_string(error).map_err(corrupt)?;
        self.finish(key, attempt, State::Failed, result, |_| Box::pin(async { Ok(()) })).await
    }

    async fn finish<F>(
        &self,
        key: Key,
        attempt: i64,
        state: State,
        result: String,
        change: F,
    ) -> Result<(), StepError>
    where
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<(), StepError>> + Send + 'static,
    {
        let owner = Arc::clone(&self.owner);
        self.database
            .write(move |tx| {
                Box::pin(async move {
                    if !store::finish(tx, &key, attempt, &owner, state, &result, unix_ms()).await? {
                        return Err(StepError::Superseded);
                    }
                    if crate::faults::broken("ledger_off") {
                        store::forget(tx, &key).await?;
                    }
                    change(tx).await
                })
            })
            .await
    }

    /// Opens the row of a sleep that is over at `due`; answers the row, which may have been there.
    pub(super) async fn sleep(&self, key: Key, due: i64) -> Result<Recorded, StepError> {
        let owner = Arc::clone(&self.owner);
        self.database
            .write(move |tx| {
                Box::pin(async move {
                    store::wait(tx, &key, &owner, Some(due), unix_ms()).await?;
                    store::one(tx, key.run, key.ordinal).await?.ok_or(StepError::Superseded)
                })
            })
            .await
    }

    /// Closes the row of a sleep.
    pub(super) async fn wake(&self, key: Key, due: i64) -> Result<(), StepError> {
        self.finish(key, WAIT_ATTEMPT, State::Completed, due.to_string(), |_| Box::pin(async { Ok(()) }))
            .await
    }

    /// Opens the row of a wait for a signal, and closes it if the signal has come. Answers whether it has.
    pub(super) async fn receive(&self, key: Key, name: String) -> Result<bool, StepError> {
        if !store::signalled(self.database.read(), key.run, &name).await?
            && store::one(self.database.read(), key.run, key.ordinal).await?.is_some()
        {
            return Ok(false);
        }
        let owner = Arc::clone(&self.owner);
        self.database
            .write(move |tx| {
                Box::pin(async move {
                    let now = unix_ms();
                    store::wait(tx, &key, &owner, None, now).await?;
                    let come = store::signalled(tx, key.run, &name).await?;
                    if come {
                        store::finish(tx, &key, WAIT_ATTEMPT, &owner, State::Completed, "null", now).await?;
                    }
                    Ok(come)
                })
            })
            .await
    }

    /// Runs `change` only while the attempt owns the step.
    pub(super) async fn write_as<T, F>(&self, key: Key, attempt: i64, change: F) -> Result<T, StepError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<T, StepError>> + Send + 'static,
    {
        self.database
            .write(move |tx| {
                Box::pin(async move {
                    if !store::owns(tx, &key, attempt).await? {
                        return Err(StepError::Superseded);
                    }
                    change(tx).await
                })
            })
            .await
    }

    /// Closes a step that a cancelled run will not go on with. A step that completed first stays completed.
    pub(super) async fn cancel(&self, key: Key) -> Result<Option<Recorded>, StepError> {
        let owner = Arc::clone(&self.owner);
        self.database
            .write(move |tx| {
                Box::pin(async move {
                    let earlier = store::one(tx, key.run, key.ordinal).await?;
                    let attempt = earlier.as_ref().map_or(0, |row| row.attempt);
                    store::finish(tx, &key, attempt, &owner, State::Cancelled, "null", unix_ms()).await?;
                    Ok(store::one(tx, key.run, key.ordinal).await?)
                })
            })
            .await
    }
}
