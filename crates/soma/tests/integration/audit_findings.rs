//! The audit's findings, a test or more for each row of its table: none of them can come back unseen.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use domains::{App, AssembleError, DOMAINS, Domain, assemble};
use platform::config::SETTINGS;
use serde_json::json;
use testing::{ScriptedModel, model_server};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::harness::{Server, Settings, good_settings, run_in, text};

/// sysexits.h: EX_CONFIG.
const CONFIGURATION: Option<i32> = Some(78);

fn serve(folder: &Path, settings: &Settings) -> std::process::Output {
    run_in(folder, settings, &["serve", "--listen", "127.0.0.1:0"])
}

/// `soma serve` was refused before it listened or made anything.
fn refused(folder: &Path, settings: &Settings) -> String {
    let before = fs::read_dir(folder).unwrap().count();
    let output = serve(folder, settings);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), CONFIGURATION, "{said}");
    assert_eq!(text(&output.stdout), "", "it does not listen");
    assert_eq!(fs::read_dir(folder).unwrap().count(), before, "it makes no file");
    said
}

#[test]
fn critical_01_every_missing_setting_is_named_at_once_before_a_port_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), &Settings::new());
    for setting in SETTINGS {
        assert_eq!(said.contains(setting.name), setting.required, "{}: {said}", setting.name);
        assert!(!setting.required || setting.default.is_none(), "{} has a default", setting.name);
    }

    let mut some = good_settings(folder.path());
    some.remove("SECRET_KEY");
    some.remove("SA01_MODEL_URL");
    let said = refused(folder.path(), &some);
    assert!(said.contains("SECRET_KEY") && said.contains("SA01_MODEL_URL"), "{said}");
    assert!(said.contains("2 fault(s)"), "{said}");
    for value in some.values().filter(|value| value.as_str() != "embedded:" && value.len() > 2) {
        assert!(!said.contains(value.as_str()), "a value is printed: {said}");
    }
}

#[test]
fn critical_01_a_short_or_published_secret_key_is_refused_without_being_printed() {
    let folder = tempfile::tempdir().unwrap();
    for bad in [
        "too-short",
        "django-insecure-dev-key-change-in-prod-and-then-some",
        "changeme-changeme-changeme-changeme-changeme",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "0123456789abcdef0123456789abcdef0123456789abcdef",
    ] {
        let mut settings = good_settings(folder.path());
        settings.insert("SECRET_KEY".into(), bad.into());
        let said = refused(folder.path(), &settings);
        assert!(said.contains("SECRET_KEY:") && said.contains("1 fault(s)"), "{said}");
        assert!(!said.contains(bad), "{said}");
    }
}

#[test]
fn critical_02_a_missing_or_broken_fernet_key_is_refused_and_none_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = good_settings(folder.path());
    settings.remove("SA01_CRYPTO_FERNET_KEY");
    assert!(refused(folder.path(), &settings).contains("SA01_CRYPTO_FERNET_KEY: is required"));
    let broken = "bm90LWEta2V5LWF0LWFsbC1ub3QtYS1rZXktYXQtYWxs";
    settings.insert("SA01_CRYPTO_FERNET_KEY".into(), broken.into());
    let said = refused(folder.path(), &settings);
    assert!(said.contains("SA01_CRYPTO_FERNET_KEY: key 1") && !said.contains(broken), "{said}");
}

#[test]
fn critical_02_keygen_prints_two_dotenv_lines_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let keygen = || {
        let output = run_in(folder.path(), &Settings::new(), &["keygen"]);
        assert!(output.status.success() && output.stderr.is_empty());
        text(&output.stdout)
    };
    let (first, second) = (keygen(), keygen());
    let names: Vec<&str> = first.lines().map(|line| line.split_once('=').unwrap().0).collect();
    assert_eq!(names, ["SECRET_KEY", "SA01_CRYPTO_FERNET_KEY"]);
    assert!(first.lines().zip(second.lines()).all(|(one, other)| one != other), "each key is new");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    // What it printed, in a private file, is a configuration.
    let mut settings = good_settings(folder.path());
    settings.remove("SECRET_KEY");
    settings.remove("SA01_CRYPTO_FERNET_KEY");
    let dotenv = folder.path().join(".env");
    fs::write(&dotenv, first).unwrap();
    fs::set_permissions(&dotenv, fs::Permissions::from_mode(0o600)).unwrap();
    let migrated = run_in(folder.path(), &settings, &["migrate"]);
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
}

