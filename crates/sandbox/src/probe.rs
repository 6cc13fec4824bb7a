//! What this host offers: found once, tried once, and named precisely when it is missing.

use crate::arguments::Layout;
use crate::cgroup::Cgroups;
use crate::job::{Error, Limits, Outcome};
use crate::kernel::{self, Event, Process};
use crate::language::{Interpreter, Language, system_program};
use crate::run;
use crate::syscalls;
use std::ffi::{CString, OsString};
use std::fmt;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

const TRIAL_WALL: Duration = Duration::from_secs(20);

/// Why nothing can be run here: each line says what is missing and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    pub missing: Vec<String>,
}

impl Unavailable {
    pub(crate) fn because(reason: String) -> Unavailable {
        Unavailable { missing: vec![reason] }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "code cannot be run here: {}", self.missing.join("; "))
    }
}

impl std::error::Error for Unavailable {}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) bubblewrap: CString,
    pub(crate) layout: Layout,
    pub(crate) cgroups: Cgroups,
    pub(crate) seccomp: Vec<u8>,
    pub(crate) languages: Vec<Language>,
    interpreters: Vec<Interpreter>,
}

impl Host {
    pub(crate) fn interpreter(&self, language: Language) -> Option<&Interpreter> {
        self.interpreters.iter().find(|interpreter| interpreter.language == language)
    }
}

pub(crate) fn probe() -> Result<Host, Unavailable> {
    let mut missing = kernel_needs();
    let bubblewrap = system_program("bwrap").map(|path| CString::new(OsString::from(path).into_vec()));
    if bubblewrap.is_none() {
        missing.push("bubblewrap (bwrap in /usr/bin): install it, e.g. `apt install bubblewrap`".to_owned());
    }
    let seccomp = syscalls::program();
    if let Err(error) = &seccomp {
        missing.push(format!(
            "a system call filter for {}: {error}; use x86-64 or arm64",
            std::env::consts::ARCH
        ));
    }
    let interpreters: Vec<Interpreter> = Language::ALL.into_iter().filter_map(Interpreter::find).collect();
    if interpreters.is_empty() {
        missing.push("an interpreter (python3, bash or node in /usr/bin): install one".to_owned());
    }
    let (Some(Ok(bubblewrap)), Ok(seccomp), true) = (bubblewrap, seccomp, missing.is_empty()) else {
        return Err(Unavailable { missing });
    };
    let (layout, cgroups) = (Layout::of_this_host(), Cgroups::detect());
    let mut host = Host { bubblewrap, layout, cgroups, seccomp, languages: Vec::new(), interpreters };
    try_languages(&mut host)?;
    if !host.cgroups.limits_trees() {
        let advice = "delegate cgroups to this process (systemd: Delegate=yes) to limit whole trees";
        tracing::warn!(
            root = kernel::user() == 0,
            advice,
            "jobs are limited per process only, and root's not in number"
        );
    }
    Ok(host)
}

/// One trial per language. A group that can be made but not entered is as good as none.
fn try_languages(host: &mut Host) -> Result<(), Unavailable> {
    let mut failures = Vec::new();
    for interpreter in &host.interpreters {
        let mut tried = try_language(host, interpreter);
        if matches!(tried, Err(Error::Limit { .. })) && host.cgroups.limits_trees() {
            host.cgroups = Cgroups::none();
            tried = try_language(host, interpreter);
        }
        match tried {
            Ok(Ok(())) => host.languages.push(interpreter.language),
            Ok(Err(said)) => {
                failures.push(format!("a working {}: its trial said: {said}", interpreter.language.as_str()))
            }
            Err(error) => failures.push(advice(&error)),
        }
    }
    for failure in &failures {
        tracing::warn!(failure, "a language is left out");
    }
    if host.languages.is_empty() {
        failures.dedup();
        return Err(Unavailable { missing: failures });
    }
    Ok(())
}

fn try_language(host: &Host, interpreter: &Interpreter) -> Result<Result<(), String>, Error> {
    let code = match interpreter.language {
        Language::Python => "print('works')",
        Language::Bash => "echo works",
        Language::Node => "console.log('works')",
    };
    let never = Event::new().map_err(|source| Error::start("an event", source))?;
    let limits = Limits { wall: TRIAL_WALL, ..Limits::default() };
    let report = run::run_in(host, interpreter, None, code, &limits, &never)?;
    let works = report.outcome == Outcome::Exited(0) && report.stdout == "works\n";
    Ok(if works { Ok(()) } else { Err(format!("{:?} {}", report.outcome, report.stderr.trim())) })
}

fn kernel_needs() -> Vec<String> {
    let mut missing = Vec::new();
    let own = libc::pid_t::try_from(std::process::id()).unwrap_or_default();
    if Process::open(own).is_err() {
        missing.push(
            "pidfd_open: use Linux 5.3 or newer, and let a container's seccomp profile allow it".to_owned(),
        );
    }
    let beneath = File::open("/").and_then(|root| kernel::open_beneath(&root, c".", libc::O_PATH, 0));
    if beneath.is_err() {
        missing.push(
            "openat2: use Linux 5.6 or newer, and let a container's seccomp profile allow it".to_owned(),
        );
    }
    missing
}

/// What an operator can do about bubblewrap's complaint.
fn advice(error: &Error) -> String {
    let Error::Setup(said) = error else {
        return describe(error);
    };
    let said_any = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    let (what, cure) = if said_any(&["reating new namespace", "create new namespace", "max_*_namespaces"]) {
        (
            "user namespaces",
            "set sysctl kernel.unprivileged_userns_clone=1 and user.max_user_namespaces above 0; \
             in a container use a seccomp profile that allows unshare and clone",
        )
    } else if said_any(&["setting up uid map", "setting up gid map", "loopback: Failed"]) {
        (
            "powers in a user namespace",
            "AppArmor withholds them: add a profile that lets bwrap use userns, \
             or set sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        )
    } else if said_any(&["Can't mount proc"]) {
        ("a /proc of its own", "the container hides parts of /proc: run it with systempaths=unconfined")
    } else if said_any(&["Failed to make / slave", "pivot_root", "mount tmpfs"]) {
        (
            "mounts in a namespace",
            "in a container allow mount (AppArmor and seccomp unconfined for this service)",
        )
    } else if said_any(&["Unknown option"]) {
        ("bubblewrap 0.8 or newer", "the one installed is older: upgrade it")
    } else {
        ("a working bubblewrap", "see what it said")
    };
    format!("{what}: {cure} (bwrap said: {})", said.trim_start_matches("bwrap: "))
}

fn describe(error: &Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_is_missing_and_the_cure() {
        let check = |said: &str, what: &str| {
            let advice = advice(&Error::Setup(said.to_owned()));
            assert!(advice.starts_with(what), "{advice}");
            assert!(!advice.contains('\n'), "{advice}");
        };
        check("bwrap: No permissions to create new namespace, likely because", "user namespaces");
        check("bwrap: No permissions to creating new namespace, likely because", "user namespaces");
        check("bwrap: Creating new namespace failed: Operation not permitted", "user namespaces");
        check("bwrap: setting up uid map: Permission denied", "powers in a user namespace");
        check("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "a /proc of its own");
        check("bwrap: Unknown option --size", "bubblewrap 0.8");
    }
}
