//! The workspace as the file tools see it.

use sandbox::{Entry, EntryKind, FileError, Workspace};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use tempfile::TempDir;

fn workspace() -> (TempDir, Workspace) {
    let directory = tempfile::tempdir().unwrap();
    let workspace = Workspace::open(&directory.path().join("tenant/work")).unwrap();
    (directory, workspace)
}

#[test]
fn a_workspace_is_made_for_its_owner_alone() {
    let (directory, _workspace) = workspace();
    let mode = fs::metadata(directory.path().join("tenant/work")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn what_is_written_is_read_back() {
    let (_directory, workspace) = workspace();
    workspace.write("notes/today/first.txt", b"one").unwrap();
    workspace.write("/workspace/notes/today/first.txt", b"two").unwrap();
    assert_eq!(workspace.read("./notes/today/first.txt", 100).unwrap(), (b"two".to_vec(), false));
    assert_eq!(workspace.read("notes/today/first.txt", 2).unwrap(), (b"tw".to_vec(), true));
    assert_eq!(workspace.read("notes/today/first.txt", 3).unwrap(), (b"two".to_vec(), false));
    let (names, _) = workspace.list("notes/today", 10).unwrap();
    assert_eq!(names.len(), 1, "no temporary file is left: {names:?}");
}

#[test]
fn a_symlink_cannot_lead_outside() {
    let (directory, workspace) = workspace();
    let root = directory.path().join("tenant/work");
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "canary").unwrap();
    symlink(&outside, root.join("absolute")).unwrap();
    symlink("../../outside", root.join("relative")).unwrap();
    symlink("/proc/self/root/etc", root.join("magic")).unwrap();
    symlink("../../outside/secret", root.join("file")).unwrap();
    for path in ["absolute/secret", "relative/secret", "magic/passwd", "file"] {
        assert!(matches!(workspace.read(path, 100), Err(FileError::Outside(_))), "{path}");
    }
    for path in ["absolute", "relative", "magic"] {
        assert!(matches!(workspace.list(path, 100), Err(FileError::Outside(_))), "{path}");
        assert!(
            matches!(workspace.write(&format!("{path}/new/file"), b"x"), Err(FileError::Outside(_))),
            "{path}"
        );
        assert!(
            matches!(workspace.write(&format!("{path}/secret"), b"x"), Err(FileError::Outside(_))),
            "{path}"
        );
    }
    // Writing to a link's own name replaces the link.
    workspace.write("file", b"mine").unwrap();
    assert_eq!(workspace.read("file", 100).unwrap().0, b"mine");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "canary");
}

#[test]
fn a_symlink_that_is_swapped_meanwhile_cannot_lead_outside() {
    const SWAPS: usize = 300;
    let (directory, workspace) = workspace();
    let root = directory.path().join("tenant/work");
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "canary").unwrap();
    workspace.write("inside/file", b"own").unwrap();
    symlink("inside", root.join("good")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..SWAPS {
                let target = if turn % 2 == 0 { "../../outside" } else { "inside" };
                symlink(target, root.join("next")).unwrap();
                fs::rename(root.join("next"), root.join("good")).unwrap();
            }
        });
        for _ in 0..SWAPS {
            if let Ok((content, _)) = workspace.read("good/file", 100) {
                assert!(content != b"canary");
            }
            let _ = workspace.write("good/file", b"own");
        }
    });
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "canary");
}

#[test]
fn a_path_cannot_climb_out() {
    let (_directory, workspace) = workspace();
    for path in ["..", "a/../../b", "/etc/passwd", "", "/", "a\0b", &"a/".repeat(3000)] {
        assert!(matches!(workspace.read(path, 10), Err(FileError::BadPath(_))), "{path:?}");
        assert!(matches!(workspace.write(path, b"x"), Err(FileError::BadPath(_))), "{path:?}");
    }
    assert!(matches!(workspace.list("..", 10), Err(FileError::BadPath(_))));
    assert!(matches!(workspace.write(".", b"x"), Err(FileError::NotAFile(_))));
}

#[test]
fn a_link_that_stays_inside_is_followed() {
    let (directory, workspace) = workspace();
    workspace.write("real/file", b"x").unwrap();
    symlink("real", directory.path().join("tenant/work/link")).unwrap();
    assert_eq!(workspace.read("link/file", 10).unwrap(), (b"x".to_vec(), false));
    workspace.write("link/deeper/file", b"y").unwrap();
    assert_eq!(workspace.read("real/deeper/file", 10).unwrap(), (b"y".to_vec(), false));
}

#[test]
fn only_regular_files_are_read() {
    let (directory, workspace) = workspace();
    let root = directory.path().join("tenant/work");
    // Nobody writes into it, so a reader that waits would wait for ever.
    assert!(Command::new("mkfifo").arg(root.join("fifo")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    fs::create_dir(root.join("directory")).unwrap();
    for path in ["fifo", "socket", "directory", "."] {
        assert!(matches!(workspace.read(path, 10), Err(FileError::NotAFile(_))), "{path}");
    }
    assert!(matches!(workspace.read("absent", 10), Err(FileError::NotFound(_))));
    assert!(matches!(workspace.write("directory", b"x"), Err(FileError::NotAFile(_))));
    assert!(matches!(workspace.list("fifo", 10), Err(FileError::NotADirectory(_))));
    workspace.write("fifo", b"replaced").unwrap();
    assert_eq!(workspace.read("fifo", 100).unwrap().0, b"replaced");
}

#[test]
fn a_write_has_a_limit_and_keeps_permissions() {
    let (directory, workspace) = workspace();
    let workspace = workspace.with_file_bytes_max(4);
    assert!(matches!(workspace.write("file", b"12345"), Err(FileError::TooLarge { bytes: 5, bytes_max: 4 })));
    workspace.write("file", b"1234").unwrap();
    let path = directory.path().join("tenant/work/file");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    workspace.write("file", b"4321").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn a_directory_is_listed_by_name() {
    let (directory, workspace) = workspace();
    let root = directory.path().join("tenant/work");
    workspace.write("b.txt", b"12345").unwrap();
    fs::create_dir(root.join("a")).unwrap();
    symlink("/etc/passwd", root.join("c")).unwrap();
    let (mut entries, truncated) = workspace.list("", 10).unwrap();
    entries[0].size_bytes = 0;
    let entry = |name: &str, kind, size_bytes| Entry { name: name.to_owned(), kind, size_bytes };
    let expect = [
        entry("a", EntryKind::Directory, 0),
        entry("b.txt", EntryKind::File, 5),
        entry("c", EntryKind::Symlink, 11),
    ];
    assert_eq!((entries.as_slice(), truncated), (expect.as_slice(), false));
    let (entries, truncated) = workspace.list(".", 2).unwrap();
    let names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
    assert_eq!((names, truncated), (vec!["a".to_owned(), "b.txt".to_owned()], true));
}
