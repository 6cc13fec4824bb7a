//! Searching in SQLite, by FTS5: an index without a copy of the texts, kept by triggers.

use contracts::TenantId;

pub(super) const MADE: &[&str] = &[
    // `message_id` is null for a conversation's title.
    "CREATE TABLE search_documents (
        id INTEGER PRIMARY KEY,
        conversation_id TEXT NOT NULL,
        message_id TEXT
    )",
    "CREATE INDEX search_documents_titles ON search_documents (conversation_id) WHERE message_id IS NULL",
    "CREATE VIRTUAL TABLE search_index USING fts5(tenant, said, content = '', contentless_delete = 1,
         tokenize = 'unicode61 remove_diacritics 2')",
    "INSERT INTO search_documents (conversation_id, message_id)
     SELECT conversation_id, id FROM messages WHERE role IN ('user', 'assistant') AND content <> ''
         AND conversation_id IN (SELECT id FROM conversations WHERE ephemeral = 0) ORDER BY id",
    "INSERT INTO search_index (rowid, tenant, said)
     SELECT search_documents.id, replace(messages.tenant_id, '-', ''), messages.content
     FROM search_documents JOIN messages ON messages.id = search_documents.message_id",
    "CREATE TRIGGER messages_search AFTER INSERT ON messages
     WHEN new.role IN ('user', 'assistant') AND new.content <> ''
         AND (SELECT ephemeral FROM conversations WHERE id = new.conversation_id) = 0 BEGIN
         INSERT INTO search_documents (conversation_id, message_id) VALUES (new.conversation_id, new.id);
         INSERT INTO search_index (rowid, tenant, said)
             VALUES (last_insert_rowid(), replace(new.tenant_id, '-', ''), new.content);
     END",
    "CREATE TRIGGER conversations_search AFTER UPDATE OF title ON conversations
     WHEN new.title IS NOT old.title AND new.ephemeral = 0 BEGIN
         DELETE FROM search_index WHERE rowid IN (SELECT id FROM search_documents
             WHERE conversation_id = new.id AND message_id IS NULL);
         DELETE FROM search_documents WHERE conversation_id = new.id AND message_id IS NULL;
         INSERT INTO search_documents (conversation_id) SELECT new.id WHERE new.title IS NOT NULL;
         INSERT INTO search_index (rowid, tenant, said)
             SELECT id, replace(new.tenant_id, '-', ''), new.title FROM search_documents
             WHERE conversation_id = new.id AND message_id IS NULL;
     END",
];

/// Makes the index anew, with one of the beginnings of words.
pub(super) const WITH_BEGINNINGS: &[&str] = &[
    "DROP TABLE search_index",
    "CREATE VIRTUAL TABLE search_index USING fts5(tenant, said, content = '', contentless_delete = 1,
         prefix = '2 3', tokenize = 'unicode61 remove_diacritics 2')",
    "INSERT INTO search_index (rowid, tenant, said)
     SELECT documents.id, replace(conversations.tenant_id, '-', ''),
         COALESCE(messages.content, conversations.title)
     FROM search_documents documents JOIN conversations ON conversations.id = documents.conversation_id
         LEFT JOIN messages ON messages.id = documents.message_id
     WHERE COALESCE(messages.content, conversations.title) IS NOT NULL ORDER BY documents.id",
];

pub(super) const FIND: &str =
    "SELECT documents.id, documents.conversation_id, documents.message_id, conversations.title,
         COALESCE(messages.content, conversations.title, '') AS said,
         COALESCE(messages.created_at, conversations.updated_at) AS at
     FROM search_index CROSS JOIN search_documents documents CROSS JOIN conversations
         LEFT JOIN messages ON messages.id = documents.message_id
     WHERE search_index MATCH $1 AND search_index.rowid < $2 AND documents.id = search_index.rowid
       AND conversations.id = documents.conversation_id AND conversations.tenant_id = $3
       AND conversations.deleted_at IS NULL
       AND $5 NOT LIKE '%\"' || conversations.agent_id || '\"%'
     ORDER BY search_index.rowid DESC LIMIT $4";

/// What FTS5 is asked: each word as a string, which is all that it has for text that may hold anything, and the last
/// one as the beginning of a word.
pub(super) fn expression(tenant: TenantId, words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    // The words that begin with a Latin letter are too many. Other scripts, whose letters are longer than a byte, may
    // say much with one.
    let begins = words.last().is_some_and(|word| word.len() > 1);
    let beginning = if begins { " *" } else { "" };
    format!(
        "tenant : \"{}\" AND said : ({}{beginning})",
        tenant.to_string().replace('-', ""),
        quoted.join(" AND ")
    )
}
