//! A step's error on its way through the server, and back.

use platform::durable::StepError;
use temporalio_common::error::{ApplicationFailure, IncomingError};
use temporalio_sdk::{ActivityExecutionError, activities::ActivityError};

/// Longest message that travels; the ledger has the whole.
const MESSAGE_BYTES_MAX: usize = 256;

/// An activity that ends with this is made again by the server, without a bound.
pub(crate) fn again(error: &StepError) -> ActivityError {
    let failure = ApplicationFailure::builder(shortened(error)).type_name(error.code().to_owned()).build();
    ActivityError::application(failure)
}

/// The step's own outcome: the workflow gets it, and nothing is made again.
pub(crate) fn outcome(error: StepError) -> ActivityError {
    ActivityError::application(as_failure(error))
}

pub(crate) fn as_failure(error: StepError) -> ApplicationFailure {
    let error = match error {
        StepError::Failed { code, message } => StepError::Failed { code, message: cut(message) },
        other => other,
    };
    ApplicationFailure::builder(shortened(&error))
        .type_name(error.code().to_owned())
        .non_retryable(true)
        .details(error)
        .build()
}

fn shortened(error: &StepError) -> String {
    cut(error.to_string())
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    }
    message
}

/// The step's own outcome, if that is what the activity ended with.
pub(crate) fn of_step(error: &ActivityExecutionError) -> Option<StepError> {
    match error.reason()? {
        IncomingError::Application(failure) if failure.is_non_retryable() => {
            failure.details::<StepError>().ok().flatten()
        }
        _ => None,
    }
}
