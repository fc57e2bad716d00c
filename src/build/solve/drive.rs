//! The async half: does what the schedule asks for, and tells it what came of it.
//!
//! One loop owns everything; what takes time is a future beside it, as many as there are answers awaited. Nothing
//! is dropped halfway: after an order to stop, too, the loop ends when the last of them has.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kiln_cache::{CacheMount, CacheMountRequest, Digest};

use super::claim::{Claimed, Work};
use super::core::{Action, Claim, Core, Event as Happened, Have};
use super::lookup::store_error;
use super::{Context, Executed, Known, OpError, Outcome, Solver, Stopped};
use crate::api::{Event, Failure, FailureKind, StepOutcome, Stop};
use crate::blocking;

/// How often something that another process holds is tried again: from the first to the last.
const LOCK_POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// After so many tries, which is about a second, the user hears what a step waits for.
const PATIENT_TRIES: u32 = 25;

/// How long a step waits for a cache before its user hears of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What came of an action.
enum Report {
    Looked(Option<Known>),
    Claimed(Vec<Known>, Claimed),
    Resumed,
    Mounted(Vec<CacheMount>),
    Executed(Executed),
    Recorded(Box<Work>, Result<bool, OpError>),
}

type Answer = (usize, Result<Report, OpError>);

/// A run of the solver.
struct Drive {
    solver: Arc<Solver>,
    core: Core<Digest>,
    known: Vec<Option<Known>>,
    work: HashMap<usize, Box<Work>>,
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    /// Given to what runs when the schedule says so.
    halt: Stop,
    failure: Option<OpError>,
}

impl Solver {
    /// Runs what the targets lack beyond `found`, and gives every vertex' outcome.
    ///
    /// The first failure stops the rest, and so does the user's order; steps that were running are gone by then.
    pub async fn run(self: Arc<Self>, found: Vec<Option<Known>>) -> Result<Vec<Outcome>, Stopped> {
        let mut drive = Drive::new(self, found);
        let (stop, mut is_told) = (drive.solver.stop.clone(), false);
        loop {
            while let Some(action) = drive.core.next() {
                drive.perform(action);
            }
            if drive.core.is_over() {
                return drive.end();
            }
            assert!(drive.core.underway() > 0, "the schedule waits for nothing");
            tokio::select! {
                biased;
                () = stop.given(), if !is_told => {
                    is_told = true;
                    drive.core.tell(Happened::Stop);
                }
                Some((vertex, report)) = drive.under_way.next() => drive.take(vertex, report),
            }
        }
    }
}

impl Drive {
    fn new(solver: Arc<Solver>, known: Vec<Option<Known>>) -> Self {
        let have: Vec<Have> = known.iter().map(have).collect();
        let inputs = solver.nodes.iter().map(|node| node.inputs.clone());
        let core = Core::new(inputs, &have, &solver.targets, solver.slots());
        Self {
            core,
            known,
            work: HashMap::new(),
            under_way: FuturesUnordered::new(),
            halt: Stop::default(),
            failure: None,
            solver,
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Look(vertex) => self.look(vertex),
            Action::Claim(vertex) => self.claim(vertex),
            Action::Pause(vertex, tries) => {
                if tries == PATIENT_TRIES {
                    let name = &self.solver.nodes[vertex].label.description;
                    let text = format!("waiting for another build that is at the same step: {name}");
                    self.solver.events.send(Event::Status(text));
                }
                let halt = self.halt.clone();
                self.begin(vertex, async move {
                    halt.unless(tokio::time::sleep(pause(tries))).await;
                    Ok(Report::Resumed)
                });
            }
            Action::Mount(vertex) => self.mount(vertex),
            Action::Execute(vertex) => self.execute(vertex),
            Action::Record(vertex) => self.record(vertex),
            Action::Release(vertex) => drop(self.work.remove(&vertex)),
            Action::Stop => self.halt.give(),
        }
    }

    fn begin(&mut self, vertex: usize, work: impl Future<Output = Result<Report, OpError>> + Send + 'static) {
        self.under_way.push(Box::pin(async move { (vertex, work.await) }));
    }

    /// True when nobody has to be waited for or heard: what is short is done here then, since a change of threads and
    /// back costs more.
    fn is_alone(&self) -> bool {
        self.under_way.is_empty()
    }

    fn inputs(&self, vertex: usize) -> Vec<Known> {
        let inputs = self.solver.nodes[vertex].inputs.iter();
        inputs.map(|input| self.known[*input].clone().expect("ids are there before a look-up")).collect()
    }

