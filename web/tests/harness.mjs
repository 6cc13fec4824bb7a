// A real `soma serve` with a model that follows a script, and a real browser. Nothing here is a stand-in.
import { spawn, spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

/// Longest wait for anything.
export const PATIENCE_MS = 30_000;
export const ADMIN = "ada@example.org";
export const PASSWORD = "correct horse battery staple";

const SOMA = process.env.SOMA_BIN ?? "soma";
const SERVERS = process.env.SERVERS_BIN ?? "soma-testing-servers";
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/// The first line of a process that this accepts.
function firstLine(child, accept, what) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what} did not start within ${PATIENCE_MS} ms`)), PATIENCE_MS);
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${what} ended with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = accept(line);
      if (found === undefined) return;
      clearTimeout(timer);
      resolve(found);
    });
  });
}

export class Install {
  #folder = mkdtempSync(join(tmpdir(), "soma-web-"));
  #servers;
  #server;
  #browser;
  base = "";
  settings = {};
  model = "";

  static async start() {
    const install = new Install();
    install.#servers = spawn(SERVERS, [], { stdio: ["pipe", "pipe", "inherit"] });
    const urls = await firstLine(install.#servers, (line) => JSON.parse(line), "the scripted model");
    install.model = urls.model;
    const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^SA01_|^SECRET_KEY$/.test(name)));
    const keys = spawnSync(SOMA, ["keygen"], { env: clean, encoding: "utf8" }).stdout;
    const data = join(install.#folder, "data");
    install.settings = {
      ...clean,
      ...Object.fromEntries(keys.split("\n").filter(Boolean).map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)])),
      SA01_DB_DSN: `sqlite://${data}/soma.db`,
      SA01_DATA_DIR: data,
      SA01_REDIS_URL: "embedded:",
      SA01_KAFKA_BOOTSTRAP_SERVERS: "embedded:",
      SA01_TEMPORAL_HOST: "embedded:",
      SA01_OPA_URL: "embedded:",
      SA01_MODEL_URL: urls.model,
      SA01_MODEL_NAME: "scripted",
      SA01_MODEL_INPUT_PRICE: "1",
      SA01_MODEL_OUTPUT_PRICE: "2",
    };
    install.run("migrate");
    install.run("admin", "create", "--email", ADMIN);
    await install.serve();
    return install;
  }

  /// Another command of the program on this install; what it printed.
  run(...command) {
    const ran = spawnSync(SOMA, command, { env: this.settings, cwd: this.#folder, encoding: "utf8" });
    if (ran.status !== 0) throw new Error(`soma ${command.join(" ")}: ${ran.stderr}`);
    return ran.stdout.trim();
  }

  /// Starts the server, at the address where it was before.
  async serve() {
    const listen = this.base ? new URL(this.base).host : "127.0.0.1:0";
    this.#server = spawn(SOMA, ["serve", "--listen", listen], {
      env: this.settings,
      cwd: this.#folder,
      stdio: ["ignore", "pipe", process.env.SOMA_LOG ? "inherit" : "ignore"],
    });
    this.base = await firstLine(this.#server, (line) => /^listening on (.*)/.exec(line)?.[1], "soma serve");
  }

  /// SIGKILL, and the end of it.
  async kill() {
    const gone = new Promise((resolve) => this.#server.on("exit", resolve));
    this.#server.removeAllListeners("exit");
    this.#server.on("exit", () => {});
    this.#server.kill("SIGKILL");
    await Promise.race([gone, new Promise((resolve) => this.#server.on("exit", resolve))]);
  }

  /// Lets an answer that the model holds back go on.
  async release() {
    await fetch(new URL("/release", this.model), { method: "POST" });
  }

  /// The link by which somebody sets a password, at this server's address.
  link(email) {
    const url = new URL(this.run("admin", "link", "--email", email));
    return `${this.base}${url.pathname}${url.hash}`;
  }

  async browser() {
    this.#browser ??= await chromium.launch({
      executablePath: CHROMIUM,
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    });
    return this.#browser;
  }

  /// A page of a browser that knows nothing yet. What goes wrong in it is kept in `page.faults`.
  async page(options = {}) {
    const context = await (await this.browser()).newContext({ baseURL: this.base, ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    const page = await context.newPage();
    page.faults = [];
    page.on("pageerror", (error) => page.faults.push(String(error)));
    page.on("console", (message) => {
      if (/Content Security Policy/i.test(message.text())) page.faults.push(message.text());
    });
    return page;
  }

  /// Signs somebody in by a one-time link, as at the first time.
  async signIn(page, email = ADMIN) {
    await page.goto(this.link(email));
    const name = page.getByLabel("Your name");
    await page.getByLabel("Password").waitFor();
    if (await name.count()) await name.fill("Ada Lovelace");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("navigation", { name: "Main" }).waitFor({ state: "attached" });
  }

  async stop() {
    await this.#browser?.close();
    this.#server?.removeAllListeners("exit");
    this.#server?.kill("SIGKILL");
    this.#servers?.removeAllListeners("exit");
    this.#servers?.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/// Sends a message in the conversation that is open, or begins one.
export async function say(page, text) {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.getByRole("button", { name: "Send", exact: true }).click();
}

/// A request with the page's own session.
export function call(page, method, path, body) {
  return page.evaluate(
    async ([method, path, body]) => {
      const init = { method, headers: { "content-type": "application/json" } };
      if (body !== undefined) init.body = JSON.stringify(body);
      const response = await fetch(`/api/v2${path}`, init);
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return text ? JSON.parse(text) : null;
    },
    [method, path, body],
  );
}

/// The code of an authenticator (RFC 6238) for this secret, `steps` periods from now.
export function totp(secret, steps = 0) {
  const bits = [...secret.replace(/=+$/, "")].map((letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const hash = createHmac("sha1", key).update(counter).digest();
  const at = hash[19] & 15;
  return String((hash.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}
