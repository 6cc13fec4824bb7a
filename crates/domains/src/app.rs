//! What every part of the program works with, built once at the start.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use contracts::{RunId, engine::WorkflowEngine, events::EventBus, model::ChatModel};
use futures::future::BoxFuture;
use platform::{
    config::{Config, EventsChoice, ModelChoice, PolicyChoice, RedisChoice, WorkflowChoice},
    database::{self, Database, Location},
    durable::{Ledger, StepError, Worker},
    egress::Egress,
    hub::Hub,
    mail::Mailer,
    policy::{self, Policy},
    redis::{Counts, Redis},
    telemetry::Metrics,
    vault::Standing,
};
use tokio_util::sync::CancellationToken;

use crate::{agents, authority, conversations, identity, models, tenants, tools};

/// How long a stream's reader waits for a wake when all writers are in this process.
const LOOK_AGAIN_ALONE: Duration = Duration::from_secs(5);
/// The same where a worker in another process writes too.
const LOOK_AGAIN_SHARED: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Database(#[from] database::Error),
    #[error("the policy does not load: {0}")]
    Policy(#[from] policy::LoadError),
    #[error("the database can't be made at {0}: {1}")]
    Folder(PathBuf, std::io::Error),
    #[error("an address of the configuration can't be called: {0}")]
    Egress(#[from] platform::egress::Error),
    #[error("SA01_REDIS_URL can't be used: {0}")]
    Redis(#[from] platform::redis::Error),
    #[error(transparent)]
    Mail(#[from] platform::mail::Error),
    #[error("SA01_OIDC_GROUP_ROLES names `{0}`, which is no role that a tenant can give")]
    GroupRole(String),
    #[error("the database's schema is not up to date: run `soma migrate` (missing: {0})")]
    Schema(String),
}

/// What an [`App`] is built from. The model is given, so that this crate needs none of the embedded model's weight.
pub struct Parts {
    pub config: Config,
    pub model: Arc<dyn ChatModel>,
    /// Looks for a sandbox, beside everything else.
    pub sandbox: BoxFuture<'static, tools::Probed>,
    /// Absent where nobody outside is told of anything.
    pub bus: Option<Arc<dyn EventBus>>,
    /// Absent where nobody reads them.
    pub metrics: Option<Metrics>,
    /// Absent where no setting is from Vault.
    pub secrets: Option<Standing>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("config", &self.config).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct App {
    pub config: Config,
    pub database: Database,
    pub ledger: Ledger,
    pub hub: Hub,
    pub policy: Policy,
    pub egress: Egress,
    pub model: Arc<dyn ChatModel>,
    /// Absent where the model is embedded.
    pub(crate) model_server: Option<models::PassThrough>,
    pub calls: models::Calls,
    pub tools: tools::Tools,
    pub metrics: Option<Metrics>,
    /// Whether settings that are from Vault still stand.
    pub(crate) secrets: Option<Standing>,
    /// Fires when the process is asked to stop: whatever a client holds open ends then, for another process to go on.
    pub stopping: CancellationToken,
    /// Where events go from the outbox; absent where nobody outside is told of anything.
    pub bus: Option<Arc<dyn EventBus>>,
    /// Absent where processes share nothing beside the database.
    pub(crate) redis: Option<Redis>,
    pub(crate) sessions: identity::Sessions,
    pub(crate) standings: tenants::Standings,
    pub(crate) quotas: authority::Quotas,
    pub(crate) passwords: identity::Passwords,
    pub(crate) addresses: identity::Addresses,
    pub(crate) mail: identity::Mail,
    /// Where people may sign in beside here.
    pub(crate) oidc: Option<identity::Provider>,
    pub(crate) sockets: conversations::Sockets,
    engine: OnceLock<Arc<dyn WorkflowEngine>>,
}

impl App {
    /// Opens the database and loads the policy. The schema must be up to date.
    pub async fn build(parts: Parts) -> Result<Arc<Self>, BuildError> {
        let Parts { config, model, sandbox, bus, metrics, secrets } = parts;
        let database = open_migrated_database(&config).await?;
        let look_again = match config.workflows.choice {
            WorkflowChoice::Embedded => LOOK_AGAIN_ALONE,
            WorkflowChoice::Temporal(_) => LOOK_AGAIN_SHARED,
        };
        let mailer = config.sign_in.mail.as_ref().map(Mailer::new).transpose()?;
        let egress = Egress::new(config.egress.clone());
        let policy = match &config.policy {
            PolicyChoice::Embedded => tools::load_policy()?,
            PolicyChoice::Server(base) => tools::load_policy()?.on(policy::Server::new(base, &egress)?),
        };
        let oidc = match config.oidc.clone() {
            Some(oidc) => Some(identity::Provider::for_app(oidc, &egress, policy.catalogue())?),
            None => None,
        };
        let model_server = match &config.model.choice {
            ModelChoice::Server(base) => Some(models::PassThrough::new(&config.model, base, &egress)?),
            ModelChoice::Embedded => None,
        };
        let stopping = CancellationToken::new();
        let hub = Hub::new(look_again);
        let redis = match &config.redis {
            RedisChoice::Embedded => None,
            RedisChoice::Server(address) => Some(Redis::new(address)?),
        };
        if let Some(redis) = &redis {
            redis.relay(&hub, &stopping);
        }
        let tools = tools::Tools::start(&config, &egress, sandbox);
        Ok(Arc::new(Self {
            ledger: Ledger::new(database.clone()),
            hub,
            policy,
            sessions: identity::Sessions::default(),
            standings: tenants::Standings::default(),
            quotas: authority::Quotas::new(config.gateway.rates, redis.clone().map(Counts::new)),
            passwords: identity::Passwords::default(),
            addresses: identity::Addresses::default(),
            mail: identity::Mail::new(mailer),
            oidc,
            sockets: conversations::Sockets::default(),
            engine: OnceLock::new(),
            egress,
            metrics,
            secrets,
            stopping,
            bus,
            redis,
            model,
            model_server,
            calls: models::Calls::start(database.clone()),
            tools,
            database,
            config,
        }))
    }

    /// Names the engine that runs turns. Called once, after the engine was built around this app.
    pub fn set_engine(&self, engine: Arc<dyn WorkflowEngine>) {
        if self.engine.set(engine).is_err() {
            tracing::error!("a second workflow engine was refused: there is one");
        }
    }

    pub(crate) fn engine(&self) -> Option<&Arc<dyn WorkflowEngine>> {
        self.engine.get()
    }
}

/// Makes the folder and file of a database that is a file, private, unless they are there.
pub fn prepare_database(config: &Config) -> Result<(), BuildError> {
    let Location::Sqlite(file) = &config.database else { return Ok(()) };
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        private_folder(folder).map_err(|error| BuildError::Folder(folder.to_owned(), error))?;
    }
    private_file(file).map_err(|error| BuildError::Folder(file.clone(), error))
}

/// Opens the database, making its file when absent.
pub async fn open_database(config: &Config) -> Result<Database, BuildError> {
    prepare_database(config)?;
    let database = Database::open(&config.database).await?;
    if matches!(config.events, EventsChoice::Kafka(_)) {
        database.keep_events();
    }
    Ok(database)
}

/// The same, and makes sure that its schema is up to date.
pub async fn open_migrated_database(config: &Config) -> Result<Database, BuildError> {
    let database = open_database(config).await?;
    let pending = database::pending::<crate::Migrator>(&database).await?;
    if pending.is_empty() { Ok(database) } else { Err(BuildError::Schema(pending.join(", "))) }
}

/// Makes an empty file that only this user may read, unless it is there. SQLite gives the files beside it the same mode.
fn private_file(file: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file).map(drop)
}

/// Makes a folder that only this user may enter.
pub(crate) fn private_folder(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl Worker for App {
    async fn ended(self: Arc<Self>, run: RunId, outcome: Result<(), StepError>) {
        if let Err(error) = outcome {
            tracing::error!(%run, %error, "a turn ended without settling itself");
            conversations::fail_lost(&self, run, error.code(), &error.to_string()).await;
        }
        agents::invoke_agent_span(&self, run).await;
    }

    /// Tenants take turns.
    async fn lane(&self, run: RunId) -> String {
        let found = conversations::journal::find_run(self.database.read(), run).await;
        found.ok().flatten().map(|run| run.tenant.to_string()).unwrap_or_default()
    }
}
