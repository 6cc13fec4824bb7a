//! A conversation's workspace from outside: listing, downloading, uploading, removing. No path and no link leads out of
//! it; the same folder is what the conversation's tools work in.

use std::{fs::File, path::PathBuf, time::Duration};

use bytes::Bytes;
use contracts::{Caller, ConversationId};
use futures::{Stream, StreamExt};
use platform::http::{Page, Timestamp};
use sandbox::{FileError, Workspace, Writing};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    App, audit,
    authority::Permit,
    conversations::api::FileEntry,
    tools::{NoTools, WORKSPACE_BYTES_MAX},
};

/// Largest file that is taken.
const FILE_BYTES_MAX: u64 = 25 * 1024 * 1024;
/// How much of a file that is too large is read all the same, so that its sender hears the answer.
const READ_ON_BYTES_MAX: u64 = 4 * FILE_BYTES_MAX;
/// Pieces of an upload that wait for the disk.
const PIECES_MAX: usize = 8;
/// An upload that sends nothing for this long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub(in super::super) enum Error {
    #[error(transparent)]
    Conversation(#[from] super::Error),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("A file may have {FILE_BYTES_MAX} bytes at most")]
    TooLarge,
    #[error("The body broke off: nothing was stored")]
    Broken,
    /// Something that should not happen.
    #[error("{0}")]
    Failed(String),
}

impl From<NoTools> for Error {
    fn from(error: NoTools) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The workspace's folder, if the caller may do this to its files.
async fn folder(
    app: &App,
    caller: &Caller,
    action: &str,
    id: ConversationId,
) -> Result<(PathBuf, Permit), Error> {
    let (_, permit) = super::allowed(app, caller, action, id).await?;
    Ok((app.tools.get().await?.workspace_of(caller.tenant, id), permit))
}

/// Does file work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Error::Failed(format!("the file's worker failed: {error}")))??)
}

pub(in super::super) async fn list(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    path: String,
    after: String,
    limit: u32,
) -> Result<Page<FileEntry>, Error> {
    let (folder, _) = folder(app, caller, "file:read", id).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let above = path.clone();
    let (entries, more) =
        blocking(move || Workspace::open(&folder)?.list_after(&above, &after, limit)).await?;
    let above = path.trim_matches('/');
    let items: Vec<FileEntry> = entries
        .into_iter()
        .map(|entry| FileEntry {
            path: if above.is_empty() { entry.name.clone() } else { format!("{above}/{}", entry.name) },
            name: entry.name,
            kind: entry.kind,
            size: entry.size_bytes,
            modified_at: Timestamp(entry.modified_ms),
        })
        .collect();
    let next_cursor = if more { items.last().map(|entry| entry.name.clone()) } else { None };
    Ok(Page { items, next_cursor })
}

/// A file, open, and its length.
pub(in super::super) async fn open(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    path: String,
) -> Result<(tokio::fs::File, u64), Error> {
    let (folder, _) = folder(app, caller, "file:read", id).await?;
    let (file, size): (File, u64) = blocking(move || {
        let file = Workspace::open(&folder)?.open_file(&path)?;
        let size = file.metadata().map_err(|source| FileError::Io { path, source })?.len();
        Ok((file, size))
    })
    .await?;
    Ok((tokio::fs::File::from_std(file), size))
}

/// Takes a file piece by piece. It is there whole, and in the audit, or not at all.
pub(in super::super) async fn upload<E>(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    path: String,
    pieces: impl Stream<Item = Result<Bytes, E>>,
) -> Result<(), Error> {
    let (folder, permit) = folder(app, caller, "file:upload", id).await?;
    let (send, mut receive) = mpsc::channel::<Bytes>(PIECES_MAX);
    let name = path.clone();
    let writer = tokio::task::spawn_blocking(move || -> Result<(Workspace, Writing), FileError> {
        let workspace = Workspace::open(&folder)?.with_bytes_max(WORKSPACE_BYTES_MAX);
        let mut writing = workspace.begin(&name)?;
        while let Some(piece) = receive.blocking_recv() {
            writing.write(&piece)?;
        }
        workspace.check_room(&writing)?;
        Ok((workspace, writing))
    });
    let taken = take(pieces, send).await;
    let written =
        writer.await.map_err(|error| Error::Failed(format!("the file's worker failed: {error}")))?;
    // What is wrong with the path is what the sender can mend.
    let (_, writing) = written?;
    let bytes = taken?;
    let entry = permit.entry(json!({ "path": path, "bytes": bytes }));
    audit::write(app, entry).await.map_err(super::Error::from)?;
    blocking(move || writing.commit()).await
}

/// Hands an upload to its writer; answers its length.
async fn take<E>(
    pieces: impl Stream<Item = Result<Bytes, E>>,
    writer: mpsc::Sender<Bytes>,
) -> Result<u64, Error> {
    let mut pieces = std::pin::pin!(pieces);
    let mut length = 0_u64;
    while let Some(piece) =
        tokio::time::timeout(SILENCE_MAX, pieces.next()).await.map_err(|_| Error::Broken)?
    {
        let piece = piece.map_err(|_| Error::Broken)?;
        length = length.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if length > READ_ON_BYTES_MAX {
            break;
        }
        if length <= FILE_BYTES_MAX {
            // A writer that has failed takes nothing more, and says why in the end.
            let _ = writer.send(piece).await;
        }
    }
    if length > FILE_BYTES_MAX { Err(Error::TooLarge) } else { Ok(length) }
}

pub(in super::super) async fn remove(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    path: String,
) -> Result<(), Error> {
    let (folder, permit) = folder(app, caller, "file:delete", id).await?;
    let name = path.clone();
    let there = folder.clone();
    // Looked for first, so that the audit does not tell of what was never there.
    blocking(move || Workspace::open(&there)?.check_removable(&name)).await?;
    audit::write(app, permit.entry(json!({ "path": path }))).await.map_err(super::Error::from)?;
    blocking(move || Workspace::open(&folder)?.remove(&path)).await
}
