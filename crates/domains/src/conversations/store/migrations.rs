//! The tables of conversations. What was released is never changed; search has its own in `search`.

use platform::database::Migration;

pub(in super::super) const MIGRATIONS: &[Migration] = &[
    CONVERSATIONS,
    BRANCHES,
    SHELVES,
    USAGE,
    IMPERSONATOR,
    super::asks::MIGRATION,
    super::search::MIGRATION,
    STEP_USAGE,
    EVENTS_AGE,
    EVENTS_OF_TENANT,
    super::search::BEGINNINGS,
];

const CONVERSATIONS: Migration = Migration {
    name: "conversations_0001_conversations",
    postgres: None,
    statements: &[
        "CREATE TABLE conversations (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            agent_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            title TEXT,
            created_at BIGINT NOT NULL
        )",
        "CREATE INDEX conversations_tenant ON conversations (tenant_id, id)",
        "CREATE TABLE messages (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            conversation_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            role TEXT NOT NULL,
            content TEXT NOT NULL,
            tool_calls TEXT NOT NULL,
            tool_call_id TEXT,
            created_at BIGINT NOT NULL
        )",
        // A run's messages lie together, in the order of the runs: a message that waits is not before the answer
        // to the one ahead of it.
        "CREATE INDEX messages_conversation ON messages (conversation_id, run_id, id)",
        "CREATE TABLE runs (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            conversation_id TEXT NOT NULL,
            agent_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            scopes TEXT NOT NULL,
            message_id TEXT NOT NULL,
            state TEXT NOT NULL,
            code TEXT,
            error TEXT,
            input_tokens BIGINT NOT NULL DEFAULT 0,
            output_tokens BIGINT NOT NULL DEFAULT 0,
            cost_micros BIGINT NOT NULL DEFAULT 0,
            context_cut BIGINT NOT NULL DEFAULT 0,
            deadline BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            started_at BIGINT,
            finished_at BIGINT
        )",
        "CREATE INDEX runs_conversation ON runs (conversation_id, id)",
        // Only unfinished runs are ever looked for by state, and they are few.
        "CREATE INDEX runs_unfinished ON runs (state, conversation_id)
             WHERE state IN ('queued', 'running', 'waiting', 'cancelling')",
        "CREATE TABLE run_events (
            run_id TEXT NOT NULL,
            sequence BIGINT NOT NULL,
            kind TEXT NOT NULL,
            payload TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            PRIMARY KEY (run_id, sequence)
        )",
    ],
};

/// A run has a parent, a branch (named by its first run) and a position: the how-manieth run of its conversation it
/// is. What was there before was one branch.
const BRANCHES: Migration = Migration {
    name: "conversations_0002_branches",
    postgres: None,
    statements: &[
        "ALTER TABLE runs ADD COLUMN parent_run_id TEXT",
        "ALTER TABLE runs ADD COLUMN branch_id TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN position BIGINT NOT NULL DEFAULT 0",
        "UPDATE runs SET parent_run_id = chained.parent, branch_id = chained.head, position = chained.place
         FROM (SELECT id,
                   LAG(id) OVER (PARTITION BY conversation_id ORDER BY id) AS parent,
                   FIRST_VALUE(id) OVER (PARTITION BY conversation_id ORDER BY id) AS head,
                   ROW_NUMBER() OVER (PARTITION BY conversation_id ORDER BY id) AS place
               FROM runs) AS chained
         WHERE chained.id = runs.id",
        "CREATE UNIQUE INDEX runs_position ON runs (conversation_id, position)",
        "CREATE UNIQUE INDEX runs_branch ON runs (conversation_id, branch_id, position)",
        "DROP INDEX runs_conversation",
        // Only unfinished runs are looked for by state, and they are few. A query uses this index where it repeats the
        // list of states as it stands here.
        "CREATE INDEX runs_open ON runs (conversation_id, position)
             WHERE state IN ('queued', 'running', 'waiting', 'cancelling')",
        "DROP INDEX runs_unfinished",
    ],
};

/// What a list of conversations is sorted and filtered by.
const SHELVES: Migration = Migration {
    name: "conversations_0003_shelves",
    postgres: None,
    statements: &[
        "ALTER TABLE conversations ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE conversations ADD COLUMN archived BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE conversations ADD COLUMN deleted_at BIGINT",
        "UPDATE conversations SET updated_at = COALESCE((SELECT MAX(COALESCE(finished_at, created_at)) FROM runs
             WHERE runs.conversation_id = conversations.id), created_at)",
        "CREATE INDEX conversations_shelf ON conversations (tenant_id, archived, updated_at, id)
             WHERE deleted_at IS NULL",
        "CREATE INDEX conversations_agent ON conversations (tenant_id, agent_id, archived, updated_at, id)
             WHERE deleted_at IS NULL",
        "DROP INDEX conversations_tenant",
    ],
};

/// Who really sent a run's message, where an administrator acted as its user.
const IMPERSONATOR: Migration = Migration {
    name: "conversations_0009_impersonator",
    postgres: None,
    statements: &["ALTER TABLE runs ADD COLUMN impersonator_id TEXT"],
};

/// What sums of runs are made by.
const USAGE: Migration = Migration {
    name: "conversations_0005_usage",
    postgres: None,
    statements: &[
        "ALTER TABLE runs ADD COLUMN model TEXT",
        "CREATE INDEX runs_usage ON runs (tenant_id, created_at)",
    ],
};

/// What each model call of a run took.
const STEP_USAGE: Migration = Migration {
    name: "conversations_0007_step_usage",
    postgres: None,
    statements: &["CREATE TABLE step_usage (
        run_id TEXT NOT NULL,
        ordinal BIGINT NOT NULL,
        input_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        cost_micros BIGINT NOT NULL,
        PRIMARY KEY (run_id, ordinal)
    )"],
};

/// Whether a run's events are there (0), on their way out (1) or gone (2).
const EVENTS_AGE: Migration = Migration {
    name: "conversations_0008_events_age",
    postgres: None,
    statements: &[
        "ALTER TABLE runs ADD COLUMN events_dropped BIGINT NOT NULL DEFAULT 0",
        "CREATE INDEX runs_events ON runs (finished_at) WHERE events_dropped < 2 AND finished_at IS NOT NULL",
    ],
};

/// For tenants that keep events for a shorter time than the others.
const EVENTS_OF_TENANT: Migration = Migration {
    name: "conversations_0010_events_of_tenant",
    postgres: None,
    statements: &["CREATE INDEX runs_events_of_tenant ON runs (tenant_id, finished_at)
         WHERE events_dropped < 2 AND finished_at IS NOT NULL"],
};
