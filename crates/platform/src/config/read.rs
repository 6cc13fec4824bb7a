//! Turns text into [`Config`], collecting every fault instead of stopping at the first.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use secrecy::SecretString;
use url::Url;

use super::{
    Config, Model, ModelChoice, PolicyChoice, RedisChoice, SETTINGS, Setting, Source, TemporalServer,
    WorkflowChoice, Workflows, vault::TRANSIT_KEY,
};
use crate::{database::Location, egress::AllowList, redis, secrets::Keys};

pub(super) const EMBEDDED: &str = "embedded:";
const DB_READERS: &str = "SA01_DB_READERS";
const FERNET_KEY: &str = "SA01_CRYPTO_FERNET_KEY";
const TEMPORAL_HOST: &str = "SA01_TEMPORAL_HOST";
const TEMPORAL_API_KEY: &str = "SA01_TEMPORAL_API_KEY";
const TEMPORAL_TLS: &str = "SA01_TEMPORAL_TLS";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Context of a model on a server whose own is not given.
const CONTEXT_SERVER: u32 = 32_768;
/// Context of the embedded model: more would not fit the little one's training.
const CONTEXT_EMBEDDED: u32 = 2_048;

/// One thing wrong with one setting. Holds no value: a value may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub name: String,
    pub problem: String,
}

impl Fault {
    pub fn new(name: &str, problem: impl Into<String>) -> Self {
        Self { name: name.to_owned(), problem: problem.into() }
    }
}

/// Everything wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the configuration has {} fault(s):", self.0.len())?;
        for fault in &self.0 {
            writeln!(f, "  {}: {}", fault.name, fault.problem)?;
        }
        write!(f, "`soma registry` explains every setting; `soma keygen` makes keys")
    }
}

pub(super) struct Reader<'a> {
    source: &'a dyn Source,
    faults: Vec<Fault>,
}

