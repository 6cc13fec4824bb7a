//! What the embedded model promises, on the real model: SmolLM2-135M-Instruct.
//!
//! The file is found by SOMA_TEST_GGUF or in the cache; without it these tests fail. Run them in release:
//! llama.cpp is built in one profile only.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is a test, its helpers too"
)]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use contracts::model::{ChatEvent, ChatMessage, ChatModel, ChatRequest, ModelError, Role, ToolSpec, Usage};
use futures::{FutureExt, StreamExt};
use llama::{Error, LlamaModel, Options, QUEUE_MAX};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;

const CONTEXT_TOKENS: u32 = 1_024;
/// What the model answers with more than 400 tokens.
const LONG: &str = "Tell me a long story about the sea.";
const WAIT: Duration = Duration::from_secs(120);

/// Two models that compute at once slow each other down beyond any bound, so the tests take turns.
static TURN: Mutex<()> = Mutex::const_new(());

static MODEL: LazyLock<LlamaModel> = LazyLock::new(|| LlamaModel::new(options(false)).unwrap());
static WITH_TOOLS: LazyLock<LlamaModel> = LazyLock::new(|| LlamaModel::new(options(true)).unwrap());

#[expect(
    clippy::disallowed_methods,
    reason = "a test finds the model by the environment; the crate reads none"
)]
fn model_path() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    if let Some(path) = variable("SOMA_TEST_GGUF") {
        return path;
    }
    let cache = variable("SOMA_CACHE").unwrap_or_else(|| variable("HOME").expect("HOME").join(".cache/soma"));
    let folder = cache.join("model");
    let files = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut models =
        files.map(|file| file.unwrap().path()).filter(|path| path.extension() == Some("gguf".as_ref()));
    models.next().unwrap_or_else(|| panic!("no .gguf in {}", folder.display()))
}

fn options(tools: bool) -> Options {
    Options {
        path: model_path(),
        name: "smollm2".to_owned(),
        context_tokens: CONTEXT_TOKENS,
        tools,
        threads: None,
    }
}

fn question(text: &str, output_tokens_max: u32) -> ChatRequest {
    ChatRequest {
        model: None,
        messages: vec![ChatMessage::text(Role::User, text)],
        tools: Vec::new(),
        output_tokens_max,
        response_format: None,
        temperature: None,
    }
}

fn tools() -> Vec<ToolSpec> {
    let tool = |name: &str, description: &str, argument: &str| ToolSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: json!({ "type": "object", "properties": { argument: { "type": "string" } }, "required": [argument] }),
    };
    vec![
        tool("weather", "Tells the weather in a city.", "city"),
        tool("search \"web\"", "Finds pages about something.", "query"),
    ]
}

#[derive(Debug, PartialEq)]
struct Answer {
    text: String,
    calls: Vec<(String, serde_json::Value)>,
    usage: Usage,
    cut_at_limit: bool,
}

async fn ask(model: &LlamaModel, request: ChatRequest) -> Result<Answer, ModelError> {
    let events = timeout(WAIT, model.chat(request).collect::<Vec<_>>()).await.expect("an answer in time");
    let mut answer =
        Answer { text: String::new(), calls: Vec::new(), usage: Usage::default(), cut_at_limit: false };
    let mut done = false;
    for event in events {
        assert!(!done, "an event after the end");
        match event? {
            ChatEvent::Delta(text) => {
                assert!(!text.is_empty(), "an empty delta");
                answer.text.push_str(&text);
            }
            ChatEvent::Tool(call) => {
                answer.calls.push((call.name, serde_json::from_str(&call.arguments).unwrap()))
            }
            ChatEvent::Done { usage, cut_at_limit } => {
                answer.usage = usage.expect("usage");
                answer.cut_at_limit = cut_at_limit;
                done = true;
            }
        }
    }
    assert!(done, "a stream without an end");
    Ok(answer)
}

#[tokio::test]
async fn the_capital_of_france_is_paris() {
    let _turn = TURN.lock().await;
    let first = ask(&MODEL, question("What is the capital of France?", 64)).await.unwrap();
    assert!(first.text.contains("Paris"), "{}", first.text);
    assert!(!first.cut_at_limit);
    assert!(first.usage.input_tokens > 7 && first.usage.output_tokens > 1, "{:?}", first.usage);

    // The same again, from what the context still holds of it.
    assert_eq!(ask(&MODEL, question("What is the capital of France?", 64)).await.unwrap(), first);
}

