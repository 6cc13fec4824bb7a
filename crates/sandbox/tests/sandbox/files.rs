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
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    for entry in &mut entries {
        let age_ms = now - u128::try_from(std::mem::take(&mut entry.modified_ms)).unwrap();
        assert!(age_ms < 60_000, "{entry:?} is {age_ms} ms old");
    }
    let entry =
        |name: &str, kind, size_bytes| Entry { name: name.to_owned(), kind, size_bytes, modified_ms: 0 };
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

#[test]
fn a_list_goes_on_after_a_name() {
    let (_directory, workspace) = workspace();
    for name in ["a", "b", "c"] {
        workspace.write(name, b"").unwrap();
    }
    let names = |after| {
        let (entries, more) = workspace.list_after("", after, 1).unwrap();
        (entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>(), more)
    };
    assert_eq!(names("a"), (vec!["b".to_owned()], true));
    assert_eq!(names("b"), (vec!["c".to_owned()], false));
    assert_eq!(names("c"), (vec![], false));
}

#[test]
fn a_file_that_is_written_in_pieces_is_there_whole_or_not_at_all() {
    let (_directory, workspace) = workspace();
    workspace.write("a/file", b"old").unwrap();
    let mut dropped = workspace.begin("a/file").unwrap();
    dropped.write(b"new").unwrap();
    drop(dropped);
    assert_eq!(workspace.read("a/file", 9).unwrap().0, b"old");
    let mut kept = workspace.begin("a/file").unwrap();
    kept.write(b"ne").unwrap();
    assert_eq!(workspace.read("a/file", 9).unwrap().0, b"old");
    kept.write(b"w").unwrap();
    kept.commit().unwrap();
    assert_eq!(workspace.read("a/file", 9).unwrap().0, b"new");
    assert_eq!(workspace.list("a", 9).unwrap().0.len(), 1, "no temporary file is left");
}

#[test]
fn a_workspace_takes_no_more_than_its_bytes_and_a_replaced_file_counts_once() {
    let (directory, workspace) = workspace();
    let workspace = workspace.with_bytes_max(10);
    workspace.write("deep/er/a", b"123456").unwrap();
    workspace.write("b", b"1234").unwrap();
    assert!(matches!(workspace.write("c", b"1"), Err(FileError::Full { bytes_max: 10 })));
    assert!(matches!(workspace.write("b", b"12345"), Err(FileError::Full { .. })));
    assert_eq!(workspace.read("b", 9).unwrap().0, b"1234");
    workspace.write("deep/er/a", b"654321").unwrap();
    workspace.remove("b").unwrap();
    workspace.write("c", b"1").unwrap();
    // What a link leads to is not what the workspace holds.
    let outside = directory.path().join("large");
    fs::write(&outside, [0; 100]).unwrap();
    symlink(&outside, directory.path().join("tenant/work/link")).unwrap();
    symlink(directory.path(), directory.path().join("tenant/work/around")).unwrap();
    workspace.write("d", b"1").unwrap();
}

#[test]
fn removing_takes_a_file_a_link_itself_or_an_empty_directory_and_nothing_outside() {
    let (directory, workspace) = workspace();
    let root = directory.path().join("tenant/work");
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "x").unwrap();
    symlink(&outside, root.join("link")).unwrap();
    workspace.write("full/file", b"x").unwrap();
    assert!(matches!(workspace.remove("link/kept"), Err(FileError::Outside(_))));
    assert!(matches!(workspace.remove("../outside/kept"), Err(FileError::BadPath(_))));
    assert!(matches!(workspace.remove("."), Err(FileError::BadPath(_))));
    assert!(matches!(workspace.remove("none"), Err(FileError::NotFound(_))));
    assert!(matches!(workspace.remove("full"), Err(FileError::NotEmpty(_))));
    workspace.remove("link").unwrap();
    workspace.remove("full/file").unwrap();
    workspace.remove("full").unwrap();
    assert!(outside.join("kept").exists());
    assert_eq!(workspace.list("", 9).unwrap().0, []);
}
