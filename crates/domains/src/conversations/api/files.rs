//! The routes of a conversation's workspace: its files, in and out.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::Response,
};
use platform::http::{Page, Path, Problem, Query, Timestamp};
use sandbox::{EntryKind, FileError};
use serde::{Deserialize, Serialize};
use tokio_util::io::ReaderStream;

use super::conversation_id;
use crate::{
    App,
    conversations::service::files::{self, Error},
    identity::Authenticated,
};

/// An entry of a folder of the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FileEntry {
    pub name: String,
    /// From the workspace's root; what the other routes take.
    pub path: String,
    /// `file`, `directory`, `symlink` or `other`.
    #[schema(value_type = String)]
    pub kind: EntryKind,
    /// Bytes.
    pub size: u64,
    pub modified_at: Timestamp,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FolderQuery {
    /// A folder of the workspace; its root unless told.
    pub path: Option<String>,
    /// Entries in a page, 1 to 200; 50 unless told.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FileQuery {
    /// A file of the workspace.
    #[param(required = true)]
    pub path: Option<String>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Conversation(error) => error.into(),
            Error::File(FileError::NotFound(_)) => Self::not_found(),
            Error::File(error @ (FileError::Full { .. } | FileError::NotEmpty(_))) => {
                let code =
                    if matches!(error, FileError::Full { .. }) { "workspace_full" } else { "not_empty" };
                Self::conflict(code, format!("{error}."))
            }
            Error::File(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::unavailable("disk_full", "The disk is full: nothing was stored.")
            }
            Error::File(error @ (FileError::Io { .. } | FileError::KernelTooOld)) => Self::internal(&error),
            Error::File(error) => Self::invalid("path", error.to_string()),
            Error::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("{error}.")),
            Error::Broken => Self::new(StatusCode::BAD_REQUEST, "malformed", format!("{error}.")),
            Error::Failed(cause) => Self::internal(&cause),
        }
    }
}

/// Lists a folder of a conversation's workspace by name.
#[utoipa::path(get, path = "/api/v2/conversations/{id}/files", tag = "conversations",
    params(("id" = String, Path), FolderQuery),
    extensions(("x-soma-action" = json!("file:read"))),
    responses((status = 200, body = Page<FileEntry>), (status = "default", body = Problem)))]
pub(super) async fn list_files(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    Query(query): Query<FolderQuery>,
) -> Result<Json<Page<FileEntry>>, Problem> {
    let limit = platform::http::page_limit(query.limit)?;
    let (path, after) = (query.path.unwrap_or_default(), query.cursor.unwrap_or_default());
    Ok(Json(files::list(&app, &caller, conversation_id(&id)?, path, after, limit).await?))
}

/// Downloads a file of a conversation's workspace.
#[utoipa::path(get, path = "/api/v2/conversations/{id}/files/content", tag = "conversations",
    params(("id" = String, Path), FileQuery),
    extensions(("x-soma-action" = json!("file:read"))),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = "default", body = Problem)))]
pub(super) async fn download_file(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    Query(query): Query<FileQuery>,
) -> Result<Response, Problem> {
    let path = query.path.unwrap_or_default();
    let (file, size) = files::open(&app, &caller, conversation_id(&id)?, path.clone()).await?;
    let name = path.rsplit('/').next().unwrap_or_default();
    Response::builder()
        .header(header::CONTENT_TYPE, content_type(name))
        .header(header::CONTENT_LENGTH, size)
        .header(header::CONTENT_DISPOSITION, disposition(name))
        // Whatever an agent wrote: no browser guesses at it, runs it or keeps it.
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox")
        .header(header::CACHE_CONTROL, "private, no-store")
        // No more than was announced, though the file may grow meanwhile.
        .body(Body::from_stream(ReaderStream::new(tokio::io::AsyncReadExt::take(file, size))))
        .map_err(|error| Problem::internal(&error))
}

/// Writes a file of a conversation's workspace, in place of what was there. The body is the file, at most 25 MiB.
#[utoipa::path(put, path = "/api/v2/conversations/{id}/files/content", tag = "conversations",
    params(("id" = String, Path), FileQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    extensions(("x-soma-action" = json!("file:upload"))),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn upload_file(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    Query(query): Query<FileQuery>,
    body: Body,
) -> Result<StatusCode, Problem> {
    let path = query.path.unwrap_or_default();
    files::upload(&app, &caller, conversation_id(&id)?, path, body.into_data_stream()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a file, or an empty folder, of a conversation's workspace.
#[utoipa::path(delete, path = "/api/v2/conversations/{id}/files/content", tag = "conversations",
    params(("id" = String, Path), FileQuery),
    extensions(("x-soma-action" = json!("file:delete"))),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn remove_file(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    Query(query): Query<FileQuery>,
) -> Result<StatusCode, Problem> {
    files::remove(&app, &caller, conversation_id(&id)?, query.path.unwrap_or_default()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A type under which no browser runs anything. What is not known is bytes.
fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ending.as_str() {
        "txt" | "md" | "csv" | "log" | "py" | "sh" | "rs" | "toml" | "yaml" | "yml" => {
            "text/plain; charset=utf-8"
        }
        "json" => "application/json",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        _ => "application/octet-stream",
    }
}

/// RFC 6266: the name in ASCII for old clients, and as it is, percent-encoded (RFC 8187), for others.
fn disposition(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && !"\"\\%".contains(c) { c } else { '_' }).collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::{content_type, disposition};

    #[test]
    fn a_download_is_never_shown_as_a_page() {
        for name in ["a.html", "a.svg", "a.xhtml", "a.js", "a", "a.HTM", "a.xml"] {
            assert_eq!(content_type(name), "application/octet-stream", "{name}");
        }
        assert_eq!(content_type("Ä.PNG"), "image/png");
    }

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        assert_eq!(
            disposition("ü \"x\"\r\nSet-Cookie: a%.txt"),
            "attachment; filename=\"___x___Set-Cookie:_a_.txt\"; \
             filename*=UTF-8''%C3%BC%20%22x%22%0D%0ASet-Cookie%3A%20a%25.txt"
        );
    }
}
