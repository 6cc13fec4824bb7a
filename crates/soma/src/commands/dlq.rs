//! `soma dlq`: events that could not be delivered or handled, and sending them again.

use std::{fmt, process::ExitCode, str::FromStr};

use contracts::events::Topic;
use domains::open_migrated_database;
use kafka::dead::{self, DeadLetter, Which};
use platform::{
    config::Config,
    http::Timestamp,
    outbox::{self, DeadEvent},
};
use serde_json::json;

use super::{Failure, config};
use crate::events::{bus, kafka_config};

#[derive(Debug, clap::Subcommand)]
pub enum Dlq {
    /// List dead events: those that Kafka did not take, and those from Kafka that nobody could handle.
    List {
        /// Those that were sent again already, too.
        #[arg(long)]
        all: bool,
        /// At most so many of each kind.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print one event as it was, and why it is dead.
    Show {
        /// As `soma dlq list` names it.
        event: Name,
    },
    /// Send dead events again to where they were going: one, or all that are left.
    Replay {
        /// As `soma dlq list` names it; without it all that were not sent again yet.
        event: Option<Name>,
    },
}

/// Where a dead event lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// On its way out, in the outbox.
    Outbox(i64),
    /// On its way in, in a topic of dead letters.
    Letter { topic: Topic, partition: i32, offset: i64 },
}

const OUTBOX: &str = "outbox";

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outbox(id) => write!(f, "{OUTBOX}:{id}"),
            Self::Letter { topic, partition, offset } => write!(f, "{topic}:{partition}:{offset}"),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let named = match parts.as_slice() {
            [OUTBOX, id] => id.parse().ok().map(Self::Outbox),
            [topic, partition, offset] => Topic::named(topic)
                .zip(partition.parse().ok())
                .zip(offset.parse().ok())
                .map(|((topic, partition), offset)| Self::Letter { topic, partition, offset }),
            _ => None,
        };
        named.ok_or_else(|| {
            "expected a name of `soma dlq list`, as in outbox:12 or conversation.inbound:0:7".into()
        })
    }
}

/// Topics whose events this program handles, and so may find dead.
const CONSUMED: &[Topic] = &[Topic::ConversationInbound];

