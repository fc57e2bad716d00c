//! The scheduler: brings each needed vertex to a result once, cached first.
//!
//! It knows the [`Op`] trait, never an op's kind.
//!
//! 1. [`Solver::cached`] walks the vertices in order and looks each one up whose inputs are known:
//!    plain reads, no thread, no runtime. A no-op build ends here.
//! 2. [`Solver::run`] starts a task for every vertex that is left. A task waits for its inputs, takes the
//!    key's lock (another kiln may be at the same step), looks up again, and executes.
//! 3. The first failure cancels the rest.
//!
//! Locks: inputs complete → key lock → look up again → cache mounts, sorted → job slot → execute. A task holds one
//! key lock at most, and waits for nothing but cache mounts and the slot while it does. Equal vertices of one build meet at the
//! same key lock, so they run once.

mod lookup;
mod op;
mod task;
#[cfg(test)]
mod tests;
mod witness;

use std::sync::Arc;

use kiln_cache::{Label, Lease, SnapshotId, Store};

pub use op::{Context, Executed, Key, Op, OpError, OpFuture};
pub use witness::{Blind, Witness};

use crate::api::{Event, Events, StepId, StepOutcome};

/// What a vertex came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The result id: what keys of the vertices above are made from.
    pub id: kiln_cache::Digest,
    /// The layers, base first.
    pub chain: Vec<SnapshotId>,
    /// When it was made, unix seconds.
    pub created: i64,
}

/// A vertex as the solver sees it.
pub struct Node {
    /// What it does.
    pub op: Arc<dyn Op>,
    /// Indices of its inputs, all smaller than its own: first the rootfs, then what it reads.
    pub inputs: Vec<usize>,
    /// Its step, if users see it.
    pub step: Option<StepId>,
    /// What people are told of its record.
    pub label: Label,
}

/// Why a build stopped.
#[derive(Debug)]
pub struct Stopped {
    /// The vertex that failed.
    pub vertex: usize,
    /// Why.
    pub error: OpError,
}

/// The scheduler of one build.
pub struct Solver {
    nodes: Arc<[Node]>,
    store: Store,
    lease: Lease,
    events: Events,
    no_cache: bool,
    in_flight: dashmap::DashMap<kiln_cache::Digest, Arc<tokio::sync::Mutex<()>>>,
    slots: tokio::sync::Semaphore,
    witness: Arc<dyn Witness>,
}

impl Solver {
    /// Returns a scheduler for `nodes`, inputs first.
    pub fn new(nodes: Vec<Node>, store: Store, lease: Lease, events: Events, no_cache: bool) -> Self {
        let slots = tokio::sync::Semaphore::new(task::slots());
        Self {
            nodes: nodes.into(),
            store,
            lease,
            events,
            no_cache,
            in_flight: dashmap::DashMap::new(),
            slots,
            witness: Arc::new(Blind),
        }
    }

    /// Tells `witness` what runs.
    #[must_use]
    pub fn with_witness(self, witness: Arc<dyn Witness>) -> Self {
        Self { witness, ..self }
    }

    /// Looks every vertex up whose inputs are known; `None` marks those that have to run.
    pub fn cached(&self) -> Result<Vec<Option<Outcome>>, Stopped> {
        let mut found: Vec<Option<Outcome>> = Vec::with_capacity(self.nodes.len());
        for (vertex, node) in self.nodes.iter().enumerate() {
            let inputs: Option<Vec<Outcome>> =
                node.inputs.iter().map(|input| found[*input].clone()).collect();
            let outcome = match inputs {
                Some(inputs) => self.lookup(vertex, &inputs).map_err(|error| Stopped { vertex, error })?,
                None => None,
            };
            if let (Some(step), Some(_)) = (node.step, &outcome) {
                self.events.send(Event::Finished(step, StepOutcome::Cached));
            }
            found.push(outcome);
        }
        Ok(found)
    }

    /// Keeps the layers of `outcomes` from a prune beside this build; false when one is gone already.
    pub fn hold<'a>(&self, outcomes: impl IntoIterator<Item = &'a Outcome>) -> Result<bool, OpError> {
        let layers = op::layers(outcomes);
        Ok(layers.is_empty() || self.lease.hold(&layers).map_err(lookup::store_error)?)
    }

    fn lookup(&self, vertex: usize, inputs: &[Outcome]) -> Result<Option<Outcome>, OpError> {
        let op = self.nodes[vertex].op.as_ref();
        if let Some(outcome) = op.known(inputs) {
            self.witness.has(vertex, None, &outcome);
            return Ok(Some(outcome));
        }
        if self.no_cache {
            return Ok(None);
        }
        let found = lookup::find(op, inputs, &self.store)?;
        Ok(found.map(|(key, outcome)| {
            self.witness.has(vertex, Some(&key), &outcome);
            outcome
        }))
    }
}
