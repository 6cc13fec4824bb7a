//! Who works next, where not all can at once: the owners of waiting runs take turns, one run each, so that a
//! thousand runs of one wait behind each other and not before everybody else's.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

#[derive(Debug)]
pub(super) struct Turnstile(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Lanes in which somebody waits, the next one first.
    order: VecDeque<String>,
    waiting: HashMap<String, VecDeque<oneshot::Sender<Pass>>>,
}

/// The right to work, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass(Option<Arc<Turnstile>>);

impl Turnstile {
    pub(super) fn new(at_once: usize) -> Arc<Self> {
        let state = State { free: at_once, order: VecDeque::new(), waiting: HashMap::new() };
        Arc::new(Self(Mutex::new(state)))
    }

    /// Waits in this lane. A place that is free is taken at once: then nobody waits anywhere.
    pub(super) async fn pass(self: &Arc<Self>, lane: &str) -> Pass {
        let called = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Pass(Some(Arc::clone(self)));
            }
            let (call, called) = oneshot::channel();
            state.wait(lane, call);
            called
        };
        match called.await {
            Ok(pass) => pass,
            // The caller's end goes with the turnstile only, which is held here.
            Err(_) => std::future::pending().await,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(self: &Arc<Self>) {
        let mut state = self.lock();
        while let Some(call) = state.next() {
            match call.send(Pass(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // It waits no longer. Its pass was none: dropping it must not release another.
                Err(mut unused) => drop(unused.0.take()),
            }
        }
        state.free += 1;
    }
}

impl State {
    fn wait(&mut self, lane: &str, call: oneshot::Sender<Pass>) {
        let queue = self.waiting.entry(lane.to_owned()).or_default();
        if queue.is_empty() {
            self.order.push_back(lane.to_owned());
        }
        queue.push_back(call);
    }

    /// The first of the next lane, which goes to the end.
    fn next(&mut self) -> Option<oneshot::Sender<Pass>> {
        let lane = self.order.pop_front()?;
        let queue = self.waiting.get_mut(&lane)?;
        let call = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&lane);
        } else {
            self.order.push_back(lane);
        }
        call
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(turnstile) = self.0.take() {
            turnstile.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::Pin};

    use futures::poll;

    use super::*;

    type Waiting<'a> = (&'static str, Pin<Box<dyn Future<Output = Pass> + 'a>>);

    /// Lets everybody through one after another; the lanes in the order in which they went.
    async fn order(mut waiting: Vec<Waiting<'_>>) -> Vec<&'static str> {
        let mut went = Vec::new();
        'next: while !waiting.is_empty() {
            for index in 0..waiting.len() {
                if let std::task::Poll::Ready(pass) = poll!(&mut waiting[index].1) {
                    went.push(waiting.remove(index).0);
                    drop(pass);
                    continue 'next;
                }
            }
            panic!("nobody goes on, and {} wait", waiting.len());
        }
        went
    }

    async fn queued<'a>(turnstile: &'a Arc<Turnstile>, lanes: &[&'static str]) -> Vec<Waiting<'a>> {
        let mut waiting: Vec<Waiting<'a>> = Vec::new();
        for lane in lanes {
            let mut pass = Box::pin(turnstile.pass(lane));
            assert!(poll!(&mut pass).is_pending(), "all places are taken");
            waiting.push((lane, pass));
        }
        waiting
    }

    #[tokio::test]
    async fn one_owner_with_many_runs_does_not_keep_another_waiting() {
        let turnstile = Turnstile::new(1);
        let held = turnstile.pass("busy").await;
        let waiting =
            queued(&turnstile, &["busy", "busy", "busy", "busy", "busy", "calm", "late", "calm"]).await;
        drop(held);
        let expected = ["busy", "calm", "late", "busy", "calm", "busy", "busy", "busy"];
        assert_eq!(order(waiting).await, expected);
        assert_eq!(turnstile.lock().free, 1);
        assert!(turnstile.lock().waiting.is_empty() && turnstile.lock().order.is_empty());
    }

    #[tokio::test]
    async fn who_no_longer_waits_costs_nobody_a_turn() {
        let turnstile = Turnstile::new(2);
        let held = [turnstile.pass("a").await, turnstile.pass("b").await];
        let mut waiting = queued(&turnstile, &["a", "a", "b"]).await;
        drop(waiting.remove(0));
        let called = queued(&turnstile, &["c"]).await;
        drop(held);
        // Of lanes b and c one each was called by now, and that of b leaves without having looked.
        drop(waiting.remove(1));
        let went = order(waiting.into_iter().chain(called).collect()).await;
        assert_eq!(went, ["a", "c"]);
        assert_eq!(turnstile.lock().free, 2);
    }
}
