//! One job from start to end, on the thread that calls.
//!
//! 1. bubblewrap starts with half an instruction of its seccomp program and builds the job's world meanwhile.
//! 2. It names its first process inside; that one is limited and put into the job's cgroups.
//! 3. The rest of the program is sent. Only then can the code begin: should this process die before, bubblewrap
//!    finds a broken program and gives up.
//! 4. Output is read until the code ends, time is up or somebody stops it.
//! 5. The first process inside is killed. It is the init of a PID namespace, and the kernel ends every process of
//!    the namespace before it lets init go, so waiting for that one waits for all.

use crate::arguments::Invocation;
use crate::cgroup::{JobGroups, processes_with_init};
use crate::job::{Error, Job, Limits, Outcome, Report};
use crate::kernel::{self, Ending, Event, Process, Resource};
use crate::language::Interpreter;
use crate::output::Output;
use crate::probe::Host;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long bubblewrap may take to name its first process, or to end once that is dead.
const SETUP_PATIENCE: Duration = Duration::from_secs(10);
/// How long the kernel may take to end killed processes.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How often CPU time is looked at.
const TICK: Duration = Duration::from_millis(50);
/// As much of the seccomp program as bubblewrap gets at first; not a whole instruction.
const PROGRAM_HEAD_BYTES: usize = 4;
const OPEN_FILES_MAX: u64 = 256;
const STATUS_BYTES_MAX: u64 = 4096;
/// What a shell, and bubblewrap, add to a signal's number.
const SIGNAL_BASE: i32 = 128;

/// Runs a job in its workspace.
pub(crate) fn run(host: &Host, job: &Job, stop: &Event) -> Result<Report, Error> {
    let interpreter = host.interpreter(job.language).ok_or(Error::NoSuchLanguage(job.language))?;
    let unusable = |source| Error::Workspace { path: job.workspace.clone(), source };
    let workspace = job.workspace.canonicalize().map_err(unusable)?;
    if !workspace.is_dir() {
        return Err(unusable(io::ErrorKind::NotADirectory.into()));
    }
    run_in(host, interpreter, Some(&workspace), &job.code, &job.limits, stop)
}

/// Runs code, in an empty directory when there is no workspace.
pub(crate) fn run_in(
    host: &Host,
    interpreter: &Interpreter,
    workspace: Option<&Path>,
    code: &str,
    limits: &Limits,
    stop: &Event,
) -> Result<Report, Error> {
    let started = Instant::now();
    let failed = |what| move |source| Error::Start { what, source };
    let invocation = Invocation::new(&host.layout, interpreter, workspace, code, limits.memory_bytes)
        .map_err(failed("the arguments"))?;
    let mut tree = Tree::start(host, invocation, limits.output_bytes).map_err(failed("bubblewrap"))?;
    let no_groups = |source| Error::Limit { what: "cgroups".to_owned(), source };
    let groups = host.cgroups.make(limits).map_err(no_groups)?;
    // bubblewrap goes in early, and so does what it starts later: the kernel takes milliseconds to let the first one
    // into a group, and bubblewrap is busy that long anyway.
    // If that fails the second time tells.
    let _ = groups.admit(tree.bubblewrap_pid);
    let Some(init) = tree.wait_for_init()? else {
        return Err(tree.setup_failure());
    };
    if let Err(error) = restrict(host, interpreter, limits, &groups, init) {
        // What is gone already cannot be limited; then bubblewrap says why.
        return Err(if tree.init_is_gone() { tree.setup_failure() } else { error });
    }
    tree.release(&host.seccomp).map_err(failed("the system call filter"))?;
    let cut_short = tree.watch(&groups, limits, started + limits.wall, stop);
    let ending = tree.end()?;
    let out_of_memory = groups.ran_out_of_memory();
    drop(groups);

    let code_began = tree.code_began();
    let (stdout, stdout_truncated) = std::mem::take(&mut tree.stdout).into_text();
    let (stderr, stderr_truncated) = std::mem::take(&mut tree.stderr).into_text();
    let outcome = match (cut_short, ending) {
        (Some(outcome), _) => outcome,
        (None, Ending::Exited(code)) if !code_began => {
            return Err(Error::Setup(said(&stderr, code)));
        }
        (None, ending) => outcome_of(ending, || out_of_memory || interpreter.says_out_of_memory(&stderr)),
    };
    let truncated = stdout_truncated || stderr_truncated;
    Ok(Report { outcome, stdout, stderr, truncated, duration: started.elapsed() })
}

