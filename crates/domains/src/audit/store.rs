//! The audit's SQL. There is no update and no delete, and triggers refuse both.

use std::sync::LazyLock;

use contracts::TenantId;
use platform::{
    database::{Error, InsertRows, Migration, Param, Row, Sql, Text, Tx, Value},
    http::PageRequest,
    params,
};

use super::{
    chain::{GENESIS, Head, Record},
    query::Filter,
};

/// Entries that one page of a search looks at: what bounds its time, however few of them fit.
const LOOKED_AT_MAX: i64 = 4000;
/// An entry's id is made a moment before or after its time is taken, and a clock may be set back meanwhile.
const CLOCK_SLACK_MS: i64 = 60_000;

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "audit_0001_entries",
        postgres: None,
        statements: &[
            "CREATE TABLE audit_entries (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            at BIGINT NOT NULL,
            actor_id TEXT NOT NULL,
            action TEXT NOT NULL,
            resource_type TEXT NOT NULL,
            resource_id TEXT,
            effect TEXT NOT NULL,
            reason TEXT NOT NULL,
            policy_revision TEXT NOT NULL,
            details TEXT NOT NULL
        )",
            "CREATE INDEX audit_entries_tenant ON audit_entries (tenant_id, id)",
        ],
    },
    Migration {
        name: "audit_0002_chain",
        postgres: Some(CHAIN_ON_POSTGRES),
        statements: &[
            "ALTER TABLE audit_entries ADD COLUMN impersonator_id TEXT",
            "ALTER TABLE audit_entries ADD COLUMN sequence BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE audit_entries ADD COLUMN previous_hash TEXT",
            "ALTER TABLE audit_entries ADD COLUMN hash TEXT",
            // What is there already can't be hashed in SQL. It gets the numbers up to 0; the chain begins at 1.
            "UPDATE audit_entries SET sequence = placed.sequence FROM (
                 SELECT id AS placed_id, ROW_NUMBER() OVER (PARTITION BY tenant_id ORDER BY id)
                     - COUNT(*) OVER (PARTITION BY tenant_id) AS sequence FROM audit_entries) AS placed
             WHERE placed.placed_id = audit_entries.id",
            "CREATE UNIQUE INDEX audit_entries_sequence ON audit_entries (tenant_id, sequence)",
            "CREATE TABLE audit_heads (
                 tenant_id TEXT PRIMARY KEY,
                 sequence BIGINT NOT NULL,
                 hash TEXT NOT NULL,
                 earlier BIGINT NOT NULL DEFAULT 0
             )",
            "INSERT INTO audit_heads (tenant_id, sequence, hash, earlier)
             SELECT tenant_id, 0, '0000000000000000000000000000000000000000000000000000000000000000', COUNT(*)
             FROM audit_entries GROUP BY tenant_id",
            "CREATE TRIGGER audit_entries_only_next BEFORE INSERT ON audit_entries
             WHEN NEW.hash IS NULL OR NEW.previous_hash IS NULL
                 OR NEW.sequence <> COALESCE(
                     (SELECT sequence FROM audit_heads WHERE tenant_id = NEW.tenant_id), 0) + 1
                 OR EXISTS (SELECT 1 FROM audit_entries WHERE id = NEW.id)
             BEGIN SELECT RAISE(ABORT, 'the audit takes only the next entry of a chain'); END",
            "CREATE TRIGGER audit_entries_head AFTER INSERT ON audit_entries
             BEGIN
                 INSERT INTO audit_heads (tenant_id, sequence, hash) VALUES (NEW.tenant_id, NEW.sequence, NEW.hash)
                 ON CONFLICT (tenant_id) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash;
             END",
            "CREATE TRIGGER audit_entries_no_update BEFORE UPDATE ON audit_entries
             BEGIN SELECT RAISE(ABORT, 'entries of the audit are never changed'); END",
            "CREATE TRIGGER audit_entries_no_delete BEFORE DELETE ON audit_entries
             BEGIN SELECT RAISE(ABORT, 'entries of the audit are never removed'); END",
            "CREATE TRIGGER audit_heads_only_forward BEFORE UPDATE ON audit_heads
             WHEN NEW.tenant_id <> OLD.tenant_id OR NEW.earlier <> OLD.earlier OR NEW.sequence <> OLD.sequence + 1
             BEGIN SELECT RAISE(ABORT, 'the head of an audit only moves to the next entry'); END",
            "CREATE TRIGGER audit_heads_no_delete BEFORE DELETE ON audit_heads
             BEGIN SELECT RAISE(ABORT, 'the head of an audit is never removed'); END",
        ],
    },
    Migration {
        name: "audit_0003_search",
        postgres: None,
        statements: &[
            "CREATE INDEX audit_entries_actor ON audit_entries (tenant_id, actor_id, id)",
            "CREATE INDEX audit_entries_action ON audit_entries (tenant_id, action, id)",
            "CREATE INDEX audit_entries_resource ON audit_entries (tenant_id, resource_id, id)
             WHERE resource_id IS NOT NULL",
            // Nearly all that is done was allowed, so the others are few.
            "CREATE INDEX audit_entries_refused ON audit_entries (tenant_id, id) WHERE effect <> 'allow'",
        ],
    },
];

