//! What code cannot reach, see or do.

use crate::{Place, check_python};
use sandbox::{Language, Outcome};
use std::fs;
use std::process::{Command, Stdio};

#[tokio::test]
async fn code_cannot_reach_the_network() {
    let code = r#"
import errno, socket
print(open('/proc/net/dev').read().count(':'))
for family, address in [(socket.AF_INET, ("1.1.1.1", 53)), (socket.AF_INET6, ("2606:4700:4700::1111", 53, 0, 0))]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            with socket.socket(family, kind) as it:
                it.settimeout(5)
                it.connect(address)
            print("connected")
        except OSError as error:
            print(errno.errorcode[error.errno])
for family in (socket.AF_VSOCK, socket.AF_NETLINK, socket.AF_PACKET):
    try:
        socket.socket(family, socket.SOCK_RAW)
        print("opened")
    except OSError as error:
        print(errno.errorcode[error.errno])
"#;
    let denied = "EPERM\n".repeat(3);
    let report = Place::new().python(code).await;
    let unreachable = report.stdout.replace("EADDRNOTAVAIL", "ENETUNREACH");
    assert_eq!(unreachable, format!("1\n{}{denied}", "ENETUNREACH\n".repeat(4)), "{}", report.stderr);
    // A server of the host's own loopback, which anything outside reaches.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let code = format!("import socket\nprint(socket.socket().connect_ex(('127.0.0.1', {port})))");
    check_python(&code, &format!("{}\n", 111)).await;
}

#[tokio::test]
async fn code_cannot_read_outside_its_workspace() {
    let (place, other) = (Place::new(), Place::new());
    let secret = other.path().join("secret");
    fs::write(&secret, "canary").unwrap();
    let code = format!(
        r#"
import os, sys
for path in [{secret:?}, "/etc/shadow", "/etc/hostname", "/root/.bashrc", "/proc/1/root{path}", "/proc/kcore"]:
    try:
        print("read", path, open(path).read())
    except OSError:
        pass
# An interpreter that is not in /usr brings its own directory.
print(sorted(set(os.listdir("/")) - {{sys.base_prefix.split("/")[1]}} | {{"usr"}}))
print(sorted(os.listdir("/etc")), os.path.exists("/home"), os.path.exists("/sys"), os.path.exists("/var"))
print([name for name in os.listdir("/proc") if name.isdigit()])
print(sorted(os.listdir("/dev")))
"#,
        path = secret.display(),
    );
    let report = place.python(&code).await;
    let mut lines = report.stdout.lines();
    let root = lines.next().unwrap();
    let wanted = [
        "bin",
        "code",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "proc",
        "sbin",
        "tmp",
        "usr",
        "workspace",
    ];
    let names: Vec<&str> =
        root.trim_matches(['[', ']']).split(", ").map(|name| name.trim_matches('\'')).collect();
    assert!(names.iter().all(|name| wanted.contains(name)), "{root}");
    let etc = "['alternatives', 'group', 'hosts', 'ld.so.cache', 'passwd'] False False False";
    assert_eq!(lines.next().unwrap().replace("'alternatives', ", ""), etc.replace("'alternatives', ", ""));
    // bubblewrap and the interpreter; no process of the host.
    assert_eq!(lines.next().unwrap(), "['1', '2']");
    let devices = "['fd', 'full', 'null', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'urandom', 'zero']";
    assert_eq!(lines.next().unwrap(), devices);
}

#[tokio::test]
async fn code_writes_nowhere_but_in_its_workspace() {
    let code = r#"
import os
for path in ["/", "/usr", "/usr/bin", "/etc", "/code", "/dev", "/proc/sys/kernel", "/proc", "/bin", "/lib", "/root"]:
    try:
        open(path + "/x", "w")
        print("wrote in", path)
    except OSError:
        pass
for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc/passwd", "/code/main.py", "/proc/1/mem"]:
    try:
        open(path, "r+b")
        print("opened", path)
    except OSError:
        pass
print([path for path in ["/workspace", "/tmp", "/dev/shm"] if open(path + "/x", "w").write("x")])
"#;
    check_python(code, "['/workspace', '/tmp', '/dev/shm']\n").await;
}

