//! Why a step runs: what is different from the last build of the same Dockerfile.
//!
//! 1. [`Why`] hears from the solver which results were there. A build that runs nothing does nothing else.
//! 2. When the first step executes, the [`notes`] of the last build are read, and its steps are found in this one's.
//! 3. Causes are looked for in the order in which they count ([`causes`]): what the user wants and the store lost;
//!    what the Dockerfile and the command line say of the step, by the [`parts`] of both keys; the [`files`] that it
//!    reads; and if it is none of these, what it stands on: the image, or the first step below that is different.
//! 4. A program's causes are told before it starts. What a COPY, an ADD or a download reads is known when it has
//!    been read: they are told afterwards.
//! 5. [`Why::keep`] leaves notes for the next build, if a step ran.
//!
//! It changes no result: whatever fails here leaves a step without its explanation.

mod causes;
mod files;
pub mod notes;
mod parts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_cache::{Digest, SnapshotId, Store};

use crate::api::{Event, Events, LastBuild, LastStep, MissReason, StepEnd, StepId, without_passwords};
use crate::build::graph::{Graph, OpSpec, Vertex};
use crate::build::solve::{Absent, Key, Outcome, Witness};

use self::notes::{Image, Notes, Step};

/// A shown name is kept up to this length.
const NAME_BYTES: usize = 200;

/// What is built.
pub struct Plan {
    /// The graph.
    pub graph: Arc<Graph>,
    /// The text of its Dockerfile.
    pub text: Arc<str>,
    /// Names the Dockerfile, its context and the platform.
    pub build: Digest,
    /// The number of the first vertex' step.
    pub first: StepId,
    /// `--no-cache`.
    pub no_cache: bool,
}

/// Finds out why steps run.
pub struct Why {
    plan: Plan,
    store: Store,
    events: Events,
    seen: Mutex<Seen>,
    last: OnceLock<Last>,
}

/// What the solver told.
struct Seen {
    /// The result of each vertex that has one.
    results: Vec<Option<Found>>,
    /// What executes.
    runs: BTreeMap<usize, Run>,
}

/// The result of a vertex.
#[derive(Clone, Copy)]
struct Found {
    /// `None` for one that follows from its inputs.
    key: Option<Digest>,
    id: Digest,
    /// Its last layer.
    top: Option<SnapshotId>,
}

impl Found {
    fn new(key: Option<&Digest>, outcome: &Outcome) -> Self {
        Self { key: key.copied(), id: outcome.id, top: outcome.chain.last().copied() }
    }
}

/// An execution.
#[derive(Clone)]
struct Run {
    cheap: Digest,
    absent: Absent,
    /// Ids of the results that it executes on.
    inputs: Vec<Digest>,
    reasons: Vec<MissReason>,
    /// Whether it did well, and gave something new.
    ran: bool,
}

/// The last build, held against this one.
struct Last {
    /// `None` when nothing is known of one.
    notes: Option<Notes>,
    /// The steps of this build, but for what only this build's end tells.
    now: BTreeMap<usize, Step>,
    /// Which of the last build's steps each of them was.
    matched: BTreeMap<usize, usize>,
}

impl Last {
    fn step(&self, vertex: usize) -> Option<&Step> {
        self.notes.as_ref()?.steps.get(*self.matched.get(&vertex)?)
    }
}

impl Why {
    /// Prepares for a build; nothing is read yet.
    pub fn new(plan: Plan, store: Store, events: Events) -> Self {
        let seen = Seen { results: vec![None; plan.graph.vertices.len()], runs: BTreeMap::new() };
        Self { plan, store, events, seen: Mutex::new(seen), last: OnceLock::new() }
    }

