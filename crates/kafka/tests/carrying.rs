//! Events on their way out and in, on a real Kafka and on both databases: what was committed arrives, in order, whatever
//! is killed meanwhile; what can't be delivered or handled is kept, and sent again.
//!
//! `scripts/engines` starts the servers. A test that can't have one fails.
#![expect(clippy::unwrap_used, reason = "a test that can't set up its engine fails")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use contracts::{
    ConversationId, RunId, TenantId,
    events::{About, Event, EventBus as _, EventHandler, HandleError, Letter, Received, Topic},
};
use kafka::{
    Bus, consume,
    dead::{self, Which},
};
use platform::{
    config::Kafka,
    database::{Database, Error, Migration, MigrationTrait, MigratorTrait, Sql as _, migrate},
    outbox, params,
};
use serde_json::json;
use testing::{OwnEngine, TestDatabase, Topics, engines, topics::Found};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(40);
const SETTING: &str = "SA01_KAFKA_BOOTSTRAP_SERVERS";

#[derive(Debug)]
struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let all = outbox::MIGRATIONS.iter().chain(platform::database::MIGRATIONS);
        all.map(|migration: &Migration| Box::new(*migration) as Box<dyn MigrationTrait>).collect()
    }
}

/// A cluster that all tests share, under names of one's own.
fn shared() -> Kafka {
    on(engines(&["up", "kafka"]).setting(SETTING))
}

fn on(servers: &str) -> Kafka {
    Kafka { servers: servers.to_owned(), prefix: format!("test-{}.", RunId::new()), ..Kafka::default() }
}

struct Carried {
    kafka: Kafka,
    database: Database,
    _kept: TestDatabase,
}

impl Carried {
    async fn new(kafka: Kafka, kept: TestDatabase) -> Self {
        let database = Database::open(&kept.dsn().parse().unwrap()).await.unwrap();
        migrate::<Migrator>(&database).await.unwrap();
        database.keep_events();
        Self { kafka, database, _kept: kept }
    }

    /// A process that carries when no other does.
    fn carrier(&self) -> (CancellationToken, JoinHandle<()>) {
        let bus = Arc::new(Bus::new(self.kafka.clone()).unwrap());
        let stop = CancellationToken::new();
        (stop.clone(), tokio::spawn(outbox::relay(self.database.clone(), bus, check, stop)))
    }

    async fn put(&self, events: Vec<Event>) {
        let put = |tx: &_| events.into_iter().for_each(|event| outbox::put(tx, || event));
        let written: Result<(), Error> = self
            .database
            .write(move |tx| {
                put(tx);
                Box::pin(async { Ok(()) })
            })
            .await;
        written.unwrap();
    }

    /// Changes one event.
    async fn change(&self, sql: &'static str, value: &'static str) {
        let changed: Result<u64, Error> =
            self.database.write(move |tx| Box::pin(async move { tx.run(sql, params![value]).await })).await;
        assert_eq!(changed.unwrap(), 1);
    }

    async fn waiting(&self) -> i64 {
        outbox::waiting(&self.database).await.unwrap()
    }

    async fn until_carried(&self) {
        until("all events are carried", async || self.waiting().await == 0).await;
    }

    async fn found(&self) -> Vec<Found> {
        let topics = Topics::new(&self.kafka.servers, &self.kafka.prefix);
        tokio::task::spawn_blocking(move || topics.read(Topic::ToolResults.as_str())).await.unwrap()
    }
}

fn check(letter: &Letter) -> Result<(), String> {
    if letter.payload.contains("misshapen") { Err("it is misshapen".into()) } else { Ok(()) }
}