    fn look(&mut self, vertex: usize) {
        let (solver, inputs) = (Arc::clone(&self.solver), self.inputs(vertex));
        self.begin(vertex, async move {
            blocking::run("look step up", move || solver.look(vertex, &inputs)).await.map(Report::Looked)
        });
    }

    fn claim(&mut self, vertex: usize) {
        let (solver, inputs) = (Arc::clone(&self.solver), self.inputs(vertex));
        let is_short = self.solver.nodes[vertex].op.is_closed();
        let claim = move || (solver.claim(vertex, &inputs), inputs);
        if is_short && self.is_alone() {
            let (claimed, inputs) = claim();
            return self.take(vertex, claimed.map(|claimed| Report::Claimed(inputs, claimed)));
        }
        self.begin(vertex, async move {
            let (claimed, inputs) = blocking::run("claim step", claim).await;
            Ok(Report::Claimed(inputs, claimed?))
        });
    }

    fn mount(&mut self, vertex: usize) {
        let wanted = self.solver.nodes[vertex].op.cache_mounts(&self.work[&vertex].inputs);
        if wanted.is_empty() {
            return self.core.tell(Happened::Mounted(vertex));
        }
        let (solver, halt) = (Arc::clone(&self.solver), self.halt.clone());
        self.begin(vertex, async move { solver.cache_mounts(wanted, &halt).await.map(Report::Mounted) });
    }

