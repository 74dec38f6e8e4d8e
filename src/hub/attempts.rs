//! Making a request again where that may help.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::Failure;
use crate::error::HubError;
use crate::pause::pause;

/// How often one that waits looks whether the work is cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// Waits.
///
/// # Errors
/// [`HubError::Cancelled`] as soon as `is_cancelled`.
pub(crate) fn sleep(wait: Duration, is_cancelled: &dyn Fn() -> bool) -> Result<(), HubError> {
    let end = Instant::now() + wait;
    loop {
        if is_cancelled() {
            return Err(HubError::Cancelled);
        }
        match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return Ok(()),
            left => thread::sleep(left.min(LOOK)),
        }
    }
}

/// Makes attempts until one succeeds, or none is worth another.
pub(crate) fn again<T>(attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, HubError> {
    again_unless(&|| false, attempt)
}

/// As [`again`], until `is_cancelled`.
pub(crate) fn again_unless<T>(
    is_cancelled: &dyn Fn() -> bool,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, HubError> {
    let mut failures = 0;
    loop {
        let failure = match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        failures += 1;
        match pause(failures, failure.asked).filter(|_| failure.may_pass) {
            Some(wait) => sleep(wait, is_cancelled)?,
            None => return Err(failure.error),
        }
    }
}
