//! The SQL of the tools themselves: which folder is that of the workspaces.

#[cfg(feature = "faults")]
use super::effects;
use platform::{
    database::{Error, Migration, Sql, Tx},
    params,
};

pub(super) const MIGRATIONS: &[Migration] = &[
    // One row: the mark that lies in the folder, too.
    Migration {
        name: "tools_0001_workspaces_folder",
        postgres: None,
        statements: &[
            "CREATE TABLE workspaces_folder (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), mark TEXT NOT NULL)",
        ],
    },
    #[cfg(feature = "faults")]
    effects::MIGRATION,
];

/// The mark of the folder that this install uses, which is this one if it had none.
pub(super) async fn mark_of_folder(tx: &Tx, own: &str) -> Result<String, Error> {
    let sql =
        "INSERT INTO workspaces_folder (only_one, mark) VALUES (1, $1) ON CONFLICT (only_one) DO NOTHING";
    tx.run(sql, params![own]).await?;
    let row = tx.one("SELECT mark FROM workspaces_folder", params![]).await?;
    row.map_or_else(|| Ok(own.to_owned()), |row| row.text("mark"))
}
