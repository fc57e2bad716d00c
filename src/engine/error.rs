//! From a module's error to what its user sees.

use crate::api::{Failure, FailureKind};
use crate::image;

/// A failure of the image module.
pub(super) fn image(error: &image::Error) -> Failure {
    Failure::from_error(FailureKind::System, error)
}