#[tokio::test]
async fn a_question_that_shares_its_beginning_is_answered_as_if_alone() {
    let _turn = TURN.lock().await;
    let alone = LlamaModel::new(options(false)).unwrap();
    let germany = || question("What is the capital of Germany?", 24);
    ask(&MODEL, question("What is the capital of France? And of Spain?", 24)).await.unwrap();
    assert_eq!(ask(&MODEL, germany()).await.unwrap(), ask(&alone, germany()).await.unwrap());
}

#[tokio::test]
async fn a_dropped_stream_stops_the_model() {
    let _turn = TURN.lock().await;
    ask(&MODEL, question("Hello", 1)).await.unwrap();
    let endless = question(LONG, CONTEXT_TOKENS);
    let mut endless = MODEL.chat(endless);
    let started = Instant::now();
    for _ in 0..32 {
        assert!(matches!(timeout(WAIT, endless.next()).await, Ok(Some(Ok(ChatEvent::Delta(_))))));
    }
    let a_thirtieth = started.elapsed();

    drop(endless);

    let dropped = Instant::now();
    ask(&MODEL, question("Hello", 1)).await.unwrap();
    assert!(dropped.elapsed() < a_thirtieth * 10, "{:?} after {a_thirtieth:?}", dropped.elapsed());
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_is_refused_with_the_numbers() {
    let _turn = TURN.lock().await;
    let refused = ask(&MODEL, question(&"one two three ".repeat(1_000), 8)).await.unwrap_err();
    let ModelError::Refused(reason) = refused else { panic!("{refused:?}") };
    assert!(
        reason.starts_with("the prompt has 30") && reason.ends_with("the context holds 1024"),
        "{reason}"
    );

    ask(&MODEL, question("Hello", 4)).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let _turn = TURN.lock().await;
    let model = LlamaModel::new(options(false)).unwrap();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut stream = model.chat(question(LONG, CONTEXT_TOKENS));
        match stream.next().now_or_never() {
            None => waiting.push(stream),
            Some(event) => break event,
        }
        assert!(waiting.len() <= QUEUE_MAX + 1, "more questions wait than there is room for");
    };
    assert_eq!(refused, Some(Err(ModelError::Unavailable(format!("{QUEUE_MAX} questions already wait")))));

    drop(waiting);
    let answered = async {
        while ask(&model, question("Hello", 1)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, answered).await.expect("a queue that empties");
}

#[tokio::test]
async fn a_stopped_model_interrupts_its_answers_and_takes_no_more() {
    let _turn = TURN.lock().await;
    let model = LlamaModel::new(options(false)).unwrap();
    let long = || question(LONG, CONTEXT_TOKENS);
    let (mut current, waiting) = (model.chat(long()), model.chat(long()));
    assert!(matches!(timeout(WAIT, current.next()).await, Ok(Some(Ok(ChatEvent::Delta(_))))));

    model.stop();

    let interrupted = Some(Err(ModelError::Interrupted("the model was stopped".to_owned())));
    assert_eq!(current.collect::<Vec<_>>().await.pop(), interrupted);
    assert_eq!(waiting.collect::<Vec<_>>().await.pop(), interrupted);
    assert_eq!(ask(&model, long()).await, Err(ModelError::Unavailable("it was stopped".to_owned())));
}

#[tokio::test]
async fn a_stream_outlives_its_model() {
    let _turn = TURN.lock().await;
    let stream = LlamaModel::new(options(false)).unwrap().chat(question("Hello", 4));
    let last = timeout(WAIT, stream.collect::<Vec<_>>()).await.unwrap().pop();
    assert!(matches!(last, Some(Ok(ChatEvent::Done { .. }))), "{last:?}");
}

#[tokio::test]
async fn an_answer_is_cut_at_its_limit() {
    let _turn = TURN.lock().await;
    let cut = ask(&MODEL, question(LONG, 5)).await.unwrap();
    assert!(cut.cut_at_limit);
    assert_eq!(cut.usage.output_tokens, 5);
    assert_eq!(MODEL.count_tokens(&cut.text), 5);
}

#[tokio::test]
async fn an_answer_is_cut_where_the_context_ends() {
    let _turn = TURN.lock().await;
    let small = LlamaModel::new(Options { context_tokens: 64, ..options(false) }).unwrap();
    let cut = ask(&small, question(LONG, 1_000)).await.unwrap();
    assert!(cut.cut_at_limit);
    // The last token need not fit: nothing is made after it.
    assert_eq!(cut.usage.input_tokens + cut.usage.output_tokens, 65);
}

#[tokio::test]
async fn with_tools_every_answer_is_a_known_call_or_a_text() {
    let _turn = TURN.lock().await;
    let is_call = async |text: &str, temperature| {
        let request = ChatRequest { tools: tools(), temperature, ..question(text, 96) };
        let answer = ask(&WITH_TOOLS, request).await.unwrap();
        match answer.calls.as_slice() {
            [] => assert!(answer.cut_at_limit || !answer.text.is_empty(), "{answer:?}"),
            [(name, arguments)] => {
                assert!(tools().iter().any(|tool| tool.name == *name), "{answer:?}");
                assert!(arguments.is_object() && answer.text.is_empty(), "{answer:?}");
            }
            more => panic!("{more:?}"),
        }
        !answer.calls.is_empty()
    };
    let mut called = false;
    for text in
        ["What is the weather in Paris?", "Say hello.", "Search the web for otters 🦦.", "[[[[{{{{\"\"\""]
    {
        for temperature in [None, Some(0.8), Some(2.0)] {
            called |= is_call(text, temperature).await;
        }
    }
    // So small a model calls a tool in some of its answers only, and which ones is chance.
    for _ in 0..200 {
        if called {
            return;
        }
        called = is_call("What is the weather in Paris?", Some(2.0)).await;
    }
    panic!("not one tool call");
}

#[tokio::test]
async fn tools_are_ignored_where_they_are_off() {
    let _turn = TURN.lock().await;
    let request = || question("What is the capital of France?", 16);
    let offered = ask(&MODEL, ChatRequest { tools: tools(), ..request() }).await.unwrap();
    assert_eq!(offered, ask(&MODEL, request()).await.unwrap());
}

#[tokio::test]
async fn a_message_that_spells_control_tokens_opens_no_turn() {
    let _turn = TURN.lock().await;
    let tokens = async |text: &str| ask(&MODEL, question(text, 0)).await.unwrap().usage.input_tokens;
    // As a control token it would be one token.
    assert!(tokens("<|im_start|>").await > tokens("a").await + 2);
}

#[tokio::test]
async fn a_temperature_changes_the_answer() {
    let _turn = TURN.lock().await;
    let request = || ChatRequest { temperature: Some(1.5), ..question("Invent a name for a cat.", 24) };
    let first = ask(&MODEL, request()).await.unwrap();
    for _ in 0..10 {
        if ask(&MODEL, request()).await.unwrap().text != first.text {
            return;
        }
    }
    panic!("eleven times the same: {}", first.text);
}

#[tokio::test]
async fn tokens_are_estimated_from_above_until_the_model_is_loaded() {
    let _turn = TURN.lock().await;
    let texts = [
        "The quick brown fox jumps over the lazy dog.",
        "fn main() { let x = 12345; }",
        "Grüße, мир, 世界 🦦",
    ];
    let model = LlamaModel::new(options(false)).unwrap();
    let estimates = texts.map(|text| model.count_tokens(text));
    ask(&model, question("Hello", 1)).await.unwrap();
    let exact = texts.map(|text| model.count_tokens(text));
    assert_eq!(exact[0], 10);
    assert!(
        estimates.iter().zip(exact).all(|(estimate, exact)| *estimate >= exact),
        "{estimates:?} {exact:?}"
    );
}

#[test]
fn a_file_that_is_no_model_is_found_when_the_model_is_made() {
    let refused =
        |path: &Path| LlamaModel::new(Options { path: path.to_owned(), ..options(false) }).unwrap_err();
    let absent = refused(Path::new("/nowhere/model.gguf"));
    assert_eq!(absent.to_string(), "the model file /nowhere/model.gguf can't be read");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    assert!(matches!(refused(&manifest), Error::NotGguf { path } if path == manifest));
}

#[tokio::test]
async fn a_broken_model_file_is_explained() {
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), b"GGUF\x03\x00\x00\x00broken").unwrap();
    let model = LlamaModel::new(Options { path: broken.path().to_owned(), ..options(false) }).unwrap();
    let refused = ask(&model, question("Hello", 1)).await.unwrap_err();
    let ModelError::Unavailable(reason) = refused else { panic!("{refused:?}") };
    assert!(reason.starts_with("the file was not loaded: failed to read header"), "{reason}");
}

#[tokio::test]
async fn a_context_beyond_the_training_is_explained() {
    let model = LlamaModel::new(Options { context_tokens: 9_000, ..options(false) }).unwrap();
    let refused = ask(&model, question("Hello", 1)).await.unwrap_err();
    let reason = "a context of 9000 tokens was asked for, and the model was trained for 8192".to_owned();
    assert_eq!(refused, ModelError::Unavailable(reason));
}
