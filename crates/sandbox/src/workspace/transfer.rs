//! Files that go in and out of a workspace piece by piece, what it holds in all, and removing.
//!
//! As everywhere here, nothing is reached by name alone: each path is opened below the root, each directory below the
//! one that is open, and no link is followed while what is there is counted.

use super::{
    ENTRIES_MAX, EntryKind, FileError, Workspace, inside, keep_mode, kind, make_temporary, open_directory,
    split,
};
use crate::kernel;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

/// Directories deeper than this count as too many entries: each level holds a descriptor while it is counted.
const DEPTH_MAX: usize = 64;

/// A file that is being written beside the one it replaces. Dropped before `commit`, it leaves nothing.
#[derive(Debug)]
pub struct Writing {
    path: String,
    directory: File,
    temporary: CString,
    name: CString,
    file: File,
    kept: bool,
}

impl Writing {
    /// Adds a piece.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), FileError> {
        self.file.write_all(piece).map_err(FileError::of(&self.path))
    }

    /// Puts the file in its place. It is there, whole and on disk, once this returns.
    ///
    /// # Errors
    /// When a directory has that name, or the disk fails.
    pub fn commit(mut self) -> Result<(), FileError> {
        let put = keep_mode(&self.directory, &self.name, &self.file)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| kernel::rename(&self.directory, &self.temporary, &self.name));
        put.map_err(FileError::of(&self.path))?;
        self.kept = true;
        // The name itself has to last as well.
        self.directory.sync_all().map_err(FileError::of(&self.path))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.kept {
            // Nobody is left to hear of a failure.
            let _ = kernel::remove(&self.directory, &self.temporary);
        }
    }
}

/// What a workspace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    bytes: u64,
    entries: usize,
}

impl Workspace {
    /// A regular file, open for reading from its start.
    ///
    /// # Errors
    /// When the path is bad, leads out, or is no regular file. A FIFO or a device is not waited for.
    pub fn open_file(&self, path: &str) -> Result<File, FileError> {
        let failed = FileError::of(path);
        let inside = inside(path)?;
        // Looked at before it is opened: opening some devices does something.
        let found = kernel::open_beneath(&self.root, &inside, libc::O_PATH, 0).map_err(&failed)?;
        if !File::from(found).metadata().map_err(&failed)?.is_file() {
            return Err(FileError::NotAFile(path.to_owned()));
        }
        // And afterwards, since the name may lead elsewhere by now; O_NONBLOCK is for that case.
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = File::from(kernel::open_beneath(&self.root, &inside, flags, 0).map_err(&failed)?);
        if !file.metadata().map_err(&failed)?.is_file() {
            return Err(FileError::NotAFile(path.to_owned()));
        }
        Ok(file)
    }

    /// Begins to write a file, with the directories above it. What is there under that name stays until the commit.
    ///
    /// # Errors
    /// When the path is bad or leads out.
    pub fn begin(&self, path: &str) -> Result<Writing, FileError> {
        let failed = FileError::of(path);
        let whole = inside(path)?;
        let (above, name) = split(&whole);
        if name.as_bytes() == b"." {
            return Err(FileError::NotAFile(path.to_owned()));
        }
        let directory = self.make_directories(above).map_err(&failed)?;
        let (temporary, file) = make_temporary(&directory).map_err(&failed)?;
        Ok(Writing { path: path.to_owned(), directory, temporary, name, file, kept: false })
    }

    /// Whether the workspace stays within its bounds when this file takes its place. Of two that are written at the same
    /// time each sees the other, so that they are refused sooner than let over the bound.
    ///
    /// # Errors
    /// When it does not, or what is there can't be counted.
    pub fn check_room(&self, writing: &Writing) -> Result<(), FileError> {
        if self.bytes_max == u64::MAX {
            return Ok(());
        }
        let full = FileError::Full { bytes_max: self.bytes_max };
        let mut usage = Usage::default();
        if !measure(&self.root, 0, &mut usage).map_err(FileError::of(&writing.path))? {
            return Err(full);
        }
        let replaced = kernel::describe(&writing.directory, &writing.name)
            .ok()
            .filter(|found| kind(found.mode) == EntryKind::File)
            .map_or(0, |found| found.size_bytes);
        if usage.bytes.saturating_sub(replaced) > self.bytes_max { Err(full) } else { Ok(()) }
    }

    /// Removes a file, a link itself, or an empty directory.
    ///
    /// # Errors
    /// When the path is bad, leads out, names nothing or the root, or is a directory with something in it.
    pub fn remove(&self, path: &str) -> Result<(), FileError> {
        let (directory, name) = self.entry(path)?;
        let removed = kernel::remove(&directory, &name).and_then(|()| directory.sync_all());
        removed.map_err(FileError::of(path))
    }

    /// Whether there is something under this path that `remove` could remove now.
    ///
    /// # Errors
    /// As for `remove`.
    pub fn check_removable(&self, path: &str) -> Result<(), FileError> {
        let (directory, name) = self.entry(path)?;
        let found = kernel::describe(&directory, &name).map_err(FileError::of(path))?;
        if kind(found.mode) == EntryKind::Directory && !self.list(path, 1)?.0.is_empty() {
            return Err(FileError::NotEmpty(path.to_owned()));
        }
        Ok(())
    }

    /// The directory in which an entry is, open, and the entry's name.
    fn entry(&self, path: &str) -> Result<(File, CString), FileError> {
        let whole = inside(path)?;
        let (above, name) = split(&whole);
        if name.as_bytes() == b"." {
            return Err(FileError::BadPath(path.to_owned()));
        }
        let above = above.unwrap_or_else(|| c".".to_owned());
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let directory = open_directory(&self.root, &above, flags).map_err(FileError::of(path))?;
        Ok((directory, name))
    }
}

/// Adds up what a directory holds. False when there are more entries, or deeper ones, than a workspace may have.
fn measure(directory: &File, depth: usize, usage: &mut Usage) -> io::Result<bool> {
    if depth > DEPTH_MAX {
        return Ok(false);
    }
    // std reads directories by path only; this path is the open directory itself.
    for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))? {
        usage.entries += 1;
        if usage.entries > ENTRIES_MAX {
            return Ok(false);
        }
        let Ok(name) = CString::new(entry?.file_name().as_bytes()) else { continue };
        // A name that is gone by now holds nothing.
        let Ok(found) = kernel::describe(directory, &name) else { continue };
        match kind(found.mode) {
            EntryKind::File => usage.bytes = usage.bytes.saturating_add(found.size_bytes),
            EntryKind::Directory => {
                let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
                match open_directory(directory, &name, flags) {
                    Ok(inner) => {
                        if !measure(&inner, depth + 1, usage)? {
                            return Ok(false);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            EntryKind::Symlink | EntryKind::Other => {}
        }
    }
    Ok(true)
}
