//! The system calls that the standard library lacks, each behind a safe function.
//!
//! Unsafe because all of these are foreign functions; each takes only descriptors, numbers and memory that live
//! for the whole call. No policy is here.
#![expect(
    unsafe_code,
    reason = "posix_spawn, pidfd, prlimit, poll, memfd, eventfd and openat2 have no safe form in std"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Descriptors are moved above this before a spawn, so that none is where another has to go.
const DESCRIPTOR_TARGETS_MAX: RawFd = 32;
/// Code in a workspace may rename without end to keep an opener busy.
const OPEN_ATTEMPTS_MAX: u32 = 256;

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The descriptor that a call returned.
fn descriptor(result: c_long) -> io::Result<OwnedFd> {
    let number = RawFd::try_from(result).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    checked(number)?;
    // SAFETY: the kernel has just returned it, so it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Wakes a thread that polls. Once set it stays set.
#[derive(Debug)]
pub(crate) struct Event(File);

impl Event {
    pub(crate) fn new() -> io::Result<Event> {
        // SAFETY: no pointers.
        let result = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        Ok(Event(File::from(descriptor(result.into())?)))
    }

    pub(crate) fn set(&self) {
        // It fails only when the counter is full, which means that it is set.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A process that is meant even when its number has been given to another.
#[derive(Debug)]
pub(crate) struct Process(OwnedFd);

impl Process {
    pub(crate) fn open(pid: libc::pid_t) -> io::Result<Process> {
        // SAFETY: no pointers.
        descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(Process)
    }

    /// A process that is gone already is no error.
    pub(crate) fn kill(&self) {
        let no_details = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo is allowed.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), libc::SIGKILL, no_details, 0)
        };
    }

    /// Waits until it has ended; false when it has not in that time.
    pub(crate) fn wait_for_end(&self, patience: Duration) -> bool {
        matches!(poll(&[Some(self.as_fd())], patience).as_deref(), Ok([true]))
    }

    /// Takes the exit status of a child that has ended, as `wait` would give it. None when it runs or is no child.
    pub(crate) fn reap(&self) -> Option<Ending> {
        let mut details = MaybeUninit::<libc::siginfo_t>::zeroed();
        let id = libc::id_t::try_from(self.0.as_raw_fd()).ok()?;
        // SAFETY: `details` is large enough, and all zeroes are a valid value of it.
        let (result, details) = unsafe {
            let result = libc::waitid(libc::P_PIDFD, id, details.as_mut_ptr(), libc::WEXITED | libc::WNOHANG);
            (result, details.assume_init())
        };
        checked(result).ok()?;
        // SAFETY: waitid fills these fields for a child that ended; otherwise they are zero.
        let (pid, status) = unsafe { (details.si_pid(), details.si_status()) };
        match (pid, details.si_code) {
            (0, _) => None,
            (_, libc::CLD_EXITED) => Some(Ending::Exited(status)),
            _ => Some(Ending::Signalled(status)),
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(i32),
    Signalled(i32),
}

/// Which of these can be read, or have ended. None entries are never ready.
pub(crate) fn poll(watched: &[Option<BorrowedFd<'_>>], patience: Duration) -> io::Result<Vec<bool>> {
    let mut entries: Vec<libc::pollfd> = watched
        .iter()
        .map(|entry| libc::pollfd {
            // The kernel skips negative numbers.
            fd: entry.map_or(-1, |descriptor| descriptor.as_raw_fd()),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // Rounded up, so that a wait for a deadline does not spin through its last millisecond.
    let milliseconds = c_int::try_from(patience.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX);
    // SAFETY: the pointer and the length are those of one vector.
    let result = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, milliseconds) };
    match checked(result) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Err(_) => Ok(vec![false; watched.len()]),
        Ok(_) => Ok(entries.iter().map(|entry| entry.revents != 0).collect()),
    }
}

pub(crate) fn do_not_block(descriptor: &impl AsFd) -> io::Result<()> {
    let number = descriptor.as_fd().as_raw_fd();
    // SAFETY: no pointers.
    unsafe {
        let flags = checked(libc::fcntl(number, libc::F_GETFL))?;
        checked(libc::fcntl(number, libc::F_SETFL, flags | libc::O_NONBLOCK))?;
    }
    Ok(())
}

/// An open file that is nowhere in the file system, to be read from its start.
pub(crate) fn memory_file(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name ends with a zero.
    let result = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    let mut file = File::from(descriptor(result.into())?);
    file.write_all(content)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    AddressSpace,
    Core,
    CpuSeconds,
    FileBytes,
    OpenFiles,
    Processes,
}

/// Sets a hard and a soft limit of another process of the same user.
pub(crate) fn limit(pid: libc::pid_t, resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let number = match resource {
        Resource::AddressSpace => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::CpuSeconds => libc::RLIMIT_CPU,
        Resource::FileBytes => libc::RLIMIT_FSIZE,
        Resource::OpenFiles => libc::RLIMIT_NOFILE,
        Resource::Processes => libc::RLIMIT_NPROC,
    };
    let mut present = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both pointers are null or of live values.
    unsafe {
        checked(libc::prlimit(pid, number, std::ptr::null(), &mut present))?;
        // A hard limit that is lower already cannot be raised, and need not be.
        let hard = hard.min(present.rlim_max);
        let wanted = libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
        checked(libc::prlimit(pid, number, &wanted, std::ptr::null_mut()))?;
    }
    Ok(())
}

/// The user and group that files of this process belong to.
pub(crate) fn user() -> libc::uid_t {
    // SAFETY: it cannot fail.
    unsafe { libc::geteuid() }
}

/// Starts a program. It gets `descriptors` as 0, 1, 2, ... and no other, the environment given and no other,
/// default signal handlers and an empty signal mask. The caller's memory is not copied for it.
pub(crate) fn spawn(
    program: &CStr,
    arguments: &[CString],
    environment: &[&CStr],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<libc::pid_t> {
    let count = RawFd::try_from(descriptors.len()).unwrap_or(RawFd::MAX);
    if count > DESCRIPTOR_TARGETS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut sources = Vec::with_capacity(descriptors.len());
    for entry in descriptors {
        // SAFETY: no pointers.
        let copy = unsafe { libc::fcntl(entry.as_raw_fd(), libc::F_DUPFD_CLOEXEC, DESCRIPTOR_TARGETS_MAX) };
        sources.push(descriptor(copy.into())?);
    }
    let argument_pointers = pointers(arguments.iter().map(CString::as_c_str));
    let environment_pointers = pointers(environment.iter().copied());
    let mut actions = FileActions::new()?;
    for (target, source) in (0..).zip(&sources) {
        actions.duplicate(source.as_raw_fd(), target)?;
    }
    actions.close_from(count)?;
    let attributes = Attributes::new()?;
    let mut pid = 0;
    // SAFETY: all pointers are of values that live to the end of this function, and both lists end with null.
    let failure = unsafe {
        libc::posix_spawn(
            &mut pid,
            program.as_ptr(),
            &actions.0,
            &attributes.0,
            argument_pointers.as_ptr(),
            environment_pointers.as_ptr(),
        )
    };
    numbered(failure).map(|()| pid)
}

/// The posix_spawn family returns its error number.
fn numbered(failure: c_int) -> io::Result<()> {
    if failure == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failure)) }
}

