//! Real engines for tests, by `scripts/engines`: what it starts is left up, for the next run of the tests.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What the script printed of an engine.
#[derive(Debug, Clone)]
pub struct Printed(String);

/// Runs the script to its end.
///
/// # Panics
/// When it fails: its own words are on the standard error.
pub fn engines(arguments: &[&str]) -> Printed {
    let mut command = Command::new(script());
    let ran = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let ran = ran.expect("scripts/engines runs");
    assert!(ran.status.success(), "scripts/engines {arguments:?}: {}", ran.status);
    Printed(String::from_utf8(ran.stdout).expect("text"))
}

impl Printed {
    /// # Panics
    /// When the script has not printed this setting.
    #[must_use]
    pub fn setting(&self, name: &str) -> &str {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("scripts/engines printed no {name}"))
    }
}

#[must_use]
pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/engines")
}
