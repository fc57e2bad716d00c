//! Flags of `kiln create` and `run`: where a container's output goes.

/// Flags of docker that are still to come.
pub(super) const NOT_YET: &[&str] = &["--log-driver", "--log-opt"];
