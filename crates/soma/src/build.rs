//! Puts an [`App`] together from the configuration: the model, the sandbox, the domains.

use std::sync::Arc;

use contracts::{events::EventBus, model::ChatModel};
use domains::{
    App, Parts,
    models::OpenAiModel,
    tools::{NotShared, Probed, are_shared},
};
use platform::{
    config::{Config, ModelChoice},
    egress::Egress,
    telemetry::{Metrics, Traces},
    vault::Standing,
};

use crate::{commands::Failure, events};

/// An app on an up-to-date database. Binds nothing and starts no run. Where it calls no tools, what those need is not
/// looked for: a gateway's machine may well have no sandbox.
pub async fn app(
    config: Config,
    calls_tools: bool,
    metrics: Option<Metrics>,
    secrets: Option<Standing>,
) -> Result<Arc<App>, Failure> {
    let model = model(&config)?;
    let sandbox = Box::pin(async move {
        if calls_tools { Probed::Here(sandbox::Sandbox::probe().await) } else { Probed::Elsewhere }
    });
    let bus = events::bus(&config)?.map(|bus| Arc::new(bus) as Arc<dyn EventBus>);
    App::build(Parts { config, model, sandbox, bus, metrics, secrets }).await.map_err(Failure::failed)
}

/// That this process has the folder of workspaces that the others of the install have.
pub async fn shares_workspaces(app: &App) -> Result<(), Failure> {
    are_shared(app).await.map_err(|error| match error {
        NotShared::Database(error) => Failure::failed(error),
        NotShared::Another { .. } | NotShared::Unusable { .. } => Failure::Configuration(error.to_string()),
    })
}

/// Starts sending traces, where a collector is named.
pub fn traces(config: &Config) -> Result<Option<Traces>, Failure> {
    let Some(endpoint) = &config.otlp else { return Ok(None) };
    let traces = Traces::start(endpoint, &Egress::new(config.egress.clone()));
    traces.map(Some).map_err(|error| Failure::Configuration(format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}")))
}

fn model(config: &Config) -> Result<Arc<dyn ChatModel>, Failure> {
    match &config.model.choice {
        ModelChoice::Server(base) => {
            let egress = Egress::new(config.egress.clone());
            let model = OpenAiModel::new(&config.model, base, &egress).map_err(Failure::failed)?;
            Ok(Arc::new(model))
        }
        ModelChoice::Embedded => embedded(config),
    }
}

#[cfg(feature = "llama")]
fn embedded(config: &Config) -> Result<Arc<dyn ChatModel>, Failure> {
    let options = llama::Options {
        path: config.model.path.clone().unwrap_or_default(),
        name: config.model.name.clone(),
        context_tokens: config.model.context_tokens,
        tools: config.model.tools,
        threads: None,
    };
    let model = llama::LlamaModel::new(options)
        .map_err(|error| Failure::Configuration(format!("SA01_MODEL_PATH: {error}")))?;
    Ok(Arc::new(model))
}

#[cfg(not(feature = "llama"))]
fn embedded(_config: &Config) -> Result<Arc<dyn ChatModel>, Failure> {
    Err(Failure::Configuration(
        "SA01_MODEL_URL: this build has no embedded model; build with `--features llama`, or name a server"
            .into(),
    ))
}
