//! A conversation's workspace from outside: listing, downloading, uploading, removing. No path and no link leads out of
//! it; the same folder is what the conversation's tools work in.

use std::{fs::File, path::PathBuf, time::Duration};

use bytes::Bytes;
use contracts::{Caller, ConversationId};
use futures::{Stream, StreamExt};
use platform::http::{Page, Timestamp};
use sandbox::{FileError, Workspace, Writing};
use serde_json::json;

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
/// As much of an upload is written at a time.
const BLOCK_BYTES: usize = 256 * 1024;
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
    let name = path.clone();
    let begun = blocking(move || {
        let workspace = Workspace::open(&folder)?.with_bytes_max(WORKSPACE_BYTES_MAX);
        let writing = workspace.begin(&name)?;
        Ok(Upload { workspace, writing })
    })
    .await;
    let (length, written) = take(pieces, begun).await;
    // What is wrong with the path is what the sender can mend.
    let Upload { workspace, writing } = written?;
    let bytes = length?;
    let writing = blocking(move || workspace.check_room(&writing).map(|()| writing)).await?;
    let entry = permit.entry(json!({ "path": path, "bytes": bytes }));
    audit::write(app, entry).await.map_err(super::Error::from)?;
    blocking(move || writing.commit()).await
}

/// A file on its way into a workspace.
struct Upload {
    workspace: Workspace,
    writing: Writing,
}

/// Writes an upload as it comes, a block at a time: a thread works on it while there is something to write, and never
/// waits for the client. Answers its length, and the file or why there is none; it is read on all the same, so that its
/// sender hears the answer.
async fn take<E>(
    pieces: impl Stream<Item = Result<Bytes, E>>,
    mut file: Result<Upload, Error>,
) -> (Result<u64, Error>, Result<Upload, Error>) {
    let mut pieces = std::pin::pin!(pieces);
    let (mut length, mut block) = (0_u64, Vec::new());
    loop {
        let piece = match tokio::time::timeout(SILENCE_MAX, pieces.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => break,
            Ok(Some(Err(_))) | Err(_) => return (Err(Error::Broken), file),
        };
        length = length.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if length > READ_ON_BYTES_MAX {
            break;
        }
        if length <= FILE_BYTES_MAX && file.is_ok() {
            block.extend_from_slice(&piece);
            if block.len() >= BLOCK_BYTES {
                file = write(file, std::mem::take(&mut block)).await;
            }
        }
    }
    if length > FILE_BYTES_MAX {
        return (Err(Error::TooLarge), file);
    }
    (Ok(length), write(file, block).await)
}

async fn write(file: Result<Upload, Error>, block: Vec<u8>) -> Result<Upload, Error> {
    let mut upload = file?;
    blocking(move || upload.writing.write(&block).map(|()| upload)).await
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{conversations, tests::World};

    /// Threads for work that may block, fewer than there are uploads.
    const THREADS: usize = 4;

    #[test]
    fn uploads_that_send_nothing_more_hold_no_thread() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .max_blocking_threads(THREADS)
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = Arc::new(World::new().await);
            let run = conversations::send_for_test(&world.app, &world.caller, "hello", world.unguarded());
            let run = conversations::journal::find_run(world.app.database.read(), run.await).await;
            let conversation = run.unwrap().unwrap().conversation;
            let mut begun = tokio::task::JoinSet::new();
            for number in 0..4 * THREADS {
                let world = Arc::clone(&world);
                let (first_taken, taken) = tokio::sync::oneshot::channel();
                let pieces = async_stream::stream! {
                    yield Ok::<_, ()>(Bytes::from_static(b"the first piece"));
                    first_taken.send(()).unwrap();
                    std::future::pending::<()>().await;
                };
                tokio::spawn(async move {
                    let path = format!("{number}.txt");
                    upload(&world.app, &world.caller, conversation, path, pieces).await.unwrap();
                });
                begun.spawn(async move { tokio::time::timeout(Duration::from_secs(10), taken).await });
            }
            for begun in begun.join_all().await {
                begun.expect("an upload does not begin while others wait for their clients").unwrap();
            }

            let other = tokio::task::spawn_blocking(|| "done");

            let other = tokio::time::timeout(Duration::from_secs(10), other).await;
            assert_eq!(other.expect("all threads wait for clients").unwrap(), "done");
        });
        runtime.shutdown_background();
    }
}
