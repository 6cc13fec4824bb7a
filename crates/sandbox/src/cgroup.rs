//! Limits for a job's whole tree of processes, in control groups of version 1 or 2, where this process may make them.
//!
//! Each job has a group below this process's own group, named after its owner (process number and start time), so
//! that a later process can tell whose owner is gone and clear those away. A host without writable groups is no
//! error here; then the limits per process are all there is.

use crate::job::Limits;
use crate::kernel::Process;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const JOB_PREFIX: &str = "soma-job-";
/// Where a process of version 2 moves itself: a group with limits for its children may hold no process.
const OWN_GROUP: &str = "soma-own";
const REMOVAL_PATIENCE: Duration = Duration::from_millis(500);
const REMOVAL_PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Processes,
    Cpu,
}

/// One mounted tree of groups and what it is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    controllers: Vec<Controller>,
    /// Jobs' groups are made in here.
    parent: PathBuf,
}

#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    owner: String,
}

impl Cgroups {
    /// No groups at all.
    pub(crate) fn none() -> Cgroups {
        Cgroups::default()
    }

    /// Finds what can be written, by writing it, and clears away what processes that are gone left behind.
    pub(crate) fn detect() -> Cgroups {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut hierarchies = hierarchies(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        let mut cgroups =
            Cgroups { hierarchies: Vec::new(), owner: owner_name(std::process::id()).unwrap_or_default() };
        if cgroups.owner.is_empty() {
            return cgroups;
        }
        for hierarchy in &mut hierarchies {
            if hierarchy.version == Version::Two {
                delegate(hierarchy);
            }
            remove_orphans(&hierarchy.parent);
        }
        hierarchies.retain(|hierarchy| {
            let trial =
                Group { hierarchy: hierarchy.clone(), path: hierarchy.parent.join(cgroups.next_name()) };
            !hierarchy.controllers.is_empty() && trial.make(&Limits::default()).is_ok()
        });
        cgroups.hierarchies = hierarchies;
        cgroups
    }

    pub(crate) fn limits_trees(&self) -> bool {
        self.has(Controller::Memory) && self.has(Controller::Processes)
    }

    pub(crate) fn limits_memory(&self) -> bool {
        self.has(Controller::Memory)
    }

    fn has(&self, controller: Controller) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.controllers.contains(&controller))
    }

    fn next_name(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!("{JOB_PREFIX}{}-{}", self.owner, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Groups for one job; they are removed when it is dropped.
    pub(crate) fn make(&self, limits: &Limits) -> io::Result<JobGroups> {
        let name = self.next_name();
        let mut groups = JobGroups(Vec::new());
        for hierarchy in &self.hierarchies {
            let group = Group { hierarchy: hierarchy.clone(), path: hierarchy.parent.join(&name) };
            group.make(limits)?;
            groups.0.push(group);
        }
        Ok(groups)
    }
}

#[derive(Debug)]
pub(crate) struct JobGroups(Vec<Group>);

impl JobGroups {
    /// Moves a process in. What it starts from then on is in, too.
    pub(crate) fn admit(&self, pid: libc::pid_t) -> io::Result<()> {
        self.0.iter().try_for_each(|group| fs::write(group.path.join("cgroup.procs"), pid.to_string()))
    }

    /// CPU time of all processes that are or were in.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let group = self.with(Controller::Cpu)?;
        match group.hierarchy.version {
            Version::One => {
                let text = fs::read_to_string(group.path.join("cpuacct.usage")).ok()?;
                Some(Duration::from_nanos(text.trim().parse().ok()?))
            }
            Version::Two => Some(Duration::from_micros(group.counter("cpu.stat", "usage_usec")?)),
        }
    }

    /// Whether the kernel killed a process for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let Some(group) = self.with(Controller::Memory) else {
            return false;
        };
        let file = match group.hierarchy.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        group.counter(file, "oom_kill").is_some_and(|kills| kills > 0)
    }

    fn with(&self, controller: Controller) -> Option<&Group> {
        self.0.iter().find(|group| group.hierarchy.controllers.contains(&controller))
    }
}

#[derive(Debug)]
struct Group {
    hierarchy: Hierarchy,
    path: PathBuf,
}

