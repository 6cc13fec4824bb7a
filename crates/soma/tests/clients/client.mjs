// The official JavaScript package, unchanged, against a real server: a model by its name, and an agent.
//
// Usage: node client.mjs PATH_OF_THE_PACKAGE, with OPENAI_BASE_URL, OPENAI_API_KEY and MODEL_STATS set. Prints
// `ok    NAME` or `FAIL  NAME` for each promise. The model behind the server is scripted: what is said in double
// brackets is what it does.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const OpenAI = createRequire(process.argv[2] + "/")("openai").default;
const client = new OpenAI({ maxRetries: 0, timeout: 30_000 });
const names = ["scripted", "agent/default"];
let failed = 0;

const user = (content) => [{ role: "user", content }];
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather.",
    parameters: { type: "object", properties: { city: { type: "string" } } },
  },
};
const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false };

const waitFor = async (count) => {
  const until = Date.now() + 20_000;
  while (Date.now() < until) {
    const stats = await (await fetch(process.env.MODEL_STATS)).json();
    if (stats.in_flight === count) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`not ${count} in flight`);
};

const promises = {
  async plain(model) {
    const answer = await client.chat.completions.create({ model, messages: user("[[say hello there]]") });
    assert.equal(answer.choices[0].message.content, "hello there");
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.ok(answer.usage.total_tokens > 0);
  },

  async stream(model) {
    const stream = await client.chat.completions.create({
      model,
      messages: user("[[say one two three four five]]"),
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, "one two three four five");
    assert.ok(usage.completion_tokens > 0);
  },

  async tools(model) {
    const messages = user('[[tool weather {"city":"Paris"}]] [[say it is {result}]]');
    const first = await client.chat.completions.create({ model, messages, tools: [weather] });
    assert.equal(first.choices[0].finish_reason, "tool_calls");
    const call = first.choices[0].message.tool_calls[0];
    assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
    messages.push(first.choices[0].message, { role: "tool", tool_call_id: call.id, content: "sunny" });
    const second = await client.chat.completions.create({ model, messages, tools: [weather] });
    assert.equal(second.choices[0].message.content, "it is sunny");
  },

  async "tools, streamed"(model) {
    const messages = user('[[tool weather {"city":"Rome"}]]');
    const runner = client.chat.completions.stream({ model, messages, tools: [weather] });
    const final = await runner.finalChatCompletion();
    const call = final.choices[0].message.tool_calls[0];
    assert.equal(call.function.name, "weather");
    assert.deepEqual(JSON.parse(call.function.arguments), { city: "Rome" });
  },

  async structured(model) {
    const answer = await client.chat.completions.create({
      model,
      messages: user('[[say {"n": 7}]]'),
      response_format: { type: "json_schema", json_schema: { name: "number", strict: true, schema } },
    });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { n: 7 });
  },

  async errors(model) {
    const expect = async (kind, call) => {
      await assert.rejects(call, (error) => error instanceof kind && error.message.length > 0);
    };
    const chat = (body) => () => client.chat.completions.create(body);
    await expect(OpenAI.NotFoundError, chat({ model: "nobody", messages: user("x") }));
    await expect(OpenAI.NotFoundError, chat({ model: "agent/nobody", messages: user("x") }));
    await expect(OpenAI.BadRequestError, chat({ model, messages: [] }));
    await expect(OpenAI.InternalServerError, chat({ model, messages: user("[[status 500]]") }));
    const nobody = new OpenAI({ apiKey: "soma_nobody", maxRetries: 0 });
    await expect(OpenAI.AuthenticationError, () => nobody.models.list());
  },

  async cancel(model) {
    const messages = user("[[hold one two three four five six]]");
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) {
      assert.ok(chunk.id);
      await waitFor(1);
      break;
    }
    stream.controller.abort();
    await waitFor(0);
  },
};

const alone = {
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.deepEqual(ids, names);
    for (const id of ids) assert.equal((await client.models.retrieve(id)).id, id);
  },

  async embeddings() {
    const made = await client.embeddings.create({ model: "scripted", input: ["a", "bc"], encoding_format: "float" });
    assert.deepEqual(made.data.map((one) => one.embedding.length), [3, 3]);
  },

  async responses() {
    const model = "agent/default";
    const answer = await client.responses.create({ model, input: "[[say hello]]", instructions: "Be brief." });
    assert.equal(answer.output_text, "hello");
    let text = "";
    let last;
    for await (const event of await client.responses.create({ model, input: "[[say one two three]]", stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event.type;
    }
    assert.deepEqual([text, last], ["one two three", "response.completed"]);
    const stream = client.responses.stream({ model, input: "[[tool timestamp {}]] [[say done now]]" });
    assert.equal((await stream.finalResponse()).output_text, "done now");
    const kept = await client.responses.create({ model, input: "[[say kept]]", store: true });
    assert.equal((await client.responses.retrieve(kept.id)).output_text, "kept");
    const next = { model, input: "[[say more]]", store: true, previous_response_id: kept.id };
    assert.equal((await client.responses.create(next)).output_text, "more");
  },
};

const run = async (name, promise) => {
  try {
    await promise();
    console.log(`ok    javascript ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  javascript ${name}`);
    console.error(error);
  }
};

for (const model of names) {
  for (const [name, promise] of Object.entries(promises)) await run(`${name}, ${model}`, () => promise(model));
}
for (const [name, promise] of Object.entries(alone)) await run(name, promise);
process.exit(failed === 0 ? 0 : 1);
