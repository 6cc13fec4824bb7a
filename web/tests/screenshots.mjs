// Every page of the interface with something in it, as pictures: light, dark, and as wide as a phone.
//
// `scripts/web screenshots FOLDER` runs it. The pictures are to be looked at; what a program can tell of them, that a
// page is wider than a phone, it says itself.
import { join } from "node:path";
import { ADMIN, call, Install, PASSWORD, say, totp } from "./harness.mjs";

const folder = process.argv[2];
const only = new RegExp(process.argv[3] || ".");
const LOOKS = {
  light: { viewport: { width: 1280, height: 860 }, colorScheme: "light" },
  dark: { viewport: { width: 1280, height: 860 }, colorScheme: "dark" },
  phone: { viewport: { width: 390, height: 844 }, colorScheme: "light", hasTouch: true, isMobile: true, deviceScaleFactor: 2 },
};

const STREAMING = ["chat-approval", "chat-live"];

const ANSWER = `The **release** is ready. Three things changed:

1. The \`fetch\` tool follows at most five redirects.
2. Approvals name the hash of their arguments.
3. Old events are dropped after thirty days.

\`\`\`python
def due(runs, now):
    """Runs whose events may go."""
    return [run for run in runs if run.finished_at + KEPT < now]
\`\`\`

| Part | Before | After |
| --- | ---: | ---: |
| Start | 412 ms | 188 ms |
| First word | 96 ms | 91 ms |

> Measured on two cores, the model on the same.`;

const install = await Install.start();
let faults = 0;

/// Takes one page in every look.
async function shoot(name, storageState, path, prepare = async () => {}, looks = Object.keys(LOOKS)) {
  if (!only.test(name)) return;
  for (const look of looks) {
    const page = await install.page({ ...LOOKS[look], ...(storageState ? { storageState } : {}) });
    page.setDefaultTimeout(10_000);
    try {
      await page.goto(path);
      await page.locator("h1, h2").first().waitFor({ state: "attached" });
      await prepare(page, look);
      // A page that follows a run is never idle.
      if (!STREAMING.includes(name)) await page.waitForLoadState("networkidle");
      await page.evaluate(() => document.fonts.ready);
      const wide = await page.evaluate(() => {
        const main = document.querySelector("soma-app")?.shadowRoot?.querySelector("main");
        return [document.documentElement, main].some((element) => element && element.scrollWidth > element.clientWidth);
      });
      if (wide || page.faults.length) {
        faults += 1;
        console.log(`${name} ${look}: ${wide ? "wider than the window" : page.faults.join("; ")}`);
      }
    } catch (error) {
      faults += 1;
      console.log(`${name} ${look}: ${String(error).split("\n")[0]}`);
    }
    await page.screenshot({ path: join(folder, `${name}.${look}.png`) });
    await page.context().close();
  }
}

async function converse(page, text, until) {
  await page.goto("/chat/new");
  await say(page, text);
  await page.waitForURL(/\/chat\/[0-9a-f-]{36}/);
  await page.locator(until).first().waitFor();
  return new URL(page.url()).pathname;
}

const open = (name) => async (page) => {
  await page.getByRole("button", { name }).click();
};

