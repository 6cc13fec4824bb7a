//! Where secrets may come from: the environment, a private `.env`, or Vault. All keep the same promises.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::{
    harness::{ADMIN, Api, Server, Settings, run_in, text},
    on_openbao::{Bao, KEYS},
};

/// What shells, files and Vault's client might each read in a way of their own.
const SECRET: &str = r#"k3y "with" 'quotes', $HOME, a \ and # = ; @ % in it"#;
const OTHER: &str = "another-k3y_that-is-long-enough-4-HMAC";
const WEAK: &str = "hunter2";

/// A source, for an install in this folder: takes these secrets in place of all that it had, and says what the environment
/// has in their stead.
type Put<'a> = &'a dyn Fn(&Path, &Settings) -> Settings;

async fn promises(put: Put<'_>) {
    let mut server = Server::installed(&[("SECRET_KEY", SECRET)]);
    let made = server.run(&["apikey", "create", "--email", ADMIN]);
    let key = text(&made.stdout).trim().to_owned();
    let folder = server.folder().to_owned();
    let mut rest = server.settings.clone();
    let secrets: Settings = KEYS.iter().filter_map(|name| rest.remove_entry(*name)).collect();
    let given = |changed: Option<&str>| {
        let mut secrets = secrets.clone();
        match changed {
            Some(value) => secrets.insert("SECRET_KEY".to_owned(), value.to_owned()),
            None => secrets.remove("SECRET_KEY"),
        };
        let mut settings = rest.clone();
        settings.extend(put(&folder, &secrets));
        settings
    };

    // A secret counts to the letter: by another one this key's hash would not be found.
    server.settings = given(Some(SECRET));
    server.restart().await;
    let status = async |server: &Server| Api::new(server.base(), Some(&key)).get("/api/v2/me").await.status;
    assert_eq!(status(&server).await, 200);
    let checked = server.run(&["check"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
    for secret in secrets.values() {
        assert!(!server.log().contains(secret.as_str()) && !text(&checked.stdout).contains(secret.as_str()));
    }

    // It is read anew at each start.
    server.settings = given(Some(OTHER));
    server.restart().await;
    assert_eq!(status(&server).await, 401);
    server.kill().await;

    for (changed, why) in [(None, "SECRET_KEY: is required and not set"), (Some(WEAK), "SECRET_KEY: ")] {
        let refused = run_in(&folder, &given(changed), &["serve", "--listen=127.0.0.1:0"]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(78), "{said}");
        assert!(said.contains(why) && !said.contains(WEAK), "{said}");
    }
}

#[tokio::test]
async fn the_environment() {
    promises(&|_, secrets| secrets.clone()).await;
}

#[tokio::test]
async fn a_private_file() {
    promises(&|folder, secrets| {
        let lines: Vec<String> = secrets.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let file = folder.join(".env");
        fs::write(&file, lines.concat()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Settings::new()
    })
    .await;
}

fn in_vault(bao: &Bao, who: &[(&str, &str)], secrets: &Settings) -> Settings {
    let values: Vec<String> = secrets.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut put = vec!["kv", "put", "-mount=secret", "soma"];
    put.extend(values.iter().map(String::as_str));
    bao.run(&put);
    let all = who.iter().copied().chain([("VAULT_ADDR", bao.address())]);
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn vault_by_a_token_on_openbao() {
    let bao = Bao::start("source-token");
    let file = bao.token_file();
    promises(&|_, secrets| in_vault(&bao, &[("VAULT_TOKEN_FILE", &file)], secrets)).await;
}

#[tokio::test]
async fn vault_by_a_role_on_openbao() {
    let bao = Bao::start("source-role");
    let (role, secret_id) = bao.role(&["token_ttl=1h"]);
    let who = [("VAULT_ROLE_ID", role.as_str()), ("VAULT_SECRET_ID_FILE", secret_id.as_str())];
    promises(&|_, secrets| in_vault(&bao, &who, secrets)).await;
}
