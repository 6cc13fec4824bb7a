//! Clients that talk to agents in several conversations at once, and stop some of what they have begun.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Api, CAREFUL, Turn, lock},
    random::Random,
    report::Promise,
    script::Script,
};

/// Messages in one conversation; its transcript would grow without end.
const MESSAGES_MAX: u64 = 8;
/// Turns of one conversation that may wait for each other.
const WAITING_MAX: usize = 3;
/// Messages in a hundred that are sent while earlier ones still wait.
const AT_ONCE: u64 = 40;
const SENT_TWICE: u64 = 10;
/// Conversations in a hundred with the agent that asks before some of its calls.
const CAREFUL_PERCENT: u64 = 35;
const INTERRUPTING: u64 = 4;
pub(super) const CANCELLED: u64 = 8;
const PAUSE_BELOW_MS: u64 = 120;
const CANCEL_BELOW_MS: u64 = 700;

/// The clients at work, and what they have sent.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    approver: tokio::task::JoinHandle<()>,
}

struct Shared {
    api: Arc<Api>,
    turns: Mutex<Vec<Arc<Turn>>>,
    numbers: AtomicU64,
    cancel_percent: AtomicU64,
    ending: CancellationToken,
    followers: Mutex<JoinSet<()>>,
}

impl Load {
    pub(super) fn start(api: &Arc<Api>, conversations: u32, random: &mut Random) -> Self {
        let shared = Arc::new(Shared {
            api: Arc::clone(api),
            turns: Mutex::default(),
            numbers: AtomicU64::new(0),
            cancel_percent: AtomicU64::new(CANCELLED),
            ending: CancellationToken::new(),
            followers: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        for _ in 0..conversations {
            clients.spawn(talk(Arc::clone(&shared), random.fork()));
        }
        let api = Arc::clone(api);
        let approver = tokio::spawn(async move { api.approve_all().await });
        Self { shared, clients, approver }
    }

    /// How many of a hundred turns are cancelled from now on.
    pub(super) fn cancel(&self, percent: u64) {
        self.shared.cancel_percent.store(percent, Ordering::Relaxed);
    }

    /// Sends nothing new and waits until every turn has ended. Answers the turns; false when some have not ended
    /// within that time.
    pub(super) async fn settle(mut self, within: Duration) -> (Vec<Arc<Turn>>, bool) {
        self.shared.ending.cancel();
        let mut followers = std::mem::take(&mut *lock(&self.shared.followers));
        let all = async {
            while let Some(ended) = self.clients.join_next().await {
                ended.expect("a client's task");
            }
            loop {
                while let Some(ended) = followers.join_next().await {
                    ended.expect("a follower's task");
                }
                followers = std::mem::take(&mut *lock(&self.shared.followers));
                if followers.is_empty() {
                    return;
                }
            }
        };
        let settled = tokio::time::timeout(within, all).await.is_ok();
        self.approver.abort();
        let turns = lock(&self.shared.turns).clone();
        (turns, settled)
    }
}

/// One client: conversation after conversation, until the load ends.
async fn talk(shared: Arc<Shared>, mut random: Random) {
    while !shared.ending.is_cancelled() {
        let key = format!("conversation-{:016x}", random.next());
        let agent = if random.chance(CAREFUL_PERCENT) { CAREFUL } else { "default" };
        match shared.api.converse(&key, agent).await {
            Ok(conversation) => say(&shared, &conversation, &mut random).await,
            Err(refused) => {
                shared
                    .api
                    .violated(Promise::Requests, format!("a conversation could not begin: {refused:?}"));
                tokio::time::sleep(Duration::from_millis(PAUSE_BELOW_MS)).await;
            }
        }
    }
}

/// A conversation's messages. Returns early when the conversation is not there any more.
async fn say(shared: &Arc<Shared>, conversation: &str, random: &mut Random) {
    let mut own: Vec<Arc<Turn>> = Vec::new();
    let messages = 1 + random.below(MESSAGES_MAX);
    for _ in 0..messages {
        if shared.ending.is_cancelled() {
            return;
        }
        let number = shared.numbers.fetch_add(1, Ordering::Relaxed);
        let script = Script::new(number, random);
        let key = format!("message-{number}-{:016x}", random.next());
        let interrupt = random.chance(INTERRUPTING);
        if interrupt {
            own.iter().for_each(|turn| turn.stop_asked.store(true, Ordering::SeqCst));
        }
        let sent = shared.api.send(conversation, &key, &script.content, interrupt).await;
        let (message, run) = match sent {
            Ok(ids) => ids,
            Err(refused) => {
                let what =
                    format!("message {number} to conversation {conversation} was refused: {refused:?}");
                shared.api.violated(Promise::Requests, what);
                return;
            }
        };
        if random.chance(SENT_TWICE) {
            let again = shared.api.send(conversation, &key, &script.content, interrupt).await;
            if again.as_ref().ok() != Some(&(message.clone(), run.clone())) {
                let what = format!("message {number} sent twice is run {run} and {again:?}");
                shared.api.violated(Promise::Accepted, what);
            }
        }
        let turn = Arc::new(Turn {
            script,
            conversation: conversation.to_owned(),
            message,
            run,
            stop_asked: AtomicBool::new(false),
            said_cancelled: AtomicBool::new(false),
            frames: Mutex::default(),
            done: watch::Sender::new(false),
        });
        own.push(Arc::clone(&turn));
        lock(&shared.turns).push(Arc::clone(&turn));
        follow(shared, Arc::clone(&turn), random);
        let waiting_max = if random.chance(AT_ONCE) { WAITING_MAX } else { 1 };
        wait_until_few(&own, waiting_max).await;
        tokio::time::sleep(random.millis_below(PAUSE_BELOW_MS)).await;
    }
}

/// Has the turn followed, and perhaps cancelled.
fn follow(shared: &Arc<Shared>, turn: Arc<Turn>, random: &mut Random) {
    let mut followers = lock(&shared.followers);
    if random.chance(shared.cancel_percent.load(Ordering::Relaxed)) {
        let (api, turn, after) =
            (Arc::clone(&shared.api), Arc::clone(&turn), random.millis_below(CANCEL_BELOW_MS));
        followers.spawn(async move {
            tokio::time::sleep(after).await;
            turn.stop_asked.store(true, Ordering::SeqCst);
            match api.cancel(&turn.run).await {
                Ok(state) => turn.said_cancelled.store(state == "cancelled", Ordering::SeqCst),
                Err(refused) => {
                    let what = format!("run {} can't be cancelled: {refused:?}", turn.run);
                    api.violated(Promise::Requests, what);
                }
            }
        });
    }
    let api = Arc::clone(&shared.api);
    followers.spawn(async move { api.follow(&turn).await });
}

/// Waits until fewer than `most` of these turns are unfinished.
async fn wait_until_few(turns: &[Arc<Turn>], most: usize) {
    loop {
        let unfinished: Vec<_> = turns.iter().filter(|turn| !*turn.done.borrow()).collect();
        if unfinished.len() < most {
            return;
        }
        if let Some(oldest) = unfinished.first() {
            let mut done = oldest.done.subscribe();
            // The sender lives in the turn.
            drop(done.wait_for(|done| *done).await);
        }
    }
}
