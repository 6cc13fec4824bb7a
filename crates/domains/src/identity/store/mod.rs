//! The SQL of identity, a file for each thing.

pub(super) mod attempts;
pub(super) mod encrypted;
pub(super) mod keys;
pub(super) mod links;
pub(super) mod oidc;
pub(super) mod sessions;
pub(super) mod totp;
pub(super) mod users;

use platform::database::Migration;

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "identity_0001_users_and_keys",
        postgres: None,
        statements: &[
            "CREATE TABLE users (
                id TEXT PRIMARY KEY,
                email TEXT NOT NULL UNIQUE,
                created_at BIGINT NOT NULL
            )",
            "CREATE TABLE memberships (
                tenant_id TEXT NOT NULL,
                user_id TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                PRIMARY KEY (tenant_id, user_id)
            )",
            "CREATE TABLE api_keys (
                id TEXT PRIMARY KEY,
                tenant_id TEXT NOT NULL,
                user_id TEXT NOT NULL,
                name TEXT NOT NULL,
                prefix TEXT NOT NULL,
                hash TEXT NOT NULL UNIQUE,
                scopes TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                expires_at BIGINT,
                last_used_at BIGINT,
                revoked_at BIGINT
            )",
            "CREATE INDEX api_keys_tenant ON api_keys (tenant_id, id)",
        ],
    },
    Migration {
        name: "identity_0002_sign_in",
        postgres: None,
        statements: &[
            "ALTER TABLE users ADD COLUMN name TEXT NOT NULL DEFAULT ''",
            // `person`, or `service`: one that never signs in.
            "ALTER TABLE users ADD COLUMN kind TEXT NOT NULL DEFAULT 'person'",
            "ALTER TABLE users ADD COLUMN password_hash TEXT",
            "ALTER TABLE users ADD COLUMN last_tenant_id TEXT",
            "ALTER TABLE users ADD COLUMN last_seen_at BIGINT",
            "CREATE INDEX memberships_user ON memberships (user_id)",
            // The key that took this one's place.
            "ALTER TABLE api_keys ADD COLUMN replaced_by TEXT",
            // A session that has ended has no row.
            "CREATE TABLE sessions (
                id TEXT PRIMARY KEY,
                hash TEXT NOT NULL UNIQUE,
                user_id TEXT NOT NULL,
                tenant_id TEXT NOT NULL,
                how TEXT NOT NULL,
                user_agent TEXT NOT NULL,
                address TEXT,
                created_at BIGINT NOT NULL,
                last_used_at BIGINT NOT NULL,
                expires_at BIGINT NOT NULL,
                impersonator_id TEXT,
                begun_from TEXT
            )",
            "CREATE INDEX sessions_user ON sessions (user_id, id)",
            "CREATE INDEX sessions_impersonator ON sessions (impersonator_id)",
            "CREATE INDEX sessions_expiry ON sessions (expires_at)",
            "CREATE INDEX sessions_use ON sessions (last_used_at)",
            "CREATE TABLE links (
                id TEXT PRIMARY KEY,
                hash TEXT NOT NULL UNIQUE,
                purpose TEXT NOT NULL,
                email TEXT NOT NULL,
                tenant_id TEXT NOT NULL,
                user_id TEXT,
                roles TEXT NOT NULL,
                created_by TEXT,
                created_at BIGINT NOT NULL,
                expires_at BIGINT NOT NULL,
                used_at BIGINT
            )",
            "CREATE INDEX links_tenant ON links (tenant_id, id)",
            "CREATE INDEX links_user ON links (user_id)",
            // `account` is the HMAC of an address that somebody gave, whether there is such a user or not.
            "CREATE TABLE sign_in_attempts (
                account TEXT PRIMARY KEY,
                failures BIGINT NOT NULL,
                last_at BIGINT NOT NULL,
                locked_until BIGINT
            )",
            "CREATE INDEX sign_in_attempts_time ON sign_in_attempts (last_at)",
            "CREATE TABLE totp_devices (
                user_id TEXT PRIMARY KEY,
                sealed TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                confirmed_at BIGINT,
                last_step BIGINT NOT NULL
            )",
            "CREATE TABLE backup_codes (
                user_id TEXT NOT NULL,
                hash TEXT NOT NULL,
                PRIMARY KEY (user_id, hash)
            )",
        ],
    },
    Migration {
        name: "identity_0003_oidc",
        postgres: None,
        statements: &[
            // Who somebody of an identity provider is here.
            "CREATE TABLE external_identities (
                issuer TEXT NOT NULL,
                subject TEXT NOT NULL,
                user_id TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                PRIMARY KEY (issuer, subject)
            )",
            "CREATE INDEX external_identities_user ON external_identities (user_id)",
            // Sign-ins at a provider that have come back: none does so twice.
            "CREATE TABLE oidc_states (
                hash TEXT PRIMARY KEY,
                expires_at BIGINT NOT NULL
            )",
            "CREATE INDEX oidc_states_expiry ON oidc_states (expires_at)",
            // Of a session that was begun at a provider: whose stay there it follows, and the sealed ID token.
            "ALTER TABLE sessions ADD COLUMN provider_issuer TEXT",
            "ALTER TABLE sessions ADD COLUMN provider_subject TEXT",
            "ALTER TABLE sessions ADD COLUMN provider_session TEXT",
            "ALTER TABLE sessions ADD COLUMN provider_token TEXT",
            "CREATE INDEX sessions_provider ON sessions (provider_issuer, provider_subject)",
            "CREATE INDEX sessions_provider_session ON sessions (provider_issuer, provider_session)",
        ],
    },
    Migration {
        name: "identity_0004_proven_addresses",
        postgres: None,
        statements: &[
            // When it became known that the address is the user's; until then it is only what somebody said.
            "ALTER TABLE users ADD COLUMN email_proven_at BIGINT",
            "UPDATE users SET email_proven_at = created_at WHERE id IN (SELECT user_id FROM external_identities)",
            "ALTER TABLE links ADD COLUMN mailed BIGINT NOT NULL DEFAULT 0",
        ],
    },
];
