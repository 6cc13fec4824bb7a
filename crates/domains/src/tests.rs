//! What the tests of several domains start from: an app of its own, with a database in a folder, an agent, its
//! administrator, and a scripted model. It has no engine: a run is at work once it is stored, and nobody works on it.

use std::{collections::HashMap, sync::Arc};

use contracts::{Caller, Credential, SessionId};
use platform::{
    config::{Config, Fixed},
    egress::Egress,
    idempotency::{Guard, IdempotencyKey},
};
use testing::{Script, ScriptedModel, TestDatabase};

use crate::{App, Parts, agents, identity, models::OpenAiModel, permissions, tenants};

pub(crate) struct World {
    pub app: Arc<App>,
    pub caller: Caller,
    pub model: ScriptedModel,
    _folder: tempfile::TempDir,
    _place: TestDatabase,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = TestDatabase::migrated::<crate::Migrator>();
        let model = ScriptedModel::with_script(Script::by_directive());
        let (secret, fernet) = platform::secrets::generate();
        let text = |secret: &secrecy::SecretString| secrecy::ExposeSecret::expose_secret(secret).to_owned();
        let mut settings: HashMap<String, String> = [
            ("SECRET_KEY", text(&secret)),
            ("SA01_CRYPTO_FERNET_KEY", text(&fernet)),
            ("SA01_DB_DSN", place.dsn().to_owned()),
            ("SA01_DATA_DIR", folder.path().display().to_string()),
            ("SA01_MODEL_URL", model.base_url()),
            ("SA01_MODEL_INPUT_PRICE", "1".into()),
            ("SA01_MODEL_OUTPUT_PRICE", "2".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        for name in ["SA01_REDIS_URL", "SA01_KAFKA_BOOTSTRAP_SERVERS", "SA01_TEMPORAL_HOST", "SA01_OPA_URL"] {
            settings.insert(name.to_owned(), "embedded:".to_owned());
        }
        let config = Config::load(&Fixed(settings)).unwrap();
        let database = crate::open_database(&config).await.unwrap();
        let tenant = tenants::ensure_default(&database).await.unwrap();
        agents::ensure_default(&database, tenant).await.unwrap();
        let user = identity::create_admin(&database, "ada@example.org").await.unwrap();
        let rights = permissions::rights_of(database.read(), tenant, user).await.unwrap();
        let base = model.base_url().parse().unwrap();
        let client = OpenAiModel::new(&config.model, &base, &Egress::new(config.egress.clone())).unwrap();
        let sandbox = Box::pin(async { crate::tools::Probed::Elsewhere });
        let app = App::build(Parts {
            config,
            model: Arc::new(client),
            sandbox,
            bus: None,
            metrics: None,
            secrets: None,
        })
        .await
        .unwrap();
        Self {
            app,
            caller: Caller {
                tenant,
                user,
                roles: rights.roles,
                grants: rights.grants,
                scopes: vec!["*".into()],
                expires_at: None,
                credential: Credential::Session(SessionId::new()),
                impersonator: None,
            },
            model,
            _folder: folder,
            _place: place,
        }
    }

    /// No `Idempotency-Key`.
    pub(crate) fn unguarded(&self) -> Guard {
        Guard::new(IdempotencyKey(None), &self.caller, String::new(), String::new())
    }
}
