//! What a job sees, as arguments for bubblewrap.
//!
//! The root is an empty tmpfs that is made read-only last; everything that is not named here is absent. bubblewrap
//! is started with few arguments and reads the rest from a descriptor, because `/proc/1/cmdline` shows the first
//! kind to the code.

use crate::kernel;
use crate::language::{CodePlace, Interpreter};
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Each of `/tmp` and `/dev/shm`; both are memory.
const TEMPORARY_BYTES: &str = "67108864";
/// The user in there; outside it is the user that runs this process, without its powers.
const USER: &str = "1000";
const PASSWD: &str = "sandbox:x:1000:1000:sandbox:/workspace:/usr/bin/bash\n";
const GROUP: &str = "sandbox:x:1000:\n";
const HOSTS: &str = "127.0.0.1 localhost sandbox\n";
/// What the kernel tells root's user number even without capabilities. Each costs a mount.
const HIDDEN_FROM_ROOT: &[&str] = &["keys", "kpagecount", "kpageflags", "timer_list"];
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];

/// Descriptors of bubblewrap, in the order in which they are passed.
pub(crate) const STATUS: usize = 3;
pub(crate) const SECCOMP: usize = 4;
const ARGUMENTS: usize = 5;
const PASSWD_FILE: usize = 6;
const GROUP_FILE: usize = 7;
const HOSTS_FILE: usize = 8;
const CODE: usize = 9;

/// What is the same in every run: the host's directories.
#[derive(Debug)]
pub(crate) struct Layout {
    arguments: Vec<OsString>,
}

impl Layout {
    pub(crate) fn of_this_host() -> Layout {
        let mut list = List(Vec::new());
        list.add(["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]);
        list.add(["--unshare-cgroup-try", "--hostname", "sandbox", "--uid", USER, "--gid", USER]);
        list.add(["--cap-drop", "ALL", "--die-with-parent", "--new-session"]);
        list.add(["--json-status-fd", &STATUS.to_string(), "--seccomp", &SECCOMP.to_string()]);
        list.add(["--ro-bind", "/usr", "/usr"]);
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let path = Path::new("/").join(name);
            match fs::read_link(&path) {
                Ok(target) => list.add([OsStr::new("--symlink"), target.as_os_str(), path.as_os_str()]),
                Err(_) if path.is_dir() => {
                    list.add([OsStr::new("--ro-bind"), path.as_os_str(), path.as_os_str()])
                }
                Err(_) => {}
            }
        }
        for path in ["/etc/ld.so.cache", "/etc/alternatives"] {
            list.add(["--ro-bind-try", path, path]);
        }
        let files = [(PASSWD_FILE, "/etc/passwd"), (GROUP_FILE, "/etc/group"), (HOSTS_FILE, "/etc/hosts")];
        for (number, path) in files {
            list.add(["--perms", "0444", "--file", &number.to_string(), path]);
        }
        list.add(["--proc", "/proc", "--dir", "/dev"]);
        for name in if kernel::user() == 0 { HIDDEN_FROM_ROOT } else { &[] } {
            let path = format!("/proc/{name}");
            if Path::new(&path).exists() {
                list.add(["--ro-bind", "/dev/null", &path]);
            }
        }
        // Root's user number alone may write kernel settings such as core_pattern, and bubblewrap 0.8 covers
        // /proc/sys only when the directory itself can be written.
        list.add(["--remount-ro", "/proc"]);
        for name in DEVICES {
            let path = format!("/dev/{name}");
            list.add(["--dev-bind", &path, &path]);
        }
        let links = [("", "fd"), ("/0", "stdin"), ("/1", "stdout"), ("/2", "stderr")];
        for (number, name) in links {
            list.add(["--symlink", &format!("/proc/self/fd{number}"), &format!("/dev/{name}")]);
        }
        for path in ["/tmp", "/dev/shm"] {
            list.add(["--perms", "1777", "--size", TEMPORARY_BYTES, "--tmpfs", path]);
        }
        Layout { arguments: list.0 }
    }
}

/// What one run passes to bubblewrap.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    /// stdin, when the program comes that way.
    pub(crate) stdin: Option<OwnedFd>,
    /// From `ARGUMENTS` on, in order.
    pub(crate) files: Vec<OwnedFd>,
}

impl Invocation {
    /// Without a workspace the code gets an empty one that is lost.
    pub(crate) fn new(
        layout: &Layout,
        interpreter: &Interpreter,
        workspace: Option<&Path>,
        code: &str,
        memory_bytes: u64,
    ) -> io::Result<Invocation> {
        let mut list = List(layout.arguments.clone());
        if let Some(prefix) = &interpreter.prefix {
            list.add([OsStr::new("--ro-bind"), prefix.as_os_str(), prefix.as_os_str()]);
        }
        match workspace {
            Some(path) => list.add([OsStr::new("--bind"), path.as_os_str(), OsStr::new("/workspace")]),
            None => list.add(["--size", TEMPORARY_BYTES, "--tmpfs", "/workspace"]),
        }
        let code = kernel::memory_file(c"code", code.as_bytes())?;
        let (stdin, code) = match interpreter.code_place() {
            CodePlace::File(path) => {
                list.add(["--perms", "0444", "--file", &CODE.to_string(), path]);
                (None, Some(code))
            }
            CodePlace::Stdin => (Some(code), None),
        };
        list.add(["--remount-ro", "/", "--chdir", "/workspace"]);
        let mut files = vec![
            kernel::memory_file(c"arguments", &list.into_bytes())?,
            kernel::memory_file(c"passwd", PASSWD.as_bytes())?,
            kernel::memory_file(c"group", GROUP.as_bytes())?,
            kernel::memory_file(c"hosts", HOSTS.as_bytes())?,
        ];
        files.extend(code);
        let first = ["bwrap", "--args", &ARGUMENTS.to_string(), "--"].map(OsString::from);
        let arguments = first.into_iter().chain(interpreter.command(memory_bytes)).map(c_string);
        // bubblewrap's own environment is the code's, so that /proc/1/environ tells nothing more; it adds PWD.
        let environment =
            ["HOME=/workspace".into(), "LANG=C.UTF-8".into(), search_path(interpreter)].map(c_string);
        Ok(Invocation {
            arguments: arguments.collect::<io::Result<_>>()?,
            environment: environment.into_iter().collect::<io::Result<_>>()?,
            stdin,
            files,
        })
    }
}

fn search_path(interpreter: &Interpreter) -> OsString {
    let own = interpreter.prefix.as_ref().map(|prefix| prefix.join("bin"));
    let directories = own.into_iter().chain(["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from));
    let joined = directories.map(PathBuf::into_os_string).collect::<Vec<_>>().join(OsStr::new(":"));
    [OsString::from("PATH="), joined].into_iter().collect()
}

fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

struct List(Vec<OsString>);

impl List {
    fn add<const COUNT: usize>(&mut self, words: [impl AsRef<OsStr>; COUNT]) {
        self.0.extend(words.iter().map(|word| word.as_ref().to_owned()));
    }

    /// Each argument followed by a zero, as `--args` reads them.
    fn into_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|argument| argument.as_bytes().iter().copied().chain([0])).collect()
    }
}
