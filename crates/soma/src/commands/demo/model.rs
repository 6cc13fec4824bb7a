//! The demo's model: a server on loopback that speaks OpenAI's streaming chat completions and follows a script.
//!
//! Asked something, it asks for one tool call; given the tool's result, it tells it, a word at a time, so slowly that
//! its listener can be killed in mid-sentence.

use std::{
    convert::Infallible,
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    response::sse::{Event, Sse},
    routing::post,
};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// Between two words of an answer.
const PACE: Duration = Duration::from_millis(100);
/// Tokens are counted as this many characters each.
const TOKEN_CHARS: usize = 4;

/// The tool call that the model asks for.
#[derive(Debug, Clone)]
pub struct ToolCall {
    pub tool: &'static str,
    pub arguments: Value,
}

#[derive(Debug, Default)]
struct Counts {
    tool_calls: AtomicUsize,
    answers_begun: AtomicUsize,
    answers_ended: AtomicUsize,
}

/// What the model was asked for, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub tool_calls: usize,
    pub answers_begun: usize,
    pub answers_ended: usize,
}

#[derive(Debug)]
struct Script {
    call: ToolCall,
    counts: Counts,
}

/// The server, until it is dropped.
#[derive(Debug)]
pub struct Model {
    base_url: String,
    script: Arc<Script>,
    serving: JoinHandle<()>,
}

impl Model {
    pub async fn start(call: ToolCall) -> io::Result<Self> {
        let script = Arc::new(Script { call, counts: Counts::default() });
        let router =
            Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&script));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let base_url = format!("http://{}/v1", listener.local_addr()?);
        let serving = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { base_url, script, serving })
    }

    /// As SA01_MODEL_URL takes it.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    pub fn asked(&self) -> Asked {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        let counts = &self.script.counts;
        Asked {
            tool_calls: count(&counts.tool_calls),
            answers_begun: count(&counts.answers_begun),
            answers_ended: count(&counts.answers_ended),
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Deserialize)]
struct Request {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: String,
}

async fn complete(
    State(script): State<Arc<Script>>,
    Json(request): Json<Request>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let input: usize = request.messages.iter().map(|message| tokens(&message.content)).sum();
    let result = request.messages.last().filter(|message| message.role == "tool");
    let (deltas, finish) = match result {
        None => {
            script.counts.tool_calls.fetch_add(1, Ordering::SeqCst);
            (vec![tool_delta(&script.call)], "tool_calls")
        }
        Some(message) => {
            script.counts.answers_begun.fetch_add(1, Ordering::SeqCst);
            (words(&answer(&message.content)), "stop")
        }
    };
    let output: usize = deltas.iter().map(|delta| tokens(&delta.to_string())).sum();
    let mut chunks: Vec<Value> =
        deltas.into_iter().map(|delta| json!({ "choices": [{ "index": 0, "delta": delta }] })).collect();
    chunks.push(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": finish }] }));
    chunks.push(json!({ "choices": [], "usage": { "prompt_tokens": input, "completion_tokens": output } }));
    let last = chunks.len();
    let events = stream::iter(chunks.into_iter().enumerate()).then(move |(index, chunk)| {
        let script = Arc::clone(&script);
        async move {
            tokio::time::sleep(PACE).await;
            if finish == "stop" && index + 1 == last {
                script.counts.answers_ended.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Event::default().data(chunk.to_string()))
        }
    });
    Sse::new(events.chain(stream::iter([Ok(Event::default().data("[DONE]"))])))
}

fn tool_delta(call: &ToolCall) -> Value {
    let function = json!({ "name": call.tool, "arguments": call.arguments.to_string() });
    json!({ "tool_calls": [{ "index": 0, "id": "call_1", "type": "function", "function": function }] })
}

/// What the model says of a tool's result.
pub fn answer(result: &str) -> String {
    format!(
        "The tool says {}. I did not know that before it ran, and I am telling it a word at a time, so that \
         somebody has the time to kill the server while I speak.",
        result.trim()
    )
}

fn words(text: &str) -> Vec<Value> {
    text.split_inclusive(' ').map(|word| json!({ "content": word })).collect()
}

fn tokens(text: &str) -> usize {
    text.chars().count().div_ceil(TOKEN_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_put_together_are_the_answer() {
        let text = answer(" 338350\n");
        assert!(text.starts_with("The tool says 338350. "));
        let spoken: String = words(&text).iter().filter_map(|delta| delta["content"].as_str()).collect();
        assert_eq!(spoken, text);
    }
}