fn said(stderr: &str, code: i32) -> String {
    let text = stderr.trim();
    if text.is_empty() { format!("it ended with code {code} and said nothing") } else { text.to_owned() }
}

fn outcome_of(ending: Ending, out_of_memory: impl FnOnce() -> bool) -> Outcome {
    const LAST_SIGNAL: i32 = 64;
    let ending = match ending {
        Ending::Exited(code) if (1..=LAST_SIGNAL).contains(&(code - SIGNAL_BASE)) => {
            Ending::Signalled(code - SIGNAL_BASE)
        }
        other => other,
    };
    match ending {
        Ending::Exited(0) => Outcome::Exited(0),
        Ending::Signalled(libc::SIGXCPU) => Outcome::TimedOut,
        _ if out_of_memory() => Outcome::OutOfMemory,
        Ending::Exited(code) => Outcome::Exited(code),
        Ending::Signalled(signal) => Outcome::Signalled(signal),
    }
}

/// Limits the first process inside, which waits; all others inherit.
fn restrict(
    host: &Host,
    interpreter: &Interpreter,
    limits: &Limits,
    groups: &JobGroups,
    init: libc::pid_t,
) -> Result<(), Error> {
    let mut list = vec![
        (Resource::Core, 0, 0),
        // SIGXCPU first, SIGKILL a second later for code that ignores it.
        (Resource::CpuSeconds, limits.cpu_seconds, limits.cpu_seconds.saturating_add(1)),
        (Resource::FileBytes, limits.file_bytes, limits.file_bytes),
        (Resource::OpenFiles, OPEN_FILES_MAX, OPEN_FILES_MAX),
        // Counted in the job's own user namespace; the kernel never applies it to root, for whom the cgroup is.
        (Resource::Processes, processes_with_init(limits), processes_with_init(limits)),
    ];
    if !host.cgroups.limits_memory() && interpreter.bears_address_space_limit() {
        list.push((Resource::AddressSpace, limits.memory_bytes, limits.memory_bytes));
    }
    for (resource, soft, hard) in list {
        let named = |source| Error::Limit { what: format!("{resource:?}"), source };
        kernel::limit(init, resource, soft, hard).map_err(named)?;
    }
    groups.admit(init).map_err(|source| Error::Limit { what: "cgroups".to_owned(), source })
}

/// bubblewrap and what runs in it. Dropping it ends them.
#[derive(Debug)]
struct Tree {
    bubblewrap: Process,
    bubblewrap_pid: libc::pid_t,
    init: Option<Process>,
    /// The rest of the seccomp program is sent here; closing it early makes bubblewrap give up.
    gate: Option<PipeWriter>,
    status: PipeReader,
    status_text: String,
    stdout: Output,
    stderr: Output,
    buffer: Vec<u8>,
    ended: Option<Ending>,
}

