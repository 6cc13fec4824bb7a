//! Two gateways, two workers for turns, two for tools and one for events, on real PostgreSQL, Redis, Kafka, Temporal,
//! OPA and OpenBao servers, whose data is on disk. The keys are in OpenBao and nowhere else.

use std::path::Path;

use super::{
    engine::Server,
    install::Installation,
    topology::{APART, Engine, Ground, Role, Topology},
};

/// Workers first, so that a gateway that is ready has somebody to work for it.
const ROLES: [Role; 7] =
    [Role::Events, Role::Tools, Role::Tools, Role::Turns, Role::Turns, Role::Gateway, Role::Gateway];
/// How long the program's word at OpenBao counts if it is not renewed.
const TOKEN_LIFE: &str = "2h";
const VAULT_POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/vault/policy.hcl");

pub(super) async fn install(ground: &Ground<'_>) -> Topology {
    let bundle = ground.folder.join("policy");
    write_bundle(ground.soma, &bundle).await;
    let temporal = ground.folder.join("temporal.db");
    let mut engines = Vec::new();
    for engine in Engine::ALL {
        let file = match engine {
            Engine::Temporal => Some(temporal.as_path()),
            Engine::Opa => Some(bundle.as_path()),
            _ => None,
        };
        let mut server = Server::new(engine, file);
        server.start().await;
        engines.push(server);
    }
    let mut settings: Vec<_> = engines.iter().map(Server::setting).collect();
    let queue = |kind: &str| format!("chaos-{kind}-{}", std::process::id());
    settings.push(("SA01_TEMPORAL_CONVERSATION_QUEUE".to_owned(), queue("turns")));
    settings.push(("SA01_TEMPORAL_TOOLS_QUEUE".to_owned(), queue("tools")));
    let vault = engines.iter().find(|server| server.engine == Engine::Openbao).expect("it was started");
    let token_file = ground.folder.join("vault-token");
    let installed = Installation::make(ground, settings, |keys| keep(vault, keys, &token_file)).await;
    Topology::new("cluster", APART, installed, engines, &ROLES)
}

/// The policy of the program under test, for its OPA server.
async fn write_bundle(soma: &Path, folder: &Path) {
    let written = tokio::process::Command::new(soma).args(["policy", "bundle"]).arg(folder).output().await;
    assert!(written.expect("the program can be run").status.success(), "the policy can be written");
}

/// Puts keys into OpenBao, and lets the program read them. Answers the settings that say how.
fn keep(vault: &Server, keys: &str, token_file: &Path) -> Vec<(String, String)> {
    let put: Vec<&str> = ["kv", "put", "-mount=secret", "soma"].into_iter().chain(keys.lines()).collect();
    vault.client(&put);
    vault.client(&["policy", "write", "soma", VAULT_POLICY]);
    let ttl = format!("-ttl={TOKEN_LIFE}");
    let token = vault.client(&["token", "create", "-policy=soma", &ttl, "-field=token"]);
    std::fs::write(token_file, token.text().trim()).expect("the token can be kept");
    vec![("VAULT_TOKEN_FILE".to_owned(), token_file.display().to_string())]
}
