//! Which times the files of a layer get in its tar.
//!
//! The files of a snapshot keep the times that they have; a step may look at them. When an image is to be the same
//! wherever it is built, the tar says other ones: those of a checkout, or of the hour of the build, mean nothing.

/// A rule of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Those of the files.
    Kept,
    /// Those of the files, but none later than this (unix seconds): for what programs wrote and unpacked, whose
    /// times may mean something.
    Clamped(i64),
    /// This one: for what was copied from a checkout or made by the build itself.
    Set(i64),
}

impl Times {
    /// Returns the time that a file of this time gets.
    pub fn of(self, mtime: i64) -> i64 {
        match self {
            Self::Kept => mtime,
            Self::Clamped(epoch) => mtime.min(epoch),
            Self::Set(epoch) => epoch,
        }
    }

    /// Returns the number by which the store keeps diffs of this rule; epochs aren't negative.
    pub fn rule(self) -> i64 {
        match self {
            Self::Kept => 0,
            Self::Clamped(epoch) => epoch.saturating_mul(2).saturating_add(1),
            Self::Set(epoch) => epoch.saturating_mul(2).saturating_add(2),
        }
    }

    /// Returns the rule of a number.
    pub fn of_rule(rule: i64) -> Self {
        match rule {
            ..=0 => Self::Kept,
            rule if rule % 2 == 1 => Self::Clamped(rule / 2),
            rule => Self::Set(rule / 2 - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Times::{self, Clamped, Kept, Set};

    #[test]
    fn a_rule_is_found_again_by_its_number() {
        for times in
            [Kept, Clamped(0), Set(0), Clamped(1), Set(1), Clamped(1_700_000_000), Set(1_700_000_000)]
        {
            assert_eq!(Times::of_rule(times.rule()), times);
        }
    }

    #[test]
    fn only_a_clamp_looks_at_the_file() {
        assert_eq!([3, 7].map(|time| Kept.of(time)), [3, 7]);
        assert_eq!([3, 7].map(|time| Clamped(5).of(time)), [3, 5]);
        assert_eq!([3, 7].map(|time| Set(5).of(time)), [5, 5]);
    }
}
