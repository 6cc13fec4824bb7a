// What administrators do for others, by the forms: acting as somebody, keys, roles of the tenant's own, grants.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ADMIN, call, Install, PASSWORD } from "./harness.mjs";

const GRACE = "grace@example.org";
let install;
let page;
let grace;

before(async () => {
  install = await Install.start();
  page = await install.page();
  await install.signIn(page);
  const made = await call(page, "POST", "/invitations", { email: GRACE, roles: ["viewer"] });
  const link = new URL(made.link);
  const other = await install.page();
  await other.goto(`${link.pathname}${link.hash}`);
  await other.getByLabel("Your name").fill("Grace Hopper");
  await other.getByLabel("Password").fill(PASSWORD);
  await other.getByRole("button", { name: "Continue" }).click();
  await other.getByRole("navigation", { name: "Main" }).waitFor({ state: "attached" });
  await other.context().close();
  grace = (await call(page, "GET", "/users?limit=200")).items.find(({ email }) => email === GRACE).id;
});
after(() => install?.stop());

// What a window holds is a child of its element, not of the <dialog> in it.
const window = (heading) => page.locator(`soma-dialog[heading="${heading}"]`);
const row = (text) => page.getByRole("row").filter({ hasText: text });

test("acting as somebody needs a reason, is seen on every page, is in the audit, and ends", async () => {
  const reason = "They see no agents";
  await page.goto(`/people/${grace}`);
  await page.getByRole("button", { name: "Act as them" }).click();
  const dialog = window(`Act as ${GRACE}`);
  await dialog.getByRole("button", { name: "Begin" }).click();
  assert.equal(await dialog.getByLabel("Why?").evaluate((field) => field.validity.valueMissing), true);
  await dialog.getByLabel("Why?").fill(reason);
  await dialog.getByRole("button", { name: "Begin" }).click();

  const banner = page.getByText(`${ADMIN} acts as ${GRACE}`);
  await banner.waitFor();
  // With their rights, not one's own.
  const navigation = page.getByRole("navigation", { name: "Main" });
  await navigation.getByRole("link", { name: "Agents" }).waitFor();
  assert.equal(await navigation.getByRole("link", { name: "Audit" }).count(), 0);
  await page.goto("/agents");
  await banner.waitFor();

  await page.getByRole("button", { name: "End it" }).click();
  await banner.waitFor({ state: "detached" });
  await navigation.getByRole("link", { name: "Audit" }).waitFor();
  await page.goto("/audit");
  await page.getByLabel("Action").fill("platform:impersonate");
  await page.getByRole("button", { name: "Filter" }).click();
  await row("platform:impersonate").first().waitFor();
  const found = await call(page, "GET", "/audit?action=platform:impersonate&limit=10");
  assert.match(JSON.stringify(found.items), new RegExp(reason));
});

test("a key that is rotated works until its overlap ends, beside the one that follows it", async () => {
  const opens = async (key) => (await fetch(new URL("/api/v2/me", install.base), { headers: { authorization: `Bearer ${key}` } })).status;
  const shown = window("Your new key");
  const take = async () => {
    const key = (await shown.locator("soma-secret code").innerText()).trim();
    await shown.getByRole("button", { name: "Close" }).click();
    return key;
  };
  await page.goto("/keys");
  await page.getByRole("button", { name: "New key" }).click();
  const form = window("New API key");
  await form.getByLabel("Name").fill("nightly report");
  await form.getByLabel("Scopes").fill("agent:read conversation:*");
  await form.getByRole("button", { name: "Make the key" }).click();
  const first = await take();
  await row("nightly report").getByRole("button", { name: "Actions for nightly report" }).click();
  await page.getByRole("menuitem", { name: /^Rotate/ }).click();
  const second = await take();
  assert.notEqual(first, second);
  assert.deepEqual([await opens(first), await opens(second)], [200, 200]);

  // The one that was replaced ends within a day; the other lives on.
  assert.equal(await row("nightly report").count(), 2);
  const ends = (await call(page, "GET", "/api-keys?limit=200")).items.filter(({ name }) => name === "nightly report").map(({ expires_at }) => Date.parse(expires_at));
  const dayAhead = Date.now() + 86_400_000;
  assert.equal(ends.filter((end) => end <= dayAhead && end > dayAhead - 120_000).length, 1);

  const kept = (await call(page, "GET", "/api-keys?limit=200")).items.find((key) => key.name === "nightly report" && Date.parse(key.expires_at) > dayAhead);
  await row(kept.prefix).getByRole("button", { name: "Actions for nightly report" }).click();
  await page.getByRole("menuitem", { name: "Revoke at once" }).click();
  await row(kept.prefix).getByText("revoked").waitFor();
  const deadline = Date.now() + 5_000;
  while ((await opens(second)) !== 401 && Date.now() < deadline);
  assert.deepEqual([await opens(first), await opens(second)], [200, 401]);
});

