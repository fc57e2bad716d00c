//! Who is told what runs, and can say why.

use super::{Key, Outcome};

/// Is told of every vertex that executes. Both calls may block: they are made off the async threads.
pub trait Witness: Send + Sync {
    /// `vertex` is about to execute on `inputs`: nothing that could be used is recorded for it.
    fn runs(&self, vertex: usize, cheap: &Key, inputs: &[Outcome]) {
        let _ = (vertex, cheap, inputs);
    }

    /// `vertex` has executed, and `outcome` is recorded under `key`, the key of what it really read.
    fn ran(&self, vertex: usize, key: &Key, outcome: &Outcome) {
        let _ = (vertex, key, outcome);
    }
}

/// Sees nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blind;

impl Witness for Blind {}
