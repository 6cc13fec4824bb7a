// Who may see and do what; and that the pages are accessible.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { ADMIN, call, Install, PASSWORD, say, totp } from "./harness.mjs";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
let install;
let page;
let backup;

before(async () => {
  install = await Install.start();
  page = await install.page();
  await install.signIn(page);
});
after(() => install?.stop());

test("nothing serious or critical is found by axe on any page, light or dark", async () => {
  await page.goto("/chat/new");
  await say(page, '[[tool timestamp {}]] [[say # A\n\n```python\nprint(1)\n```\n\n- b]]');
  await page.waitForURL(/\/chat\/[0-9a-f-]{36}/);
  await page.locator("soma-turn footer").waitFor();
  const chat = new URL(page.url()).pathname;
  const run = await page.locator("soma-turn footer a").getAttribute("href");
  const paths = ["/chat/new", chat, run, "/approvals", "/agents", "/agents/default", "/people", "/roles", "/keys", "/audit", "/usage", "/settings", "/profile"];
  const grave = [];
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    for (const path of paths) {
      await page.goto(path);
      await page.locator("main h1").first().waitFor();
      await page.waitForLoadState("networkidle");
      // By the debugger: the page's own policy lets no foreign script in.
      await page.evaluate((await import("node:fs")).readFileSync(AXE, "utf8"));
      const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      for (const { id, impact, nodes } of violations) {
        if (impact !== "serious" && impact !== "critical") continue;
        for (const { target, any } of nodes) grave.push([path, colorScheme, id, String(target), any[0]?.message]);
      }
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  assert.deepEqual(grave, []);
});

test("a change of roles takes effect in a page that is open", async () => {
  const made = await call(page, "POST", "/invitations", { email: "grace@example.org", roles: ["member"] });
  const other = await install.page();
  const link = new URL(made.link);
  await other.goto(`${link.pathname}${link.hash}`);
  await other.getByLabel("Password").fill(PASSWORD);
  await other.getByRole("button", { name: "Continue" }).click();
  const navigation = other.getByRole("navigation", { name: "Main" });
  await navigation.getByRole("link", { name: "Chat", exact: true }).waitFor();
  assert.equal(await navigation.getByRole("link", { name: "Audit" }).count(), 0);
  const users = await call(page, "GET", "/users?limit=200");
  const grace = users.items.find(({ email }) => email === "grace@example.org");
  await call(page, "POST", "/permissions/assignments", { user_id: grace.id, role: "security_auditor" });
  await other.evaluate(async () => {
    // The page reads its rights again when it comes to the front; a second is what a change may take.
    const deadline = Date.now() + 20_000;
    const shown = () => document.querySelector("soma-app").shadowRoot.querySelector("soma-nav").shadowRoot.querySelector('a[href="/audit"]');
    while (!shown() && Date.now() < deadline) {
      dispatchEvent(new Event("focus"));
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
  });
  await navigation.getByRole("link", { name: "Audit" }).waitFor();
  await other.context().close();
});

test("what was done is found in the audit, whose chain is whole", async () => {
  await page.goto("/audit");
  await page.getByLabel("Action").fill("user:assign_roles");
  await page.getByRole("button", { name: "Filter" }).click();
  const row = page.getByRole("row").filter({ hasText: "user:assign_roles" }).first();
  await row.waitFor();
  assert.match(await row.innerText(), /Ada Lovelace[\s\S]*allow/);
  await page.getByRole("button", { name: "Verify the chain" }).click();
  await page.getByText(/The chain of \d+ entries is whole/).waitFor();
});

test("with a second factor, a password alone signs nobody in; a backup code does so once", async () => {
  await page.goto("/profile");
  await page.getByRole("button", { name: "Set it up" }).click();
  await page.getByRole("img", { name: /QR code/ }).waitFor();
  const secret = await page.locator("soma-totp form code").innerText();
  await page.getByLabel("The code that it shows").fill(totp(secret));
  await page.getByRole("button", { name: "Turn it on" }).click();
  const codes = (await page.locator("soma-secret code").innerText()).trim().split("\n");
  assert.equal(codes.length, 10);
  backup = codes[9];
  await page.getByRole("button", { name: "I have kept them" }).click();
  await page.getByText("To turn it off, a code is needed").waitFor();

  // A link for a new password asks for the second factor too.
  const forgetful = await install.page();
  await forgetful.goto(install.link(ADMIN));
  await forgetful.getByLabel("Password").fill(PASSWORD);
  await forgetful.getByRole("button", { name: "Continue" }).click();
  await forgetful.getByLabel(/Code from your authenticator/).fill(codes[1]);
  await forgetful.getByRole("button", { name: "Continue" }).click();
  await forgetful.getByRole("navigation", { name: "Main" }).waitFor({ state: "attached" });
  await forgetful.context().close();

  const other = await install.page();
  await other.goto("/audit");
  const enter = async (code) => {
    await other.getByLabel("Email").fill(ADMIN);
    await other.getByLabel("Password").fill(PASSWORD);
    await other.getByRole("button", { name: "Sign in", exact: true }).click();
    await other.getByLabel(/Code from your authenticator/).fill(code);
    await other.getByRole("button", { name: "Sign in", exact: true }).click();
  };
  await enter(codes[0]);
  // Where one wanted to go is where one arrives.
  await other.getByRole("heading", { name: "Audit" }).waitFor();
  await other.context().clearCookies();
  await other.goto("/audit");
  await enter(codes[0]);
  await other.getByText("This code is not the current one").waitFor();
  await other.context().close();
});

test("by keyboard alone: the content is reached, keys are listed", async () => {
  assert.deepEqual(page.faults, []);
  // The link above has ended the session that was open.
  page = await install.page();
  await page.goto("/people");
  await page.getByLabel("Email").fill(ADMIN);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByLabel(/Code from your authenticator/).fill(backup);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("heading", { name: "People" }).waitFor();
  await page.goto("/people");
  await page.locator("main h1").waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.querySelector("soma-app").shadowRoot.activeElement?.id), "content");
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog", { name: "Keyboard" }).waitFor({ state: "detached" });
});

test("no page broke the content security policy or failed", () => {
  assert.deepEqual(page.faults, []);
});

test("the tenant's theme counts until somebody chooses another in their browser", async () => {
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
  await call(page, "PUT", "/settings/tenant/ui_theme", { value: "dark" });
  await page.goto("/people");
  await page.waitForFunction(() => document.documentElement.dataset.theme === "dark");
  // From the system's to light.
  await page.getByRole("button", { name: /^Theme/ }).click();
  while ((await theme()) !== "light") await page.getByRole("button", { name: /^Theme/ }).click();
  await page.reload();
  await page.locator("main h1").waitFor();
  assert.equal(await theme(), "light");
});
