//! Bytes that nobody may read by accident: secrets on their way from the user to a step.
//!
//! Debug shows nothing of them and there is no Display, so that no message, trace or event can have them. They
//! can be serialized, because the engine hands them to the launcher through an unnamed file in memory; what is
//! serialized must never go to a disk.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes that only [`Redacted::reveal`] shows.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Redacted(Vec<u8>);

impl Redacted {
    /// Wraps `bytes`.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_bytes_nor_their_number() {
        let secret = Redacted::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "(redacted) Some((redacted))");
        assert_eq!(secret.reveal(), b"hunter2");
    }
}
