//! Every exit code of kiln, in one place.
//!
//! | code | when |
//! |---|---|
//! | 0 | done |
//! | 1 | a verb failed, or was used wrongly; `run`, `create` and `exec` have too few words; a RUN step failed, whatever its own code was |
//! | 125 | `run` or `create` failed by itself: bad flag, no such image; a bad flag of `exec` |
//! | 126 | the container's program can't be executed |
//! | 127 | the container's program wasn't found |
//! | 128 + n | the container's program was killed by signal n; 130 also when the user stopped kiln |
//! | else | `run`, `exec` and `start -a`: the program's own |

use crate::api::FailureKind;

/// Done.
pub(crate) const SUCCESS: i32 = 0;
/// A verb failed.
pub(crate) const FAILURE: i32 = 1;
/// `run` or `create` failed by itself, or the flags of `exec` are wrong.
pub(crate) const OWN_FAILURE: i32 = 125;
/// The program can't be executed.
const NOT_EXECUTABLE: i32 = 126;
/// The program wasn't found.
const NOT_FOUND: i32 = 127;
/// Stopped by the user's interrupt, as shells say it: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Returns the code of a failure; `own` is the verb's code of its own failures.
pub(crate) fn of_failure(kind: FailureKind, own: i32) -> i32 {
    match kind {
        FailureKind::CommandNotFound => NOT_FOUND,
        FailureKind::CommandNotExecutable => NOT_EXECUTABLE,
        FailureKind::Cancelled => INTERRUPTED,
        // docker build's code for a failed step.
        FailureKind::Step(_) => FAILURE,
        FailureKind::Invalid
        | FailureKind::NotFound
        | FailureKind::Conflict
        | FailureKind::Network
        | FailureKind::Corrupt
        | FailureKind::System => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_codes_of_docker() {
        for (kind, own, expected) in [
            (FailureKind::Invalid, FAILURE, 1),
            (FailureKind::Invalid, OWN_FAILURE, 125),
            (FailureKind::NotFound, OWN_FAILURE, 125),
            (FailureKind::CommandNotFound, OWN_FAILURE, 127),
            (FailureKind::CommandNotExecutable, OWN_FAILURE, 126),
            (FailureKind::Step(42), FAILURE, 1),
            (FailureKind::Cancelled, FAILURE, 130),
        ] {
            assert_eq!(of_failure(kind, own), expected);
        }
    }
}
