//! Real engines for tests, by `scripts/engines`: what it starts is left up, for the next run of the tests.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Where tests find an OPA server with the program's bundle, which those that need none of their own ask then.
const OPA: &str = "SOMA_TEST_OPA";

/// What the settings of an install under test say of the policy: in process, or on the server of `SOMA_TEST_OPA`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "which engines tests run on is no setting of the program")]
pub fn policy_setting() -> String {
    std::env::var(OPA).unwrap_or_else(|_| "embedded:".to_owned())
}

/// What the script printed of an engine.
#[derive(Debug, Clone)]
pub struct Printed(String);

/// Runs the script to its end, which it bounds itself.
///
/// # Panics
/// When it fails.
#[expect(clippy::must_use_candidate, reason = "what stops an engine prints nothing of use")]
pub fn engines(arguments: &[&str]) -> Printed {
    try_engines(arguments).unwrap_or_else(|failure| panic!("{failure}"))
}

/// The same; a failure says what was asked for. The script's own words are on the standard error.
pub fn try_engines(arguments: &[&str]) -> Result<Printed, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/engines");
    let mut command = Command::new(script);
    let ran = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let ran = ran.expect("scripts/engines runs");
    if !ran.status.success() {
        return Err(format!("scripts/engines {arguments:?}: {}", ran.status));
    }
    Ok(Printed(String::from_utf8(ran.stdout).expect("text")))
}

/// An engine of a test's own, to be killed and paused. Gone with it.
#[derive(Debug)]
pub struct OwnEngine {
    engine: &'static str,
    name: String,
}

impl OwnEngine {
    /// Not started yet. `label` tells it from others of the same process.
    #[must_use]
    pub fn new(engine: &'static str, label: &str) -> Self {
        Self { engine, name: format!("{engine}-{label}-{}", std::process::id()) }
    }

    /// Starts it, or starts it again.
    #[expect(clippy::must_use_candidate, reason = "one that comes back is where it was")]
    pub fn up(&self) -> Printed {
        self.up_with(&[])
    }

    /// The same, with further arguments of the script.
    pub fn up_with(&self, further: &[&str]) -> Printed {
        engines(&[&["up", self.engine, "--name", &self.name], further].concat())
    }

    /// `kill`, `pause` or `continue`.
    pub fn tell(&self, action: &str) {
        self.told(action);
    }

    fn told(&self, action: &str) -> Printed {
        engines(&[action, self.engine, "--name", &self.name])
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        engines(&["down", self.engine, "--name", &self.name, "--forget"]);
    }
}

impl Printed {
    /// All of it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Each setting that it has printed, with its value.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter_map(|line| line.split_once('='))
    }

    /// # Panics
    /// When the script has not printed this setting.
    #[must_use]
    pub fn setting(&self, name: &str) -> &str {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("scripts/engines printed no {name}"))
    }
}