    fn execute(&mut self, vertex: usize) {
        let work = self.work.get_mut(&vertex).expect("what executes was claimed");
        work.started = Some(Instant::now());
        let (solver, inputs) = (Arc::clone(&self.solver), work.inputs.clone());
        let step = solver.nodes[vertex].step;
        let context = Context {
            store: solver.store.clone(),
            lease: solver.lease.clone(),
            events: solver.events.clone(),
            step,
            anew: solver.no_cache || solver.nodes[vertex].anew,
            cache_mounts: std::mem::take(&mut work.cache_mounts).into(),
            stop: self.halt.clone(),
        };
        if let Some(step) = step {
            solver.events.send(Event::Started(step));
        }
        let only_waits = solver.nodes[vertex].op.only_waits();
        let executing = async move {
            let executed = solver.nodes[vertex].op.execute(&inputs, &context).await;
            executed.map_err(|error| if context.stop.is_given() { cancelled() } else { error })
        };
        if only_waits {
            return self.begin(vertex, async move { executing.await.map(Report::Executed) });
        }
        // A task of its own: what an op does between two waits mustn't hold the others up.
        let task = tokio::spawn(executing);
        self.begin(vertex, async move {
            match task.await {
                Ok(executed) => executed.map(Report::Executed),
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        });
    }

    fn record(&mut self, vertex: usize) {
        let work = self.work.remove(&vertex).expect("what is recorded was claimed");
        let solver = Arc::clone(&self.solver);
        let record = move || {
            let recorded = solver.record(vertex, &work);
            (work, recorded)
        };
        if self.is_alone() {
            let (work, recorded) = record();
            return self.take(vertex, Ok(Report::Recorded(work, recorded)));
        }
        self.begin(vertex, async move {
            let (work, recorded) = blocking::run("record step", record).await;
            Ok(Report::Recorded(work, recorded))
        });
    }

    /// Takes in what came of an action.
    fn take(&mut self, vertex: usize, report: Result<Report, OpError>) {
        let report = match report {
            Ok(report) => report,
            Err(error) => return self.failed(vertex, error),
        };
        let event = match report {
            Report::Looked(known) => {
                self.known[vertex] = known;
                let have = have(&self.known[vertex]);
                if have == Have::Layers {
                    self.solver.is_cached(vertex);
                }
                Happened::Looked(vertex, have)
            }
            Report::Claimed(inputs, claimed) => {
                let claim = self.claimed(vertex, &inputs, claimed);
                Happened::Claimed(vertex, claim)
            }
            Report::Resumed => Happened::Resumed(vertex),
            Report::Mounted(cache_mounts) => {
                self.work.get_mut(&vertex).expect("what mounts was claimed").cache_mounts = cache_mounts;
                Happened::Mounted(vertex)
            }
            Report::Executed(executed) => {
                self.work.get_mut(&vertex).expect("what executes was claimed").executed = Some(executed);
                Happened::Executed(vertex)
            }
            Report::Recorded(work, recorded) => {
                // Kept until the schedule lets it go.
                self.work.insert(vertex, work);
                match recorded {
                    Ok(is_unchanged) => self.recorded(vertex, is_unchanged),
                    Err(error) => return self.failed(vertex, error),
                }
                Happened::Recorded(vertex)
            }
        };
        self.core.tell(event);
    }

    fn claimed(&mut self, vertex: usize, inputs: &[Known], claimed: Claimed) -> Claim<Digest> {
        match claimed {
            Claimed::Found(outcome) => {
                self.known[vertex] = Some(Known { outcome, is_there: true });
                self.solver.is_cached(vertex);
                Claim::Found
            }
            Claimed::Lead(work) => {
                let key = work.cheap.digest;
                self.work.insert(vertex, work);
                Claim::Lead(key)
            }
            Claimed::Busy(key) => Claim::Busy(key),
            Claimed::Gone(mut gone) => {
                // One that was made anew meanwhile is there again, as another result.
                let nodes = &self.solver.nodes[vertex].inputs;
                let was =
                    |input: &usize| nodes.iter().position(|other| other == input).map(|slot| &inputs[slot]);
                gone.retain(|input| was(input) == self.known[*input].as_ref());
                for input in &gone {
                    self.known[*input].iter_mut().for_each(|known| known.is_there = false);
                }
                Claim::Gone(gone)
            }
        }
    }

    fn recorded(&mut self, vertex: usize, is_unchanged: bool) {
        let work = &self.work[&vertex];
        let outcome = work.executed.as_ref().expect("what is recorded was executed").outcome.clone();
        let time = work.started.map_or(Duration::ZERO, |started| started.elapsed());
        self.known[vertex] = Some(Known { outcome, is_there: true });
        let end = if is_unchanged { StepOutcome::Cached } else { StepOutcome::Done(time) };
        self.solver.finished(vertex, end);
    }

    fn failed(&mut self, vertex: usize, error: OpError) {
        let is_cancelled = error.kind == FailureKind::Cancelled && self.halt.is_given();
        // Those that never began are no news.
        if self.work.get(&vertex).is_some_and(|work| work.started.is_some()) {
            self.solver.finished(
                vertex,
                match is_cancelled {
                    true => StepOutcome::Cancelled,
                    false => StepOutcome::Failed(error.message.clone()),
                },
            );
        }
        if is_cancelled {
            return self.core.tell(Happened::Cancelled(vertex));
        }
        if let Some(work) = self.work.get(&vertex)
            && self.solver.nodes[vertex].op.fails_alike()
        {
            work.leave(&error);
        }
        self.core.tell(Happened::Failed(vertex));
        if self.core.failed() == Some(vertex) {
            self.failure = Some(error);
        }
    }

    fn end(mut self) -> Result<Vec<Outcome>, Stopped> {
        if self.core.is_stopping() {
            let error = self.failure.take().unwrap_or_else(cancelled);
            return Err(Stopped { vertex: self.core.failed(), error });
        }
        for (vertex, known) in self.known.iter().enumerate() {
            // Collected, and nobody needed it.
            if have(known) == Have::Id {
                self.solver.is_cached(vertex);
            }
        }
        let known = self.known.into_iter();
        Ok(known.map(|known| known.expect("every vertex stands below a target").outcome).collect())
    }
}

fn have(known: &Option<Known>) -> Have {
    match known {
        None => Have::Nothing,
        Some(Known { is_there: false, .. }) => Have::Id,
        Some(Known { is_there: true, .. }) => Have::Layers,
    }
}

fn cancelled() -> OpError {
    Box::new(Failure::new(FailureKind::Cancelled, "the build was stopped"))
}

/// The pause after so many tries.
fn pause(tries: u32) -> Duration {
    LOCK_POLL.0.saturating_mul(1 << (tries - 1).min(10)).min(LOCK_POLL.1)
}

impl Solver {
    /// Waits for the caches, one after the other in an order that all steps of all processes keep, so that none waits
    /// for another in a circle.
    async fn cache_mounts(
        &self,
        mut wanted: Vec<CacheMountRequest>,
        halt: &Stop,
    ) -> Result<Vec<CacheMount>, OpError> {
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
            held.push(halt.unless(self.cache_mount(request)).await.ok_or_else(cancelled)??);
        }
        Ok(held)
    }

    async fn cache_mount(&self, request: CacheMountRequest) -> Result<CacheMount, OpError> {
        let started = Instant::now();
        let (mut tries, mut is_told) = (0, false);
        loop {
            let (store, asked) = (self.store.clone(), request.clone());
            let tried = blocking::run("lock cache mount", move || store.try_cache_mount(&asked)).await;
            if let Some(held) = tried.map_err(store_error)? {
                return Ok(held);
            }
            if !is_told && started.elapsed() >= PATIENCE {
                let text = format!("waiting for another step to be done with the cache `{}`", request.name);
                self.events.send(Event::Status(text));
                is_told = true;
            }
            tries += 1;
            tokio::time::sleep(pause(tries)).await;
        }
    }
}