#[tokio::test]
async fn a_symlink_in_the_workspace_leads_nowhere() {
    let (place, other) = (Place::new(), Place::new());
    fs::write(other.path().join("secret"), "canary").unwrap();
    std::os::unix::fs::symlink(other.path().join("secret"), place.path().join("link")).unwrap();
    let report = place.run(Language::Bash, "cat link").await;
    assert_eq!((report.outcome, report.stdout.as_str()), (Outcome::Exited(1), ""));
}

#[tokio::test]
async fn code_sees_no_environment() {
    // Cargo gives this process an environment, so there is something to inherit.
    assert!(fs::read_to_string("/proc/self/environ").unwrap().contains("CARGO"));
    let code = r#"
import os
print(sorted(os.environ))
print(sorted(entry.split("=")[0] for entry in open("/proc/1/environ").read().split("\0") if entry))
print(open("/proc/1/cmdline").read().split("\0")[:3])
"#;
    let expect = "['HOME', 'LANG', 'PATH', 'PWD']\n['HOME', 'LANG', 'PATH']\n['bwrap', '--args', '5']\n";
    check_python(code, expect).await;
}

#[tokio::test]
async fn code_inherits_no_descriptor() {
    use std::os::fd::IntoRawFd;
    // One that a careless library would leave open for children.
    let leaky = fs::File::open("/etc/passwd").unwrap().into_raw_fd();
    let shared = Command::new("true").stdin(Stdio::null()).status().unwrap();
    assert!(shared.success() && leaky > 2);
    let code = "import os\nwith os.scandir('/proc/self/fd') as found:\n    names = [int(entry.name) for entry in found]
print(sorted(name for name in names if os.path.lexists(f'/proc/self/fd/{name}')), os.readlink('/proc/self/fd/0'))";
    check_python(code, "[0, 1, 2] /dev/null\n").await;
}

#[tokio::test]
async fn code_has_no_powers() {
    let code = r#"
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
print([status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == ["0" * 16] * 5)
print(status["NoNewPrivs"], status["Seccomp"])
"#;
    check_python(code, "True\n1 2\n").await;
}

#[tokio::test]
async fn dangerous_system_calls_are_denied() {
    let code = r#"
import ctypes, errno, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(argument) for argument in arguments])
    return "allowed" if result >= 0 else errno.errorcode[ctypes.get_errno()]
calls = {"unshare": 272, "clone": 56, "mount": 165, "ptrace": 101, "bpf": 321, "keyctl": 250, "setns": 308,
    "kexec": 246, "module": 175, "userfaultfd": 323, "perf": 298, "ioctl": 16} if x86 else {"unshare": 97,
    "clone": 220, "mount": 40, "ptrace": 117, "bpf": 280, "keyctl": 219, "setns": 268, "kexec": 104, "module": 105,
    "userfaultfd": 282, "perf": 241, "ioctl": 29}
NEWUSER, TIOCSTI = 0x10000000, 0x5412
print({name: call(number, *{"unshare": [NEWUSER], "clone": [NEWUSER | 17, 0, 0, 0, 0], "ioctl": [0, TIOCSTI, 0],
    "keyctl": [0, 0, 0]}.get(name, [0, 0, 0, 0])) for name, number in calls.items()})
print(call(425, 1, 0), call(435, 0, 0), call(0x40000000 + 39) if x86 else "ENOSYS")
print(call(16 if x86 else 29, 0, TIOCSTI | 1 << 32, 0))
"#;
    let names =
        ["unshare", "clone", "mount", "ptrace", "bpf", "keyctl", "setns", "kexec", "module", "userfaultfd"];
    let names = names.into_iter().chain(["perf", "ioctl"]);
    let denied: Vec<String> = names.map(|name| format!("'{name}': 'EPERM'")).collect();
    check_python(code, &format!("{{{}}}\nEPERM ENOSYS ENOSYS\nEPERM\n", denied.join(", "))).await;
}
