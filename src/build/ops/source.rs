//! FROM: an image that is in the store, or nothing.

use kiln_cache::SnapshotId;
use kiln_cache::key::KeyBuilder;

use crate::build::graph::SourceSpec;
use crate::build::solve::{Context, Executed, Key, Op, OpFuture, Outcome};

/// The start of a stage.
pub(super) struct Source {
    /// The image; `None` for `scratch`.
    pub(super) spec: Option<SourceSpec>,
    /// Its layers, base first.
    pub(super) chain: Vec<SnapshotId>,
    /// When it was made, unix seconds.
    pub(super) created: i64,
}

impl Op for Source {
    fn known(&self, _inputs: &[Outcome]) -> Option<Outcome> {
        let outcome =
            Outcome { id: self.cheap_key(&[]).digest, chain: self.chain.clone(), created: self.created };
        Some(outcome)
    }

    fn cheap_key(&self, _inputs: &[Outcome]) -> Key {
        let key = KeyBuilder::new("source", 1);
        let key = match &self.spec {
            None => key.field("image", "scratch"),
            Some(spec) => key
                .field("platform", &spec.platform)
                .field("layers", spec.chain_id.map(|chain| chain.to_string()).unwrap_or_default()),
        };
        Key { parts: key.parts(), digest: key.digest() }
    }

    fn execute<'a>(&'a self, _inputs: &'a [Outcome], _context: &'a Context) -> OpFuture<'a> {
        let outcome = self.known(&[]).expect("a source is always known");
        let key = self.cheap_key(&[]);
        Box::pin(async move { Ok(Executed { outcome, key }) })
    }
}