impl Group {
    fn make(&self, limits: &Limits) -> io::Result<()> {
        fs::create_dir(&self.path)?;
        for controller in &self.hierarchy.controllers {
            match (controller, self.hierarchy.version) {
                (Controller::Memory, Version::One) => {
                    self.write("memory.limit_in_bytes", limits.memory_bytes)?;
                    // Memory and swap together; absent where the kernel does not count swap.
                    let _ = self.write("memory.memsw.limit_in_bytes", limits.memory_bytes);
                }
                (Controller::Memory, Version::Two) => {
                    self.write("memory.max", limits.memory_bytes)?;
                    // Absent where there is no swap, or before Linux 4.19.
                    let _ = self.write("memory.swap.max", 0);
                    let _ = self.write("memory.oom.group", 1);
                }
                (Controller::Processes, _) => {
                    self.write("pids.max", processes_with_init(limits).saturating_add(1))?
                }
                (Controller::Cpu, _) => {}
            }
        }
        Ok(())
    }

    fn write(&self, file: &str, value: u64) -> io::Result<()> {
        fs::write(self.path.join(file), value.to_string())
    }

    fn counter(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.path.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The first process inside is bubblewrap's, not the code's.
pub(crate) fn processes_with_init(limits: &Limits) -> u64 {
    limits.processes.saturating_add(1)
}

/// Ends whatever is in a group and removes it.
fn remove(path: &Path) {
    let started = Instant::now();
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Ok(()) => return,
            Err(error) if started.elapsed() > REMOVAL_PATIENCE => {
                tracing::warn!(path = %path.display(), %error, "a control group was left behind");
                return;
            }
            Err(_) => {}
        }
        let members = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        members
            .lines()
            .filter_map(|pid| Process::open(pid.parse().ok()?).ok())
            .for_each(|process| process.kill());
        std::thread::sleep(REMOVAL_PAUSE);
    }
}

fn remove_orphans(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(JOB_PREFIX)?.rsplit_once('-'))
            .map(|(owner, _)| owner);
        if owner.is_some_and(|owner| !owner_lives(owner)) {
            remove(&entry.path());
        }
    }
}

/// A process number comes back; with the start time it does not.
fn owner_name(pid: u32) -> Option<String> {
    const START_TIME_AFTER_NAME: usize = 19;
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    let start = after_name.split_whitespace().nth(START_TIME_AFTER_NAME)?;
    Some(format!("{pid}-{start}"))
}

fn owner_lives(owner: &str) -> bool {
    let pid = owner.split_once('-').and_then(|(pid, _)| pid.parse().ok());
    pid.and_then(owner_name).is_some_and(|present| present == owner)
}

/// What this process's groups are, from `/proc/self/cgroup` and `/proc/self/mountinfo` (cgroups(7), proc(5)).
fn hierarchies(memberships: &str, mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        if names.is_empty() {
            if let Some(parent) = mounted_at(mounts, "cgroup2", None, path) {
                let controllers = vec![Controller::Memory, Controller::Processes, Controller::Cpu];
                found.push(Hierarchy { version: Version::Two, controllers, parent });
            }
            continue;
        }
        let controllers: Vec<Controller> = names.split(',').filter_map(controller_of_version_one).collect();
        let Some(first) = names.split(',').find(|name| controller_of_version_one(name).is_some()) else {
            continue;
        };
        if let Some(parent) = mounted_at(mounts, "cgroup", Some(first), path) {
            found.push(Hierarchy { version: Version::One, controllers, parent });
        }
    }
    found
}

fn controller_of_version_one(name: &str) -> Option<Controller> {
    match name {
        "memory" => Some(Controller::Memory),
        "pids" => Some(Controller::Processes),
        "cpuacct" => Some(Controller::Cpu),
        _ => None,
    }
}

/// Where the group `path` can be seen: a mount may show a part of the tree only.
fn mounted_at(mounts: &str, kind: &str, option: Option<&str>, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (mounted_kind, options) = (after.next()?, after.nth(1)?);
        if mounted_kind != kind
            || option.is_some_and(|option| !options.split(',').any(|present| present == option))
        {
            return None;
        }
        let inside = Path::new(path).strip_prefix(root).ok()?;
        Some(if inside.as_os_str().is_empty() { PathBuf::from(point) } else { Path::new(point).join(inside) })
    })
}

