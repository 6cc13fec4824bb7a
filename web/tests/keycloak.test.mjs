// Signing in at a real Keycloak, on its own page, by a realm of this test's own.
//
// `scripts/engines up keycloak` starts it, as `./test` does. Where it is not up this fails, and says so.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { call, Install } from "./harness.mjs";

const ENGINES = fileURLToPath(new URL("../../scripts/engines", import.meta.url));
const PERSON = "grace";
const REALM = randomUUID();
const SECRET = randomUUID();
const PASSWORD = randomUUID();

let install;
let keycloak;

before(async () => {
  keycloak = running();
  install = await Install.start();
  await makeRealm();
  // Where it listens is known only now, and whoever signs in is sent back there.
  await install.kill();
  Object.assign(install.settings, {
    SA01_KEYCLOAK_URL: keycloak.SA01_KEYCLOAK_URL,
    SA01_KEYCLOAK_REALM: REALM,
    SA01_KEYCLOAK_CLIENT_ID: "soma",
    SA01_KEYCLOAK_CLIENT_SECRET: SECRET,
    SA01_OIDC_NAME: "Keycloak",
    SA01_OIDC_GROUP_ROLES: "staff=member,security=security_auditor",
    SA01_PUBLIC_URL: install.base,
  });
  await install.serve();
});
after(() => install?.stop());

/// What `scripts/engines` says of the Keycloak that is up.
function running() {
  const ran = spawnSync(ENGINES, ["env", "--name", "keycloak"], { encoding: "utf8" });
  if (ran.status !== 0) {
    throw new Error("No Keycloak is up. Start it with `scripts/engines up keycloak`, or leave this test out: `scripts/web browser without-keycloak`.");
  }
  return Object.fromEntries(ran.stdout.trim().split("\n").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
}

async function answer(response) {
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.url}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

/// A realm with one person, in the group `security`, and a client for the server.
async function makeRealm() {
  const { SA01_KEYCLOAK_URL: url, KEYCLOAK_ADMIN: username, KEYCLOAK_ADMIN_PASSWORD: password } = keycloak;
  const tokens = await answer(
    await fetch(`${url}/realms/master/protocol/openid-connect/token`, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "password", client_id: "admin-cli", username, password }),
    }),
  );
  const groups = {
    name: "groups",
    protocol: "openid-connect",
    protocolMapper: "oidc-group-membership-mapper",
    config: { "claim.name": "groups", "full.path": "true", "id.token.claim": "true", "access.token.claim": "true" },
  };
  const realm = {
    realm: REALM,
    enabled: true,
    groups: [{ name: "staff" }, { name: "security" }],
    clients: [
      {
        clientId: "soma",
        secret: SECRET,
        publicClient: false,
        protocol: "openid-connect",
        standardFlowEnabled: true,
        redirectUris: [`${install.base}/*`],
        protocolMappers: [groups],
        attributes: { "pkce.code.challenge.method": "S256", "post.logout.redirect.uris": "+" },
      },
    ],
    users: [
      {
        username: PERSON,
        enabled: true,
        email: "grace@example.org",
        emailVerified: true,
        firstName: "Grace",
        lastName: "Hopper",
        groups: ["/security"],
        credentials: [{ type: "password", value: PASSWORD, temporary: false }],
      },
    ],
  };
  await answer(
    await fetch(`${url}/admin/realms`, {
      method: "POST",
      headers: { authorization: `Bearer ${tokens.access_token}`, "content-type": "application/json" },
      body: JSON.stringify(realm),
    }),
  );
}

const theirs = (url) => url.href.startsWith(`${keycloak.SA01_KEYCLOAK_URL}/realms/${REALM}/`);

async function type(page, password) {
  await page.locator("#username").fill(PERSON);
  await page.locator("#password").fill(password);
  await page.locator("#kc-login").click();
}

test("somebody signs in at Keycloak's own page, has the roles of their group, and leaves both", async () => {
  const page = await install.page();
  await page.goto("/audit");
  const offered = page.getByRole("link", { name: "Continue with Keycloak" });
  await offered.click();
  await page.waitForURL(theirs);
  await type(page, "not the password");
  await page.getByText("Invalid username or password").waitFor();
  await type(page, PASSWORD);
  // Where they wanted to go is where they arrive, which is for auditors.
  await page.getByRole("heading", { name: "Audit" }).waitFor();
  assert.equal(new URL(page.url()).origin, install.base);

  const navigation = page.getByRole("navigation", { name: "Main" });
  assert.deepEqual(await navigation.getByRole("listitem").allInnerTexts(), ["People", "Roles & grants", "API keys", "Audit"]);
  const me = await call(page, "GET", "/me");
  assert.deepEqual([me.name, me.email, me.roles], ["Grace Hopper", "grace@example.org", ["security_auditor"]]);
  const row = page.getByRole("row").filter({ hasText: "session:create" }).first();
  assert.match(await row.innerText(), /Grace Hopper/);

  await navigation.getByRole("button", { name: /account$/ }).click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  // By way of Keycloak, whose session ends too: it asks again.
  await offered.waitFor();
  assert.equal(await page.evaluate(async () => (await fetch("/api/v2/me")).status), 401);
  await offered.click();
  await page.waitForURL(theirs);
  await page.locator("#password").waitFor();
  assert.deepEqual(page.faults, []);
});

test("what Keycloak refuses is said on the sign-in page", async () => {
  const page = await install.page();
  await page.goto("/api/v2/auth/oidc/callback?error=access_denied&state=unknown");
  await page.getByRole("alert").waitFor();
  assert.match(await page.getByRole("alert").innerText(), /Begin it again|Try again/);
  await page.getByRole("link", { name: "Continue with Keycloak" }).waitFor();
});
