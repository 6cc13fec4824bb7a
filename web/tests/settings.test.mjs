// Settings are set where somebody may, and say from where they come.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, Install, PASSWORD, totp } from "./harness.mjs";

let install;
let page;

before(async () => {
  install = await Install.start();
  page = await install.page();
  await install.signIn(page);
});
after(() => install?.stop());

/// The setting of this name, at the level that is shown.
const setting = (key) => page.locator("soma-setting").filter({ has: page.getByRole("heading", { name: key }) });
const levels = () => page.getByRole("navigation", { name: "Levels" }).getByRole("link");
const values = async (key) => (await setting(key).locator(".from .tag").allInnerTexts()).join(" | ");

test("a value that is set at a level counts there, says so, and can be taken back", async () => {
  const hours = setting("approval_expiry_hours");
  await page.goto("/settings");
  await hours.waitFor();
  assert.deepEqual(await levels().allInnerTexts(), ["Mine", "An agent's", "The tenant's", "The platform's"]);
  await hours.getByRole("spinbutton").fill("0");
  await hours.getByRole("button", { name: "Set it here" }).click();
  await hours.getByRole("alert").getByText("expected a whole number from 1 to 720").waitFor();
  await hours.getByRole("spinbutton").fill("24");
  await hours.getByRole("button", { name: "Set it here" }).click();
  await hours.getByText("tenant: 24, which counts").waitFor();

  await levels().filter({ hasText: "An agent's" }).click();
  await hours.getByRole("button", { name: "Set it here" }).waitFor();
  assert.equal(await hours.getByRole("spinbutton").inputValue(), "24");
  await hours.getByRole("spinbutton").fill("5");
  await hours.getByRole("button", { name: "Set it here" }).click();
  await hours.getByText("agent: 5, which counts").waitFor();
  assert.equal(await values("approval_expiry_hours"), "tenant: 24 | agent: 5, which counts");
  const ask = setting("approval_required_tools");
  await ask.getByLabel("timestamp").check();
  await ask.getByRole("button", { name: "Set it here" }).click();
  await ask.getByText("agent: timestamp, which counts").waitFor();
  const found = (await call(page, "GET", "/settings?agent=default")).items.filter(({ from }) => from === "agent");
  assert.deepEqual(found.map(({ key, value }) => [key, value]), [["approval_expiry_hours", 5], ["approval_required_tools", ["timestamp"]]]);

  await hours.getByRole("button", { name: /^Take back/ }).click();
  await hours.getByText("tenant: 24, which counts").waitFor();
});

test("a value of one's own is for oneself alone, and the platform's for everybody", async () => {
  const theme = setting("ui_theme");
  await page.goto("/settings?at=platform");
  await theme.getByRole("combobox").selectOption("dark");
  await theme.getByRole("button", { name: "Set it here" }).click();
  await page.waitForFunction(() => document.documentElement.dataset.theme === "dark");
  await levels().filter({ hasText: "Mine" }).click();
  await theme.getByRole("combobox").selectOption("light");
  await theme.getByRole("button", { name: "Set it here" }).click();
  await page.waitForFunction(() => document.documentElement.dataset.theme === "light");
  assert.equal(await values("ui_theme"), "platform: dark | you: light, which counts");
  await theme.getByRole("button", { name: /^Take back/ }).click();
  await page.waitForFunction(() => document.documentElement.dataset.theme === "dark");
});

test("who may not change a level's settings is not shown how", async () => {
  const made = await call(page, "POST", "/invitations", { email: "grace@example.org", roles: ["viewer"] });
  const link = new URL(made.link);
  const other = await install.page();
  await other.goto(`${link.pathname}${link.hash}`);
  await other.getByLabel("Password").fill(PASSWORD);
  await other.getByRole("button", { name: "Continue" }).click();
  await other.getByRole("navigation", { name: "Main" }).waitFor({ state: "attached" });
  await other.goto("/settings?at=tenant");
  await other.locator("soma-setting h3").first().waitFor();
  assert.deepEqual(await other.getByRole("navigation", { name: "Levels" }).getByRole("link").allInnerTexts(), ["Mine"]);
  assert.deepEqual(await other.locator("soma-setting h3").allInnerTexts(), ["ui_theme"]);
  assert.deepEqual(other.faults, []);
  await other.context().close();
});

test("where the tenant asks for a second factor, setting one up comes first", async () => {
  const policy = setting("mfa_policy");
  await page.goto("/settings?at=tenant");
  await policy.getByRole("combobox").selectOption("required");
  await policy.getByRole("button", { name: "Set it here" }).click();
  // Who asks for it is asked as well.
  await page.getByRole("heading", { name: "Set up a second factor" }).waitFor();
  await page.goto("/people");
  await page.getByRole("button", { name: "Set it up" }).click();
  const secret = await page.locator("soma-totp form code").innerText();
  await page.getByLabel("The code that it shows").fill(totp(secret));
  await page.getByRole("button", { name: "Turn it on" }).click();
  await page.getByRole("button", { name: "I have kept them" }).click();
  await page.getByRole("heading", { name: "People" }).waitFor();
  await page.goto("/settings?at=tenant");
  await policy.getByText("tenant: required, which counts").waitFor();
});

test("no page broke the content security policy or failed", () => {
  assert.deepEqual(page.faults, []);
});
