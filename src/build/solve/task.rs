//! The async half: one task per vertex that has to run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_cache::{CacheMount, CacheMountRequest, Digest, KeyLock};
use tokio::sync::SetOnce;
use tokio::task::JoinSet;

use super::{Context, Key, Node, OpError, Outcome, Solver, Stopped, lookup};
use crate::api::{Event, Failure, FailureKind, StepOutcome};
use crate::blocking;

/// How often a key that another process works on is tried again: from the first to the last.
const LOCK_POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// How long a step waits for a cache before its user hears of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Steps that may run at the same time, per processor: most of them wait for the network or a disk.
const SLOTS_PER_CPU: usize = 8;

/// How many steps may run at the same time.
pub(super) fn slots() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from) * SLOTS_PER_CPU
}

/// What a vertex found when its turn came.
enum Claim {
    /// Somebody made it meanwhile.
    Found(Outcome),
    /// It is this build's to run, as long as it has the lock.
    Run(KeyLock),
}

impl Solver {
    /// Runs what `found` lacks, and gives every vertex' outcome.
    ///
    /// The first failure stops the rest; steps that were running are killed.
    pub async fn run(self: Arc<Self>, found: Vec<Option<Outcome>>) -> Result<Vec<Outcome>, Stopped> {
        let cells: Arc<[SetOnce<Outcome>]> = found.into_iter().map(SetOnce::new_with).collect();
        let mut tasks = JoinSet::new();
        for vertex in (0..cells.len()).filter(|vertex| !cells[*vertex].initialized()) {
            let (solver, cells) = (Arc::clone(&self), Arc::clone(&cells));
            tasks.spawn(async move {
                let outcome = solver.vertex(vertex, &cells).await;
                outcome
                    .map(|outcome| {
                        // Only this task sets this cell.
                        let _ = cells[vertex].set(outcome);
                    })
                    .map_err(|error| Stopped { vertex, error })
            });
        }
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok(Ok(())) => {}
                Ok(Err(stopped)) => {
                    tasks.shutdown().await;
                    return Err(stopped);
                }
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
        Ok(cells.iter().map(|cell| cell.get().expect("every task set its cell").clone()).collect())
    }

    async fn vertex(self: &Arc<Self>, vertex: usize, cells: &[SetOnce<Outcome>]) -> Result<Outcome, OpError> {
        let node = &self.nodes[vertex];
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for input in &node.inputs {
            inputs.push(cells[*input].wait().await.clone());
        }
        if let Some(outcome) = node.op.known(&inputs) {
            self.witness.has(vertex, None, &outcome);
            return Ok(outcome);
        }
        let cheap = node.op.cheap_key(&inputs);
        let own = Arc::clone(&self.in_flight.entry(cheap.digest).or_default());
        let _first = own.lock().await;
        let _lock = match self.claim(vertex, cheap.digest, &inputs).await? {
            Claim::Found(outcome) => {
                if let Some(step) = node.step {
                    self.events.send(Event::Finished(step, StepOutcome::Cached));
                }
                return Ok(outcome);
            }
            Claim::Run(lock) => lock,
        };
        let cache_mounts = self.cache_mounts(vertex, &inputs).await?;
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        self.execute(vertex, cheap, inputs, cache_mounts).await
    }

    /// Takes the key's lock, looks the vertex up again and holds what it will read.
    ///
    /// One blocking call does all three: a change of threads costs as much as each of them.
    async fn claim(
        self: &Arc<Self>,
        vertex: usize,
        key: Digest,
        inputs: &[Outcome],
    ) -> Result<Claim, OpError> {
        let mut pause = LOCK_POLL.0;
        loop {
            let (solver, inputs) = (Arc::clone(self), inputs.to_vec());
            let claim = blocking::run("claim step", move || solver.try_claim(vertex, &key, &inputs)).await?;
            if let Some(claim) = claim {
                return Ok(claim);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOCK_POLL.1);
        }
    }