/// The same on PostgreSQL, whose triggers that come after a statement's rows would see the first of several only: each
/// row moves the head before the next one is looked at. There a table can be emptied past its rows' triggers too.
const CHAIN_ON_POSTGRES: &[&str] = &[
    "ALTER TABLE audit_entries ADD COLUMN impersonator_id TEXT",
    "ALTER TABLE audit_entries ADD COLUMN sequence BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE audit_entries ADD COLUMN previous_hash TEXT",
    "ALTER TABLE audit_entries ADD COLUMN hash TEXT",
    "CREATE UNIQUE INDEX audit_entries_sequence ON audit_entries (tenant_id, sequence)",
    "CREATE TABLE audit_heads (
         tenant_id TEXT PRIMARY KEY,
         sequence BIGINT NOT NULL,
         hash TEXT NOT NULL,
         earlier BIGINT NOT NULL DEFAULT 0
     )",
    "CREATE FUNCTION soma_audit_next() RETURNS trigger LANGUAGE plpgsql AS $$
     DECLARE last BIGINT;
     BEGIN
         SELECT sequence INTO last FROM audit_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
         IF NEW.hash IS NULL OR NEW.previous_hash IS NULL OR NEW.sequence <> COALESCE(last, 0) + 1 THEN
             RAISE EXCEPTION 'the audit takes only the next entry of a chain';
         END IF;
         INSERT INTO audit_heads (tenant_id, sequence, hash) VALUES (NEW.tenant_id, NEW.sequence, NEW.hash)
         ON CONFLICT (tenant_id) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash;
         RETURN NEW;
     END $$",
    "CREATE TRIGGER audit_entries_only_next BEFORE INSERT ON audit_entries
     FOR EACH ROW EXECUTE FUNCTION soma_audit_next()",
    "CREATE FUNCTION soma_audit_forward() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF NEW.tenant_id <> OLD.tenant_id OR NEW.earlier <> OLD.earlier OR NEW.sequence <> OLD.sequence + 1 THEN
             RAISE EXCEPTION 'the head of an audit only moves to the next entry';
         END IF;
         RETURN NEW;
     END $$",
    "CREATE TRIGGER audit_heads_only_forward BEFORE UPDATE ON audit_heads
     FOR EACH ROW EXECUTE FUNCTION soma_audit_forward()",
    "CREATE FUNCTION soma_audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         RAISE EXCEPTION '% is never changed or removed', TG_TABLE_NAME;
     END $$",
    "CREATE TRIGGER audit_entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
     FOR EACH STATEMENT EXECUTE FUNCTION soma_audit_stays()",
    "CREATE TRIGGER audit_heads_stay BEFORE DELETE OR TRUNCATE ON audit_heads
     FOR EACH STATEMENT EXECUTE FUNCTION soma_audit_stays()",
];

/// The end of a tenant's chain.
pub(super) async fn head(connection: &impl Sql, tenant: &str) -> Result<Head, Error> {
    Ok(head_and_earlier(connection, tenant).await?.0)
}

/// The end of a tenant's chain, and how many entries are older than the chain.
pub(super) async fn head_and_earlier(connection: &impl Sql, tenant: &str) -> Result<(Head, i64), Error> {
    let sql = "SELECT sequence, hash, earlier FROM audit_heads WHERE tenant_id = $1";
    connection.one(sql, params![tenant]).await?.map_or(Ok((Head::genesis(), 0)), |row| {
        Ok((Head { sequence: row.int("sequence")?, hash: row.text("hash")? }, row.int("earlier")?))
    })
}

/// Nothing is added when the chain's head is another than $2: that of tenant $1, where $3 stands for none.
static INSERT: LazyLock<InsertRows> = LazyLock::new(|| {
    InsertRows::new(COLUMNS, 4, |rows| {
        format!(
            "INSERT INTO audit_entries (id, tenant_id, at, actor_id, action, resource_type, resource_id, effect, reason,
                 policy_revision, details, impersonator_id, sequence, previous_hash, hash)
             SELECT * FROM (VALUES {rows}) AS rows
             WHERE $2 = COALESCE((SELECT hash FROM audit_heads WHERE tenant_id = $1), $3)"
        )
    })
});

const COLUMNS: usize = 15;