fn pointers<'a>(strings: impl Iterator<Item = &'a CStr>) -> Vec<*mut c_char> {
    strings.map(|string| string.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
}

struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new() -> io::Result<FileActions> {
        let mut actions = MaybeUninit::zeroed();
        // SAFETY: the call makes it valid, or fails.
        unsafe {
            numbered(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Ok(FileActions(actions.assume_init()))
        }
    }

    fn duplicate(&mut self, source: RawFd, target: RawFd) -> io::Result<()> {
        // SAFETY: the value was initialised by `new`.
        numbered(unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, source, target) })
    }

    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        // SAFETY: the value was initialised by `new`.
        numbered(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&mut self.0, first) })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: the value was initialised by `new` and is not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// Rust ignores SIGPIPE, and an ignored signal would stay ignored in the program.
    fn new() -> io::Result<Attributes> {
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETPGROUP;
        let mut attributes = MaybeUninit::zeroed();
        let mut signals = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: each value is initialised by its first call before any other call reads it.
        unsafe {
            numbered(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let mut attributes = Attributes(attributes.assume_init());
            checked(libc::sigemptyset(signals.as_mut_ptr()))?;
            numbered(libc::posix_spawnattr_setsigmask(&mut attributes.0, signals.as_ptr()))?;
            checked(libc::sigfillset(signals.as_mut_ptr()))?;
            numbered(libc::posix_spawnattr_setsigdefault(&mut attributes.0, signals.as_ptr()))?;
            numbered(libc::posix_spawnattr_setpgroup(&mut attributes.0, 0))?;
            numbered(libc::posix_spawnattr_setflags(&mut attributes.0, flags as _))?;
            Ok(attributes)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: the value was initialised by `new` and is not used again.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

/// Opens `path` below `directory`. No symbolic link, `..` or magic link leads out of it.
pub(crate) fn open_beneath(
    directory: &impl AsFd,
    path: &CStr,
    flags: c_int,
    mode: libc::mode_t,
) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes are a valid `open_how`.
    let mut how: libc::open_how = unsafe { MaybeUninit::zeroed().assume_init() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = mode.into();
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    let number = directory.as_fd().as_raw_fd();
    let mut last = io::Error::from(io::ErrorKind::Interrupted);
    for _ in 0..OPEN_ATTEMPTS_MAX {
        // SAFETY: the path ends with a zero; the size is that of `how`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                number,
                path.as_ptr(),
                &how,
                std::mem::size_of::<libc::open_how>(),
            )
        };
        match descriptor(result) {
            // EAGAIN: something was renamed meanwhile, and the kernel could not prove that the path stayed inside.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => last = error,
            done => return done,
        }
    }
    Err(last)
}

/// Makes a directory in one that is open. `name` must be a single name.
pub(crate) fn make_directory(directory: &impl AsFd, name: &CStr, mode: libc::mode_t) -> io::Result<()> {
    // SAFETY: the name ends with a zero.
    checked(unsafe { libc::mkdirat(directory.as_fd().as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// Renames within one open directory. Both must be single names.
pub(crate) fn rename(directory: &impl AsFd, from: &CStr, to: &CStr) -> io::Result<()> {
    let number = directory.as_fd().as_raw_fd();
    // SAFETY: both names end with a zero.
    checked(unsafe { libc::renameat(number, from.as_ptr(), number, to.as_ptr()) }).map(drop)
}

/// Removes a file, or an empty directory, from an open directory. `name` must be a single name.
pub(crate) fn remove(directory: &impl AsFd, name: &CStr) -> io::Result<()> {
    let number = directory.as_fd().as_raw_fd();
    // SAFETY: the name ends with a zero.
    let unlink = |flags| checked(unsafe { libc::unlinkat(number, name.as_ptr(), flags) }).map(drop);
    match unlink(0) {
        Err(error) if error.raw_os_error() == Some(libc::EISDIR) => unlink(libc::AT_REMOVEDIR),
        done => done,
    }
}

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Description {
    pub(crate) mode: libc::mode_t,
    pub(crate) size_bytes: u64,
    /// Milliseconds since 1970.
    pub(crate) modified_ms: i64,
}

/// Describes an entry of an open directory, a link itself rather than where it leads.
pub(crate) fn describe(directory: &impl AsFd, name: &CStr) -> io::Result<Description> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    let number = directory.as_fd().as_raw_fd();
    // SAFETY: the name ends with a zero; the call fills `status` or fails.
    let status = unsafe {
        checked(libc::fstatat(number, name.as_ptr(), status.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW))?;
        status.assume_init()
    };
    Ok(Description {
        mode: status.st_mode,
        size_bytes: u64::try_from(status.st_size).unwrap_or(0),
        modified_ms: status.st_mtime.saturating_mul(1000).saturating_add(status.st_mtime_nsec / 1_000_000),
    })
}
