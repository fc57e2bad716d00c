//! The blocking half: look-ups, the claim of a key, and the record.

use std::time::Instant;

use kiln_cache::{CacheMount, Digest, KeyLock};

use super::lookup::{self, Found, Usable};
use super::{Absent, Executed, Key, Known, Node, OpError, Outcome, Solver};
use crate::api::{Failure, FailureKind};

/// What a vertex is at work on, from its claim to its release.
pub(super) struct Work {
    pub(super) cheap: Key,
    pub(super) inputs: Vec<Outcome>,
    pub(super) cache_mounts: Vec<CacheMount>,
    /// When its execution began.
    pub(super) started: Option<Instant>,
    pub(super) executed: Option<Executed>,
    pub(super) lock: KeyLock,
}

/// What a vertex found when its turn came.
pub(super) enum Claimed {
    /// Somebody made it meanwhile.
    Found(Outcome),
    /// It is this build's to run, as long as it has the lock.
    Lead(Box<Work>),
    /// Somebody else works on the key.
    Busy(Digest),
    /// These inputs lost their layers.
    Gone(Vec<usize>),
}

impl Solver {
    /// Looks `vertex` up by its inputs' ids, and by content as far as that is there.
    pub(super) fn look(&self, vertex: usize, inputs: &[Known]) -> Result<Option<Known>, OpError> {
        let outcomes: Vec<Outcome> = inputs.iter().map(|input| input.outcome.clone()).collect();
        let op = self.nodes[vertex].op.as_ref();
        if let Some(outcome) = op.known(&outcomes) {
            self.witness.has(vertex, None, &outcome);
            // What follows from the inputs is there if they are.
            return Ok(Some(Known { outcome, is_there: inputs.iter().all(|input| input.is_there) }));
        }
        Ok(match self.find(vertex, &op.cheap_key(&outcomes), inputs)? {
            Found::Here(key, outcome) => {
                self.witness.has(vertex, Some(&key), &outcome);
                Some(Known { outcome, is_there: true })
            }
            Found::Collected(outcome, _) => Some(Known { outcome, is_there: false }),
            Found::Nothing(_) => op.promised(&outcomes).map(|outcome| Known { outcome, is_there: false }),
        })
    }

    /// Takes the key's lock, looks the vertex up again and holds what it will read.
    ///
    /// One blocking call does all three: a change of threads costs as much as each of them.
    pub(super) fn claim(&self, vertex: usize, inputs: &[Known]) -> Result<Claimed, OpError> {
        let outcomes: Vec<Outcome> = inputs.iter().map(|input| input.outcome.clone()).collect();
        let op = self.nodes[vertex].op.as_ref();
        if op.known(&outcomes).is_some() {
            return self.follow(vertex, &outcomes);
        }
        let cheap = op.cheap_key(&outcomes);
        let Some(lock) = self.store.try_lock_key(&cheap.digest).map_err(lookup::store_error)? else {
            self.queue(vertex, &cheap.digest)?;
            return Ok(Claimed::Busy(cheap.digest));
        };
        // What another build made is held by this one before its maker ends and a prune comes;
        // what went away already is made again.
        let absent = match self.find(vertex, &cheap, inputs)? {
            Found::Here(key, outcome) if self.hold([&outcome])? => {
                self.witness.has(vertex, Some(&key), &outcome);
                return Ok(Claimed::Found(outcome));
            }
            Found::Here(..) => Absent::Lost,
            Found::Collected(_, at) => Absent::Collected { at },
            Found::Nothing(absent) => absent,
        };
        let gone = self.gone(vertex, &outcomes)?;
        if !gone.is_empty() {
            return Ok(Claimed::Gone(gone));
        }
        if let Some(failure) = self.shared(vertex, &cheap.digest, &lock)? {
            return Err(failure);
        }
        self.witness.runs(vertex, &cheap, &outcomes, &absent);
        Ok(Claimed::Lead(Box::new(Work {
            cheap,
            inputs: outcomes,
            cache_mounts: Vec::new(),
            started: None,
            executed: None,
            lock,
        })))
    }

    /// A result that follows from its inputs: there if they are.
    fn follow(&self, vertex: usize, inputs: &[Outcome]) -> Result<Claimed, OpError> {
        let gone = self.gone(vertex, inputs)?;
        if !gone.is_empty() {
            return Ok(Claimed::Gone(gone));
        }
        let outcome = self.nodes[vertex].op.known(inputs).expect("it was known before");
        if !self.hold([&outcome])? {
            let failure =
                Failure::new(FailureKind::System, "a layer that this step needs was removed meanwhile");
            return Err(Box::new(failure.hint("run the build again")));
        }
        self.witness.has(vertex, None, &outcome);
        Ok(Claimed::Found(outcome))
    }

    /// Holds the layers of the inputs; gives those of which some are gone.
    fn gone(&self, vertex: usize, inputs: &[Outcome]) -> Result<Vec<usize>, OpError> {
        if self.hold(inputs)? {
            return Ok(Vec::new());
        }
        let mut gone = Vec::new();
        for (input, outcome) in self.nodes[vertex].inputs.iter().zip(inputs) {
            if !self.hold([outcome])? {
                gone.push(*input);
            }
        }
        Ok(gone)
    }

    fn find(&self, vertex: usize, cheap: &Key, inputs: &[Known]) -> Result<Found, OpError> {
        let node = &self.nodes[vertex];
        let usable = Usable { refuses_all: self.refuses(vertex), since: self.since };
        if usable.refuses_all
            && node.op.is_closed()
            && let Some(outcome) = self.made().get(&cheap.digest)
        {
            // An equal vertex of this build has just made it.
            return Ok(Found::Here(cheap.digest, outcome.clone()));
        }
        lookup::find(node.op.as_ref(), (cheap, inputs), usable, &self.store)
    }

    /// Records what `vertex` made. True when just that was recorded already.
    pub(super) fn record(&self, vertex: usize, work: &Work) -> Result<bool, OpError> {
        let executed = work.executed.as_ref().expect("what is recorded was executed");
        let Node { op, label, .. } = &self.nodes[vertex];
        let (key, outcome) = (&executed.key, &executed.outcome);
        let (made_of, result) = ((&work.cheap, work.inputs.as_slice()), (outcome, label));
        let is_unchanged = lookup::record(op.as_ref(), made_of, key, result, &self.store)?;
        if self.refuses(vertex) && op.is_closed() {
            self.made().insert(work.cheap.digest, outcome.clone());
        }
        match is_unchanged {
            true => self.witness.has(vertex, Some(&key.digest), outcome),
            false => self.witness.ran(vertex, key, outcome),
        }
        Ok(is_unchanged)
    }
}