impl Tree {
    fn start(host: &Host, invocation: Invocation, output_bytes: usize) -> io::Result<Tree> {
        let nothing = File::open("/dev/null")?;
        let (stdout, stdout_end) = io::pipe()?;
        let (stderr, stderr_end) = io::pipe()?;
        let (status, status_end) = io::pipe()?;
        let (gate_end, mut gate) = io::pipe()?;
        for pipe in [&stdout, &stderr, &status] {
            kernel::do_not_block(pipe)?;
        }
        gate.write_all(host.seccomp.get(..PROGRAM_HEAD_BYTES).unwrap_or_default())?;
        let stdin = invocation.stdin.as_ref().map_or(nothing.as_fd(), AsFd::as_fd);
        let mut descriptors: Vec<BorrowedFd<'_>> =
            vec![stdin, stdout_end.as_fd(), stderr_end.as_fd(), status_end.as_fd(), gate_end.as_fd()];
        descriptors.extend(invocation.files.iter().map(AsFd::as_fd));
        let environment: Vec<&CStr> = invocation.environment.iter().map(CString::as_c_str).collect();
        let pid = kernel::spawn(&host.bubblewrap, &invocation.arguments, &environment, &descriptors)?;
        // It is a child that nobody has waited for, so the number is still its own. Should this fail, the gate
        // closes and bubblewrap gives up by itself.
        let bubblewrap = Process::open(pid)?;
        Ok(Tree {
            bubblewrap,
            bubblewrap_pid: pid,
            init: None,
            gate: Some(gate),
            status,
            status_text: String::new(),
            stdout: Output::new(stdout, output_bytes),
            stderr: Output::new(stderr, output_bytes),
            buffer: Vec::new(),
            ended: None,
        })
    }

    /// The number of the first process inside. None when bubblewrap failed before there was one.
    fn wait_for_init(&mut self) -> Result<Option<libc::pid_t>, Error> {
        let started = Instant::now();
        while started.elapsed() < SETUP_PATIENCE {
            let watched = [Some(self.status.as_fd()), Some(self.bubblewrap.as_fd())];
            let ready =
                kernel::poll(&watched, SETUP_PATIENCE).map_err(|source| Error::start("a wait", source))?;
            self.read_status();
            if let Some(pid) = first_process(&self.status_text) {
                return Ok(self.adopt(pid).then_some(pid));
            }
            if ready.get(1) == Some(&true) {
                break;
            }
        }
        Ok(None)
    }

    /// Holds on to the first process. A number alone could have been given to another process meanwhile; the
    /// descriptor cannot, and bubblewrap's own number is not free while nobody has waited for it.
    fn adopt(&mut self, pid: libc::pid_t) -> bool {
        let Ok(process) = Process::open(pid) else {
            return false;
        };
        let is_child = parent_of(pid) == Some(self.bubblewrap_pid);
        if is_child {
            self.init = Some(process);
        }
        is_child
    }