#[tokio::test]
async fn critical_02_an_administrator_is_made_without_a_password_or_a_printed_credential() {
    let server = Server::installed(&[]);
    let made = server.run(&["admin", "create", "--email", "grace@example.org"]);
    assert!(made.status.success());
    assert_eq!((text(&made.stdout).as_str(), text(&made.stderr).lines().count()), ("", 1));
    assert!(!server.folder().join(".env").exists());
}

#[test]
fn high_03_a_dotenv_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dotenv = folder.path().join(".env");
    fs::write(&dotenv, "SA01_LOG=info\n").unwrap();
    for mode in [0o640, 0o604, 0o660, 0o644] {
        fs::set_permissions(&dotenv, fs::Permissions::from_mode(mode)).unwrap();
        let said = refused(folder.path(), &good_settings(folder.path()));
        assert!(said.contains(".env: may be read by others"), "{said}");
    }
}

fn files_under(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_under(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn high_03_no_secret_is_in_the_data_folder_or_in_the_logs_after_work_of_every_kind() {
    let model_key = "sk-canary-4f1c9a77b2e04d6f";
    let mut server = Server::installed(&[("SA01_MODEL_API_KEY", model_key), ("SA01_LOG", "trace")]);
    let options = model_server::Options { keys: vec![model_key.into()], ..Default::default() };
    let model = ScriptedModel::start_with(options).unwrap();
    server.settings.insert("SA01_MODEL_URL".into(), model.base_url());
    server.restart().await;
    let admin = server.api();
    let made = admin.post("/api/v2/api-keys", json!({ "name": "canary" })).await.expect(201);
    let api_key = made["key"].as_str().unwrap();
    let api = admin.with_key(api_key);
    let conversation = api.conversation().await;
    let program = json!({ "language": "bash", "code": "env; cat /proc/self/environ /proc/1/environ" });
    let turn = api.turn(&conversation, &format!("[[tool code_execute {program}]] [[say done]]")).await;
    assert_eq!(turn.answer(), "done", "the model's key was let in");
    for text in ["[[status 401]]", "[[status 500]]", "[[garbage]]"] {
        api.turn(&conversation, text).await;
    }
    api.with_key(&format!("{api_key}x")).get("/api/v2/me").await;

    let secrets = [
        ("SECRET_KEY", server.settings["SECRET_KEY"].as_str()),
        ("SA01_CRYPTO_FERNET_KEY", server.settings["SA01_CRYPTO_FERNET_KEY"].as_str()),
        ("the model's key", model_key),
        ("an API key", &api_key["soma_".len() + 8..]),
    ];
    let mut places = vec![("the log".to_owned(), server.log().into_bytes())];
    for file in files_under(&server.data()) {
        places.push((file.display().to_string(), fs::read(&file).unwrap()));
    }
    assert!(places.len() > 2 && places[0].1.len() > 1000, "there is something to look through");
    for (place, bytes) in &places {
        for (name, secret) in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{name} is in {place}");
        }
    }
    let result = turn.one("tool.result").to_string();
    assert!(secrets.iter().all(|(_, secret)| !result.contains(secret)), "a program sees no secret");
}

#[tokio::test]
async fn high_03_the_data_folder_and_the_database_are_the_operators_own() {
    let folder = tempfile::tempdir().unwrap();
    let settings = good_settings(folder.path());
    assert!(run_in(folder.path(), &settings, &["migrate"]).status.success());
    let mode = fs::metadata(folder.path().join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn finding_3_1_the_gateway_has_no_orchestrator_and_the_domains_are_these() {
    let names: Vec<&str> = DOMAINS.iter().map(|domain| domain.name).collect();
    assert_eq!(
        names,
        [
            "tenants",
            "identity",
            "permissions",
            "agents",
            "models",
            "conversations",
            "tools",
            "approvals",
            "audit",
            "usage",
            "operations",
            "openai"
        ]
    );
    let paths = assemble(DOMAINS).unwrap().openapi.paths.paths;
    assert!(paths.keys().all(|path| !path.contains("orchestrat") && !path.contains("workflow")));
}

#[test]
fn finding_3_2_every_setting_is_declared_once_and_the_registry_shows_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let settings = good_settings(folder.path());
    let output = run_in(folder.path(), &settings, &["registry"]);
    assert!(output.status.success());
    let listed = text(&output.stdout);
    let names: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let declared: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(names, declared);
    let mut unique = declared.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), declared.len());
    for name in ["SECRET_KEY", "SA01_CRYPTO_FERNET_KEY", "SA01_DB_DSN"] {
        assert!(!listed.contains(&settings[name]), "{name}");
        let line = listed.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains("required") && line.contains(" set "), "{line}");
    }
}

