//! The transactional outbox: events for the world outside, stored in the commits that make them, and carried to the bus
//! by [`relay`].
//!
//! A change says what happened with [`put`]. The writer stores the events of all its changes just before it commits, in
//! one statement, so an event is there exactly if its change is. One process at a time carries them on, in the order of
//! the commits, and takes each away once the bus has it. So an event arrives at least once, and those of one key in
//! order; consumers leave out what they have had by its id.
//!
//! Where no bus is named nothing is stored: nobody would ever take it.

mod dead;
mod relay;
pub(crate) mod store;

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use contracts::events::{Event, Header};
use tokio::sync::Notify;

pub use dead::{DeadEvent, dead, find_dead, send_again};
pub use relay::{Check, relay, waiting};
pub use store::MIGRATIONS;

use crate::{database::Tx, telemetry};

tokio::task_local! {
    /// The events of the change under way; absent where nobody wants any.
    static OF_THIS_CHANGE: RefCell<Vec<Event>>;
}

/// Adds an event to the change `_tx`: it is told if the change is committed. `make` is asked only where there is a bus.
pub fn put(_tx: &Tx, make: impl FnOnce() -> Event) {
    // Asked before it is borrowed: `make` is another's code.
    if OF_THIS_CHANGE.try_with(|_| ()).is_ok() {
        let event = make();
        let _ = OF_THIS_CHANGE.try_with(|events| events.borrow_mut().push(event));
    }
}

/// Whether a database's changes keep events, and who waits for some. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Switch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    on: AtomicBool,
    committed: Notify,
}

impl Switch {
    pub(crate) fn turn_on(&self) {
        self.0.on.store(true, Ordering::Relaxed);
    }

    /// Runs a change, and answers with the events that it put.
    pub(crate) async fn gather<T>(&self, change: impl Future<Output = T>) -> (T, Vec<Event>) {
        if !self.0.on.load(Ordering::Relaxed) {
            return (change.await, Vec::new());
        }
        let gathered = async {
            let done = change.await;
            (done, OF_THIS_CHANGE.with(RefCell::take))
        };
        OF_THIS_CHANGE.scope(RefCell::default(), gathered).await
    }

    /// Says that events were committed.
    pub(crate) fn tell(&self) {
        self.0.committed.notify_one();
    }

    /// Waits for events that this process commits.
    async fn told(&self) {
        self.0.committed.notified().await;
    }
}

/// What consumers read without looking into the payload, and the trace that the event belongs to.
fn headers(event: &Event) -> Vec<Header> {
    let mut headers = event.headers();
    headers.extend(
        event.about.run.and_then(telemetry::traceparent).map(|value| Header::new("traceparent", value)),
    );
    headers
}
