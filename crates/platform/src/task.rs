//! Work in tasks of its own, which goes on whether or not whoever waits for it is polled.

use std::future::Future;

use tokio::task::JoinError;

/// What a task comes to; its panic goes on here.
pub async fn outcome<T>(task: impl Future<Output = Result<T, JoinError>>) -> T {
    match task.await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
