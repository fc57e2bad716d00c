//! The scheduler: brings the targets of a graph to results, each vertex once and cached first.
//!
//! It knows the [`Op`] trait, never an op's kind.
//!
//! 1. [`Solver::cached`] walks the vertices in order and looks each one up whose inputs are known: plain reads, no
//!    thread, no runtime. A no-op build ends here.
//! 2. [`Solver::run`] brings what is left. `core` is the schedule, a state machine without any input or output;
//!    `drive` does what it asks for on the runtime; `claim` and `lookup` are the blocking half.
//! 3. A result's id outlives its layers: a vertex whose layers were collected executes only if something above it
//!    really needs them.
//! 4. The first failure, or the user's word, ends the rest: what runs is told to stop and waited for.
//!
//! Locks: inputs complete → key lock → look up again → cache mounts, sorted → job slot → execute → record. A vertex holds
//! one key lock at most, and waits for nothing but cache mounts and the slot while it does. Equal vertices of one build
//! meet at the same key lock, so they run once.

mod attempt;
mod claim;
mod core;
mod drive;
mod lookup;
mod op;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_cache::{Digest, Label, Lease, SnapshotId, Store};

pub use op::{Context, Executed, Key, Op, OpError, OpFuture};
pub use witness::{Absent, Blind, Witness};

use crate::api::{Event, Events, StepId, StepOutcome, Stop};

/// Steps that may run at the same time, per processor, unless the user says otherwise: most of them wait for the
/// network or a disk, and the kernel shares the processors fairly among the others.
const JOBS_PER_CPU: usize = 8;

/// What a vertex came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The result id: what keys of the vertices above are made from.
    pub id: Digest,
    /// The layers, base first.
    pub chain: Vec<SnapshotId>,
    /// When it was made, unix seconds.
    pub created: i64,
}

/// A result that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The result.
    pub outcome: Outcome,
    /// False when its layers were collected.
    pub is_there: bool,
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
    /// Refuses what earlier builds made of it.
    pub anew: bool,
}

/// What a solver is to bring about, and with what.
pub struct Setup {
    /// The vertices, inputs first; each stands below a target, or is one.
    pub nodes: Vec<Node>,
    /// The vertices whose layers are wanted.
    pub targets: Vec<usize>,
    /// Where results are.
    pub store: Store,
    /// Holds what the build makes and uses.
    pub lease: Lease,
    /// Where output and progress go.
    pub events: Events,
    /// Refuses what earlier builds made.
    pub no_cache: bool,
    /// Refuses what was made earlier, in unix seconds.
    pub since: Option<i64>,
    /// How many vertices may execute at the same time; 0 for the default.
    pub jobs: usize,
    /// The user's order to stop.
    pub stop: Stop,
    /// Is told what runs.
    pub witness: Arc<dyn Witness>,
}

/// Why a build stopped.
#[derive(Debug)]
pub struct Stopped {
    /// The vertex that failed; `None` when the user stopped the build.
    pub vertex: Option<usize>,
    /// Why.
    pub error: OpError,
}

/// The scheduler of one build.
pub struct Solver {
    setup: Setup,
    /// What this build executed, by cheap key: of use when it refuses what others made.
    made: Mutex<HashMap<Digest, Outcome>>,
    /// Vertices that wait for a key, and the attempt that had ended before they came.
    queued: Mutex<HashMap<usize, Option<String>>>,
}

impl std::ops::Deref for Solver {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.setup
    }
}

impl Solver {
    /// Returns a scheduler that has done nothing yet.
    pub fn new(setup: Setup) -> Self {
        Self { setup, made: Mutex::default(), queued: Mutex::default() }
    }

