"""The official Python package, unchanged, against a real server: a model by its name, and an agent.

Usage: client.py, with OPENAI_BASE_URL and OPENAI_API_KEY set. Prints `ok    NAME` or `FAIL  NAME` for each promise.
The model behind the server is scripted: what is said in double brackets is what it does.
"""

import json
import os
import sys
import time
import traceback
import urllib.request

import openai

client = openai.OpenAI(max_retries=0, timeout=30)
STATS = os.environ["MODEL_STATS"]
MODELS = ["scripted", "agent/default"]
failed = 0


def user(text):
    return [{"role": "user", "content": text}]


def check(condition, *shown):
    if not condition:
        raise AssertionError(repr(shown))


WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "number",
        "strict": True,
        "schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False},
    },
}


def plain(model):
    answer = client.chat.completions.create(model=model, messages=user("[[say hello there]]"))
    choice = answer.choices[0]
    check(choice.message.content == "hello there" and choice.finish_reason == "stop", answer)
    check(answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0, answer.usage)


def stream(model):
    chunks = list(
        client.chat.completions.create(
            model=model, messages=user("[[say one two three four five]]"), stream=True, stream_options={"include_usage": True}
        )
    )
    check(chunks[0].choices[0].delta.role == "assistant", chunks[0])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    check(text == "one two three four five", text)
    check([chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop", chunks[-2])
    check(chunks[-1].usage.completion_tokens > 0, chunks[-1])


def tools(model):
    messages = user('[[tool weather {"city":"Paris"}]] [[say it is {result}]]')
    first = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    choice = first.choices[0]
    check(choice.finish_reason == "tool_calls", first)
    call = choice.message.tool_calls[0]
    check(call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Paris"}, call)
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    second = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    check(second.choices[0].message.content == "it is sunny", second)


def tools_streamed(model):
    with client.chat.completions.stream(model=model, messages=user('[[tool weather {"city":"Rome"}]]'), tools=[WEATHER]) as events:
        final = events.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    check(call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Rome"}, final)


def structured(model):
    answer = client.chat.completions.create(model=model, messages=user('[[say {"n": 7}]]'), response_format=FORM)
    check(json.loads(answer.choices[0].message.content) == {"n": 7}, answer)


def errors(model):
    for kind, call in [
        (openai.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=user("x"))),
        (openai.NotFoundError, lambda: client.chat.completions.create(model="agent/nobody", messages=user("x"))),
        (openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=[])),
        (openai.AuthenticationError, lambda: client.with_options(api_key="soma_nobody").models.list()),
    ]:
        try:
            call()
        except kind as error:
            check(isinstance(error.body, dict) and error.body.get("message"), error.body)
        else:
            raise AssertionError(kind)
    try:
        client.chat.completions.create(model=model, messages=user("[[status 500]]"))
    except openai.InternalServerError as error:
        check(error.status_code in (500, 502), error)
    else:
        raise AssertionError("no error")


def cancel(model):
    events = client.chat.completions.create(model=model, messages=user("[[hold one two three four five six]]"), stream=True)
    next(iter(events))
    wait_for(1)
    events.close()
    wait_for(0)


def wait_for(count):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with urllib.request.urlopen(STATS) as stats:
            if json.load(stats)["in_flight"] == count:
                return
        time.sleep(0.05)
    raise AssertionError(f"not {count} in flight")


def models(_):
    ids = [model.id for model in client.models.list()]
    check(ids == MODELS, ids)
    for model in ids:
        check(client.models.retrieve(model).id == model, model)


def embeddings(_):
    made = client.embeddings.create(model="scripted", input=["a", "bc"], encoding_format="float")
    check([len(one.embedding) for one in made.data] == [3, 3] and made.usage.total_tokens > 0, made)


def responses(_):
    answer = client.responses.create(model="agent/default", input="[[say hello]]", instructions="Be brief.")
    check(answer.output_text == "hello" and answer.status == "completed", answer)
    events = list(client.responses.create(model="agent/default", input="[[say one two three four]]", stream=True))
    check("".join(e.delta for e in events if e.type == "response.output_text.delta") == "one two three four", events)
    check(events[-1].type == "response.completed" and events[-1].response.output_text == "one two three four", events[-1])
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": False}
    question = '[[tool weather {"city":"Oslo"}]] [[say it is {result}]]'
    first = client.responses.create(model="agent/default", input=question, tools=[tool])
    call = first.output[0]
    check(call.type == "function_call" and call.name == "weather", first)
    items = user(question) + [
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "cold"},
    ]
    check(client.responses.create(model="agent/default", input=items, tools=[tool]).output_text == "it is cold")
    schema = FORM["json_schema"]
    formed = client.responses.create(
        model="agent/default", input='[[say {"n": 7}]]', text={"format": {"type": "json_schema", "name": "number", "schema": schema["schema"]}}
    )
    check(json.loads(formed.output_text) == {"n": 7}, formed)
    kept = client.responses.create(model="agent/default", input="[[say kept]]", store=True)
    check(client.responses.retrieve(kept.id).output_text == "kept", kept)
    held = client.responses.create(model="agent/default", input="[[hold one two three four]]", store=True, background=True)
    check(held.status in ("queued", "in_progress"), held)
    wait_for(1)
    check(client.responses.cancel(held.id).status == "cancelled")
    wait_for(0)


def run(name, promise, model):
    global failed
    try:
        promise(model)
        print(f"ok    python {name}", flush=True)
    except Exception:
        failed += 1
        print(f"FAIL  python {name}", flush=True)
        traceback.print_exc()


for name in MODELS:
    for promise in [plain, stream, tools, tools_streamed, structured, errors, cancel]:
        run(f"{promise.__name__}, {name}", promise, name)
for promise in [models, embeddings, responses]:
    run(promise.__name__, promise, None)
sys.exit(1 if failed else 0)