    /// `None` while another process is at the same key.
    fn try_claim(&self, vertex: usize, key: &Digest, inputs: &[Outcome]) -> Result<Option<Claim>, OpError> {
        let Some(lock) = self.store.try_lock_key(key).map_err(lookup::store_error)? else { return Ok(None) };
        // What another build made is held by this one before its maker ends and a prune comes;
        // what went away already is made again.
        if let Some(outcome) = self.lookup(vertex, inputs)?
            && self.hold([&outcome])?
        {
            return Ok(Some(Claim::Found(outcome)));
        }
        if !self.hold(inputs)? {
            let failure =
                Failure::new(FailureKind::System, "a layer that this step needs was removed meanwhile");
            return Err(Box::new(failure.hint("run the build again")));
        }
        let op = &self.nodes[vertex].op;
        self.witness.runs(vertex, &op.cheap_key(inputs), inputs);
        Ok(Some(Claim::Run(lock)))
    }

    /// Waits for the caches that the vertex needs, one after the other in an order that all tasks of all
    /// processes keep, so that none waits for another in a circle.
    async fn cache_mounts(
        self: &Arc<Self>,
        vertex: usize,
        inputs: &[Outcome],
    ) -> Result<Vec<CacheMount>, OpError> {
        let mut wanted = self.nodes[vertex].op.cache_mounts(inputs);
        // One step may mount a cache several times: it holds it once, by the strictest of its wishes.
        wanted.sort();
        wanted.dedup_by(|next, kept| {
            let same = next.id == kept.id;
            if same {
                kept.sharing = kept.sharing.max(next.sharing);
            }
            same
        });
        let mut held = Vec::with_capacity(wanted.len());
        for request in wanted {
            held.push(self.cache_mount(request).await?);
        }
        Ok(held)
    }

    async fn cache_mount(self: &Arc<Self>, request: CacheMountRequest) -> Result<CacheMount, OpError> {
        let started = Instant::now();
        let (mut pause, mut told) = (LOCK_POLL.0, false);
        loop {
            let (store, asked) = (self.store.clone(), request.clone());
            let tried = blocking::run("lock cache mount", move || store.try_cache_mount(&asked)).await;
            if let Some(held) = tried.map_err(lookup::store_error)? {
                return Ok(held);
            }
            if !told && started.elapsed() >= PATIENCE {
                let text = format!("waiting for another step to be done with the cache `{}`", request.name);
                self.events.send(Event::Status(text));
                told = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOCK_POLL.1);
        }
    }

    async fn execute(
        self: &Arc<Self>,
        vertex: usize,
        cheap: Key,
        inputs: Vec<Outcome>,
        cache_mounts: Vec<CacheMount>,
    ) -> Result<Outcome, OpError> {
        let node = &self.nodes[vertex];
        let started = Instant::now();
        if let Some(step) = node.step {
            self.events.send(Event::Started(step));
        }
        let context = Context {
            store: self.store.clone(),
            lease: self.lease.clone(),
            events: self.events.clone(),
            step: node.step,
            cache_mounts: cache_mounts.into(),
        };
        let executed = node.op.execute(&inputs, &context).await;
        let executed = executed.inspect_err(|error| {
            if let Some(step) = node.step {
                self.events.send(Event::Finished(step, StepOutcome::Failed(error.message.clone())));
            }
        })?;
        let outcome = executed.outcome.clone();
        let solver = Arc::clone(self);
        let unchanged = blocking::run("record step", move || {
            let Node { op, label, .. } = &solver.nodes[vertex];
            let result = (&executed.outcome, label);
            let recorded =
                lookup::record(op.as_ref(), (&cheap, &inputs), &executed.key, result, &solver.store);
            match &recorded {
                Ok(true) => solver.witness.has(vertex, Some(&executed.key.digest), &executed.outcome),
                Ok(false) => solver.witness.ran(vertex, &executed.key, &executed.outcome),
                Err(_) => {}
            }
            recorded
        })
        .await?;
        if let Some(step) = node.step {
            let outcome = match unchanged {
                true => StepOutcome::Cached,
                false => StepOutcome::Done(started.elapsed()),
            };
            self.events.send(Event::Finished(step, outcome));
        }
        Ok(outcome)
    }
}