test("a role of the tenant's own is tried, made, changed, given and deleted", async () => {
  await page.goto("/roles?tab=own");
  await page.getByRole("button", { name: "New role" }).click();
  const form = window("New role");
  await form.getByLabel("Name").fill("prompt_writer");
  await form.getByLabel("For", { exact: true }).fill("Writes the prompts of agents");
  await form.getByLabel("agent:update", { exact: true }).check();
  await form.getByRole("button", { name: "What would change?" }).click();
  await form.getByText("Nobody would gain or lose a right.").waitFor();
  await form.getByRole("button", { name: "Save" }).click();
  await row("prompt_writer").getByText("agent:update").waitFor();

  // Given as a grant, it is somebody's.
  await page.goto("/roles?tab=grants");
  await page.getByRole("button", { name: "New grant" }).click();
  await window("New grant").getByLabel(/^Who/).selectOption({ label: "Grace Hopper" });
  await window("New grant").getByLabel(/^What/).fill("prompt_writer");
  await window("New grant").getByRole("button", { name: "Grant" }).click();
  await row("role prompt_writer").waitFor();

  await page.goto("/roles?tab=own");
  await row("prompt_writer").getByRole("button", { name: "Edit" }).click();
  const edit = window("Role prompt_writer");
  await edit.getByLabel("agent:create", { exact: true }).check();
  await edit.getByRole("button", { name: "What would change?" }).click();
  const effect = edit.getByRole("status");
  await effect.getByText("agent:create").waitFor();
  assert.match(await effect.innerText(), /^gains\s+Grace Hopper: agent:create$/);
  await edit.getByRole("button", { name: "Save" }).click();
  await row("prompt_writer").getByText("agent:create").waitFor();

  await page.goto("/roles?tab=grants");
  await row("role prompt_writer").getByRole("button", { name: "End" }).click();
  await page.getByText("No grants").waitFor();
  await page.goto("/roles?tab=own");
  await row("prompt_writer").getByRole("button", { name: "Delete" }).click();
  await page.getByText("No roles of your own").waitFor();
});

test("a grant counts while it stands, and its reason names it", async () => {
  const why = async () => {
    await page.goto(`/roles?tab=explain&user=${grace}`);
    await page.getByLabel("allowed only").uncheck();
    await page.getByLabel("Action").fill("audit:read");
    await row("audit:read").waitFor();
    return row("audit:read").innerText();
  };
  assert.match(await why(), /deny/);
  await page.goto("/roles?tab=grants");
  await page.getByText("No grants").waitFor();
  await page.getByRole("button", { name: "New grant" }).click();
  const form = window("New grant");
  await form.getByLabel(/^Who/).selectOption({ label: "Grace Hopper" });
  await form.getByLabel(/^What/).fill("no such thing:at all");
  await form.getByRole("button", { name: "Grant" }).click();
  await form.getByRole("alert").waitFor();
  await form.getByLabel(/^What/).fill("audit:read");
  await form.getByRole("button", { name: "Grant" }).click();
  await form.waitFor({ state: "detached" });
  const granted = row("Grace Hopper");
  await granted.waitFor();
  assert.match(await granted.innerText(), /allow\s+audit:read\s+tenant\s+never/);
  assert.match(await why(), /allow[\s\S]*grant/);

  await page.goto("/roles?tab=grants");
  await granted.getByRole("button", { name: "End" }).click();
  await page.getByText("No grants").waitFor();
  assert.match(await why(), /deny/);
});

test("no page broke the content security policy or failed", () => {
  assert.deepEqual(page.faults, []);
});