fn event(conversation: ConversationId, number: usize, text: &str) -> Event {
    Event {
        id: format!("{conversation}-{number}"),
        topic: Topic::ToolResults,
        kind: "tool.result",
        tenant: TenantId::new(),
        about: About { conversation: Some(conversation), ..About::default() },
        at: 1,
        body: json!({ "number": number, "text": text }),
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The numbers of a key's events in the order in which they first came.
fn numbers(found: &[Found]) -> HashMap<String, Vec<u64>> {
    let mut all: HashMap<String, Vec<u64>> = HashMap::new();
    for one in found {
        let number = one.json()["number"].as_u64().unwrap();
        let numbers = all.entry(one.key.clone()).or_default();
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    all
}

async fn what_is_committed_arrives_once_and_in_order(kept: TestDatabase) {
    let carried = Carried::new(shared(), kept).await;
    let conversation = ConversationId::new();
    // A change that fails tells of nothing.
    let failed: Result<(), Error> = carried
        .database
        .write(move |tx| {
            outbox::put(tx, || event(conversation, 99, "undone"));
            Box::pin(async { Err(Error::Stopped("on purpose".into())) })
        })
        .await;
    assert!(failed.is_err());
    for first in (0..60).step_by(20) {
        carried.put((first..first + 20).map(|number| event(conversation, number, "ä\0\"")).collect()).await;
    }
    assert_eq!(carried.waiting().await, 60);
    let (stop, carrier) = carried.carrier();
    carried.until_carried().await;
    let found = carried.found().await;
    assert_eq!(numbers(&found), HashMap::from([(conversation.to_string(), (0..60).collect())]));
    assert_eq!(found.len(), 60, "nothing was in the way");
    let first = &found[0];
    assert_eq!(first.headers["event_id"], format!("{conversation}-0"));
    assert_eq!(first.headers["schema"], "tool.result.sa01-v1");
    assert_eq!(first.headers["session_id"], conversation.to_string());
    let told = first.json();
    assert_eq!((&told["version"], &told["text"]), (&json!("sa01-v1"), &json!("ä\0\"")));
    // What comes while it carries is carried at once: nobody looks in vain for long.
    carried.put(vec![event(conversation, 60, "later")]).await;
    carried.until_carried().await;
    stop.cancel();
    carrier.await.unwrap();
}

#[tokio::test]
async fn what_is_committed_on_sqlite_arrives_once_and_in_order() {
    Box::pin(what_is_committed_arrives_once_and_in_order(TestDatabase::empty())).await;
}

#[tokio::test]
async fn what_is_committed_on_postgres_arrives_once_and_in_order() {
    Box::pin(what_is_committed_arrives_once_and_in_order(TestDatabase::on_postgres())).await;
}

#[tokio::test]
async fn one_process_carries_and_another_goes_on_after_it_on_postgres() {
    let carried = Carried::new(shared(), TestDatabase::on_postgres()).await;
    let conversation = ConversationId::new();
    let (first_stop, first) = carried.carrier();
    carried.put((0..200).map(|number| event(conversation, number, "")).collect()).await;
    carried.until_carried().await;
    let (second_stop, second) = carried.carrier();
    carried.put((200..400).map(|number| event(conversation, number, "")).collect()).await;
    carried.until_carried().await;
    assert_eq!(carried.found().await.len(), 400, "two that carried at once would have sent some twice");
    first_stop.cancel();
    first.await.unwrap();
    carried.put((400..600).map(|number| event(conversation, number, "")).collect()).await;
    carried.until_carried().await;
    second_stop.cancel();
    second.await.unwrap();
    assert_eq!(numbers(&carried.found().await)[&conversation.to_string()], (0..600).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cluster_that_is_killed_and_paused_loses_nothing_and_mixes_nothing_up() {
    let own = OwnEngine::new("kafka", "carrying");
    let carried = Carried::new(on(own.up().setting(SETTING)), TestDatabase::empty()).await;
    let (stop, carrier) = carried.carrier();
    let conversations = [(); 5].map(|()| ConversationId::new());
    let put = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            carried
                .put(conversations.iter().map(|one| event(*one, number, &"x".repeat(500))).collect())
                .await;
        }
    };
    put(0..100).await;
    carried.until_carried().await;
    for (round, (end, back)) in
        [("kill", "up"), ("pause", "continue"), ("kill", "up")].into_iter().enumerate()
    {
        let first = 100 + round * 100;
        tokio::join!(put(first..first + 50), async { own.tell(end) });
        put(first + 50..first + 80).await;
        assert!(carried.waiting().await > 0, "they wait while it is away");
        own.tell(back);
        put(first + 80..first + 100).await;
        carried.until_carried().await;
    }
    stop.cancel();
    carrier.await.unwrap();
    let found = numbers(&carried.found().await);
    for conversation in conversations {
        assert_eq!(found[&conversation.to_string()], (0..400).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_can_never_be_delivered_is_dead_and_holds_nothing_up() {
    let carried = Carried::new(shared(), TestDatabase::empty()).await;
    let (stop, carrier) = carried.carrier();
    let conversation = ConversationId::new();
    let huge = "x".repeat(9 * 1024 * 1024);
    carried
        .put(vec![
            event(conversation, 0, "first"),
            event(conversation, 1, &huge),
            event(conversation, 2, "misshapen"),
            event(conversation, 3, "last"),
        ])
        .await;
    carried.until_carried().await;
    assert_eq!(numbers(&carried.found().await)[&conversation.to_string()], [0, 3]);
    let dead = outbox::dead(&carried.database, 0, 10).await.unwrap();
    let reasons: Vec<_> = dead.iter().map(|event| (event.event_id.clone(), event.error.as_str())).collect();
    assert_eq!(dead.len(), 2, "{reasons:?}");
    assert!(dead[0].payload.len() > huge.len() && dead[0].error.contains("large"), "{}", dead[0].error);
    assert!(dead[1].error.contains("it is misshapen"), "{}", dead[1].error);
    // Sent again it is dead again, for it is still what it is.
    assert!(outbox::send_again(&carried.database, dead[1].id).await.unwrap());
    assert!(!outbox::send_again(&carried.database, dead[1].id + 100).await.unwrap());
    until("it is dead again", async || outbox::dead(&carried.database, 0, 10).await.unwrap().len() == 2)
        .await;
    stop.cancel();
    carrier.await.unwrap();
}

#[tokio::test]
async fn events_of_a_newer_versions_topics_are_left_to_it_and_hold_nothing_up() {
    let carried = Carried::new(shared(), TestDatabase::empty()).await;
    let conversation = ConversationId::new();
    carried.put(vec![event(conversation, 0, "newer"), event(conversation, 1, "known")]).await;
    let name_topic =
        async |topic: &'static str| carried.change("UPDATE outbox SET topic = $1 WHERE id = 1", topic).await;
    name_topic("topic.of.a.newer.version").await;
    let (stop, carrier) = carried.carrier();
    until("the one it knows is carried", async || carried.waiting().await == 1).await;
    assert_eq!(numbers(&carried.found().await)[&conversation.to_string()], [1]);

    name_topic(Topic::ToolResults.as_str()).await;

    carried.put(vec![event(conversation, 2, "after")]).await;
    carried.until_carried().await;
    assert_eq!(numbers(&carried.found().await)[&conversation.to_string()], [1, 0, 2]);
    stop.cancel();
    carrier.await.unwrap();
}

#[tokio::test]
async fn what_waits_behind_a_refused_event_holds_nobody_else_up() {
    for kept in [TestDatabase::empty(), TestDatabase::on_postgres()] {
        let carried = Carried::new(shared(), kept).await;
        let (refused, other) = (ConversationId::new(), ConversationId::new());
        let many: Vec<Event> = (0..1200).map(|number| event(refused, number, "behind")).collect();
        carried.put(many).await;
        carried.put(vec![event(other, 0, "free")]).await;
        let due_at = "UPDATE outbox SET attempts = 1, due_at = CAST($1 AS BIGINT) WHERE id = 1";
        carried.change(due_at, "99999999999999").await;
        let (stop, carrier) = carried.carrier();
        until("the other one is carried", async || carried.waiting().await == 1200).await;
        assert_eq!(numbers(&carried.found().await), HashMap::from([(other.to_string(), vec![0])]));

        carried.change(due_at, "1").await;

        carried.until_carried().await;
        assert_eq!(numbers(&carried.found().await)[&refused.to_string()], (0..1200).collect::<Vec<_>>());
        stop.cancel();
        carrier.await.unwrap();
    }
}

/// Does what an event says, and notes it.
#[derive(Default)]
struct Handler(Mutex<Vec<String>>);

impl Handler {
    fn handled(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl EventHandler for Handler {
    async fn handle(&self, event: &Received) -> Result<(), HandleError> {
        let text = String::from_utf8_lossy(&event.payload).into_owned();
        let earlier = self.handled().iter().filter(|one| **one == text).count();
        self.0.lock().unwrap().push(text.clone());
        match text.as_str() {
            "away" if earlier < 2 => Err(HandleError::Away("a database".into())),
            "again" if earlier < 1 => {
                Err(HandleError::Again { code: "busy".into(), message: "later".into() })
            }
            "good" | "away" | "again" => Ok(()),
            _ => Err(HandleError::Never { code: "garbage".into(), message: "it is garbage".into() }),
        }
    }
}

#[tokio::test]
async fn what_comes_in_is_handled_and_what_can_not_be_is_kept_and_sent_again() {
    let kafka = shared();
    let bus = Arc::new(Bus::new(kafka.clone()).unwrap());
    let topic = Topic::ConversationInbound;
    // Makes the topics.
    let nothing =
        Letter { topic: Topic::AuditEvents, key: "k".into(), headers: vec![], payload: "{}".into() };
    assert_eq!(bus.publish(vec![nothing]).await, [Ok(())]);
    bus.ready().await.unwrap();
    let write = async |payload: &'static [u8]| {
        let topics = Topics::new(&kafka.servers, &kafka.prefix);
        tokio::task::spawn_blocking(move || topics.write(topic.as_str(), "key", payload)).await.unwrap();
    };
    for payload in [b"good" as &[u8], b"away", b"again", b"{ garbage", b"\xff\xfe", b"good"] {
        write(payload).await;
    }
    let handler = Arc::new(Handler::default());
    let start = || {
        let (stop, bus, handler) = (CancellationToken::new(), Arc::clone(&bus), Arc::clone(&handler));
        let consumed = {
            let stop = stop.clone();
            tokio::spawn(async move { consume(bus, topic, "testers", &*handler, stop).await })
        };
        (stop, consumed)
    };
    let (stop, consumed) = start();
    let all = ["good", "away", "away", "away", "again", "again", "{ garbage", "\u{fffd}\u{fffd}", "good"];
    until("all are handled", async || handler.handled().len() >= all.len()).await;
    assert_eq!(handler.handled(), all, "in order, and what waits holds up what comes after it");
    stop.cancel();
    consumed.await.unwrap();

    // Another member goes on where the first one ended.
    let (stop, consumed) = start();
    write(b"good").await;
    until("the next is handled", async || handler.handled().len() > all.len()).await;
    assert_eq!(handler.handled().len(), all.len() + 1, "nothing was handed out twice");

    let letters = dead::list(&kafka, topic, Which::Open, 10).await.unwrap();
    let told: Vec<_> = letters
        .iter()
        .map(|letter| (letter.original.as_deref().unwrap(), letter.error_type.as_str()))
        .collect();
    assert_eq!(told, [(b"{ garbage" as &[u8], "garbage"), (b"\xff\xfe", "garbage")], "with their own bytes");
    assert_eq!((&letters[0].key[..], letters[0].retry_count), (b"key" as &[u8], 1));

    let one = Which::At { partition: letters[1].partition, offset: letters[1].offset };
    assert_eq!(dead::replay(&bus, topic, one).await.unwrap(), 1);
    until("it is dead once more", async || {
        dead::list(&kafka, topic, Which::Open, 10).await.unwrap().len() == 3
    })
    .await;
    assert_eq!(dead::replay(&bus, topic, Which::Open).await.unwrap(), 3);
    until("they are dead once more", async || {
        dead::list(&kafka, topic, Which::All, 10).await.unwrap().len() == 6
    })
    .await;
    assert_eq!(dead::list(&kafka, topic, Which::Open, 10).await.unwrap().len(), 3, "those that came back");
    let none = Which::At { partition: 0, offset: 99 };
    assert!(
        dead::replay(&bus, topic, none).await.unwrap_err().to_string().contains("no dead letter at 0:99")
    );
    stop.cancel();
    consumed.await.unwrap();
}

/// Bytes that nothing makes shorter.
fn noise(bytes: usize) -> Vec<u8> {
    let next = |last: &u64| Some(last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    std::iter::successors(Some(1_u64), next).map(|number| number.to_be_bytes()[0]).take(bytes).collect()
}

/// What is in the dead letters once this has been taken, and something good after it.
async fn after_garbage(kafka: &Kafka, garbage: Vec<u8>) -> Vec<dead::DeadLetter> {
    let bus = Arc::new(Bus::new(kafka.clone()).unwrap());
    let topic = Topic::ConversationInbound;
    let nothing =
        Letter { topic: Topic::AuditEvents, key: "k".into(), headers: vec![], payload: "{}".into() };
    assert_eq!(bus.publish(vec![nothing]).await, [Ok(())]);
    let topics = Topics::new(&kafka.servers, &kafka.prefix);
    tokio::task::spawn_blocking(move || {
        topics.write(topic.as_str(), "key", &garbage);
        topics.write(topic.as_str(), "key", b"good");
    })
    .await
    .unwrap();
    let (stop, handler) = (CancellationToken::new(), Arc::new(Handler::default()));
    let consumed = {
        let (bus, handler, stop) = (Arc::clone(&bus), Arc::clone(&handler), stop.clone());
        tokio::spawn(async move { consume(bus, topic, "testers", &*handler, stop).await })
    };
    until("what is behind it is handled", async || handler.handled().last().is_some_and(|one| one == "good"))
        .await;
    stop.cancel();
    consumed.await.unwrap();
    dead::list(kafka, topic, Which::All, 10).await.unwrap()
}

#[tokio::test]
async fn a_dead_letter_holds_the_longest_event_that_can_come_in() {
    let bytes = 8 * 1024 * 1024 - 1024;
    // In JSON's own text each of the latter bytes would be six.
    for garbage in [noise(bytes), vec![1; bytes]] {
        let letters = after_garbage(&shared(), garbage.clone()).await;
        let [letter] = letters.as_slice() else { panic!("{}", letters.len()) };
        assert!(letter.original.as_deref() == Some(&garbage[..]), "{}", letter.error_message);
    }
}

#[tokio::test]
async fn a_topic_of_dead_letters_that_takes_no_long_ones_holds_nothing_up() {
    let kafka = shared();
    Topics::new(&kafka.servers, &kafka.prefix).make("conversation.inbound.dlq", "2000").await;
    let letters = after_garbage(&kafka, noise(100_000)).await;
    let [letter] = letters.as_slice() else { panic!("{}", letters.len()) };
    assert!(letter.original.is_none() && letter.error_type == "garbage", "{}", letter.error_message);
    assert!(letter.error_message.contains("its 100000 bytes are too many"), "{}", letter.error_message);
    let bus = Bus::new(kafka).unwrap();
    assert_eq!(dead::replay(&bus, letter.topic, Which::Open).await.unwrap(), 0);
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_told_as_away() {
    let bus = Bus::new(on("127.0.0.1:9")).unwrap();
    assert!(bus.ready().await.is_err());
    let letter = Letter { topic: Topic::AuditEvents, key: "k".into(), headers: vec![], payload: "{}".into() };
    let answers = bus.publish(vec![letter]).await;
    let [Err(contracts::events::BusError::Away(_))] = answers.as_slice() else { panic!("{answers:?}") };
}
