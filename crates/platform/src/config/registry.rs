//! The service registry: every setting of the program, declared once.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Free text.
    Text,
    /// Key material; never printed.
    Key,
    /// An engine: `embedded:` or an address.
    Engine,
    Address,
    Path,
    Number,
    Flag,
    List,
}

impl Kind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Key => "key",
            Self::Engine => "engine",
            Self::Address => "address",
            Self::Path => "path",
            Self::Number => "number",
            Self::Flag => "flag",
            Self::List => "list",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub secret: bool,
    /// What an absent optional setting means. No secret and no engine has one.
    pub default: Option<&'static str>,
    pub meaning: &'static str,
}

const fn required(name: &'static str, kind: Kind, meaning: &'static str) -> Setting {
    Setting { name, kind, required: true, secret: matches!(kind, Kind::Key), default: None, meaning }
}

const fn optional(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    meaning: &'static str,
) -> Setting {
    Setting { name, kind, required: false, secret: matches!(kind, Kind::Key), default, meaning }
}

pub const SETTINGS: &[Setting] = &[
    required(
        "SECRET_KEY",
        Kind::Key,
        "Keys the hashes of API keys, sessions, links and backup codes. At least 32 bytes; `soma keygen` prints one.",
    ),
    required(
        "SA01_CRYPTO_FERNET_KEY",
        Kind::Key,
        "Fernet keys for secrets of authenticators and of single sign-on, comma-separated: the first encrypts, all decrypt. Needed unless SA01_CRYPTO_TRANSIT_KEY is set.",
    ),
    optional(
        "SA01_CRYPTO_TRANSIT_KEY",
        Kind::Text,
        None,
        "A key of Vault's transit engine, as in `transit/soma`, that encrypts in place of the Fernet keys and never leaves Vault. What those have encrypted is still opened by them, if they are set.",
    ),
    required(
        "SA01_DB_DSN",
        Kind::Engine,
        "The database: `sqlite://PATH`, or `postgresql://USER:PASSWORD@HOST:PORT/NAME` with `sslmode` and `sslrootcert`.",
    ),
    required(
        "SA01_REDIS_URL",
        Kind::Engine,
        "What processes share beside the database, rate limits and wakes: `embedded:`, or `redis://[USER:PASSWORD@]HOST:PORT[/NUMBER]`; `rediss://` for TLS.",
    ),
    required(
        "SA01_KAFKA_BOOTSTRAP_SERVERS",
        Kind::Engine,
        "Events for the world outside: `embedded:`, which tells nobody, or `host:port` of Kafka's brokers, comma-separated.",
    ),
    required(
        "SA01_TEMPORAL_HOST",
        Kind::Engine,
        "Workflows: `embedded:`, or `host:port` of a Temporal server; `https://host:port` for TLS.",
    ),
    required(
        "SA01_OPA_URL",
        Kind::Engine,
        "Policy: `embedded:`, or an OPA server's base URL that ends before `/v1/data`; it serves what `soma policy bundle` makes.",
    ),
    required(
        "SA01_MODEL_URL",
        Kind::Engine,
        "The model: `embedded:`, or an OpenAI-compatible base URL that ends before `/chat/completions`.",
    ),
    optional(
        "SA01_KAFKA_TOPIC_PREFIX",
        Kind::Text,
        Some(""),
        "What the names of topics and consumer groups begin with, as in `prod.`.",
    ),
    optional(
        "SA01_KAFKA_INBOUND_ACCOUNTS",
        Kind::List,
        Some(""),
        "Ids of service accounts, comma-separated, as which whoever may write to `conversation.inbound` acts. Without any it is not read.",
    ),
    optional(
        "SA01_KAFKA_SECURITY_PROTOCOL",
        Kind::Text,
        Some("plaintext"),
        "How Kafka's brokers are spoken to: `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.",
    ),
    optional(
        "SA01_KAFKA_TLS_CA",
        Kind::Path,
        None,
        "PEM file of the authorities by which Kafka's brokers are believed. Default: the system's.",
    ),
    optional(
        "SA01_KAFKA_TLS_CERT",
        Kind::Path,
        None,
        "PEM file of a certificate that is shown to Kafka's brokers, its own first.",
    ),
    optional("SA01_KAFKA_TLS_KEY", Kind::Path, None, "PEM file of that certificate's private key."),
    optional(
        "SA01_KAFKA_SASL_MECHANISM",
        Kind::Text,
        Some("SCRAM-SHA-512"),
        "How the password is proven with `sasl_ssl` and `sasl_plaintext`: `SCRAM-SHA-512`, `SCRAM-SHA-256`, or `PLAIN`, which sends it.",
    ),
    optional(
        "SA01_KAFKA_SASL_USERNAME",
        Kind::Text,
        None,
        "The user that Kafka's brokers know this program by.",
    ),
    optional("SA01_KAFKA_SASL_PASSWORD", Kind::Key, None, "That user's password."),
    optional(
        "SA01_DB_READERS",
        Kind::Number,
        Some("16"),
        "Connections to PostgreSQL by which a process reads, at most. It keeps two more, for changes and for locks.",
    ),
    optional("SA01_MODEL_NAME", Kind::Text, Some("default"), "The model's name, as its server knows it."),
    optional(
        "SA01_MODEL_API_KEY",
        Kind::Key,
        None,
        "Keys for the model's server, comma-separated: calls take them in turn.",
    ),
    optional(
        "SA01_MODEL_CONTEXT",
        Kind::Number,
        None,
        "Tokens that the model takes and gives together. Default 32768; 2048 embedded.",
    ),
    optional(
        "SA01_MODEL_TOOLS",
        Kind::Flag,
        None,
        "Whether tools are offered to the model. Default true; false embedded.",
    ),
    optional(
        "SA01_MODEL_PATH",
        Kind::Path,
        None,
        "The embedded model's GGUF file. Default `DATA_DIR/model.gguf`.",
    ),
    optional("SA01_MODEL_INPUT_PRICE", Kind::Number, Some("0"), "US dollars for a million input tokens."),
    optional("SA01_MODEL_OUTPUT_PRICE", Kind::Number, Some("0"), "US dollars for a million output tokens."),
    optional(
        "SA01_MODEL_IDLE_TIMEOUT",
        Kind::Number,
        Some("60"),
        "Seconds of silence after which a model call is given up.",
    ),
    optional("SA01_DATA_DIR", Kind::Path, Some("data"), "Where workspaces and the embedded model lie."),
    optional(
        "SA01_RUN_EVENTS_DAYS",
        Kind::Number,
        Some("30"),
        "Days after its end for which a run's events are kept; its messages, state and cost stay.",
    ),
    optional("SA01_LISTEN", Kind::Address, Some("127.0.0.1:8080"), "Where `soma serve` listens."),
    optional(
        "SA01_TLS_CERT",
        Kind::Path,
        None,
        "PEM file of the server's certificate, its own first. With SA01_TLS_KEY `soma serve` speaks HTTPS.",
    ),
    optional(
        "SA01_TLS_KEY",
        Kind::Path,
        None,
        "PEM file of the certificate's private key. Both files are read again when they change.",
    ),
    optional(
        "SA01_TRUSTED_PROXIES",
        Kind::List,
        Some(""),
        "Proxies that are believed whom they pass a request on for: addresses or CIDR, comma-separated.",
    ),
    optional(
        "SA01_PROXY_HEADER",
        Kind::Text,
        Some("x-forwarded-for"),
        "The header in which they say so: `x-forwarded-for` (with X-Forwarded-Proto) or `forwarded`. The other counts nothing.",
    ),
    optional(
        "SA01_CORS_ORIGINS",
        Kind::List,
        Some(""),
        "Origins whose pages may call the API with a key, as in https://app.example.org, comma-separated.",
    ),
    optional("SA01_CONNECTIONS_MAX", Kind::Number, Some("8192"), "Connections that are open at once."),
    optional(
        "SA01_CONNECTIONS_PER_ADDRESS",
        Kind::Number,
        Some("1024"),
        "Connections that one address may have open; a trusted proxy has no such limit.",
    ),
    optional("SA01_HEADER_TIMEOUT", Kind::Number, Some("10"), "Seconds that a request's head may take."),
    optional(
        "SA01_IDLE_TIMEOUT",
        Kind::Number,
        Some("75"),
        "Seconds after which a connection without requests is closed.",
    ),
    optional(
        "SA01_STALL_TIMEOUT",
        Kind::Number,
        Some("30"),
        "Seconds after which a client that takes nothing of its answer, or stops sending a body, is cut off.",
    ),
    optional(
        "SA01_REQUEST_TIMEOUT",
        Kind::Number,
        Some("60"),
        "Seconds in which a request is answered; streams, model calls and uploads have bounds of their own.",
    ),
    optional(
        "SA01_RATE_LIMIT_KEY",
        Kind::Number,
        Some("6000"),
        "Requests a minute of one API key or session; 0 is no limit.",
    ),
    optional(
        "SA01_RATE_LIMIT_USER",
        Kind::Number,
        Some("12000"),
        "Requests a minute of one user; 0 is no limit.",
    ),
    optional(
        "SA01_RATE_LIMIT_TENANT",
        Kind::Number,
        Some("60000"),
        "Requests a minute of one tenant; 0 is no limit.",
    ),
    optional(
        "SA01_RATE_LIMIT_ADDRESS",
        Kind::Number,
        Some("1200"),
        "Requests a minute without a valid credential from one address; 0 is no limit.",
    ),
    optional(
        "SA01_PUBLIC_URL",
        Kind::Address,
        None,
        "Where people reach this install, as in `https://agents.example.org`. Default: where it listens.",
    ),
    optional(
        "SA01_SMTP_URL",
        Kind::Key,
        None,
        "The mail server: `smtps://USER:PASSWORD@HOST`, or `smtp://USER:PASSWORD@HOST?tls=required`. Without it links \
         are shown to administrators.",
    ),
    optional(
        "SA01_MAIL_FROM",
        Kind::Text,
        None,
        "Whom letters are from, as in `Agents <agents@example.org>`.",
    ),
    optional(
        "SA01_SESSION_IDLE",
        Kind::Number,
        Some("43200"),
        "Seconds without a request after which somebody has to sign in again.",
    ),
    optional(
        "SA01_SESSION_MAX",
        Kind::Number,
        Some("2592000"),
        "Seconds after which somebody has to sign in again in any case.",
    ),
    optional(
        "SA01_EGRESS_ALLOW",
        Kind::List,
        Some(""),
        "Private addresses that tools may reach: CIDR or CIDR:PORT, comma-separated.",
    ),
    optional("SA01_TEMPORAL_NAMESPACE", Kind::Text, Some("default"), "The Temporal namespace."),
    optional(
        "SA01_TEMPORAL_TLS_CA",
        Kind::Path,
        None,
        "PEM file of the authorities by which the Temporal server is believed. Default: the system's.",
    ),
    optional(
        "SA01_TEMPORAL_TLS_CERT",
        Kind::Path,
        None,
        "PEM file of a certificate that is shown to the Temporal server. It and its key are read at each new connection.",
    ),
    optional("SA01_TEMPORAL_TLS_KEY", Kind::Path, None, "PEM file of that certificate's private key."),
    optional(
        "SA01_TEMPORAL_API_KEY",
        Kind::Key,
        None,
        "An API key by which the Temporal server lets this program in, as in Temporal Cloud. Wants TLS.",
    ),
    optional(
        "SA01_TEMPORAL_CONVERSATION_QUEUE",
        Kind::Text,
        Some("conversation"),
        "The Temporal task queue of turns and of their model calls.",
    ),
    optional(
        "SA01_TEMPORAL_TOOLS_QUEUE",
        Kind::Text,
        Some("tool-executor"),
        "The Temporal task queue of tool calls.",
    ),
    optional(
        "SA01_TEMPORAL_DEPLOYMENT",
        Kind::Text,
        None,
        "The name of Temporal's worker deployment, whose versions workers then are: a turn ends on the version that it began on. Without it any worker goes on with any turn.",
    ),
    optional(
        "SA01_TURNS_AT_ONCE",
        Kind::Number,
        Some("64"),
        "Turns that one process runs at the same time; of a worker for tools, tool calls.",
    ),
    optional(
        "SA01_APPROVAL_EXPIRY",
        Kind::Number,
        Some("604800"),
        "Seconds that a tool call waits for a person's approval; then it is not made. Default seven days.",
    ),
    optional(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        Kind::Address,
        None,
        "An OpenTelemetry collector that takes traces by OTLP over HTTP, as in http://127.0.0.1:4318; none unless told.",
    ),
    optional(
        "SA01_KEYCLOAK_URL",
        Kind::Address,
        None,
        "A Keycloak server that people may sign in at, as in `https://id.example.org`.",
    ),
    optional("SA01_KEYCLOAK_REALM", Kind::Text, None, "The realm of SA01_KEYCLOAK_URL."),
    optional(
        "SA01_OIDC_ISSUER",
        Kind::Address,
        None,
        "Another OpenID provider's issuer, exactly as its tokens name it. Its endpoints share the issuer's origin.",
    ),
    optional("SA01_KEYCLOAK_CLIENT_ID", Kind::Text, None, "This install's client id at the provider."),
    optional(
        "SA01_KEYCLOAK_CLIENT_SECRET",
        Kind::Key,
        None,
        "The client's secret; absent for a public client.",
    ),
    optional(
        "SA01_OIDC_NAME",
        Kind::Text,
        Some("single sign-on"),
        "What the button says, after \"Continue with\".",
    ),
    optional(
        "SA01_OIDC_TENANT",
        Kind::Text,
        Some("default"),
        "Slug of the tenant that people of the provider come into.",
    ),
    optional(
        "SA01_OIDC_GROUP_ROLES",
        Kind::List,
        Some(""),
        "Which roles the provider's groups give, as in `admins=owner,staff=member`; other groups give nothing.",
    ),
    optional(
        "SA01_OIDC_LINK_EMAIL",
        Kind::Flag,
        Some("false"),
        "Whether a person of the provider gets the account that is here under the same verified e-mail address.",
    ),
    optional(
        "SA01_OIDC_AUDIENCE",
        Kind::Text,
        None,
        "What the provider's access tokens must be meant for (`aud`) to be taken by the API. Absent: none is.",
    ),
    optional(
        "SA01_OIDC_ALGORITHMS",
        Kind::List,
        Some("RS256"),
        "How the provider signs: RS256, ES256 or both, comma-separated.",
    ),
    optional("SA01_JWT_LEEWAY", Kind::Number, Some("30"), "Seconds that the provider's clock may be off."),
    optional("SA01_LOG", Kind::Text, Some("info"), "Log filter, as in `info,platform=debug`."),
    optional(
        "SA01_URL",
        Kind::Address,
        Some("http://127.0.0.1:8080"),
        "The server that `soma chat` and `soma approvals` talk to.",
    ),
    optional("SA01_API_KEY", Kind::Key, None, "The API key of `soma chat` and `soma approvals`."),
    optional(
        "VAULT_ADDR",
        Kind::Address,
        None,
        "A Vault or OpenBao server, as in `https://vault.example.org:8200`. Settings are then read from there too.",
    ),
    optional(
        "VAULT_SECRETS_PATH",
        Kind::Text,
        Some("secret/soma"),
        "Mount and path of the secret (key-value, version 2) whose keys are names of settings.",
    ),
    optional(
        "VAULT_TOKEN_FILE",
        Kind::Path,
        None,
        "File with a token, for Vault. It is read again when the token ends.",
    ),
    optional("VAULT_ROLE_ID", Kind::Text, None, "Role of Vault's AppRole, in place of a token."),
    optional("VAULT_SECRET_ID_FILE", Kind::Path, None, "File with the secret id of VAULT_ROLE_ID."),
    optional(
        "VAULT_KUBERNETES_ROLE",
        Kind::Text,
        None,
        "Role of Vault's Kubernetes authentication, in place of a token.",
    ),
    optional(
        "VAULT_KUBERNETES_TOKEN_FILE",
        Kind::Path,
        Some("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        "File with the service account's token.",
    ),
    optional(
        "VAULT_AUTH_MOUNT",
        Kind::Text,
        None,
        "Where the authentication is mounted. Default `approle`, or `kubernetes`.",
    ),
    optional("VAULT_NAMESPACE", Kind::Text, None, "Vault's namespace."),
    optional(
        "VAULT_CACERT",
        Kind::Path,
        None,
        "PEM file of the authority that Vault's certificate is from. The system's count too.",
    ),
];
