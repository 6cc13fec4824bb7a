//! The audit's CRITICAL-01, CRITICAL-02 and 3.2, as tests.

use std::{collections::HashMap, os::unix::fs::PermissionsExt};

use secrecy::SecretString;

use super::{
    Config, Environment, EventsChoice, Fault, Faults, Fixed, PolicyChoice, RedisChoice, SETTINGS,
    Source as _, Vault, VaultAuth, WithSecrets, WorkflowChoice, dotenv,
};

const FERNET: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";

fn good() -> HashMap<String, String> {
    [
        ("SECRET_KEY", "k3y-Material_that-is-long-enough-4-HMAC"),
        ("SA01_CRYPTO_FERNET_KEY", FERNET),
        ("SA01_DB_DSN", "sqlite://data/soma.db"),
        ("SA01_REDIS_URL", "embedded:"),
        ("SA01_KAFKA_BOOTSTRAP_SERVERS", "embedded:"),
        ("SA01_TEMPORAL_HOST", "embedded:"),
        ("SA01_OPA_URL", "embedded:"),
        ("SA01_MODEL_URL", "http://127.0.0.1:9/v1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn load(change: &[(&str, &str)]) -> Result<Config, Faults> {
    let mut values = good();
    for (name, value) in change {
        values.insert((*name).to_owned(), (*value).to_owned());
    }
    Config::load(&Fixed(values))
}

fn faults(change: &[(&str, &str)]) -> Vec<String> {
    match load(change) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.0.iter().map(|fault| format!("{}: {}", fault.name, fault.problem)).collect(),
    }
}

#[test]
fn a_good_configuration_loads() {
    assert_eq!(faults(&[]), Vec::<String>::new());
}

#[test]
fn critical_01_every_missing_setting_is_named_at_once_and_none_has_a_default() {
    let error = Config::load(&Fixed::default()).expect_err("nothing is set");
    let named: Vec<&str> = error.0.iter().map(|fault| fault.name.as_str()).collect();
    for setting in SETTINGS.iter().filter(|setting| setting.required) {
        assert!(named.contains(&setting.name), "{} is not reported", setting.name);
        assert_eq!(setting.default, None, "{} has a default", setting.name);
    }
    assert!(SETTINGS.iter().all(|setting| !setting.secret || setting.default.is_none()));
}

#[test]
fn critical_01_a_short_or_known_secret_key_is_refused_without_being_printed() {
    for bad in [
        "tiny",
        "django-insecure-dev-key-change-in-prod-0123456789",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        let faults = faults(&[("SECRET_KEY", bad)]);
        assert_eq!(faults.len(), 1, "{bad}: {faults:?}");
        assert!(faults[0].starts_with("SECRET_KEY:") && !faults[0].contains(bad));
    }
}

#[test]
fn critical_02_a_fernet_key_is_required_and_keys_rotate() {
    assert_eq!(
        faults(&[("SA01_CRYPTO_FERNET_KEY", "")]),
        ["SA01_CRYPTO_FERNET_KEY: is required and not set"]
    );
    assert_eq!(faults(&[("SA01_CRYPTO_FERNET_KEY", "not-a-key")]).len(), 1);
    let old = crate::secrets::Ring::parse(&FERNET.to_owned().into()).unwrap();
    let (_, fresh) = crate::secrets::generate();
    let both = format!("{},{FERNET}", secrecy::ExposeSecret::expose_secret(&fresh));
    let rotated = crate::secrets::Ring::parse(&both.into()).unwrap();
    let sealed = old.encrypt("kept");
    let opened = rotated.decrypt(&sealed).expect("an older key of the ring decrypts");
    assert_eq!(secrecy::ExposeSecret::expose_secret(&opened), "kept");
    assert!(old.decrypt(&rotated.encrypt("new")).is_none(), "the first key encrypts");
}

#[test]
fn a_process_reads_by_at_least_one_connection_and_not_by_thousands() {
    load(&[("SA01_DB_READERS", "1")]).unwrap();
    for wrong in ["0", "1001", "many", "-1"] {
        assert_eq!(
            faults(&[("SA01_DB_READERS", wrong)]),
            ["SA01_DB_READERS: expected a whole number from 1 to 1000"],
            "{wrong}"
        );
    }
}

#[test]
fn a_key_of_vaults_takes_the_fernet_keys_place() {
    let without_fernet = ("SA01_CRYPTO_FERNET_KEY", "");
    let vault = [("VAULT_ADDR", "https://vault.example.org"), without_fernet];
    let with = |key| [&vault[..], &[("SA01_CRYPTO_TRANSIT_KEY", key)]].concat();
    let key = load(&with("team/transit/soma")).unwrap().transit.unwrap();
    assert_eq!((key.mount.as_str(), key.name.as_str()), ("team/transit", "soma"));
    for wrong in ["soma", "transit/", "transit/../soma", "transit/a b", "transit/soma?x"] {
        let faults = faults(&with(wrong));
        assert!(
            matches!(&faults[..], [fault] if fault.starts_with("SA01_CRYPTO_TRANSIT_KEY: ")),
            "{wrong}: {faults:?}"
        );
    }
    assert_eq!(
        faults(&[("SA01_CRYPTO_TRANSIT_KEY", "transit/soma")]),
        ["SA01_CRYPTO_TRANSIT_KEY: is a key of Vault's, and VAULT_ADDR is not set"]
    );
}

#[test]
fn events_go_to_brokers_that_are_named_and_come_for_accounts_that_are() {
    let events = |settings: &[(&str, &str)]| load(settings).map(|config| config.events);
    assert!(matches!(events(&[]).unwrap(), EventsChoice::Embedded));
    let (account, other) = (contracts::UserId::new(), contracts::UserId::new());
    let named = events(&[
        ("SA01_KAFKA_BOOTSTRAP_SERVERS", "one:9092, two:9092"),
        ("SA01_KAFKA_TOPIC_PREFIX", "prod."),
        ("SA01_KAFKA_INBOUND_ACCOUNTS", &format!("{account}, {other}")),
    ]);
    let EventsChoice::Kafka(kafka) = named.unwrap() else { panic!("no Kafka") };
    assert_eq!((kafka.servers.as_str(), kafka.prefix.as_str()), ("one:9092, two:9092", "prod."));
    assert_eq!(kafka.inbound_accounts, [account, other]);
    assert!(kafka.tls.is_none() && kafka.sasl.is_none());
    for wrong in ["", "kafka://one:9092", "one", "one:9092,", "one:port", "user@one:9092", ":9092"] {
        assert_eq!(faults(&[("SA01_KAFKA_BOOTSTRAP_SERVERS", wrong)]).len(), 1, "{wrong}");
    }
    let server = ("SA01_KAFKA_BOOTSTRAP_SERVERS", "one:9092");
    assert_eq!(faults(&[server, ("SA01_KAFKA_TOPIC_PREFIX", "a b")]).len(), 1);
    assert_eq!(faults(&[server, ("SA01_KAFKA_INBOUND_ACCOUNTS", "somebody")]).len(), 1);
    assert_eq!(
        faults(&[("SA01_KAFKA_INBOUND_ACCOUNTS", &account.to_string())]).len(),
        1,
        "nobody brings events"
    );
}

#[test]
fn brokers_are_spoken_to_as_their_listeners_ask_and_what_would_count_for_nothing_is_a_fault() {
    let server = ("SA01_KAFKA_BOOTSTRAP_SERVERS", "one:9093");
    let protocol = |value| ("SA01_KAFKA_SECURITY_PROTOCOL", value);
    let who = [("SA01_KAFKA_SASL_USERNAME", "soma"), ("SA01_KAFKA_SASL_PASSWORD", "hunter2")];
    let tls = [("SA01_KAFKA_TLS_CERT", "c.pem"), ("SA01_KAFKA_TLS_KEY", "k.pem")];
    let events = load(&[&[server, protocol("SASL_SSL")][..], &who, &tls].concat()).unwrap().events;
    let EventsChoice::Kafka(kafka) = &events else { panic!("no Kafka") };
    let (sasl, shown) = (kafka.sasl.as_ref().unwrap(), kafka.tls.clone().unwrap().shown.unwrap());
    assert_eq!((sasl.mechanism, sasl.username.as_str()), ("SCRAM-SHA-512", "soma"));
    assert_eq!((shown.certificate, shown.key), ("c.pem".into(), "k.pem".into()));
    assert!(!format!("{events:?}").contains("hunter2"), "{events:?}");

    type Given<'a> = &'a [(&'a str, &'a str)];
    let wrong: [(Given<'_>, &[&str]); 6] = [
        (&[protocol("tls")], &["SA01_KAFKA_SECURITY_PROTOCOL"]),
        (&[protocol("sasl_ssl")], &["SA01_KAFKA_SASL_USERNAME", "SA01_KAFKA_SASL_PASSWORD"]),
        (&[protocol("ssl"), who[0], who[1]], &["SA01_KAFKA_SASL_USERNAME", "SA01_KAFKA_SASL_PASSWORD"]),
        (&[protocol("ssl"), tls[0]], &["SA01_KAFKA_TLS_KEY"]),
        (&[("SA01_KAFKA_TLS_CA", "ca.pem")], &["SA01_KAFKA_TLS_CA"]),
        (&[("SA01_KAFKA_SASL_MECHANISM", "GSSAPI")], &["SA01_KAFKA_SASL_MECHANISM"]),
    ];
    for (settings, names) in wrong {
        let faults = faults(&[&[server], settings].concat());
        let named: Vec<_> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
        assert_eq!(named, names, "{settings:?}");
    }
}

#[test]
fn a_temporal_server_is_spoken_to_by_tls_where_its_address_says_so() {
    let choice = |settings: &[(&str, &str)]| load(settings).map(|config| config.workflows.choice);
    let key = ("SA01_TEMPORAL_API_KEY", "hunter2");
    let authority = ("SA01_TEMPORAL_TLS_CA", "ca.pem");
    let secure = choice(&[("SA01_TEMPORAL_HOST", "https://one:7233"), key, authority]).unwrap();
    let WorkflowChoice::Temporal(server) = &secure else { panic!("no Temporal") };
    assert_eq!(server.address, "one:7233");
    assert_eq!(server.tls.clone().unwrap().authorities, Some("ca.pem".into()));
    assert!(server.api_key.is_some() && !format!("{secure:?}").contains("hunter2"), "{secure:?}");

    let plain = ("SA01_TEMPORAL_HOST", "one:7233");
    assert!(matches!(choice(&[plain]).unwrap(), WorkflowChoice::Temporal(server) if server.tls.is_none()));
    assert!(faults(&[plain, key])[0].starts_with("SA01_TEMPORAL_API_KEY: is sent by TLS alone"));
    assert!(faults(&[plain, authority])[0].starts_with("SA01_TEMPORAL_TLS_CA: counts for nothing"));
    for wrong in ["http://one:7233", "https://one", "https://one:7233/path", "https://"] {
        assert_eq!(faults(&[("SA01_TEMPORAL_HOST", wrong)]).len(), 1, "{wrong}");
    }
}

#[test]
fn what_processes_share_is_an_address_of_redis_that_is_not_printed() {
    let redis = |value: &str| load(&[("SA01_REDIS_URL", value)]).map(|config| config.redis);
    assert_eq!(redis("embedded:").unwrap(), RedisChoice::Embedded);
    let server = redis("redis://:hunter2@127.0.0.1:6379/1").unwrap();
    assert!(matches!(server, RedisChoice::Server(_)) && !format!("{server:?}").contains("hunter2"));
    let faults = faults(&[("SA01_REDIS_URL", "http://:hunter2@cache")]);
    assert!(faults.len() == 1 && faults[0].starts_with("SA01_REDIS_URL: expected"), "{faults:?}");
    assert!(!faults[0].contains("hunter2"), "{faults:?}");
}

#[test]
fn the_policys_server_is_named_by_its_base() {
    let policy = |value: &str| load(&[("SA01_OPA_URL", value)]).unwrap().policy;
    assert_eq!(policy("embedded:"), PolicyChoice::Embedded);
    let url = "http://127.0.0.1:8181/behind/";
    assert_eq!(policy(url), PolicyChoice::Server(url.parse().unwrap()));
    for bad in [
        "opa",
        "ftp://opa",
        "http://user:hunter2@opa",
        "http://opa/v1/data",
        "http://opa/v1/data/",
        "http://opa?a",
    ] {
        let faults = faults(&[("SA01_OPA_URL", bad)]);
        assert_eq!(faults.len(), 1, "{bad}");
        assert!(faults[0].contains("ends before `/v1/data`") && !faults[0].contains(bad), "{faults:?}");
    }
}

fn vault(settings: &[(&str, &str)]) -> Result<Option<Vault>, Vec<String>> {
    let values = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let told = |fault: &Fault| format!("{}: {}", fault.name, fault.problem);
    Vault::load(&Fixed(values)).map_err(|faults| faults.0.iter().map(told).collect())
}

#[test]
fn who_asks_vault_is_said_in_one_way() {
    assert_eq!(vault(&[("VAULT_TOKEN_FILE", "/t")]), Ok(None));
    let at = ("VAULT_ADDR", "https://vault.example.org:8200");
    let loaded = vault(&[at, ("VAULT_TOKEN_FILE", "/t")]).unwrap().unwrap();
    assert_eq!((loaded.mount.as_str(), loaded.path.as_str()), ("secret", "soma"));
    assert_eq!(loaded.auth, VaultAuth::Token { file: "/t".into() });
    let role =
        [at, ("VAULT_ROLE_ID", "r"), ("VAULT_SECRET_ID_FILE", "/s"), ("VAULT_SECRETS_PATH", "kv/a/b/")];
    let loaded = vault(&role).unwrap().unwrap();
    assert_eq!((loaded.mount.as_str(), loaded.path.as_str()), ("kv", "a/b"));
    assert!(matches!(loaded.auth, VaultAuth::AppRole { mount, .. } if mount == "approle"));
    let loaded =
        vault(&[at, ("VAULT_KUBERNETES_ROLE", "r"), ("VAULT_AUTH_MOUNT", "k8s/one")]).unwrap().unwrap();
    assert!(matches!(loaded.auth, VaultAuth::Kubernetes { mount, .. } if mount == "k8s/one"));

    let check = |settings: &[(&str, &str)], problem: &str| {
        let faults = vault(settings).unwrap_err();
        assert!(faults.len() == 1 && faults[0].contains(problem), "{faults:?}");
    };
    check(&[at], "VAULT_ADDR: set one of");
    check(&[at, ("VAULT_TOKEN_FILE", "/t"), ("VAULT_ROLE_ID", "r")], "VAULT_ADDR: set one of");
    check(&[at, ("VAULT_ROLE_ID", "r")], "VAULT_SECRET_ID_FILE: is required");
    check(&[at, ("VAULT_TOKEN_FILE", "/t"), ("VAULT_SECRETS_PATH", "soma")], "VAULT_SECRETS_PATH: expected");
    check(&[("VAULT_ADDR", "http://vault.internal"), ("VAULT_TOKEN_FILE", "/t")], "over https");
    check(&[("VAULT_ADDR", "https://u:p@vault"), ("VAULT_TOKEN_FILE", "/t")], "expected an http(s) URL");
}

#[test]
fn a_setting_is_in_vault_or_in_the_environment_and_not_in_both() {
    let secrets =
        |name: &str| HashMap::from([(name.to_owned(), SecretString::from("canary-4711".to_owned()))]);
    let environment = || Environment { file: HashMap::from([("SA01_DB_DSN".into(), "sqlite://a".into())]) };
    let both = WithSecrets::new(environment(), secrets("SECRET_KEY")).unwrap();
    assert_eq!(both.get("SECRET_KEY").as_deref(), Some("canary-4711"));
    assert_eq!(both.get("SA01_DB_DSN").as_deref(), Some("sqlite://a"));
    for (name, problem) in [
        ("SA01_DB_DSN", "in Vault and in the environment"),
        ("SECRET_KYE", "no setting"),
        ("VAULT_ADDR", "no setting that can come from there"),
    ] {
        let faults = WithSecrets::new(environment(), secrets(name)).unwrap_err();
        assert!(faults.0.len() == 1 && faults.0[0].name == name, "{faults}");
        assert!(faults.0[0].problem.contains(problem) && !faults.to_string().contains("canary"), "{faults}");
    }
}

#[test]
fn high_03_a_dotenv_file_that_others_may_read_is_refused() {
    let folder = std::env::temp_dir().join(format!("soma-dotenv-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("env");
    std::fs::write(&path, "# keys\nA=1\nB=\"two words\"\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(dotenv::read(&path).is_err_and(|fault| fault.problem.contains("chmod 600")));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let read = dotenv::read(&path).unwrap();
    assert_eq!(read, HashMap::from([("A".into(), "1".into()), ("B".into(), "two words".into())]));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_the_gateway_is_told_is_checked_by_name() {
    for (change, fault) in [
        (vec![("SA01_TLS_CERT", "cert.pem")], "SA01_TLS_KEY: is required with SA01_TLS_CERT"),
        (vec![("SA01_TLS_KEY", "key.pem")], "SA01_TLS_CERT: is required with SA01_TLS_KEY"),
        (vec![("SA01_TRUSTED_PROXIES", "10.0.0.0/8,proxy")], "SA01_TRUSTED_PROXIES: `proxy` is no network"),
        (vec![("SA01_PROXY_HEADER", "via")], "SA01_PROXY_HEADER: expected `x-forwarded-for` or `forwarded`"),
        (vec![("SA01_CORS_ORIGINS", "*")], "SA01_CORS_ORIGINS: `*` is no origin"),
        (vec![("SA01_CORS_ORIGINS", "https://a.example/")], "SA01_CORS_ORIGINS: `https://a.example/` is no"),
        (vec![("SA01_CONNECTIONS_MAX", "0")], "SA01_CONNECTIONS_MAX: expected 1 to"),
        (vec![("SA01_STALL_TIMEOUT", "never")], "SA01_STALL_TIMEOUT: expected a whole number of seconds"),
        (vec![("SA01_RATE_LIMIT_KEY", "-1")], "SA01_RATE_LIMIT_KEY: expected a whole number of requests"),
    ] {
        let faults = faults(&change);
        assert!(faults.len() == 1 && faults[0].starts_with(fault), "{fault}: {faults:?}");
    }
    let good = [
        ("SA01_TLS_CERT", "cert.pem"),
        ("SA01_TLS_KEY", "key.pem"),
        ("SA01_TRUSTED_PROXIES", "10.0.0.0/8, fd00::1"),
        ("SA01_PROXY_HEADER", "Forwarded"),
        ("SA01_CORS_ORIGINS", "https://a.example, http://localhost:5173"),
        ("SA01_RATE_LIMIT_TENANT", "0"),
    ];
    assert_eq!(faults(&good), Vec::<String>::new());
}

#[test]
fn mail_goes_encrypted_or_not_beyond_this_machine_and_its_password_is_not_printed() {
    let with = |url: &str, from: &str| faults(&[("SA01_SMTP_URL", url), ("SA01_MAIL_FROM", from)]);
    let from = "Agents <agents@example.org>";
    for good in [
        "smtps://soma:canary@mail.example.org",
        "smtp://soma:canary@mail.example.org?tls=required",
        "smtp://127.0.0.1:2525",
        "smtp://[::1]:2525",
        "smtp://localhost",
    ] {
        assert_eq!(with(good, from), Vec::<String>::new(), "{good}");
    }
    for bad in [
        "smtp://soma:canary@mail.example.org",
        "smtp://soma:canary@mail.example.org?tls=opportunistic",
        "http://soma:canary@mail.example.org",
        "smtp://127.0.0.1.canary.org",
        "canary",
    ] {
        let faults = with(bad, from);
        assert_eq!(faults.len(), 1, "{bad}: {faults:?}");
        assert!(faults[0].starts_with("SA01_SMTP_URL:") && !faults[0].contains("canary"), "{faults:?}");
    }
    for from in ["", "nobody", "a@b, c@d"] {
        let faults = with("smtps://mail.example.org", from);
        assert!(faults.len() == 1 && faults[0].starts_with("SA01_MAIL_FROM:"), "{from}: {faults:?}");
    }
}

#[test]
fn where_people_come_from_and_how_long_they_stay_is_checked() {
    for (name, bad) in [
        ("SA01_PUBLIC_URL", "agents.example.org"),
        ("SA01_PUBLIC_URL", "ftp://agents.example.org"),
        ("SA01_PUBLIC_URL", "https://user@agents.example.org"),
        ("SA01_PUBLIC_URL", "https://agents.example.org/#x"),
        ("SA01_SESSION_IDLE", "0"),
        ("SA01_SESSION_MAX", "-1"),
        ("SA01_SESSION_MAX", "soon"),
    ] {
        let faults = faults(&[(name, bad)]);
        assert!(faults.len() == 1 && faults[0].starts_with(&format!("{name}:")), "{bad}: {faults:?}");
    }
}