pub async fn run(dlq: Dlq) -> Result<ExitCode, Failure> {
    let config = config().await?;
    match dlq {
        Dlq::List { all, limit, json } => list(&config, all, limit, json).await?,
        Dlq::Show { event } => show(&config, event).await?,
        Dlq::Replay { event: Some(event) } => {
            replay(&config, event).await?;
            println!("{event} is on its way again");
        }
        Dlq::Replay { event: None } => {
            let sent = replay_all(&config).await?;
            println!("{sent} on their way again");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn no_bus() -> Failure {
    let problem = "SA01_KAFKA_BOOTSTRAP_SERVERS: events are embedded, so there are none to be dead; \
                   name Kafka's brokers to use this";
    Failure::Configuration(problem.into())
}

async fn list(config: &Config, all: bool, limit: u32, as_json: bool) -> Result<(), Failure> {
    let kafka = kafka_config(config).ok_or_else(no_bus)?;
    let database = open_migrated_database(config).await.map_err(Failure::failed)?;
    let mut none = true;
    for event in outbox::dead(&database, 0, i64::from(limit)).await.map_err(Failure::failed)? {
        none = false;
        print_row(as_json, &of_outbox(&event));
    }
    let which = if all { Which::All } else { Which::Open };
    for topic in CONSUMED {
        let letters = dead::list(kafka, *topic, which, limit as usize).await.map_err(Failure::failed)?;
        for letter in letters {
            none = false;
            print_row(as_json, &of_letter(&letter));
        }
    }
    if none && !as_json {
        println!("no dead events");
    }
    Ok(())
}

/// What is shown of each in a list.
struct Shown {
    name: Name,
    at_ms: i64,
    topic: String,
    tries: i64,
    code: String,
    problem: String,
}

fn of_outbox(event: &DeadEvent) -> Shown {
    Shown {
        name: Name::Outbox(event.id),
        at_ms: event.created_at,
        topic: event.topic.clone(),
        tries: event.attempts,
        code: "refused".to_owned(),
        problem: event.error.clone(),
    }
}

fn of_letter(letter: &DeadLetter) -> Shown {
    let DeadLetter { topic, partition, offset, .. } = *letter;
    Shown {
        name: Name::Letter { topic, partition, offset },
        at_ms: letter.at,
        topic: topic.to_string(),
        tries: i64::from(letter.retry_count),
        code: letter.error_type.clone(),
        problem: letter.error_message.clone(),
    }
}

fn print_row(as_json: bool, shown: &Shown) {
    let Shown { name, at_ms, topic, tries, code, problem } = shown;
    let at = Timestamp(*at_ms);
    if as_json {
        let row = json!({
            "event": name.to_string(), "at": at.to_string(), "topic": topic, "tries": tries,
            "error_type": code, "error": problem,
        });
        println!("{row}");
    } else {
        println!("{name}  {at}  {topic}  {tries} tries  {code}: {problem}");
    }
}

async fn show(config: &Config, event: Name) -> Result<(), Failure> {
    let kafka = kafka_config(config).ok_or_else(no_bus)?;
    let (shown, original) = match event {
        Name::Outbox(id) => {
            let database = open_migrated_database(config).await.map_err(Failure::failed)?;
            let found = outbox::find_dead(&database, id).await.map_err(Failure::failed)?;
            let found = found.ok_or_else(|| not_there(event))?;
            (of_outbox(&found), Some(found.payload.into_bytes()))
        }
        Name::Letter { topic, partition, offset } => {
            let which = Which::At { partition, offset };
            let found = dead::list(kafka, topic, which, 1).await.map_err(Failure::failed)?;
            let found = found.into_iter().next().ok_or_else(|| not_there(event))?;
            (of_letter(&found), found.original)
        }
    };
    eprintln!("{}: {}", shown.code, shown.problem);
    eprintln!("for {}, {} tries, {}", shown.topic, shown.tries, Timestamp(shown.at_ms));
    // The bytes as they are, so that they can be piped.
    let original = original.ok_or_else(|| Failure::Failed("its bytes were not kept".to_owned()))?;
    std::io::Write::write_all(&mut std::io::stdout(), &original).map_err(Failure::failed)?;
    println!();
    Ok(())
}

fn not_there(event: Name) -> Failure {
    Failure::Failed(format!(
        "there is no dead event {event}; `soma dlq list --all` shows those that there are"
    ))
}

async fn replay(config: &Config, event: Name) -> Result<(), Failure> {
    let bus = bus(config)?.ok_or_else(no_bus)?;
    match event {
        Name::Outbox(id) => {
            let database = open_migrated_database(config).await.map_err(Failure::failed)?;
            let found = outbox::send_again(&database, id).await.map_err(Failure::failed)?;
            if found { Ok(()) } else { Err(not_there(event)) }
        }
        Name::Letter { topic, partition, offset } => {
            let which = Which::At { partition, offset };
            dead::replay(&bus, topic, which).await.map(drop).map_err(Failure::failed)
        }
    }
}

/// Events of the outbox that are taken in one look.
const PAGE: i64 = 500;

async fn replay_all(config: &Config) -> Result<usize, Failure> {
    let bus = bus(config)?.ok_or_else(no_bus)?;
    let database = open_migrated_database(config).await.map_err(Failure::failed)?;
    let (mut sent, mut after) = (0, 0);
    loop {
        let page = outbox::dead(&database, after, PAGE).await.map_err(Failure::failed)?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for event in page {
            sent += usize::from(outbox::send_again(&database, event.id).await.map_err(Failure::failed)?);
        }
    }
    for topic in CONSUMED {
        sent += dead::replay(&bus, *topic, Which::Open).await.map_err(Failure::failed)?;
    }
    Ok(sent)
}