try {
  await shoot("link", undefined, new URL(install.link(ADMIN)).pathname + new URL(install.link(ADMIN)).hash, async (page) => page.getByLabel("Password").waitFor());
  await shoot("link-used", undefined, "/link#nothing");
  const page = await install.page();
  await install.signIn(page);
  const ada = () => page.context().storageState();
  const nobody = await ada();
  for (const [name, path] of [
    ["empty-chat", "/chat"],
    ["empty-new", "/chat/new"],
    ["empty-approvals", "/approvals"],
    ["empty-keys", "/keys"],
    ["empty-usage", "/usage"],
    ["empty-own-roles", "/roles?tab=own"],
    ["empty-grants", "/roles?tab=grants"],
    ["empty-explain", "/roles?tab=explain"],
  ]) {
    await shoot(name, nobody, path, undefined, ["light", "phone"]);
  }

  // A tenant at work.
  await call(page, "POST", "/agents", { slug: "release-notes", name: "Release notes", prompt: "You write release notes.\nShort sentences, no praise.", tools: ["timestamp", "file_read"] });
  await call(page, "PATCH", "/agents/release-notes", { prompt: "You write release notes for people who run servers.\nShort sentences, no praise.\nSay what breaks first.", tools: ["timestamp", "file_read", "file_write"], tools_ask: ["file_write"] });
  await call(page, "POST", "/agents", { slug: "support-triage", name: "Support triage", prompt: "You sort what comes in.", tools: ["timestamp"] });
  for (const [email, role] of [["grace@example.org", "admin"], ["katherine.johnson@example.org", "member"], ["alan@example.org", "viewer"]]) {
    const made = await call(page, "POST", "/invitations", { email, roles: [role] });
    if (role === "viewer") continue;
    const link = new URL(made.link);
    const other = await install.page();
    await other.goto(`${link.pathname}${link.hash}`);
    await other.getByLabel("Your name").fill(role === "admin" ? "Grace Hopper" : "Katherine Johnson");
    await other.getByLabel("Password").fill(PASSWORD);
    await other.getByRole("button", { name: "Continue" }).click();
    await other.getByRole("navigation", { name: "Main" }).waitFor({ state: "attached" });
    if (role === "admin") {
      const { secret } = await call(other, "POST", "/me/totp", {});
      await call(other, "POST", "/me/totp/confirm", { code: totp(secret) });
    }
    await other.context().close();
  }
  const users = (await call(page, "GET", "/users?limit=200")).items;
  const grace = users.find(({ email }) => email === "grace@example.org").id;
  const katherine = users.find(({ email }) => email.startsWith("katherine")).id;
  await call(page, "POST", "/service-accounts", { name: "nightly-report", roles: ["member"] });
  await call(page, "POST", "/permissions/roles", { name: "prompt_writer", description: "Writes the prompts of agents", permissions: ["agent:read", "agent:update", "agent:configure_personality"] });
  await call(page, "POST", "/permissions/grants", { user_id: katherine, role: "prompt_writer", effect: "allow", scope: "tenant" });
  await call(page, "POST", "/permissions/grants", { user_id: katherine, permission: "conversation:delete", effect: "deny", scope: "tenant", expires_at: new Date(Date.now() + 6 * 86_400_000).toISOString() });
  await call(page, "POST", "/api-keys", { name: "nightly report", scopes: ["conversation:*", "agent:read"], lifetime_s: 90 * 86_400 });
  const gone = await call(page, "POST", "/api-keys", { name: "a laptop that was lost", scopes: [], lifetime_s: 30 * 86_400 });
  await call(page, "DELETE", `/api-keys/${gone.id ?? gone.api_key?.id}`);
  await call(page, "PUT", "/settings/tenant/approval_expiry_hours", { value: 24 });
  await call(page, "PUT", "/settings/agent:release-notes/approval_required_tools", { value: ["file_write"] });

  const talk = await converse(page, `What is new in the release? [[tool timestamp {}]] [[say ${ANSWER}]]`, "soma-turn footer");
  const run = await page.locator("soma-turn footer a").getAttribute("href");
  await converse(page, "Is the mail server up? [[status 400]]", "soma-turn [role=alert]");
  const failed = new URL(page.url()).pathname;
  await converse(page, "Who signed in yesterday? [[say Two people: Grace in the morning and Katherine after lunch.]]", "soma-turn footer");
  await call(page, "PATCH", "/agents/default", { tools_ask: ["file_write"] });
  const asks = await converse(page, 'Write the notes down. [[tool file_write {"path":"notes/2026-11.md","content":"# November\\n\\nThe fetch tool follows at most five redirects.\\n"}]] [[say It is written.]]', "soma-approval button");
  const held = await converse(page, "Explain how a run survives a restart. [[hold A run is a workflow whose steps are recorded before they count, so a server that starts again goes on after the last of them.]]", "soma-markdown");
  await page.goto(talk);
  const state = await ada();

  await shoot("sign-in", undefined, "/sign-in");
  await shoot("sign-in-wrong", undefined, "/sign-in", async (page) => {
    await page.getByLabel("Email").fill("grace@example.org");
    await page.getByLabel("Password").fill("not this one");
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await page.getByRole("alert").waitFor();
  });
  await shoot("sign-in-code", undefined, "/sign-in", async (page) => {
    await page.getByLabel("Email").fill("grace@example.org");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await page.getByLabel(/Code from/).waitFor();
  });
  await shoot("chat-list", state, "/chat");
  await shoot("chat", state, talk, async (page) => page.locator("soma-turn footer").waitFor());
  await shoot("chat-tool", state, talk, async (page) => {
    await page.locator("soma-tool summary").click();
    await page.locator("soma-tool summary").scrollIntoViewIfNeeded();
    await page.locator("soma-turn").evaluate((turn) => turn.scrollIntoView());
  });
  await shoot("chat-edit", state, talk, open("Edit the message"));
  await shoot("chat-files", state, talk, open("Files of the workspace"));
  await shoot("chat-menu", state, "/chat", async (page) => page.getByRole("button", { name: /^Actions for/ }).first().click());
  await shoot("chat-failed", state, failed, async (page) => page.getByRole("alert").first().waitFor());
  await shoot("chat-approval", state, asks, async (page) => page.getByRole("button", { name: "Approve" }).waitFor());
  await shoot("chat-live", state, held, async (page) => page.getByRole("button", { name: "Stop", exact: true }).waitFor());
  await shoot("chat-absent", state, "/chat/01890000-0000-7000-8000-000000000000");
  await shoot("search", state, "/chat", async (page) => {
    await page.getByRole("searchbox").fill("release");
    await page.getByRole("list", { name: "Found messages" }).waitFor();
  });
  await shoot("navigation", state, talk, open("Menu"), ["phone"]);
  await shoot("run", state, run);
  await shoot("approvals", state, "/approvals");
  await shoot("agents", state, "/agents");
  await shoot("agents-new", state, "/agents", open(/New agent/));
  await shoot("agent", state, "/agents/release-notes");
  await shoot("agent-versions", state, "/agents/release-notes", async (page) => {
    await page.locator("soma-agent-versions button, soma-agent-versions a").first().click();
    await page.locator("soma-agent-versions").evaluate((versions) => versions.scrollIntoView());
  });
  await shoot("people", state, "/people");
  await shoot("people-invite", state, "/people", open("Invite"));
  await shoot("person", state, `/people/${katherine}`);
  await shoot("person-act-as", state, `/people/${katherine}`, open("Act as them"));
  for (const tab of ["matrix", "own", "grants"]) await shoot(`roles-${tab}`, state, `/roles?tab=${tab}`);
  await shoot("roles-explain", state, `/roles?tab=explain&user=${katherine}`, async (page) => page.getByRole("row").nth(2).waitFor());
  await shoot("roles-new", state, "/roles?tab=own", open("New role"));
  await shoot("grants-new", state, "/roles?tab=grants", open("New grant"));
  await shoot("keys", state, "/keys");
  await shoot("keys-new", state, "/keys", open("New key"));
  await shoot("audit", state, "/audit", async (page) => page.getByRole("row").nth(3).waitFor());
  await shoot("usage", state, "/usage");
  for (const at of ["tenant", "agent", "user", "platform"]) {
    await shoot(`settings-${at}`, state, `/settings?at=${at}&agent=release-notes`, async (page) => page.locator("soma-setting").first().waitFor());
  }
  await shoot("profile", state, "/profile");
  await shoot("profile-totp", state, "/profile", async (page) => {
    await page.getByRole("button", { name: "Set it up" }).click();
    await page.getByRole("img", { name: /QR code/ }).scrollIntoViewIfNeeded();
  });
  await shoot("shortcuts", state, "/approvals", async (page) => page.keyboard.press("?"));
  await shoot("not-found", state, "/nothing/here");
  await shoot("error", state, "/approvals", async (page) => {
    await page.route("**/api/v2/agents?*", (route) => route.abort());
    await page.evaluate(() => {
      history.pushState(null, "", "/agents");
      dispatchEvent(new PopStateEvent("popstate"));
    });
    await page.getByRole("alert").waitFor();
  });
  await shoot("impersonation", state, "/people", async (page, look) => {
    if (look === "phone") await page.goto("/agents");
    const me = await call(page, "POST", `/users/${grace}/impersonate`, { reason: "They see no agents" });
    if (me) await page.goto("/agents");
    await page.getByRole("button", { name: "End it" }).waitFor();
  }, ["light"]);
} finally {
  await install.stop();
}
console.log(faults ? `${faults} pictures show something wrong, or are of something else than they should be` : "every page was taken");
process.exitCode = faults ? 1 : 0;