fn columns(record: &Record) -> [Value; COLUMNS] {
    [
        record.id.as_str().param(),
        record.tenant.as_str().param(),
        record.at.param(),
        record.actor.as_str().param(),
        record.action.as_str().param(),
        record.resource_type.as_str().param(),
        record.resource_id.as_deref().param(),
        record.effect.as_str().param(),
        record.reason.as_str().param(),
        record.revision.as_str().param(),
        record.details.as_str().param(),
        record.impersonator.as_deref().param(),
        record.sequence.param(),
        record.previous_hash.as_deref().param(),
        record.hash.as_deref().param(),
    ]
}

/// Adds records of one tenant that follow each other, unless the chain's head is another than the one that the first
/// follows. Triggers move the head, and take no entry but the next.
pub(super) async fn insert(tx: &Tx, records: &[Record]) -> Result<bool, Error> {
    for (sql, now) in INSERT.parts(records) {
        let [first, ..] = now else { break };
        let mut values = params![first.tenant.as_str(), first.previous_hash.as_deref(), GENESIS];
        values.extend(now.iter().flat_map(columns));
        if tx.run(sql, values).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tenants that have entries, or a chain.
pub(super) async fn tenants(connection: &impl Sql) -> Result<Vec<TenantId>, Error> {
    let sql =
        "SELECT tenant_id FROM audit_heads UNION SELECT tenant_id FROM audit_entries ORDER BY tenant_id";
    connection.all(sql, params![]).await?.iter().map(|row| row.parse("tenant_id")).collect()
}

macro_rules! entries {
    (by $index:expr; $($rest:expr),+) => {
        concat!(
            "SELECT id, sequence, tenant_id, at, actor_id, impersonator_id, action, resource_type, resource_id, ",
            "effect, reason, policy_revision, details, previous_hash, hash FROM audit_entries ",
            $index, " WHERE tenant_id = $1 ", $($rest),+
        )
    };
}

fn record(row: &Row) -> Result<Record, Error> {
    Ok(Record {
        id: row.text("id")?,
        sequence: row.int("sequence")?,
        tenant: row.text("tenant_id")?,
        at: row.int("at")?,
        actor: row.text("actor_id")?,
        impersonator: row.text_opt("impersonator_id")?,
        action: row.text("action")?,
        resource_type: row.text("resource_type")?,
        resource_id: row.text_opt("resource_id")?,
        effect: row.text("effect")?,
        reason: row.text("reason")?,
        revision: row.text("policy_revision")?,
        details: row.text("details")?,
        previous_hash: row.text_opt("previous_hash")?,
        hash: row.text_opt("hash")?,
    })
}

/// Entries after a place in the chain, in its order. `None` is before all.
pub(super) async fn after(
    connection: &impl Sql,
    tenant: &str,
    sequence: Option<i64>,
    limit: i64,
) -> Result<Vec<Record>, Error> {
    let sql = entries!(by ""; "AND sequence > $2 ORDER BY sequence LIMIT $3");
    let rows = connection.all(sql, params![tenant, sequence.unwrap_or(i64::MIN), limit]).await?;
    rows.iter().map(record).collect()
}

/// Entries older than the chain: how many there are.
pub(super) async fn count_earlier(connection: &impl Sql, tenant: &str) -> Result<i64, Error> {
    let sql = "SELECT COUNT(*) AS entries FROM audit_entries WHERE tenant_id = $1 AND sequence <= 0";
    connection.one(sql, params![tenant]).await?.map_or(Ok(0), |row| row.int("entries"))
}

/// What a filter asks for, as $4 to $11.
macro_rules! fits {
    () => {
        "AND ($4 IS NULL OR actor_id = $4) AND ($5 IS NULL OR action = $5) AND ($6 IS NULL OR effect = $6) \
         AND ($7 IS NULL OR resource_type = $7) AND ($8 IS NULL OR resource_id = $8) \
         AND ($9 IS NULL OR at >= $9) AND ($10 IS NULL OR at < $10) \
         AND ($11 IS NULL OR LOWER(action || ' ' || resource_type || ' ' || COALESCE(resource_id, '') || ' ' \
             || reason || ' ' || details) LIKE $11 ESCAPE '\\') "
    };
}

/// Looking at entries, newest first, in the order of one index.
struct Walk {
    /// The last entry that a page looks at, when there are as many.
    stop: Text,
    /// What fits among those.
    find: Text,
}

/// Of the index and its own condition, once with the fifth parameter and once with the filter's own. SQLite is told the
/// index, because without statistics it took that of the tenant for all: 100,000 entries for an actor's 2,500.
/// PostgreSQL has statistics.
macro_rules! walk {
    ($index:literal, $alone:literal, $filtered:literal) => {
        Walk {
            stop: Text {
                sqlite: walk!(stop concat!("INDEXED BY ", $index), $alone),
                postgres: walk!(stop "", $alone),
            },
            find: Text {
                sqlite: walk!(find concat!("INDEXED BY ", $index), $filtered),
                postgres: walk!(find "", $filtered),
            },
        }
    };
    (stop $by:expr, $alone:literal) => {
        concat!(
            "SELECT id FROM audit_entries ",
            $by,
            " WHERE tenant_id = $1 AND id < $2 AND id >= $3 ",
            $alone,
            " ORDER BY id DESC LIMIT 1 OFFSET $4"
        )
    };
    (find $by:expr, $filtered:literal) => {
        entries!(by $by; "AND id < $2 AND id >= $3 ", $filtered, " ", fits!(), "ORDER BY id DESC LIMIT $12")
    };
}

const ALL: Walk = walk!("audit_entries_tenant", "", "");
const REFUSED: Walk = walk!("audit_entries_refused", "AND effect <> 'allow'", "AND effect <> 'allow'");
const OF_ACTION: Walk = walk!("audit_entries_action", "AND action = $5", "AND action = $5");
const OF_ACTOR: Walk = walk!("audit_entries_actor", "AND actor_id = $5", "AND actor_id = $4");
const OF_RESOURCE: Walk = walk!("audit_entries_resource", "AND resource_id = $5", "AND resource_id = $8");

/// The index that leaves the fewest entries to look at, and the value that it is asked for.
fn walk(filter: &Filter) -> (Walk, Option<&String>) {
    match filter {
        Filter { resource_id: Some(id), .. } => (OF_RESOURCE, Some(id)),
        Filter { effect: Some(effect), .. } if effect != "allow" => (REFUSED, None),
        Filter { actor: Some(actor), .. } => (OF_ACTOR, Some(actor)),
        Filter { action: Some(action), .. } => (OF_ACTION, Some(action)),
        _ => (ALL, None),
    }
}

/// What a page of a search found.
pub(super) struct Found {
    /// Newest first, one more than the page has if there is another.
    pub records: Vec<Record>,
    /// Where to go on when the page has looked at as much as it may.
    pub goes_on_at: Option<String>,
}

pub(super) async fn search(
    connection: &impl Sql,
    tenant: TenantId,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Found, Error> {
    let (walk, asked) = walk(filter);
    let lowest =
        filter.from.map_or_else(String::new, |from| first_id_at(from.saturating_sub(CLOCK_SLACK_MS)));
    // Ids are hexadecimal, so `g` is after them all.
    let before = page.after.clone().unwrap_or_else(|| "g".into());
    let latest = filter.to.map(|to| first_id_at(to.saturating_add(CLOCK_SLACK_MS)));
    let before = latest.map_or_else(|| before.clone(), |latest| latest.min(before.clone()));

    let mut bounds = params![tenant, before.as_str(), lowest.as_str(), LOOKED_AT_MAX - 1];
    bounds.extend(asked.map(|value| Value::from(value.as_str())));
    let stop =
        connection.one(walk.stop.of(connection), bounds).await?.map(|row| row.text("id")).transpose()?;
    let pattern = filter.text.as_deref().map(contains);
    let rows = connection
        .all(
            walk.find.of(connection),
            params![
                tenant,
                before,
                stop.as_deref().unwrap_or(&lowest),
                filter.actor.as_deref(),
                filter.action.as_deref(),
                filter.effect.as_deref(),
                filter.resource_type.as_deref(),
                filter.resource_id.as_deref(),
                filter.from,
                filter.to,
                pattern,
                page.rows_wanted()
            ],
        )
        .await?;
    Ok(Found { records: rows.iter().map(record).collect::<Result<_, _>>()?, goes_on_at: stop })
}

/// The smallest id that can be made in this millisecond: a UUID of version 7 begins with its time.
fn first_id_at(ms: i64) -> String {
    let hex = format!("{:012x}", ms.clamp(0, (1 << 48) - 1));
    format!("{}-{}", &hex[..8], &hex[8..])
}

/// A pattern for texts that hold this one.
fn contains(text: &str) -> String {
    format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

#[cfg(test)]
mod tests {
    use super::{contains, first_id_at};

    #[test]
    fn a_time_is_before_the_ids_made_then_and_after_those_made_before() {
        let id = uuid::Uuid::now_v7();
        let (seconds, nanoseconds) = id.get_timestamp().unwrap().to_unix();
        let ms = i64::try_from(seconds).unwrap() * 1000 + i64::from(nanoseconds) / 1_000_000;
        let id = id.to_string();
        assert!(first_id_at(ms) <= id && first_id_at(ms + 1) > id && first_id_at(ms - 1) < id, "{id}");
        assert_eq!(first_id_at(-1), "00000000-0000");
    }

    #[test]
    fn what_is_searched_for_stands_for_itself() {
        assert_eq!(contains(r"50%_\"), r"%50\%\_\\%");
    }
}
