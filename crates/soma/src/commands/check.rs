//! `soma check`: the common faults of an install, a line each, as they stand in this one.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::ExitCode};

use domains::DOMAINS;
use platform::config::{Config, EventsChoice, ModelChoice, SETTINGS, WorkflowChoice};

use super::{Failure, config};
use crate::gateway;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Also say what would be refused in production.
    #[arg(long)]
    deploy: bool,
}

/// One line: what was looked at, and what is wrong with it if something is.
struct Line {
    finding: &'static str,
    problem: Option<String>,
}

fn line(finding: &'static str, problem: Option<String>) -> Line {
    Line { finding, problem }
}

pub async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = config().await;
    let mut lines = audit(&config);
    if arguments.deploy {
        lines.extend(deploy(config.as_ref().ok()).await);
    }
    let mut failed = 0;
    for Line { finding, problem } in &lines {
        match problem {
            None => println!("ok    {finding}"),
            Some(problem) => {
                failed += 1;
                println!("FAIL  {finding}: {problem}");
            }
        }
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Failed(format!("{failed} of {} checks failed", lines.len())))
}

fn audit(config: &Result<Config, Failure>) -> Vec<Line> {
    let fault_of = |name: &str| match config {
        Err(Failure::Configuration(text) | Failure::Failed(text)) => {
            text.lines().find(|line| line.trim_start().starts_with(name)).map(|line| line.trim().to_owned())
        }
        Ok(_) => None,
    };
    let defaulted = SETTINGS.iter().find(|setting| setting.secret && setting.default.is_some());
    let routes = domains::assemble(DOMAINS).err().map(|error| error.to_string());
    let policy = platform::policy::Policy::load().err().map(|error| error.to_string());
    let other = match config {
        Err(Failure::Configuration(text) | Failure::Failed(text)) => Some(text.replace('\n', " ")),
        Ok(_) => None,
    };
    vec![
        line("CRITICAL-01 SECRET_KEY is given, long and no placeholder", fault_of("SECRET_KEY")),
        line("CRITICAL-02 the Fernet keys are given and valid", fault_of("SA01_CRYPTO_FERNET_KEY")),
        line("CRITICAL-01 no secret has a default", defaulted.map(|setting| setting.name.to_owned())),
        line("HIGH-03 no .env that others may read", fault_of(".env").or_else(readable_env)),
        line("3.2 one configuration, without faults", other),
        line("3.3 every route is mounted once, under its domain's prefix", routes),
        line("3.4 one policy, and it loads", policy),
    ]
}

async fn deploy(config: Option<&Config>) -> Vec<Line> {
    let engines = config.and_then(|config| {
        let embedded = matches!(config.workflows.choice, WorkflowChoice::Embedded);
        embedded.then(|| "workflows are embedded: one process serves all, and an update stops it".to_owned())
    });
    let model = config.and_then(|config| match config.model.choice {
        ModelChoice::Embedded => {
            Some("the embedded model only talks: name a server in SA01_MODEL_URL".to_owned())
        }
        ModelChoice::Server(_) => None,
    });
    let tls = config.and_then(|config| match &config.gateway.tls {
        Some(files) => gateway::tls_problem(files),
        None => (!config.listen.ip().is_loopback() && config.gateway.trusted_proxies.is_empty()).then(|| {
            format!(
                "{} is not loopback and speaks no TLS: set SA01_TLS_CERT and SA01_TLS_KEY, or put a proxy with TLS \
                 before it and name it in SA01_TRUSTED_PROXIES",
                config.listen
            )
        }),
    });
    let links = config.and_then(|config| {
        let url = &config.sign_in.public_url;
        let local = url
            .host_str()
            .is_some_and(|host| host == "localhost" || host.starts_with("127.") || host == "[::1]");
        (url.scheme() != "https" && !local).then(|| {
            format!("SA01_PUBLIC_URL is {url}: browsers send this server's cookies over HTTPS alone")
        })
    });
    let kafka = config.and_then(kafka_problem);
    // Tried, not guessed: what is missing is named, as in a pod without user namespaces.
    let code = sandbox::Sandbox::probe().await.err().map(|missing| missing.to_string());
    let env = Path::new(".env").exists().then(|| {
        "settings lie in a plain .env file: secrets belong in Vault (VAULT_ADDR), or the environment"
            .to_owned()
    });
    vec![
        line("deploy: engines outside the process", engines),
        line("deploy: a model that can call tools", model),
        line(
            "deploy: TLS with files that can be used, or a proxy before it: on loopback, or one that is named",
            tls,
        ),
        line("deploy: links and cookies over HTTPS", links),
        line("deploy: no password in the clear on its way to Kafka", kafka),
        line("deploy: code that a model wrote can be run, where this is or will be a worker for tools", code),
        line("deploy: secrets from Vault or the environment, not from a file", env),
        line(
            "deploy: a build without test switches",
            cfg!(feature = "faults").then(|| "built with `faults`".to_owned()),
        ),
    ]
}

fn kafka_problem(config: &Config) -> Option<String> {
    let EventsChoice::Kafka(kafka) = &config.events else { return None };
    let sent = kafka.tls.is_none() && kafka.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == "PLAIN");
    sent.then(|| {
        "SA01_KAFKA_SASL_MECHANISM PLAIN sends it as it is: set SA01_KAFKA_SECURITY_PROTOCOL to sasl_ssl, or use SCRAM"
            .to_owned()
    })
}

fn readable_env() -> Option<String> {
    let mode = fs::metadata(".env").ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| format!("mode {:04o}", mode & 0o7777))
}