    /// Looks every vertex up whose inputs are known.
    pub fn cached(&self) -> Result<Vec<Option<Known>>, Stopped> {
        let mut found: Vec<Option<Known>> = Vec::with_capacity(self.nodes.len());
        for (vertex, node) in self.nodes.iter().enumerate() {
            let inputs: Option<Vec<Known>> = node.inputs.iter().map(|input| found[*input].clone()).collect();
            let known = match inputs {
                Some(inputs) => {
                    self.look(vertex, &inputs).map_err(|error| Stopped { vertex: Some(vertex), error })?
                }
                None => None,
            };
            if known.as_ref().is_some_and(|known| known.is_there) {
                self.is_cached(vertex);
            }
            found.push(known);
        }
        Ok(found)
    }

    /// The outcome of every vertex, if nothing has to run for the targets.
    pub fn complete(&self, found: &[Option<Known>]) -> Option<Vec<Outcome>> {
        let is_there = |vertex: &usize| found[*vertex].as_ref().is_some_and(|known| known.is_there);
        if !self.targets.iter().all(is_there) {
            return None;
        }
        for (vertex, known) in found.iter().enumerate() {
            // What lies below and was collected isn't needed.
            if known.as_ref().is_some_and(|known| !known.is_there) {
                self.is_cached(vertex);
            }
        }
        found.iter().map(|known| known.as_ref().map(|known| known.outcome.clone())).collect()
    }

    /// Holds what the run will stand on, so that a prune beside it takes nothing of that; what is gone already is
    /// marked so. Gives the vertices that may have to execute.
    pub fn secure(&self, found: &mut [Option<Known>]) -> Result<Vec<usize>, OpError> {
        loop {
            let (ground, missing) = self.frontier(found);
            let outcomes = || ground.iter().filter_map(|vertex| found[*vertex].as_ref());
            if self.hold(outcomes().map(|known| &known.outcome))? {
                return Ok(missing);
            }
            for vertex in ground {
                let Some(known) = &mut found[vertex] else { continue };
                known.is_there = self.hold([&known.outcome])?;
            }
        }
    }

    /// From the targets down: the first results whose layers are there, and the vertices above them.
    fn frontier(&self, found: &[Option<Known>]) -> (Vec<usize>, Vec<usize>) {
        let mut is_reached = vec![false; self.nodes.len()];
        self.targets.iter().for_each(|target| is_reached[*target] = true);
        let (mut ground, mut missing) = (Vec::new(), Vec::new());
        for vertex in (0..self.nodes.len()).rev() {
            if !is_reached[vertex] {
                continue;
            }
            if found[vertex].as_ref().is_some_and(|known| known.is_there) {
                ground.push(vertex);
            } else {
                missing.push(vertex);
                self.nodes[vertex].inputs.iter().for_each(|input| is_reached[*input] = true);
            }
        }
        (ground, missing)
    }

    /// Keeps the layers of `outcomes` from a prune beside this build; false when one is gone already.
    fn hold<'a>(&self, outcomes: impl IntoIterator<Item = &'a Outcome>) -> Result<bool, OpError> {
        let layers = op::layers(outcomes);
        Ok(layers.is_empty() || self.lease.hold(&layers).map_err(lookup::store_error)?)
    }

    fn is_cached(&self, vertex: usize) {
        self.finished(vertex, StepOutcome::Cached);
    }

    fn finished(&self, vertex: usize, outcome: StepOutcome) {
        if let Some(step) = self.nodes[vertex].step {
            self.events.send(Event::Finished(step, outcome));
        }
    }

    fn made(&self) -> MutexGuard<'_, HashMap<Digest, Outcome>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queued(&self) -> MutexGuard<'_, HashMap<usize, Option<String>>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether `vertex` may use nothing that earlier builds made.
    fn refuses(&self, vertex: usize) -> bool {
        self.no_cache || self.nodes[vertex].anew
    }

    /// How many vertices may execute at the same time.
    fn slots(&self) -> usize {
        match self.jobs {
            0 => std::thread::available_parallelism().map_or(2, usize::from) * JOBS_PER_CPU,
            jobs => jobs,
        }
    }
}