/// Two domains of a made-up program.
mod made_up {
    use super::*;

    #[utoipa::path(get, path = "/one/thing", responses((status = 200, body = String)))]
    async fn get_thing() {}
    #[utoipa::path(get, path = "/two/thing", responses((status = 200, body = String)))]
    async fn elsewhere() {}

    pub fn one() -> OpenApiRouter<Arc<App>> {
        OpenApiRouter::new().routes(routes!(get_thing))
    }

    pub fn two() -> OpenApiRouter<Arc<App>> {
        OpenApiRouter::new().routes(routes!(elsewhere))
    }

    pub fn none() -> OpenApiRouter<Arc<App>> {
        OpenApiRouter::new()
    }
}

fn domain(
    name: &'static str,
    prefixes: &'static [&'static str],
    routes: fn() -> OpenApiRouter<Arc<App>>,
) -> Domain {
    Domain { name, prefixes, routes, migrations: &[] }
}

#[test]
fn finding_3_3_two_domains_with_one_prefix_or_one_route_are_an_error_before_anything_starts() {
    let one = domain("one", &["/one"], made_up::one);
    assert!(assemble(&[one, domain("two", &["/two"], made_up::two)]).is_ok());
    let clash = |other: Domain| assemble(&[one, other]).map(|_| ()).unwrap_err();
    assert_eq!(clash(domain("two", &["/one"], made_up::none)), AssembleError::Prefix("one", "two", "/one"));
    let inside = domain("two", &["/one/thing"], made_up::none);
    assert_eq!(clash(inside), AssembleError::Prefix("one", "two", "/one/thing"));
    assert_eq!(
        clash(domain("two", &["/two"], made_up::one)),
        AssembleError::Outside("two", "/one/thing".into())
    );
    assert_eq!(
        clash(domain("two", &["/onerous"], made_up::two)),
        AssembleError::Outside("two", "/two/thing".into())
    );
    let alone = domain("one", &["/two"], made_up::one);
    assert_eq!(
        assemble(&[alone]).map(|_| ()).unwrap_err(),
        AssembleError::Outside("one", "/one/thing".into())
    );
}

#[tokio::test]
async fn finding_3_4_a_route_and_a_tool_call_are_judged_by_one_policy() {
    let server = Server::start().await;
    let admin = server.api();
    let nobody = server.member("nobody@example.org", &[]).await;
    let agent = json!({ "slug": "bare", "name": "Bare" });
    admin.post("/api/v2/agents", agent).await.expect(201);
    let conversation = admin.conversation_with("bare").await;
    let turn = admin.turn(&conversation, "[[tool timestamp]] [[say x]]").await;
    let by_tool = &turn.one("policy.decision")["revision"];

    let refused = nobody.get("/api/v2/agents").await;

    assert_eq!(refused.problem(403), "denied");
    assert_eq!(&refused.body["policy_revision"], by_tool);
    let audit = admin.get("/api/v2/audit").await.expect(200);
    let entries = audit["items"].as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["action"] == "tool:execute" && entry["effect"] == "deny"));
    assert!(entries.iter().all(|entry| entry["policy_revision"] == *by_tool), "{audit}");
}
