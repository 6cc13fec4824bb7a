//! A job's directory as seen from outside: tools read, write and list it here.
//!
//! The code that runs in a workspace may put any link there, so no path is ever resolved by name: each is opened
//! below the directory with openat2 and RESOLVE_BENEATH, and the kernel refuses whatever leads out, also while
//! somebody renames things. A link that stays inside is followed.

mod transfer;

use crate::kernel;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};

/// Longer paths are refused (PATH_MAX).
pub const PATH_BYTES_MAX: usize = 4096;
const DIRECTORY_MODE: libc::mode_t = 0o700;
const FILE_MODE: libc::mode_t = 0o600;
const TEMPORARY_PREFIX: &str = ".soma-writing-";
/// Files and directories that a workspace may hold once something is written.
const ENTRIES_MAX: usize = 100_000;
/// Names that one write tries; code in the workspace may have taken some on purpose.
const TEMPORARY_NAMES_MAX: u32 = 16;

/// An open directory. It stays the same directory when it is moved or renamed.
#[derive(Debug)]
pub struct Workspace {
    root: File,
    file_bytes_max: usize,
    /// Of all files together.
    bytes_max: u64,
}

pub use transfer::Writing;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Bytes that are not UTF-8 became U+FFFD.
    pub name: String,
    pub kind: EntryKind,
    /// Of a file its length; of others whatever the file system says.
    pub size_bytes: u64,
    /// Milliseconds since 1970.
    #[serde(skip)]
    pub modified_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    File,
    Directory,
    /// Of a link itself, wherever it leads.
    Symlink,
    Other,
}

/// Why a file could not be reached. Paths are as the caller gave them.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Empty, absolute where that makes no sense, too long, or with `..` or a zero byte.
    #[error("{0:?} is not a path in the workspace")]
    BadPath(String),
    #[error("{0:?} leads out of the workspace")]
    Outside(String),
    #[error("there is no {0:?}")]
    NotFound(String),
    #[error("{0:?} is not a regular file")]
    NotAFile(String),
    #[error("{0:?} is not a directory")]
    NotADirectory(String),
    #[error("{0:?} is a directory with something in it")]
    NotEmpty(String),
    #[error("{bytes} bytes are more than the {bytes_max} that a file may have")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("the workspace may hold {bytes_max} bytes and {ENTRIES_MAX} entries: remove something first")]
    Full { bytes_max: u64 },
    #[error(
        "this kernel has no openat2: Linux 5.6 or newer is needed, and a container's seccomp profile must allow it"
    )]
    KernelTooOld,
    #[error("{path:?} could not be used")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl FileError {
    fn of(path: &str) -> impl Fn(io::Error) -> FileError {
        move |source| {
            let path = path.to_owned();
            match source.raw_os_error() {
                // ELOOP: a magic link, or links in a circle.
                Some(libc::EXDEV | libc::ELOOP) => FileError::Outside(path),
                Some(libc::ENOENT) => FileError::NotFound(path),
                Some(libc::ENOTDIR) => FileError::NotADirectory(path),
                Some(libc::EISDIR | libc::ENXIO) => FileError::NotAFile(path),
                Some(libc::ENOTEMPTY | libc::EEXIST) => FileError::NotEmpty(path),
                Some(libc::ENOSYS) => FileError::KernelTooOld,
                _ => FileError::Io { path, source },
            }
        }
    }
}

impl Workspace {
    /// Opens the directory, and makes it (0700) when it is not there. `root` itself is trusted; what is in it is not.
    ///
    /// # Errors
    /// When it is no directory, cannot be made, or the kernel lacks openat2.
    pub fn open(root: &Path) -> Result<Workspace, FileError> {
        let shown = root.to_string_lossy();
        let failed = FileError::of(&shown);
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(root).map_err(&failed)?;
        let directory = File::open(root).map_err(&failed)?;
        kernel::open_beneath(&directory, c".", libc::O_PATH | libc::O_DIRECTORY, 0).map_err(&failed)?;
        Ok(Workspace { root: directory, file_bytes_max: usize::MAX, bytes_max: u64::MAX })
    }

    /// The same, with a limit on what `write` takes.
    #[must_use]
    pub fn with_file_bytes_max(self, file_bytes_max: usize) -> Workspace {
        Workspace { file_bytes_max, ..self }
    }

    /// The same, with a limit on what all files together may have once one is written.
    #[must_use]
    pub fn with_bytes_max(self, bytes_max: u64) -> Workspace {
        Workspace { bytes_max, ..self }
    }

    /// The first `bytes_max` bytes of a regular file, and whether there were more.
    ///
    /// # Errors
    /// When the path is bad, leads out, or is no regular file. A FIFO or a device is not waited for.
    pub fn read(&self, path: &str, bytes_max: usize) -> Result<(Vec<u8>, bool), FileError> {
        let file = self.open_file(path)?;
        let mut content = Vec::new();
        let one_more = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        file.take(one_more).read_to_end(&mut content).map_err(FileError::of(path))?;
        let truncated = content.len() > bytes_max;
        content.truncate(bytes_max);
        Ok((content, truncated))
    }