pub(super) fn config(source: &dyn Source) -> Result<Config, Faults> {
    let mut reader = Reader::new(source);
    let transit = reader.transit_key();
    let keys = reader.keys(reader.given(TRANSIT_KEY).is_some());
    let database = reader.database();
    let redis = reader.redis();
    let events = reader.events();
    let workflows = reader.workflows();
    let policy = reader.policy();
    let data_dir = PathBuf::from(reader.text("SA01_DATA_DIR").unwrap_or_default());
    let model = reader.model(&data_dir);
    let listen = reader.parsed::<SocketAddr>("SA01_LISTEN", "expected ADDRESS:PORT");
    let gateway = reader.gateway();
    let egress = match AllowList::from_str(&reader.text("SA01_EGRESS_ALLOW").unwrap_or_default()) {
        Ok(list) => Some(list),
        Err(error) => {
            reader.fault("SA01_EGRESS_ALLOW", error.to_string());
            None
        }
    };
    let oidc = reader.oidc();
    let otlp = reader.collector();
    let log = reader.text("SA01_LOG").unwrap_or_default();
    let approval_expiry_ms = reader
        .parsed::<u32>("SA01_APPROVAL_EXPIRY", "expected a whole number of seconds")
        .map_or(0, |seconds| i64::from(seconds) * 1000);
    let tls = gateway.as_ref().is_some_and(|gateway| gateway.tls.is_some());
    let sign_in = listen.and_then(|listen| reader.sign_in(listen, tls));
    let run_events_kept_ms = reader
        .parsed::<u32>("SA01_RUN_EVENTS_DAYS", "expected a whole number of days")
        .map_or(0, |days| i64::from(days) * DAY_MS);
    let config = || {
        Some(Config {
            keys: keys?,
            transit,
            data_dir,
            database: database?,
            listen: listen?,
            gateway: gateway?,
            model: model?,
            workflows: workflows?,
            policy: policy?,
            redis: redis?,
            events: events?,
            egress: egress?,
            sign_in: sign_in?,
            oidc,
            approval_expiry_ms,
            otlp,
            run_events_kept_ms,
            log,
        })
    };
    match config() {
        Some(config) if reader.faults.is_empty() => Ok(config),
        _ => Err(Faults(reader.faults)),
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Self {
        Self { source, faults: Vec::new() }
    }
}

impl Reader<'_> {
    #[cfg(test)]
    pub(super) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// What was wrong.
    pub(super) fn end(self) -> Faults {
        Faults(self.faults)
    }

    pub(super) fn fault(&mut self, name: &str, problem: impl Into<String>) {
        self.faults.push(Fault::new(name, problem));
    }

    /// The setting's text, if it is set.
    fn given(&self, name: &str) -> Option<String> {
        self.source.get(name).filter(|value| !value.is_empty())
    }

    /// The setting's text, or its default. A required one that is missing is a fault.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            self.fault(name, "is not declared in the registry");
            return None;
        };
        let Setting { required, default, .. } = *setting;
        match self.given(name) {
            Some(value) => Some(value),
            None if required => {
                self.fault(name, "is required and not set");
                None
            }
            None => default.map(str::to_owned),
        }
    }

    pub(super) fn parsed<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        let text = self.text(name)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(_) => {
                self.fault(name, expected);
                None
            }
        }
    }

    /// `elsewhere`: whether a key of Vault's encrypts, so that Fernet keys are there for what is older, if at all.
    fn keys(&mut self, elsewhere: bool) -> Option<Keys> {
        let secret_key = self.text("SECRET_KEY").map(SecretString::from);
        let fernet = if elsewhere { self.given(FERNET_KEY) } else { self.text(FERNET_KEY) };
        let without_any = elsewhere && fernet.is_none();
        let fernet = fernet.map(SecretString::from);
        let secret_key = secret_key.and_then(|key| match crate::secrets::check_secret_key(&key) {
            Ok(()) => Some(key),
            Err(problem) => {
                self.fault("SECRET_KEY", problem);
                None
            }
        });
        let ring = fernet.and_then(|keys| match crate::secrets::Ring::parse(&keys) {
            Ok(ring) => Some(ring),
            Err(problem) => {
                self.fault(FERNET_KEY, problem);
                None
            }
        });
        Some(Keys::new(secret_key?, if without_any { None } else { Some(ring?) }))
    }

    fn database(&mut self) -> Option<Location> {
        let dsn = self.text("SA01_DB_DSN")?;
        let location: Option<Location> =
            dsn.parse().map_err(|problem: String| self.fault("SA01_DB_DSN", problem)).ok();
        let expected = "expected a whole number from 1 to 1000";
        let readers = self.parsed::<u32>(DB_READERS, expected)?;
        if !(1..=1000).contains(&readers) {
            self.fault(DB_READERS, expected);
        }
        location.map(|location| location.with_readers(readers))
    }

    fn workflows(&mut self) -> Option<Workflows> {
        let choice = self.workflow_choice();
        let namespace = self.text("SA01_TEMPORAL_NAMESPACE");
        let queue = self.text("SA01_TEMPORAL_CONVERSATION_QUEUE");
        let tools_queue = self.text("SA01_TEMPORAL_TOOLS_QUEUE");
        let deployment = self.text("SA01_TEMPORAL_DEPLOYMENT");
        let concurrency = self.parsed::<usize>("SA01_TURNS_AT_ONCE", "expected a whole number");
        let choice = choice?;
        let concurrency = concurrency?;
        if concurrency == 0 {
            self.fault("SA01_TURNS_AT_ONCE", "expected at least 1");
            return None;
        }
        let (queue, tools_queue) = (queue?, tools_queue?);
        if queue == tools_queue {
            self.fault(
                "SA01_TEMPORAL_TOOLS_QUEUE",
                "expected another queue than SA01_TEMPORAL_CONVERSATION_QUEUE",
            );
            return None;
        }
        if deployment.as_ref().is_some_and(|name| name.contains('.')) {
            self.fault("SA01_TEMPORAL_DEPLOYMENT", "expected a name without a dot");
            return None;
        }
        Some(Workflows { choice, namespace: namespace?, queue, tools_queue, deployment, concurrency })
    }

    fn workflow_choice(&mut self) -> Option<WorkflowChoice> {
        let host = self.text(TEMPORAL_HOST)?;
        let (by_tls, address) = match host.strip_prefix("https://") {
            Some(address) => (true, address),
            None => (false, host.as_str()),
        };
        let otherwise = format!("counts for nothing: {TEMPORAL_HOST} does not begin with `https://`");
        let tls = self.client_tls(TEMPORAL_TLS, by_tls, &otherwise);
        let api_key = self.text(TEMPORAL_API_KEY).map(SecretString::from);
        if api_key.is_some() && !by_tls {
            self.fault(
                TEMPORAL_API_KEY,
                "is sent by TLS alone: let SA01_TEMPORAL_HOST begin with `https://`",
            );
        }
        if host == EMBEDDED {
            return Some(WorkflowChoice::Embedded);
        }
        let named = |(name, port): (&str, &str)| {
            !name.is_empty() && !name.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok()
        };
        if !address.rsplit_once(':').is_some_and(named) {
            self.fault(TEMPORAL_HOST, format!("expected `{EMBEDDED}`, host:port or https://host:port"));
            return None;
        }
        Some(WorkflowChoice::Temporal(TemporalServer { address: address.to_owned(), tls, api_key }))
    }

    fn model(&mut self, data_dir: &std::path::Path) -> Option<Model> {
        let url = self.text("SA01_MODEL_URL");
        let name = self.text("SA01_MODEL_NAME");
        let input_price = self.price("SA01_MODEL_INPUT_PRICE");
        let output_price = self.price("SA01_MODEL_OUTPUT_PRICE");
        let idle_seconds = self.parsed::<u64>("SA01_MODEL_IDLE_TIMEOUT", "expected a number of seconds");
        let choice = self.model_choice(&url?)?;
        let embedded = choice == ModelChoice::Embedded;
        let keys = self.text("SA01_MODEL_API_KEY").unwrap_or_default();
        let keys = keys.split(',').map(str::trim).filter(|key| !key.is_empty());
        let keys = keys.map(|key| SecretString::from(key.to_owned())).collect();
        let context_tokens = match self.text("SA01_MODEL_CONTEXT") {
            Some(_) => self.parsed("SA01_MODEL_CONTEXT", "expected a number of tokens")?,
            None if embedded => CONTEXT_EMBEDDED,
            None => CONTEXT_SERVER,
        };
        let tools = match self.text("SA01_MODEL_TOOLS") {
            Some(_) => self.parsed("SA01_MODEL_TOOLS", "expected true or false")?,
            None => !embedded,
        };
        let path = embedded.then(|| match self.text("SA01_MODEL_PATH") {
            Some(path) => PathBuf::from(path),
            None => data_dir.join("model.gguf"),
        });
        Some(Model {
            choice,
            name: name?,
            keys,
            context_tokens,
            tools,
            path,
            input_price: input_price?,
            output_price: output_price?,
            idle_timeout_ms: idle_seconds?.saturating_mul(1000),
        })
    }

    fn model_choice(&mut self, text: &str) -> Option<ModelChoice> {
        if text == EMBEDDED {
            return Some(ModelChoice::Embedded);
        }
        self.base_url("SA01_MODEL_URL", text, "/chat/completions").map(ModelChoice::Server)
    }

    fn redis(&mut self) -> Option<RedisChoice> {
        let text = self.text("SA01_REDIS_URL")?;
        if text == EMBEDDED {
            return Some(RedisChoice::Embedded);
        }
        let address = redis::Address::parse(&text);
        address.map_err(|expected| self.fault("SA01_REDIS_URL", expected)).ok().map(RedisChoice::Server)
    }

    fn policy(&mut self) -> Option<PolicyChoice> {
        let text = self.text("SA01_OPA_URL")?;
        if text == EMBEDDED {
            return Some(PolicyChoice::Embedded);
        }
        self.base_url("SA01_OPA_URL", &text, "/v1/data").map(PolicyChoice::Server)
    }

    /// The address of a server that may stand in for what is embedded, up to the path that calls add to it.
    fn base_url(&mut self, name: &str, text: &str, before: &str) -> Option<Url> {
        let url = Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.host().is_some()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
                && !url.path().trim_end_matches('/').ends_with(before)
        });
        if url.is_none() {
            let expected = format!(
                "expected `{EMBEDDED}`, or an http(s) URL without user, query or fragment that ends before `{before}`"
            );
            self.fault(name, expected);
        }
        url
    }

    fn collector(&mut self) -> Option<Url> {
        let text = self.text("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        let url = Url::parse(&text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
        });
        if url.is_none() {
            let expected = "expected an http(s) URL without user that ends before `/v1/traces`";
            self.fault("OTEL_EXPORTER_OTLP_ENDPOINT", expected);
        }
        url
    }

    /// US dollars, kept as millionths so that sums stay exact.
    fn price(&mut self, name: &str) -> Option<u64> {
        let dollars = self.parsed::<f64>(name, "expected US dollars for a million tokens, as in 0.15")?;
        if !(0.0..=1_000_000.0).contains(&dollars) {
            self.fault(name, "expected between 0 and 1000000 US dollars");
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just above")]
        let micros = (dollars * 1_000_000.0).round() as u64;
        Some(micros)
    }
}
