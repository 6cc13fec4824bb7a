//! Failpoints and fault switches for tests. Without the feature `faults` every function here is empty and compiled
//! away; a released binary has none of them.
//!
//! `SOMA_KILL_AT=name:n` kills the process (SIGKILL) when the failpoint `name` is passed for the n-th time.
//! `SOMA_FAULT=ledger_off`, `ack_early` or `outbox_early` breaks a promise on purpose, to show that the tests notice.

/// A named step at which a test may kill the process.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(feature = "faults")]
    switched::point(name);
    #[cfg(not(feature = "faults"))]
    let _ = name;
}

/// Whether a promise is broken on purpose.
#[inline]
#[must_use]
pub fn broken(switch: &'static str) -> bool {
    #[cfg(feature = "faults")]
    return switched::broken(switch);
    #[cfg(not(feature = "faults"))]
    {
        let _ = switch;
        false
    }
}

/// Every failpoint, in the order in which a turn passes them.
pub const POINTS: &[&str] = &[
    "message_before_commit",
    "message_committed",
    "run_claimed",
    "model_before_reserve",
    "model_reserved",
    "model_streamed",
    "model_before_commit",
    "model_committed",
    "tool_before_start",
    "tool_started",
    "tool_effect_done",
    "tool_committed",
    "approval_before_request",
    "approval_requested",
    "decision_before_commit",
    "decision_committed",
    "finish_before_commit",
    "finish_committed",
];

#[cfg(feature = "faults")]
mod switched {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    struct KillAt {
        name: String,
        countdown: AtomicU64,
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "test switches are no settings: they exist in no released binary"
    )]
    fn environment(name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    static KILL_AT: LazyLock<Option<KillAt>> = LazyLock::new(|| {
        let text = environment("SOMA_KILL_AT")?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some(KillAt { name: name.to_owned(), countdown: AtomicU64::new(count.parse().unwrap_or(1)) })
    });
    static FAULT: LazyLock<Option<String>> = LazyLock::new(|| environment("SOMA_FAULT"));

    pub(super) fn point(name: &'static str) {
        let Some(kill) = KILL_AT.as_ref().filter(|kill| kill.name == name) else { return };
        if kill.countdown.fetch_sub(1, Ordering::SeqCst) == 1 {
            // SIGKILL and nothing softer: no destructor, no flush, as when the power goes.
            let pid = std::process::id().to_string();
            drop(std::process::Command::new("kill").args(["-9", &pid]).status());
            std::thread::park();
        }
    }

    pub(super) fn broken(switch: &'static str) -> bool {
        FAULT.as_deref() == Some(switch)
    }
}