    /// Replaces a file whole, or makes it with the directories above it: a reader sees the old content or the new.
    /// A link of that name is replaced, not followed.
    ///
    /// # Errors
    /// When the content is too large, the workspace is full, the path is bad or leads out, or a directory has that name.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<(), FileError> {
        if content.len() > self.file_bytes_max {
            return Err(FileError::TooLarge { bytes: content.len(), bytes_max: self.file_bytes_max });
        }
        let mut writing = self.begin(path)?;
        writing.write(content)?;
        self.check_room(&writing)?;
        writing.commit()
    }

    /// The first `entries_max` entries of a directory by name, and whether there are more. `""` and `"."` are the root.
    ///
    /// # Errors
    /// When the path is bad, leads out, or is no directory.
    pub fn list(&self, path: &str, entries_max: usize) -> Result<(Vec<Entry>, bool), FileError> {
        self.list_after(path, "", entries_max)
    }

    /// The same, from the first name after this one on.
    ///
    /// # Errors
    /// As for `list`.
    pub fn list_after(
        &self,
        path: &str,
        after: &str,
        entries_max: usize,
    ) -> Result<(Vec<Entry>, bool), FileError> {
        let failed = FileError::of(path);
        let inside = if path.is_empty() { c".".to_owned() } else { inside(path)? };
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let directory = kernel::open_beneath(&self.root, &inside, flags, 0).map_err(&failed)?;
        // std reads directories by path only; this path is the open directory itself.
        let names = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd())).map_err(&failed)?;
        let mut smallest = std::collections::BinaryHeap::new();
        let mut truncated = false;
        for entry in names {
            let name = entry.map_err(&failed)?.file_name();
            if name.as_bytes() <= after.as_bytes() {
                continue;
            }
            smallest.push(name);
            // Never more names in memory than are asked for, whatever the code has left there.
            if smallest.len() > entries_max {
                smallest.pop();
                truncated = true;
            }
        }
        // A name that is gone by now is no entry.
        let entries = smallest.into_sorted_vec().into_iter().filter_map(|name| {
            let bytes = CString::new(name.as_bytes()).ok()?;
            let found = kernel::describe(&directory, &bytes).ok()?;
            Some(Entry {
                name: name.to_string_lossy().into_owned(),
                kind: kind(found.mode),
                size_bytes: found.size_bytes,
                modified_ms: found.modified_ms,
            })
        });
        Ok((entries.collect(), truncated))
    }

    fn make_directories(&self, path: Option<CString>) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let Some(path) = path else {
            return open_directory(&self.root, c".", flags);
        };
        match open_directory(&self.root, &path, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        // From the deepest that is there: each is opened below the root again, so that a link on the way is
        // judged by where it leads.
        let (above, name) = split(&path);
        let parent = self.make_directories(above)?;
        match kernel::make_directory(&parent, &name, DIRECTORY_MODE) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        open_directory(&self.root, &path, flags)
    }
}

fn open_directory(root: &File, path: &CStr, flags: libc::c_int) -> io::Result<File> {
    kernel::open_beneath(root, path, flags, 0).map(File::from)
}

fn make_temporary(directory: &File) -> io::Result<(CString, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..TEMPORARY_NAMES_MAX {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = CString::new(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id()))?;
        match kernel::open_beneath(directory, &name, flags, FILE_MODE).map(OwnedFd::into) {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// A script that is replaced stays executable.
fn keep_mode(directory: &File, name: &CStr, file: &File) -> io::Result<()> {
    const PERMISSION_BITS: libc::mode_t = 0o777;
    match kernel::describe(directory, name) {
        Ok(found) if kind(found.mode) == EntryKind::File => {
            file.set_permissions(Permissions::from_mode(found.mode & PERMISSION_BITS))
        }
        _ => Ok(()),
    }
}

/// The path without `.` and without a leading `/workspace`, which is what the code in there calls the root.
fn inside(path: &str) -> Result<CString, FileError> {
    let bad = || FileError::BadPath(path.to_owned());
    let given = Path::new(path);
    let relative = given.strip_prefix("/workspace").unwrap_or(given);
    let mut plain = Vec::new();
    for component in relative.components() {
        match component {
            Component::Normal(name) => {
                plain.extend_from_slice(if plain.is_empty() { b"" } else { b"/" });
                plain.extend_from_slice(name.as_bytes());
            }
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(bad()),
        }
    }
    if path.is_empty() || plain.len() > PATH_BYTES_MAX {
        return Err(bad());
    }
    if plain.is_empty() {
        plain.push(b'.');
    }
    CString::new(plain).map_err(|_| bad())
}

/// The directory above, unless that is the root, and the last name.
fn split(path: &CStr) -> (Option<CString>, CString) {
    let bytes = path.to_bytes();
    let owned = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => {
            let (above, name) = bytes.split_at(slash);
            (Some(owned(above)), owned(name.get(1..).unwrap_or_default()))
        }
        None => (None, owned(bytes)),
    }
}

fn kind(mode: libc::mode_t) -> EntryKind {
    match mode & libc::S_IFMT {
        libc::S_IFREG => EntryKind::File,
        libc::S_IFDIR => EntryKind::Directory,
        libc::S_IFLNK => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}
