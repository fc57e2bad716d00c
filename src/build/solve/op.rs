//! What the solver asks of an op.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use kiln_cache::key::Parts;
use kiln_cache::{CacheMount, CacheMountRequest, Digest, Lease, SnapshotId, Store};

use super::Outcome;
use crate::api::{Events, Failure, StepId, Stop};

/// A key and the readable parts that it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub digest: Digest,
    /// They tell two keys of one step apart.
    pub parts: Parts,
}

/// What an execution gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// The result id and its layers.
    pub outcome: Outcome,
    /// The key under which the result is recorded: that of the bytes written, not of those looked up.
    pub key: Key,
}

/// A future of an op.
pub type OpFuture<'a> = Pin<Box<dyn Future<Output = Result<Executed, OpError>> + Send + 'a>>;

/// Why an op failed: what its user sees.
pub type OpError = Box<Failure>;

/// What an op may use while it runs.
#[derive(Debug, Clone)]
pub struct Context {
    /// The store.
    pub store: Store,
    /// Holds what the build makes and uses.
    pub lease: Lease,
    /// Where output and progress go.
    pub events: Events,
    /// The step, if users see it.
    pub step: Option<StepId>,
    /// Nothing of what earlier executions left may be used.
    pub anew: bool,
    /// The caches that the op asked for, sorted by their ids; held until the op has ended.
    pub cache_mounts: Arc<[CacheMount]>,
    /// Given when the result is of no use any more: the op ends as soon as it can, and leaves nothing.
    pub stop: Stop,
}

/// One vertex' work: its keys beside its execution.
pub trait Op: Send + Sync {
    /// The result, for an op that follows from its inputs without work or a record (a base image that is in
    /// the store, layers put on each other).
    fn known(&self, inputs: &[Outcome]) -> Option<Outcome> {
        let _ = inputs;
        None
    }

    /// The id of the result, with no layers yet, if that is certain before anything was made: an image at a registry.
    fn promised(&self, inputs: &[Outcome]) -> Option<Outcome> {
        let _ = inputs;
        None
    }

    /// The key made of the definition and the inputs' result ids.
    fn cheap_key(&self, inputs: &[Outcome]) -> Key;

    /// Names all executions that differ in what was read only: if none is recorded, no content is looked up.
    fn family(&self, inputs: &[Outcome]) -> Digest {
        self.cheap_key(inputs).digest
    }

    /// True when the cheap key names everything that the result depends on; false when the op reads
    /// a build context, whose files no result id stands for.
    fn is_closed(&self) -> bool {
        true
    }

    /// The key made of the content that the op reads; `None` when the cheap key says it all. Blocking.
    fn content_key(&self, inputs: &[Outcome], store: &Store) -> Result<Option<Key>, OpError> {
        let _ = (inputs, store);
        Ok(None)
    }

    /// Tells whether the content key is made of the layers of this input.
    fn reads(&self, input: usize) -> bool {
        let _ = input;
        true
    }

    /// True when an equal op of another build fails just as this one does: all that it depends on is in its key.
    fn fails_alike(&self) -> bool {
        false
    }

    /// The caches that the op has to hold while it works.
    fn cache_mounts(&self, inputs: &[Outcome]) -> Vec<CacheMountRequest> {
        let _ = inputs;
        Vec::new()
    }

    /// True when other threads do all the work, so that nobody is held up who waits on the same thread.
    fn only_waits(&self) -> bool {
        false
    }

    /// Does the work on `inputs`, whose layers are present and held. It is never dropped before its end: an order
    /// to stop comes by the context.
    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a Context) -> OpFuture<'a>;
}

/// The layers of `outcomes`, each once.
pub(super) fn layers<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Vec<SnapshotId> {
    let mut layers: Vec<SnapshotId> =
        outcomes.into_iter().flat_map(|outcome| outcome.chain.iter().cloned()).collect();
    layers.sort();
    layers.dedup();
    layers
}
