//! Names of things that the store makes: 16 hex digits, never used twice.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The name of a snapshot: 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(u64);

/// Why a text names no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a snapshot's name of 16 hex digits")]
pub struct ParseSnapshotIdError {
    text: String,
}

impl SnapshotId {
    /// Returns a name that nothing has yet.
    ///
    /// The standard library seeds its hashers from the kernel's random numbers; the counter and the
    /// clock make each call another. Whoever uses a name still checks that it is free.
    pub(crate) fn fresh() -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        Self(RandomState::new().hash_one((count, std::process::id(), SystemTime::now())))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SnapshotId {
    type Err = ParseSnapshotIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let well_formed = text.len() == 16 && text.bytes().all(lower_hex);
        let number = u64::from_str_radix(text, 16).ok().filter(|_| well_formed);
        number.map(Self).ok_or_else(|| ParseSnapshotIdError { text: text.chars().take(100).collect() })
    }
}

impl serde::Serialize for SnapshotId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for SnapshotId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_spelled_as_it_is_parsed() {
        let id = SnapshotId(0xab);
        assert_eq!(id.to_string(), "00000000000000ab");
        assert_eq!("00000000000000ab".parse(), Ok(id));
        for text in ["", "ab", "00000000000000AB", "+0000000000000ab", "../../../../etc/"] {
            assert!(text.parse::<SnapshotId>().is_err(), "{text}");
        }
    }

    #[test]
    fn fresh_names_differ() {
        let names: std::collections::HashSet<_> = (0..1000).map(|_| SnapshotId::fresh()).collect();
        assert_eq!(names.len(), 1000);
    }
}