    fn release(&mut self, program: &[u8]) -> io::Result<()> {
        let Some(mut gate) = self.gate.take() else {
            return Ok(());
        };
        match gate.write_all(program.get(PROGRAM_HEAD_BYTES..).unwrap_or_default()) {
            // bubblewrap failed; what it says and how it ended come next.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    /// Reads output until bubblewrap has ended (None) or the job has to be cut short (why).
    fn watch(
        &mut self,
        groups: &JobGroups,
        limits: &Limits,
        deadline: Instant,
        stop: &Event,
    ) -> Option<Outcome> {
        let cpu_allowed = Duration::from_secs(limits.cpu_seconds);
        let mut next_look = Instant::now() + TICK;
        loop {
            let watched = [
                Some(self.bubblewrap.as_fd()),
                Some(stop.as_fd()),
                self.stdout.descriptor(),
                self.stderr.descriptor(),
            ];
            let patience = deadline.saturating_duration_since(Instant::now()).min(TICK);
            let ready = match kernel::poll(&watched, patience) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "a job cannot be watched and is ended");
                    return Some(Outcome::Cancelled);
                }
            };
            self.stdout.read(&mut self.buffer);
            self.stderr.read(&mut self.buffer);
            if ready.first() == Some(&true) {
                return None;
            }
            if ready.get(1) == Some(&true) {
                return Some(Outcome::Cancelled);
            }
            let now = Instant::now();
            if now >= deadline {
                return Some(Outcome::TimedOut);
            }
            if now >= next_look {
                next_look = now + TICK;
                if groups.cpu_time().is_some_and(|used| used > cpu_allowed) {
                    return Some(Outcome::TimedOut);
                }
            }
        }
    }

    /// Ends every process of the job and takes bubblewrap's exit status and the last output.
    fn end(&mut self) -> Result<Ending, Error> {
        if let Some(ending) = self.ended {
            return Ok(ending);
        }
        // Without the rest of its program bubblewrap cannot go on.
        self.gate = None;
        if let Some(init) = &self.init {
            init.kill();
            if !init.wait_for_end(END_PATIENCE) {
                return Err(Error::Survivors);
            }
        }
        // Not killed at once: killed between making its child and letting it go it would leave that one waiting.
        if !self.bubblewrap.wait_for_end(SETUP_PATIENCE) {
            self.bubblewrap.kill();
            if !self.bubblewrap.wait_for_end(END_PATIENCE) {
                return Err(Error::Survivors);
            }
        }
        let ending = self.bubblewrap.reap().unwrap_or(Ending::Signalled(libc::SIGKILL));
        self.ended = Some(ending);
        // Where this process is the machine's first one, orphans become its children. Otherwise this does nothing.
        let _ = self.init.as_ref().map(Process::reap);
        while !self.stdout.read(&mut self.buffer) {}
        while !self.stderr.read(&mut self.buffer) {}
        self.read_status();
        Ok(ending)
    }

    fn read_status(&mut self) {
        let mut bytes = Vec::new();
        // It ends with "would block" or at the end; both mean that this is all for now.
        let _ = (&self.status).take(STATUS_BYTES_MAX).read_to_end(&mut bytes);
        self.status_text.push_str(&String::from_utf8_lossy(&bytes));
    }

    /// bubblewrap reports an exit code only when it got as far as starting the interpreter.
    fn code_began(&self) -> bool {
        self.status_text.contains("\"exit-code\"")
    }

    fn init_is_gone(&self) -> bool {
        self.init.as_ref().is_none_or(|init| init.wait_for_end(Duration::ZERO))
    }

    fn setup_failure(&mut self) -> Error {
        match self.end() {
            Err(error) => error,
            Ok(ending) => {
                let code = match ending {
                    Ending::Exited(code) => code,
                    Ending::Signalled(signal) => SIGNAL_BASE + signal,
                };
                Error::Setup(said(&std::mem::take(&mut self.stderr).into_text().0, code))
            }
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "a job was not ended");
        }
    }
}

/// From the first line that bubblewrap writes: `{ "child-pid": 7, ... }`.
fn first_process(status: &str) -> Option<libc::pid_t> {
    let (line, _) = status.split_once('\n')?;
    let (_, after) = line.split_once("\"child-pid\":")?;
    let after = after.trim_start();
    let end = after.find(|character: char| !character.is_ascii_digit()).unwrap_or(after.len());
    after.get(..end)?.parse().ok()
}

fn parent_of(pid: libc::pid_t) -> Option<libc::pid_t> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_is_named_once_the_line_is_whole() {
        assert_eq!(first_process("{ \"child-pid\": 71"), None);
        assert_eq!(first_process("{ \"child-pid\": 71, \"net-namespace\": 5 }\n"), Some(71));
        assert_eq!(first_process("{ \"exit-code\": 0 }\n"), None);
    }

    #[test]
    fn an_ending_says_what_happened() {
        assert_eq!(outcome_of(Ending::Exited(3), || false), Outcome::Exited(3));
        assert_eq!(outcome_of(Ending::Exited(137), || false), Outcome::Signalled(9));
        assert_eq!(outcome_of(Ending::Exited(137), || true), Outcome::OutOfMemory);
        assert_eq!(outcome_of(Ending::Exited(0), || true), Outcome::Exited(0));
        assert_eq!(outcome_of(Ending::Exited(152), || false), Outcome::TimedOut);
        assert_eq!(outcome_of(Ending::Exited(255), || false), Outcome::Exited(255));
    }
}