/// Version 2: lets children of the own group have limits, and keeps only what the kernel then offers.
fn delegate(hierarchy: &mut Hierarchy) {
    if hierarchy.parent.ends_with(OWN_GROUP) {
        hierarchy.parent.pop();
    }
    let read = |name: &str| fs::read_to_string(hierarchy.parent.join(name)).unwrap_or_default();
    let wanted = [("memory", Controller::Memory), ("pids", Controller::Processes)];
    let offered = read("cgroup.controllers");
    let offered: Vec<_> =
        wanted.into_iter().filter(|(name, _)| offered.split_whitespace().any(|it| it == *name)).collect();
    if offered.is_empty() {
        // The controllers are with version 1; its hierarchies are listed by themselves.
        hierarchy.controllers.clear();
        return;
    }
    let request = offered.iter().map(|(name, _)| format!("+{name}")).collect::<Vec<_>>().join(" ");
    let control = hierarchy.parent.join("cgroup.subtree_control");
    if fs::write(&control, &request).is_err() && read("cgroup.procs").trim() == std::process::id().to_string()
    {
        let own = hierarchy.parent.join(OWN_GROUP);
        let moved = fs::create_dir(&own).and_then(|()| fs::write(own.join("cgroup.procs"), "0"));
        if let Err(error) = moved.and_then(|()| fs::write(&control, &request)) {
            tracing::debug!(%error, "control groups of version 2 are not delegated to this process");
        }
    }
    let enabled = read("cgroup.subtree_control");
    let is_enabled = |wanted: &str| enabled.split_whitespace().any(|name| name == wanted);
    hierarchy.controllers =
        offered.iter().filter(|(name, _)| is_enabled(name)).map(|(_, kind)| *kind).collect();
    if !hierarchy.controllers.is_empty() {
        // Every group of version 2 counts CPU time.
        hierarchy.controllers.push(Controller::Cpu);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_where_they_are_mounted() {
        let hybrid = hierarchies(
            "8:pids:/\n4:memory:/api/one\n3:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n",
            "30 1 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
             31 1 0:27 /api /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
             32 1 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
        );
        let one = |controller, parent: &str| Hierarchy {
            version: Version::One,
            controllers: vec![controller],
            parent: PathBuf::from(parent),
        };
        assert_eq!(
            hybrid,
            [
                one(Controller::Processes, "/sys/fs/cgroup/pids"),
                one(Controller::Memory, "/sys/fs/cgroup/memory/one"),
                one(Controller::Cpu, "/sys/fs/cgroup/cpu,cpuacct"),
            ]
        );
        let unified = hierarchies(
            "0::/system.slice/soma.service\n",
            "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert_eq!(unified.len(), 1);
        assert_eq!(unified[0].parent, Path::new("/sys/fs/cgroup/system.slice/soma.service"));
    }

    #[test]
    fn version_two_uses_what_it_is_given() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let delegated = |offered: &str| {
            write("cgroup.controllers", offered);
            write("cgroup.subtree_control", "");
            let (version, parent) = (Version::Two, directory.path().to_owned());
            let mut hierarchy = Hierarchy { version, controllers: Vec::new(), parent };
            delegate(&mut hierarchy);
            let asked = fs::read_to_string(directory.path().join("cgroup.subtree_control")).unwrap();
            (asked, hierarchy.controllers)
        };
        assert_eq!(delegated("cpu hugetlb"), (String::new(), vec![]));
        // A plain file keeps the words that were asked with; the kernel answers without the signs.
        assert_eq!(delegated("cpu memory pids").0, "+memory +pids");
    }

    #[test]
    fn groups_of_an_owner_that_is_gone_are_removed_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let mine = format!("{JOB_PREFIX}{}-0", owner_name(std::process::id()).unwrap());
        let reused = format!("{JOB_PREFIX}{}-1-0", std::process::id());
        let gone = format!("{JOB_PREFIX}4194999-77-3");
        for name in [mine.as_str(), &reused, &gone, "another"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        remove_orphans(directory.path());
        let mut left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["another", mine.as_str()]);
    }
}