    fn vertex(&self, vertex: usize) -> &Vertex {
        &self.plan.graph.vertices[vertex]
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> &Last {
        self.last.get_or_init(|| {
            let bytes = self.store.build_notes(&self.plan.build).ok().flatten();
            let notes = bytes.and_then(|bytes| Notes::decode(&bytes));
            let vertices = self.plan.graph.vertices.iter().enumerate();
            let shown = vertices.filter(|(_, vertex)| vertex.op.is_shown());
            let (numbers, now): (Vec<usize>, Vec<Step>) =
                shown.map(|(index, vertex)| (index, self.step(vertex))).unzip();
            let before = notes.as_ref().map_or(&[][..], |notes| &notes.steps);
            let matched = notes::matched(&now, before);
            let matched = numbers.iter().zip(matched).filter_map(|(number, found)| Some((*number, found?)));
            Last { matched: matched.collect(), now: numbers.iter().copied().zip(now).collect(), notes }
        })
    }

    /// A step as far as the graph tells.
    fn step(&self, vertex: &Vertex) -> Step {
        let text = self.text_of(vertex);
        let variables = vertex.variables.iter();
        let (args, image) = match &vertex.op {
            OpSpec::Exec(spec) => (spec.arg_names.clone(), None),
            OpSpec::Source(spec) => {
                let image = self.store.image(&spec.image).ok().flatten();
                let digest = image.and_then(|image| image.manifest).unwrap_or(spec.image).to_string();
                (Default::default(), Some(Image { name: spec.name.clone(), digest }))
            }
            _ => Default::default(),
        };
        Step {
            stage: vertex.stage().unwrap_or_default().to_owned(),
            name: self.name_of(vertex),
            text: short(text),
            head: short(text.lines().next().unwrap_or_default()),
            variables: variables
                .map(|variable| {
                    (variable.name.clone(), variable.value.as_deref().map(short).unwrap_or_default())
                })
                .collect(),
            args,
            image,
            ..Step::default()
        }
    }

    fn run_of(&self, vertex: usize) -> Option<Run> {
        self.seen().runs.get(&vertex).cloned()
    }

    fn result_of(&self, vertex: usize) -> Option<Found> {
        self.seen().results[vertex]
    }

    /// The instruction as it is written; of a step that is none, its name.
    fn text_of<'a>(&'a self, vertex: &'a Vertex) -> &'a str {
        let written = || self.plan.text.get(vertex.span.start..vertex.span.end);
        let text = vertex.stage().and_then(|_| written());
        text.unwrap_or(&vertex.name).trim_end()
    }

    /// How a step is called: as the progress does, but its variables aren't filled in, since their values may be
    /// secrets.
    fn name_of(&self, vertex: &Vertex) -> String {
        let Some((label, shown)) = vertex.stage().and_then(|_| vertex.name.split_once("] ")) else {
            return shortened(&vertex.name);
        };
        let keyword = shown.split_whitespace().next().unwrap_or_default();
        let written = self.text_of(vertex).lines().next().unwrap_or_default().trim_end_matches(['\\', ' ']);
        let rest = written.split_once(char::is_whitespace);
        // What a base's trigger says stands nowhere in the file.
        let rest =
            rest.filter(|(first, _)| first.eq_ignore_ascii_case(keyword)).map_or("", |(_, rest)| rest.trim());
        shortened(format!("{label}] {keyword} {rest}").trim_end())
    }

    /// Tells the user, and remembers.
    fn tell(&self, vertex: usize, reasons: Vec<MissReason>) {
        if let Some(run) = self.seen().runs.get_mut(&vertex) {
            run.reasons.clone_from(&reasons);
        }
        if self.vertex(vertex).op.is_shown() {
            let step = self.plan.first.saturating_add(u32::try_from(vertex).unwrap_or(u32::MAX));
            self.events.send(Event::Ran { step, reasons });
        }
    }

    /// Leaves notes for the next build, if a step ran or failed; `failed` is the one that stopped the build.
    pub fn keep(&self, failed: Option<usize>) {
        let runs = self.seen().runs.clone();
        if runs.values().all(|run| !run.ran) && failed.is_none() {
            return;
        }
        let last = self.last();
        let mut steps: Vec<Step> = last
            .now
            .iter()
            .map(|(vertex, step)| match failed {
                Some(failed) => self.ended(*vertex, step.clone(), Some(failed == *vertex)),
                None => self.ended(*vertex, step.clone(), None),
            })
            .collect();
        let own = steps.len();
        // Another target's stages are as the build before left them.
        let matched: BTreeSet<usize> = last.matched.values().copied().collect();
        let stages: BTreeSet<String> = steps.iter().map(|step| step.stage.clone()).collect();
        let before = last.notes.iter().flat_map(|notes| notes.steps.iter().enumerate());
        let others = before.filter(|(index, step)| !matched.contains(index) && !stages.contains(&step.stage));
        steps.extend(others.map(|(_, step)| step.clone()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if let Some(bytes) = Notes::new(now, steps, own).encode() {
            // Notes that can't be written cost the next build its explanations.
            let _ = self.store.put_build_notes(&self.plan.build, &bytes);
        }
    }

    /// The step `vertex` as it came out; `failed` says, of a build that failed, whether the step was it.
    fn ended(&self, vertex: usize, step: Step, failed: Option<bool>) -> Step {
        let (before, run) = (self.last().step(vertex), self.run_of(vertex));
        let Some(found) = self.result_of(vertex) else {
            // What it last gave is what the next build compares with: its text and all.
            let name = step.name.clone();
            let base = before.cloned().unwrap_or(step);
            let run = run.filter(|_| failed == Some(true));
            return Step {
                name,
                end: match failed {
                    Some(true) => StepEnd::Failed,
                    Some(false) => StepEnd::NotReached,
                    // What stands above was there without it.
                    None => StepEnd::Cached,
                },
                failed: run.as_ref().map_or(base.failed, |run| Some(run.cheap)),
                reasons: run.map(|run| run.reasons).unwrap_or_default(),
                ..base
            };
        };
        let ran = run.filter(|run| run.ran);
        let inputs = self.vertex(vertex).inputs().map(|input| self.result_of(input));
        let inputs: Option<Vec<String>> = inputs.map(|found| Some(short_id(&found?.id))).collect();
        let before_inputs = || before.map(|before| before.inputs.clone()).unwrap_or_default();
        Step {
            end: if ran.is_some() { StepEnd::Ran } else { StepEnd::Cached },
            reasons: ran.map(|run| run.reasons).unwrap_or_default(),
            key: found.key,
            result: short_id(&found.id),
            inputs: inputs.unwrap_or_else(before_inputs),
            ..step
        }
    }
}

impl Witness for Why {
    fn has(&self, vertex: usize, key: Option<&Digest>, outcome: &Outcome) {
        self.seen().results[vertex] = Some(Found::new(key, outcome));
    }

    fn runs(&self, vertex: usize, cheap: &Key, inputs: &[Outcome], absent: &Absent) {
        if matches!(self.vertex(vertex).op, OpSpec::Source(_)) {
            // An image is brought, not made: that it came is reason enough.
            return;
        }
        let inputs: Vec<Digest> = inputs.iter().map(|input| input.id).collect();
        let run = Run { cheap: cheap.digest, absent: *absent, inputs, reasons: Vec::new(), ran: false };
        self.seen().runs.insert(vertex, run);
        if !is_told_afterwards(&self.vertex(vertex).op) {
            self.tell(vertex, self.causes(vertex, &cheap.parts.texts(), None));
        }
    }

    fn ran(&self, vertex: usize, key: &Key, outcome: &Outcome) {
        if is_told_afterwards(&self.vertex(vertex).op) {
            self.tell(vertex, self.causes(vertex, &key.parts.texts(), Some(outcome)));
        }
        let mut seen = self.seen();
        seen.results[vertex] = Some(Found::new(Some(&key.digest), outcome));
        if let Some(run) = seen.runs.get_mut(&vertex) {
            run.ran = true;
        }
    }
}

/// What the last build of `build` (see [`Plan::build`]) left, if something is known of one.
pub fn last(build: &Digest, store: &Store) -> kiln_cache::Result<Option<LastBuild>> {
    let notes = store.build_notes(build)?.and_then(|bytes| Notes::decode(&bytes));
    let step = |step: Step| LastStep { name: step.name, end: step.end, reasons: step.reasons };
    Ok(notes.map(|notes| LastBuild {
        ended: notes.ended,
        steps: notes.steps.into_iter().take(notes.own).map(step).collect(),
    }))
}

/// Tells whether only an execution knows what it reads.
fn is_told_afterwards(op: &OpSpec) -> bool {
    matches!(op, OpSpec::Copy(_) | OpSpec::Remote(_))
}

/// The beginning of a digest of `text`: enough to tell those of one Dockerfile apart.
fn short(text: &str) -> String {
    short_id(&Digest::of(text))
}

/// The same of what a digest names already.
fn short_id(id: &Digest) -> String {
    id.hex()[..16].to_owned()
}

/// A name as it is kept: without passwords, and of a bounded length.
fn shortened(name: &str) -> String {
    let name = without_passwords(name);
    name[..name.floor_char_boundary(NAME_BYTES)].to_owned()
}
