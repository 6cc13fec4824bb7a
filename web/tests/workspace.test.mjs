// What is kept of a conversation: archived and deleted with a way back, and the files of its workspace.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Install, say } from "./harness.mjs";

let install;
let page;

before(async () => {
  install = await Install.start();
  page = await install.page();
  await install.signIn(page);
  await page.goto("/chat/new");
  await say(page, "Quarterly figures [[say Here they are.]]");
  await page.waitForURL(/\/chat\/[0-9a-f-]{36}/);
  await page.locator("soma-turn footer").waitFor();
});
after(() => install?.stop());

const listed = () => page.getByRole("region", { name: "Conversations" }).getByRole("link", { name: /Quarterly figures/ });

async function choose(action) {
  await listed().waitFor();
  await page.getByRole("button", { name: /^Actions for Quarterly figures/ }).click();
  await page.getByRole("menuitem", { name: action }).click();
}

test("a conversation that was archived comes back by Undo, or from the archive", async () => {
  const chat = page.url();
  await choose("Archive");
  await page.getByText("The conversation is in the archive.").waitFor();
  await listed().waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await listed().waitFor();

  await choose("Archive");
  await listed().waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Archive", exact: true }).click();
  await page.getByRole("heading", { name: "Archive", exact: true }).waitFor();
  await choose("Bring back");
  await page.getByText("The archive is empty").waitFor();
  await page.getByRole("button", { name: "Back to conversations" }).click();
  await listed().click();
  assert.equal(page.url(), chat);
  await page.getByText("Here they are.").waitFor();
});

test("a conversation that was deleted comes back whole by Undo, and else is gone", async () => {
  const chat = page.url();
  await choose("Delete");
  await page.getByText("The conversation was deleted.").waitFor();
  await listed().waitFor({ state: "detached" });
  assert.notEqual(page.url(), chat);
  await page.locator("soma-toasts li").filter({ hasText: "The conversation was deleted." }).getByRole("button", { name: "Undo" }).click();
  await listed().click();
  await page.getByText("Here they are.", { exact: true }).waitFor();

  await choose("Delete");
  await listed().waitFor({ state: "detached" });
  await page.goto(chat);
  await page.getByRole("alert").first().waitFor();
  assert.equal(await page.getByText("Here they are.").count(), 0);
});

test("a file is uploaded, read by the agent, downloaded, deleted, and brought back", async () => {
  const text = "revenue,42\n";
  await page.goto("/chat/new");
  await say(page, "Read what I upload [[say I shall.]]");
  await page.waitForURL(/\/chat\/[0-9a-f-]{36}/);
  await page.locator("soma-turn footer").waitFor();
  await page.getByRole("button", { name: "Files" }).click();
  const panel = page.getByRole("region", { name: "Files" });
  await panel.getByText("No files").waitFor();
  const choosing = page.waitForEvent("filechooser");
  await panel.getByRole("button", { name: "Upload" }).click();
  await (await choosing).setFiles({ name: "figures.csv", mimeType: "text/csv", buffer: Buffer.from(text) });
  const file = panel.getByRole("link", { name: "figures.csv" });
  await file.waitFor();

  await say(page, '[[tool file_read {"path":"figures.csv"}]] [[say {result}]]');
  await page.locator("soma-turn").last().locator("soma-markdown").getByText(/revenue,42/).waitFor();
  const downloading = page.waitForEvent("download");
  await file.click();
  const stream = await (await downloading).createReadStream();
  assert.equal(Buffer.concat(await stream.toArray()).toString(), text);

  await panel.getByRole("button", { name: "Delete figures.csv" }).click();
  await file.waitFor({ state: "detached" });
  await page.locator("soma-toasts li").filter({ hasText: "figures.csv was deleted." }).getByRole("button", { name: "Undo" }).click();
  await file.waitFor();
  await panel.getByRole("button", { name: "Delete figures.csv" }).click();
  await panel.getByText("No files").waitFor();
});

test("no page broke the content security policy or failed", () => {
  assert.deepEqual(page.faults, []);
});
