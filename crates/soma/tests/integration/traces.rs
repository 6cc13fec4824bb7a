//! Traces at a collector: a request goes on with its client's trace, a run's has the run's id, none carries what was
//! said, and a collector that is away or stuck costs nobody anything.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use testing::trace_receiver::{ReceivedSpan, TraceReceiver};

use crate::{
    edge::counter,
    harness::{Api, Server, until},
};

async fn traced(receiver: &TraceReceiver) -> Server {
    Server::start_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint())]).await
}

/// The spans of a trace with this name, once there is one.
async fn named(receiver: &TraceReceiver, trace: &str, name: &str) -> Vec<ReceivedSpan> {
    until(name, async || {
        let mut spans = receiver.spans();
        spans.retain(|span| span.trace_id == trace && span.name == name);
        (!spans.is_empty()).then_some(spans)
    })
    .await
}

#[tokio::test]
async fn a_turn_is_one_trace_under_the_runs_id_and_holds_nothing_that_was_said() {
    let receiver = TraceReceiver::start();
    let server = traced(&receiver).await;
    let api = server.api();
    let conversation = api.conversation().await;

    let turn = api.turn(&conversation, "[[tool timestamp]] [[say my-secret-plan]]").await;

    assert_eq!(turn.answer(), "my-secret-plan");
    let run = turn.run["id"].as_str().unwrap();
    let trace = run.replace('-', "");
    let agent = &named(&receiver, &trace, "invoke_agent default").await[0];
    let chats = named(&receiver, &trace, "chat scripted").await;
    let tool = &named(&receiver, &trace, "execute_tool timestamp").await[0];
    assert_eq!((agent.parent_span_id.clone(), chats.len()), (None, 2));
    for span in chats.iter().chain([tool]) {
        assert_eq!(span.parent_span_id.as_ref(), Some(&agent.span_id));
        assert_eq!(span.attribute("gen_ai.conversation.id"), json!(conversation));
        assert_eq!(span.status, None);
    }
    let seen = |span: &ReceivedSpan, names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| span.attribute(&format!("gen_ai.{name}"))).collect()
    };
    let of_chat = ["operation.name", "provider.name", "request.model", "response.finish_reasons"];
    assert_eq!(
        seen(&chats[0], &of_chat),
        [json!("chat"), json!("openai"), json!("scripted"), json!(["tool_calls"])]
    );
    assert_eq!(chats[1].attribute("gen_ai.response.finish_reasons"), json!(["stop"]));
    let tokens = |name: &str| chats.iter().map(|span| span.attribute(name).as_i64().unwrap()).sum::<i64>();
    assert_eq!(tokens("gen_ai.usage.input_tokens"), turn.run["usage"]["input_tokens"]);
    assert_eq!(tokens("gen_ai.usage.output_tokens"), turn.run["usage"]["output_tokens"]);
    let call = &turn.one("tool.start")["call_id"];
    assert_eq!(seen(tool, &["operation.name", "tool.name"]), ["execute_tool", "timestamp"]);
    assert_eq!(tool.attribute("gen_ai.tool.call.id"), *call);
    assert_eq!(seen(agent, &["operation.name", "agent.name"]), ["invoke_agent", "default"]);
    assert!(!receiver.text().contains("my-secret-plan"));
}

#[tokio::test]
async fn a_run_that_failed_says_so_in_its_trace() {
    let receiver = TraceReceiver::start();
    let server = traced(&receiver).await;
    let conversation = server.api().conversation().await;
    let turn = server.api().turn(&conversation, "[[status 400]]").await;
    assert_eq!(turn.failure(), "model_refused");
    let trace = turn.run["id"].as_str().unwrap().replace('-', "");
    for name in ["chat scripted", "invoke_agent default"] {
        let status = named(&receiver, &trace, name).await[0].status.clone().expect("a status");
        assert_eq!((status.code, status.message.as_str()), (2, "model_refused"), "{name}");
    }
}

#[tokio::test]
async fn a_request_goes_on_with_its_clients_trace_unless_that_is_not_recorded() {
    let receiver = TraceReceiver::start();
    let server = traced(&receiver).await;
    let call = async |traceparent: &str| {
        let request =
            server.api().request(Method::GET, "/api/v2/runs/none").header("traceparent", traceparent);
        assert_eq!(Api::reply(request).await.problem(404), "not_found");
    };
    let (kept, left_out) = ("0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c");
    call(&format!("00-{left_out}-b7ad6b7169203331-00")).await;
    call(&format!("00-{kept}-b7ad6b7169203331-01")).await;

    let span = &named(&receiver, kept, "GET /api/v2/runs/{id}").await[0];

    assert_eq!((span.kind, span.parent_span_id.as_deref()), (2, Some("b7ad6b7169203331")));
    assert_eq!(span.attribute("http.response.status_code"), 404);
    assert_eq!(span.attribute("http.route"), "/api/v2/runs/{id}");
    assert!(receiver.spans().iter().all(|span| span.trace_id != left_out));
}

#[tokio::test]
async fn a_collector_that_is_away_or_stuck_stops_nothing_and_what_it_misses_is_counted() {
    let receiver = TraceReceiver::start();
    receiver.get_stuck();
    let gone = TraceReceiver::start().endpoint();
    for (endpoint, ends) in [(gone, true), (receiver.endpoint(), false)] {
        let mut server = Server::start_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
        let api = server.api();
        let conversation = api.conversation().await;
        assert_eq!(api.turn(&conversation, "[[say on]]").await.answer(), "on");
        if ends {
            let dropped = async || counter(&api, "otel_spans_dropped_total", "not_taken").await;
            until("dropped spans are counted", async || (dropped().await > 0).then_some(())).await;
        } else {
            until("the queue is full", async || {
                join_all((0..100).map(|_| api.get("/api/v2/runs/none"))).await;
                (counter(&api, "otel_spans_dropped_total", "queue_full").await > 0).then_some(())
            })
            .await;
        }
        server.ask_to_stop();
        assert_eq!(server.ended().await.code(), Some(0));
    }
}
