// Somebody signs in by a link, talks to an agent, and decides what it may do.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, Install, PATIENCE_MS, say } from "./harness.mjs";

let install;
let page;

before(async () => {
  install = await Install.start();
  page = await install.page();
  await install.signIn(page);
});
after(() => install?.stop());

const answer = (text) => page.locator("soma-turn").last().locator("soma-markdown").getByText(text, { exact: true });
const begin = async (text) => {
  await page.goto("/chat/new");
  await say(page, text);
  await page.waitForURL(/\/chat\/[0-9a-f-]{36}/);
};

test("a link signs in once, and its token leaves the address", async () => {
  const link = install.link("ada@example.org");
  const other = await install.page();
  await other.goto(link);
  await other.getByLabel("Password").fill("another battery, another staple");
  assert.equal(new URL(other.url()).hash, "");
  await other.getByRole("button", { name: "Continue" }).click();
  await other.getByRole("textbox", { name: "Message" }).waitFor();
  const again = await install.page();
  await again.goto(link);
  await again.getByRole("heading", { name: "This link does not work" }).waitFor();
  await other.context().close();
  await again.context().close();
  // A new password ends the sessions that were open.
  await install.signIn(page);
});

test("a tool call is a card with its input, output, time and why it was allowed", async () => {
  await begin('[[tool timestamp {}]] [[say It is **done**.]]');
  await answer("It is done.").waitFor();
  const card = page.locator("soma-tool").last();
  await card.getByText("done", { exact: true }).waitFor();
  await card.locator("summary").click();
  assert.match(await card.locator("details").innerText(), /allow[\s\S]*policy [0-9a-f]+[\s\S]*Input[\s\S]*Output[\s\S]*\d{4}-\d\d-\d\dT/);
  assert.match(await card.locator("summary").innerText(), /\d+ (ms|s)/);
});

test("what a model writes is shown, never run", async () => {
  await begin("[[say <img src=x onerror=document.title='run'> <script>document.title='run'</script> [a](javascript:document.title='run')]]");
  await page.locator("soma-turn footer").waitFor();
  assert.equal(await page.locator("soma-markdown img, soma-markdown script, soma-markdown a[href^='javascript']").count(), 0);
  assert.notEqual(await page.title(), "run");
});

test("an approval survives a restart of the server and is decided with what was shown", async () => {
  await call(page, "PATCH", "/agents/default", { tools_ask: ["file_write"] });
  await begin('[[tool file_write {"path":"a.txt","content":"hello"}]] [[say it is written]]');
  const approval = page.locator("soma-approval").last();
  await approval.getByRole("button", { name: "Approve" }).waitFor();
  assert.match(await approval.locator("section").innerText(), /"path": "a\.txt"/);
  await install.kill();
  await page.getByText("Resuming where it stopped").waitFor();
  await install.serve();
  await page.getByText("Resuming where it stopped").waitFor({ state: "detached" });
  await approval.getByRole("button", { name: "Approve" }).click();
  await answer("it is written").waitFor();
  await page.locator("soma-approval").last().getByText("approved").waitFor();
});

test("a rejection says why, and the agent is told", async () => {
  await begin('[[tool file_write {"path":"b.txt","content":"no"}]] [[say {result}]]');
  const approval = page.locator("soma-approval").last();
  await approval.getByRole("button", { name: "Reject" }).click();
  await approval.getByRole("textbox", { name: /Why not/ }).fill("not this file");
  await approval.getByRole("button", { name: "Reject" }).click();
  await page.locator("soma-turn").last().locator("soma-markdown").getByText("not this file").waitFor();
  await call(page, "PATCH", "/agents/default", { tools_ask: [] });
});

test("a run that is stopped keeps what was said", async () => {
  await begin("[[hold one two three four five six seven eight nine ten]]");
  await page.locator("soma-markdown").getByText(/one/).waitFor();
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await page.getByText("What was said until then is kept").waitFor();
  assert.match(await page.locator("soma-markdown #text").innerText(), /^one/);
});

test("a stream that breaks goes on where it stopped", async () => {
  await begin("[[hold alpha beta gamma delta epsilon zeta eta theta]]");
  await page.locator("soma-markdown").getByText(/alpha/).waitFor();
  await page.context().setOffline(true);
  await install.release();
  await page.context().setOffline(false);
  await answer("alpha beta gamma delta epsilon zeta eta theta").waitFor();
});

test("an answer that ends while its page is being read is shown", async () => {
  await begin("[[hold iota kappa lambda mu nu xi omicron pi]]");
  await page.locator("soma-markdown").getByText(/iota/).waitFor();
  const chat = new URL(page.url()).pathname.split("/").at(-1);
  // The list of runs is read only once the run is over.
  await page.route(`**/conversations/${chat}/runs?*`, async (route) => {
    await install.release();
    const deadline = Date.now() + PATIENCE_MS;
    let runs;
    do runs = await (await page.request.get(`/api/v2/conversations/${chat}/runs`)).json();
    while (runs.items[0].state !== "completed" && Date.now() < deadline);
    await route.continue();
  });
  await page.reload();
  await answer("iota kappa lambda mu nu xi omicron pi").waitFor();
  await page.unrouteAll();
});

test("an edit makes a branch, and both can be read", async () => {
  await begin("[[say first]]");
  await answer("first").waitFor();
  await page.getByRole("button", { name: "Edit the message" }).click();
  await page.getByRole("textbox", { name: "Edit the message" }).fill("[[say second]]");
  await page.getByRole("button", { name: "Send as a new branch" }).click();
  await answer("second").waitFor();
  await page.getByText("2 / 2").waitFor();
  await page.getByRole("button", { name: "Previous version" }).click();
  await answer("first").waitFor();
});

test("no page broke the content security policy or failed", () => {
  assert.deepEqual(page.faults, []);
});
