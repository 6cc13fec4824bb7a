//! Clients that talk to agents in several conversations at once, and stop some of what they have begun.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    client::{Api, CAREFUL, Message, Turn, Way, lock},
    random::Random,
    report::Promise,
    script::Script,
    socket::{Client, Line},
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
/// Conversations in a hundred that are talked in over a WebSocket and nothing else.
const WEBSOCKET_PERCENT: u64 = 34;
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

    /// Messages that were accepted, each once.
    pub(super) fn turns(&self) -> u64 {
        lock(&self.shared.turns).len() as u64
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

/// What a conversation is talked in by.
enum Talker {
    /// The conversation's id.
    Requests(String),
    WebSocket(Line),
}

impl Talker {
    async fn begin(shared: &Shared, random: &mut Random) -> Result<Self, String> {
        let key = format!("conversation-{:016x}", random.next());
        let agent = if random.chance(CAREFUL_PERCENT) { CAREFUL } else { "default" };
        if random.chance(WEBSOCKET_PERCENT) {
            let (line, client) = Client::new(&shared.api, agent);
            lock(&shared.followers).spawn(client.run());
            return Ok(Self::WebSocket(line));
        }
        let made = shared.api.converse(&key, agent).await;
        made.map(Self::Requests).map_err(|refused| format!("{refused:?}"))
    }

    /// Sends a message until it is accepted.
    async fn send(&self, api: &Api, message: &Message) -> Result<Arc<Turn>, String> {
        match self {
            Self::WebSocket(line) => line.say(message.clone()).await,
            Self::Requests(conversation) => {
                let sent = api.send(conversation, message).await;
                let ids = sent.map_err(|refused| format!("to conversation {conversation}: {refused:?}"))?;
                let script = message.script.clone();
                Ok(Arc::new(Turn::new(script, conversation.clone(), ids, Way::Requests)))
            }
        }
    }

    /// Has the turn followed, unless whoever sent it does so, and perhaps cancelled.
    fn follow(&self, shared: &Shared, turn: &Arc<Turn>, random: &mut Random) {
        let mut followers = lock(&shared.followers);
        if random.chance(shared.cancel_percent.load(Ordering::Relaxed)) {
            let after = random.millis_below(CANCEL_BELOW_MS);
            let (api, turn) = (Arc::clone(&shared.api), Arc::clone(turn));
            match self {
                Self::Requests(_) => followers.spawn(cancel(api, turn, after)),
                Self::WebSocket(line) => followers.spawn(stop(line.clone(), turn, after)),
            };
        }
        if let Self::Requests(_) = self {
            let (api, turn) = (Arc::clone(&shared.api), Arc::clone(turn));
            followers.spawn(async move { api.follow(&turn).await });
        }
    }
}

async fn cancel(api: Arc<Api>, turn: Arc<Turn>, after: Duration) {
    tokio::time::sleep(after).await;
    turn.stop_asked.store(true, Ordering::SeqCst);
    match api.cancel(&turn.run).await {
        Ok(state) => turn.said_cancelled.store(state == "cancelled", Ordering::SeqCst),
        Err(refused) => {
            let what = format!("run {} can't be cancelled: {refused:?}", turn.run);
            api.violated(Promise::Requests, what);
        }
    }
}

async fn stop(line: Line, turn: Arc<Turn>, after: Duration) {
    tokio::time::sleep(after).await;
    turn.stop_asked.store(true, Ordering::SeqCst);
    line.stop(&turn.run).await;
}

/// One client: conversation after conversation, until the load ends.
async fn talk(shared: Arc<Shared>, mut random: Random) {
    while !shared.ending.is_cancelled() {
        match Talker::begin(&shared, &mut random).await {
            Ok(talker) => say(&shared, &talker, &mut random).await,
            Err(refused) => {
                shared.api.violated(Promise::Requests, format!("a conversation could not begin: {refused}"));
                tokio::time::sleep(Duration::from_millis(PAUSE_BELOW_MS)).await;
            }
        }
    }
}

/// A conversation's messages. Returns early when the conversation is not there any more.
async fn say(shared: &Shared, talker: &Talker, random: &mut Random) {
    let mut own: Vec<Arc<Turn>> = Vec::new();
    let messages = 1 + random.below(MESSAGES_MAX);
    for _ in 0..messages {
        if shared.ending.is_cancelled() {
            return;
        }
        let number = shared.numbers.fetch_add(1, Ordering::Relaxed);
        let script = Script::new(number, random);
        let key = format!("message-{number}-{:016x}", random.next());
        let message = Message { key, script, interrupt: random.chance(INTERRUPTING) };
        if message.interrupt {
            own.iter().for_each(|turn| turn.stop_asked.store(true, Ordering::SeqCst));
        }
        let turn = match talker.send(&shared.api, &message).await {
            Ok(turn) => turn,
            Err(refused) => {
                let what = format!("message {number} was refused: {refused}");
                shared.api.violated(Promise::Requests, what);
                return;
            }
        };
        own.push(Arc::clone(&turn));
        lock(&shared.turns).push(Arc::clone(&turn));
        if random.chance(SENT_TWICE) {
            let again = talker.send(&shared.api, &message).await;
            let same =
                again.as_ref().is_ok_and(|again| (&again.message, &again.run) == (&turn.message, &turn.run));
            if !same {
                let what = format!("message {number} sent twice is run {} and {again:?}", turn.run);
                shared.api.violated(Promise::Accepted, what);
            }
        }
        talker.follow(shared, &turn, random);
        let waiting_max = if random.chance(AT_ONCE) { WAITING_MAX } else { 1 };
        wait_until_few(&own, waiting_max).await;
        tokio::time::sleep(random.millis_below(PAUSE_BELOW_MS)).await;
    }
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
