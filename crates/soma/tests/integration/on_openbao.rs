//! Settings from Vault, on a real OpenBao: read at the start, watched over, and nothing done with what was taken back.
//!
//! `scripts/engines` starts a server of each test's own. A test that can't have one fails.

use std::{fs, path::Path};

use axum::{Json, Router, routing::post};
use data_encoding::BASE64URL_NOPAD;
use platform::{
    database::{Database, Sql as _},
    params,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::engines;

use crate::{
    harness::{ADMIN, PASSWORD, Server, Settings, every_file, run_in, text, until},
    second_factor::{code, login, set_up},
};

/// The settings that are in Vault.
pub const KEYS: [&str; 2] = ["SECRET_KEY", "SA01_CRYPTO_FERNET_KEY"];
/// The one that operators are given.
const POLICY: &str = include_str!("../../../../deploy/vault/policy.hcl");
/// What it takes to use a key of Vault's.
const TRANSIT_POLICY: &str = include_str!("../../../../deploy/vault/transit.hcl");
const TRANSIT_KEY: &str = "SA01_CRYPTO_TRANSIT_KEY";
/// Of tokens in tests that end. Long enough for a start on a busy machine.
const SHORT: &str = "token_ttl=8s";

/// A server of a test's own, with a folder for what it hands out. Gone with it.
pub struct Bao {
    name: String,
    folder: TempDir,
    address: String,
}

impl Bao {
    pub fn start(label: &str) -> Self {
        let name = format!("openbao-{label}-{}", std::process::id());
        let address = engines(&["up", "openbao", "--name", &name]).setting("VAULT_ADDR").to_owned();
        let bao = Self { name, folder: tempfile::tempdir().unwrap(), address };
        let policy = bao.keep("policy.hcl", POLICY);
        bao.run(&["policy", "write", "soma", &policy]);
        bao
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    fn tell(&self, action: &str) {
        engines(&[action, "openbao", "--name", &self.name]);
    }

    /// What `bao` prints.
    pub fn run(&self, arguments: &[&str]) -> String {
        let client = ["client", "openbao", "--name", &self.name, "--"];
        engines(&[&client[..], arguments].concat()).text().trim().to_owned()
    }

    /// A file with this in it.
    fn keep(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn token_file(&self) -> String {
        let token = self.run(&["token", "create", "-policy=soma", "-ttl=1h", "-field=token"]);
        self.keep("token", &token)
    }

    /// An install whose keys are in Vault alone, and who it is there.
    fn install(&self, who: &[(&str, &str)]) -> Server {
        let mut server = Server::installed(&[("VAULT_ADDR", &self.address)]);
        let keys = KEYS.map(|name| format!("{name}={}", server.settings.remove(name).unwrap()));
        self.run(&["kv", "put", "-mount=secret", "soma", &keys[0], &keys[1]]);
        server.settings.extend(who.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        server
    }

    /// A role of an application, with these times of its tokens: its id, and the file of its secret.
    pub fn role(&self, times: &[&str]) -> (String, String) {
        self.run(&["auth", "enable", "approle"]);
        self.run(&[&["write", "auth/approle/role/soma", "token_policies=soma"], times].concat());
        let role = self.run(&["read", "-field=role_id", "auth/approle/role/soma/role-id"]);
        let secret_id = self.run(&["write", "-f", "-field=secret_id", "auth/approle/role/soma/secret-id"]);
        (role, self.keep("secret-id", &secret_id))
    }

    /// The same, by a role whose tokens are short.
    fn install_by_role(&self) -> Server {
        let (role, file) = self.role(&[SHORT, "token_max_ttl=16s"]);
        self.install(&[("VAULT_ROLE_ID", &role), ("VAULT_SECRET_ID_FILE", &file)])
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        engines(&["down", "openbao", "--name", &self.name, "--forget"]);
    }
}

async fn vault_is(server: &Server, problem: &str) {
    let expected = if problem == "ok" { 200 } else { 503 };
    until(&format!("vault is {problem}"), async || {
        let ready = server.api().get("/health/ready").await;
        (ready.status == expected && ready.body["engines"]["vault"] == problem).then_some(())
    })
    .await;
}

/// That the process ends by itself, as failed, and says why.
async fn check_ends(server: &mut Server, why: &str) {
    let status = server.ended().await;
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(server.log().contains("no right to its secrets"), "{}", server.log());
    assert!(server.log().contains(why), "{}", server.log());
}

fn check_refused(settings: &Settings, folder: &Path, why: &str) {
    let output = run_in(folder, settings, &["serve", "--listen=127.0.0.1:0"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains(why), "{said}");
}

#[tokio::test]
async fn keys_that_are_in_vault_alone_work_and_are_written_nowhere() {
    let bao = Bao::start("keys");
    let file = bao.token_file();
    let mut server = bao.install(&[("VAULT_TOKEN_FILE", &file)]);
    server.restart().await;
    vault_is(&server, "ok").await;
    let conversation = server.api().conversation().await;
    assert_eq!(server.api().turn(&conversation, "[[say hello]]").await.answer(), "hello");
    assert!(server.run(&["check"]).status.success());

    let values = bao.run(&["kv", "get", "-mount=secret", "-format=json", "soma"]);
    let values: Value = serde_json::from_str(&values).unwrap();
    let mut secrets = vec![fs::read_to_string(&file).unwrap().trim().to_owned()];
    secrets.extend(KEYS.map(|name| values["data"]["data"][name].as_str().unwrap().to_owned()));
    let mut files = 0;
    every_file(server.folder(), &mut |path, bytes| {
        files += 1;
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "a secret is in {}", path.display());
        }
    });
    assert!(files > 1, "there was nothing to look into");
}

#[tokio::test]
async fn without_vault_there_is_no_start_and_later_it_is_not_ready_until_vault_is_back() {
    let bao = Bao::start("away");
    let file = bao.token_file();
    let mut server = bao.install(&[("VAULT_TOKEN_FILE", &file)]);
    bao.run(&["operator", "seal"]);
    check_refused(&server.settings, server.folder(), "VAULT_ADDR: Vault is sealed");
    bao.tell("kill");
    check_refused(&server.settings, server.folder(), "VAULT_ADDR: Vault can't be called");
    bao.tell("up");

    server.restart().await;
    let conversation = server.api().conversation().await;
    bao.run(&["operator", "seal"]);
    vault_is(&server, "sealed").await;
    bao.tell("kill");
    vault_is(&server, "does not answer").await;
    assert_eq!(server.api().turn(&conversation, "[[say still here]]").await.answer(), "still here");
    bao.tell("up");
    vault_is(&server, "ok").await;
}

#[tokio::test]
async fn short_tokens_are_renewed_and_replaced_and_who_loses_the_role_ends() {
    let bao = Bao::start("role");
    let mut server = bao.install_by_role();
    server.restart().await;
    // No token of the role lasts longer than 16 seconds, so a second one says that the first was replaced.
    let tokens = || bao.run(&["list", "-format=json", "auth/token/accessors"]).matches('"').count() / 2;
    let first = tokens();
    until("there is another token", async || (tokens() > first).then_some(())).await;
    vault_is(&server, "ok").await;

    bao.run(&["delete", "auth/approle/role/soma"]);
    bao.run(&["lease", "revoke", "-prefix", "-force", "auth/approle/login"]);
    check_ends(&mut server, "Vault refuses the login").await;
}

#[tokio::test]
async fn when_the_time_of_the_secrets_is_over_and_vault_is_away_the_program_ends() {
    let bao = Bao::start("time");
    let mut server = bao.install_by_role();
    server.restart().await;
    bao.tell("kill");
    check_ends(&mut server, "the time of the secrets from Vault is over").await;
}

#[tokio::test]
async fn a_secret_that_is_deleted_ends_the_program() {
    let bao = Bao::start("deleted");
    let mut server = bao.install_by_role();
    server.restart().await;
    bao.run(&["kv", "delete", "-mount=secret", "soma"]);
    check_ends(&mut server, "Vault has no secret at secret/data/soma").await;
}

/// What the database has of the authenticator, as it has it.
async fn sealed(server: &Server) -> String {
    let database = Database::open(&server.settings["SA01_DB_DSN"].parse().unwrap()).await.unwrap();
    let row = database.read().one("SELECT sealed FROM totp_devices", params![]).await.unwrap();
    row.unwrap().text("sealed").unwrap()
}

#[tokio::test]
async fn a_key_that_stays_in_vault_encrypts_in_place_of_the_fernet_keys() {
    let bao = Bao::start("transit");
    bao.run(&["secrets", "enable", "transit"]);
    bao.run(&["write", "-f", "transit/keys/soma"]);
    let file = bao.token_file();
    let mut server = bao.install(&[("VAULT_TOKEN_FILE", &file)]);
    server.restart().await;
    let api = server.api().without_key();
    let body = json!({ "token": server.link(ADMIN), "password": PASSWORD });
    let redeemed = api.post("/api/v2/auth/links/redeem", body).await;
    let ada = api.in_session(&redeemed);
    let (secret, codes) = set_up(&ada).await;

    let (folder, key) = (server.folder().to_owned(), |key: &str| (TRANSIT_KEY.to_owned(), key.to_owned()));
    server.kill().await;
    for (wrong, why) in
        [("transit/soma", "Vault refuses the encryption"), ("soma", "expected the engine's mount")]
    {
        server.settings.extend([key(wrong)]);
        check_refused(&server.settings, &folder, &format!("{TRANSIT_KEY}: {why}"));
    }
    let policy = bao.keep("both.hcl", &format!("{POLICY}{TRANSIT_POLICY}"));
    bao.run(&["policy", "write", "soma", &policy]);
    server.settings.extend([key("transit/soma")]);
    server.restart().await;
    assert_eq!(login(&server, Some(&code(&secret, 1))).await.status, 200, "what a Fernet key has encrypted");
    assert!(!sealed(&server).await.starts_with("vault:"));

    let ada = server.api().without_key().in_session(&redeemed);
    ada.post("/api/v2/me/totp/disable", json!({ "code": codes[0] })).await.expect(204);
    let (secret, _) = set_up(&ada).await;
    assert!(sealed(&server).await.starts_with("vault:v1:"));
    bao.run(&["write", "-f", "transit/keys/soma/rotate"]);
    // Without the Fernet keys, which nothing is left of.
    let kept = bao.run(&["kv", "get", "-mount=secret", "-field=SECRET_KEY", "soma"]);
    bao.run(&["kv", "put", "-mount=secret", "soma", &format!("SECRET_KEY={kept}")]);
    server.restart().await;
    bao.tell("kill");
    let away = login(&server, Some(&code(&secret, 1))).await;
    assert_eq!(away.problem(503), "vault_unavailable");
    bao.tell("up");
    assert_eq!(login(&server, Some(&code(&secret, 1))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_of_kubernetes_gets_its_secrets() {
    // What stands for Kubernetes: it knows one account by one token.
    let claims = json!({ "kubernetes.io": { "namespace": "agents", "serviceaccount": { "name": "soma", "uid": "1" } },
        "sub": "system:serviceaccount:agents:soma", "aud": ["vault"], "nbf": 1, "iat": 1, "exp": 4_102_444_800_u64 });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let token =
        format!("{}.{}.{}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(&claims), part(&json!("x")));
    let known = token.clone();
    let review = post(async move |Json(asked): Json<Value>| {
        let good = asked["spec"]["token"] == known.as_str();
        let user = json!({ "username": "system:serviceaccount:agents:soma", "uid": "1" });
        Json(json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "status": { "authenticated": good, "user": user, "audiences": ["vault"] } }))
    });
    let router = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", review);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("kubernetes_host=http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let bao = Bao::start("kubernetes");
    let file = bao.keep("service-account", &token);
    let own = [("VAULT_KUBERNETES_ROLE", "soma"), ("VAULT_KUBERNETES_TOKEN_FILE", file.as_str())];
    let mut server = bao.install(&own);
    tokio::task::block_in_place(|| {
        bao.run(&["auth", "enable", "kubernetes"]);
        let reviewer = format!("token_reviewer_jwt={token}");
        // Asked for, though what stands here speaks no TLS.
        let authority = rcgen::generate_simple_self_signed(vec!["kubernetes".into()]).unwrap();
        let authority = format!("kubernetes_ca_cert={}", authority.cert.pem());
        let alone = "disable_local_ca_jwt=true";
        bao.run(&["write", "auth/kubernetes/config", &host, &reviewer, &authority, alone]);
        let bound = ["bound_service_account_names=soma", "bound_service_account_namespaces=agents"];
        let role = ["write", "auth/kubernetes/role/soma", "token_policies=soma", "token_ttl=1h"];
        bao.run(&[&role[..], &bound[..]].concat());
    });
    server.restart().await;
    vault_is(&server, "ok").await;

    bao.keep("service-account", &token.replace("eyJ", "eyK"));
    let (settings, folder) = (server.settings.clone(), server.folder().to_owned());
    server.kill().await;
    let refused =
        tokio::task::spawn_blocking(move || check_refused(&settings, &folder, "Vault refuses the login"));
    refused.await.unwrap();
}
