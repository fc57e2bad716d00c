//! Who is told what runs, and can say why.

use kiln_cache::Digest;

use super::{Key, Outcome};

/// Why no result of a vertex could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// None is known.
    Never,
    /// Its layers were collected then, in unix seconds.
    Collected {
        /// When.
        at: i64,
    },
    /// It is older than may be.
    Expired {
        /// When it was made, in unix seconds.
        created: i64,
    },
    /// The user wants none that an earlier build made.
    Refused,
    /// It was there when the build began, and went away.
    Lost,
}

/// Is told of every vertex that has a result or executes. All calls may block: they are made off the async threads.
pub trait Witness: Send + Sync {
    /// `vertex` has `outcome` without a change: found under `key`, or following from its inputs alone.
    ///
    /// Told while a build looks everything up: a build that runs nothing has time for nothing else.
    fn has(&self, vertex: usize, key: Option<&Digest>, outcome: &Outcome) {
        let _ = (vertex, key, outcome);
    }

    /// `vertex` is about to execute on `inputs`: nothing that could be used is recorded for it, because of `absent`.
    fn runs(&self, vertex: usize, cheap: &Key, inputs: &[Outcome], absent: &Absent) {
        let _ = (vertex, cheap, inputs, absent);
    }

    /// `vertex` has executed, and `outcome` is recorded under `key`, the key of what it really read.
    ///
    /// One that found out that nothing has changed didn't run for its user: that is [`has`](Self::has).
    fn ran(&self, vertex: usize, key: &Key, outcome: &Outcome) {
        let _ = (vertex, key, outcome);
    }
}

/// Sees nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blind;

impl Witness for Blind {}
