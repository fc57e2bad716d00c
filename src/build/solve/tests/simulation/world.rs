//! The world that simulated builds share, and what must hold in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use super::Fault;
use super::graphs::{Kind, Op, Plan, Random, Sharing, mix};
use crate::build::solve::core::{Action, Claim, Core, Event, Have};

/// Locks that keys share: two keys of one lock merely wait for each other.
const LOCKS: u64 = 61;

/// A result: its id, and the layers that it consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    id: u64,
    chain: Rc<[u32]>,
}

/// What a vertex is at work on.
#[derive(Debug, Default)]
struct Active {
    inputs: Vec<Outcome>,
    key: u64,
    has_lock: bool,
    /// How many of its caches it has.
    caches: usize,
    made: Option<Outcome>,
}

struct Build {
    plan: Plan,
    core: Core<u64>,
    outcomes: Vec<Option<Outcome>>,
    is_there: Vec<bool>,
    is_looked: Vec<bool>,
    active: Vec<Active>,
    /// What is under way.
    flight: Vec<Action>,
    running: usize,
    held: HashSet<u32>,
    /// What it has executed, by key.
    made: HashMap<u64, Outcome>,
    first_failure: Option<usize>,
    was_stopped: bool,
    is_told_to_stop: bool,
    has_begun: bool,
    is_over: bool,
}

/// The store and the builds.
pub(super) struct World {
    random: Random,
    records: BTreeMap<u64, Outcome>,
    layers: HashSet<u32>,
    last_layer: u32,
    locks: HashMap<u64, (usize, usize)>,
    caches: HashMap<usize, Vec<(usize, usize, Sharing)>>,
    executing: HashMap<u64, (usize, usize)>,
    builds: Vec<Build>,
    pub(super) one_after_another: bool,
    pub(super) log: Vec<(usize, Action)>,
    pub(super) executions: usize,
}

type Checked = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl World {
    pub(super) fn new(random: Random, plans: Vec<Plan>, fault: Fault) -> Self {
        let builds = plans.into_iter().map(|plan| Build::new(plan, fault)).collect();
        Self {
            random,
            records: BTreeMap::new(),
            layers: HashSet::new(),
            last_layer: 0,
            locks: HashMap::new(),
            caches: HashMap::new(),
            executing: HashMap::new(),
            builds,
            one_after_another: false,
            log: Vec::new(),
            executions: 0,
        }
    }

    /// Runs all builds to their ends.
    pub(super) fn run(&mut self) -> Checked {
        let size: usize = self.builds.iter().map(|build| build.plan.ops.len()).sum();
        for _ in 0..2000 + size * 400 {
            let waiting: Vec<usize> =
                (0..self.builds.len()).filter(|build| !self.builds[*build].is_over).collect();
            let Some(build) = self.pick(&waiting) else { return self.after() };
            if !self.builds[build].has_begun {
                // Some begin together, others when the first ones have filled the store.
                if waiting[0] == build || !self.one_after_another && self.random.chance(3) {
                    self.begin(build)?;
                }
                continue;
            }
            self.disturb(build);
            if !self.builds[build].is_over {
                self.progress(build)?;
            }
        }
        Err("the builds don't end".into())
    }

    fn pick(&mut self, waiting: &[usize]) -> Option<usize> {
        (!waiting.is_empty()).then(|| waiting[self.random.below(waiting.len())])
    }

    /// What happens beside: a collection, the user's ctrl-c, a kill.
    fn disturb(&mut self, build: usize) {
        if self.random.chance(4) {
            self.collect();
        }
        let plan = &self.builds[build].plan;
        let (may_stop, may_die) = (plan.is_stopped, plan.is_killed);
        if may_stop && !self.builds[build].was_stopped && self.random.chance(6) {
            self.builds[build].was_stopped = true;
            self.builds[build].core.tell(Event::Stop);
        }
        if may_die && self.random.chance(3) {
            self.kill(build);
        }
    }

    /// Removes a layer that no build holds.
    fn collect(&mut self) {
        let layer = 1 + u32::try_from(self.random.below(self.last_layer as usize)).unwrap();
        if !self.builds.iter().any(|build| build.held.contains(&layer)) {
            self.layers.remove(&layer);
        }
    }

    /// The kernel frees what a process had.
    fn kill(&mut self, build: usize) {
        let dead = &mut self.builds[build];
        dead.is_over = true;
        dead.held.clear();
        self.locks.retain(|_, holder| holder.0 != build);
        self.executing.retain(|_, holder| holder.0 != build);
        self.caches.values_mut().for_each(|users| users.retain(|user| user.0 != build));
    }

    /// Looks all up by reading, as the driver does before it has a thread.
    fn begin(&mut self, build: usize) -> Checked {
        let size = self.builds[build].plan.ops.len();
        let mut have = Vec::with_capacity(size);
        for vertex in 0..size {
            let inputs = self.builds[build].inputs(vertex);
            let found = inputs.and_then(|inputs| self.look(build, vertex, &inputs));
            have.push(self.note(build, vertex, found));
        }
        let state = &mut self.builds[build];
        state.has_begun = true;
        let inputs: Vec<Vec<usize>> = state.plan.ops.iter().map(|op| op.inputs.clone()).collect();
        state.is_looked = inputs.iter().map(|own| own.iter().all(|input| have[*input] >= Have::Id)).collect();
        let fault = state.core.fault;
        state.core = Core::new(inputs, &have, &state.plan.targets, state.plan.jobs);
        state.core.fault = fault;
        self.drain(build)
    }

    /// Keeps what a look-up found.
    fn note(&mut self, build: usize, vertex: usize, found: Option<Outcome>) -> Have {
        let is_there = found.as_ref().is_some_and(|outcome| self.is_there(outcome));
        let have = match (&found, is_there) {
            (None, _) => Have::Nothing,
            (_, false) => Have::Id,
            (_, true) => Have::Layers,
        };
        let state = &mut self.builds[build];
        (state.outcomes[vertex], state.is_there[vertex]) = (found, is_there);
        have
    }

    fn is_there(&self, outcome: &Outcome) -> bool {
        outcome.chain.iter().all(|layer| self.layers.contains(layer))
    }

    /// Finds a result by the inputs' ids.
    fn look(&self, build: usize, vertex: usize, inputs: &[Outcome]) -> Option<Outcome> {
        let state = &self.builds[build];
        let op = &state.plan.ops[vertex];
        match op.kind {
            Kind::Source => Some(Outcome { id: op.label, chain: Rc::new([]) }),
            Kind::Merge => Some(op.merged(inputs)),
            Kind::Copy | Kind::Run => {
                let key = op.key(inputs);
                let own = || state.made.get(&key).cloned();
                if state.plan.no_cache { own() } else { self.records.get(&key).cloned() }
            }
        }
    }

    fn hold(&mut self, build: usize, outcome: &Outcome) -> bool {
        let is_there = self.is_there(outcome);
        if is_there {
            self.builds[build].held.extend(outcome.chain.iter());
        }
        is_there
    }

    /// Takes what the core asks for.
    fn drain(&mut self, build: usize) -> Checked {
        while let Some(action) = self.builds[build].core.next() {
            self.log.push((build, action));
            match action {
                Action::Stop => self.builds[build].is_told_to_stop = true,
                Action::Release(vertex) => self.release(build, vertex),
                _ => {
                    if let Action::Execute(vertex) = action {
                        self.check_execution(build, vertex)?;
                    }
                    self.builds[build].flight.push(action);
                }
            }
        }
        if self.builds[build].core.is_over() {
            return self.end(build);
        }
        ensure(!self.builds[build].flight.is_empty(), || format!("build {build} waits for nothing"))
    }

    fn release(&mut self, build: usize, vertex: usize) {
        self.locks.retain(|_, holder| *holder != (build, vertex));
        self.caches.values_mut().for_each(|users| users.retain(|user| (user.0, user.1) != (build, vertex)));
        self.builds[build].active[vertex].has_lock = false;
    }

    /// Something under way comes to its end.
    fn progress(&mut self, build: usize) -> Checked {
        let flight = self.builds[build].flight.len();
        let index = self.random.below(flight);
        let action = self.builds[build].flight[index];
        let slow = |vertex: usize| self.builds[build].plan.ops[vertex].is_slow;
        let event = match action {
            Action::Look(vertex) => Some(self.looked(build, vertex)?),
            Action::Claim(vertex) => Some(self.claim(build, vertex)?),
            Action::Pause(vertex, _) => Some(Event::Resumed(vertex)),
            Action::Mount(vertex) => self.mount(build, vertex),
            Action::Execute(vertex) if slow(vertex) && !self.random.chance(15) => None,
            Action::Execute(vertex) => Some(self.execute(build, vertex)),
            Action::Record(vertex) => Some(self.record(build, vertex)),
            Action::Release(_) | Action::Stop => unreachable!("is done at once"),
        };
        let Some(event) = event else { return Ok(()) };
        let state = &mut self.builds[build];
        state.flight.swap_remove(index);
        if let Event::Failed(vertex) = event {
            let is_first = !state.was_stopped && state.first_failure.is_none();
            state.first_failure = if is_first { Some(vertex) } else { state.first_failure };
        }
        state.core.tell(event);
        self.drain(build)
    }

    fn looked(&mut self, build: usize, vertex: usize) -> Result<Event<u64>, String> {
        let inputs = self.ids(build, vertex)?;
        let found = self.look(build, vertex, &inputs);
        self.builds[build].is_looked[vertex] = true;
        Ok(Event::Looked(vertex, self.note(build, vertex, found)))
    }

    fn ids(&self, build: usize, vertex: usize) -> Result<Vec<Outcome>, String> {
        let inputs = self.builds[build].inputs(vertex);
        inputs.ok_or_else(|| format!("vertex {vertex} of build {build} begins before its inputs"))
    }

    fn claim(&mut self, build: usize, vertex: usize) -> Result<Event<u64>, String> {
        let claim = self.try_claim(build, vertex)?;
        let may_fail = self.builds[build].plan.ops.iter().any(|op| op.fails);
        // The store can't be read, or an attempt that this one waited for has failed.
        if may_fail && self.random.chance(1) {
            self.release(build, vertex);
            return Ok(Event::Failed(vertex));
        }
        Ok(Event::Claimed(vertex, claim))
    }

    fn try_claim(&mut self, build: usize, vertex: usize) -> Result<Claim<u64>, String> {
        let inputs = self.ids(build, vertex)?;
        let op = &self.builds[build].plan.ops[vertex];
        let is_known = matches!(op.kind, Kind::Source | Kind::Merge);
        let key = op.key(&inputs);
        if !is_known {
            if self.locks.contains_key(&(key % LOCKS)) {
                return Ok(Claim::Busy(key));
            }
            self.locks.insert(key % LOCKS, (build, vertex));
        }
        self.builds[build].is_looked[vertex] = true;
        if let Some(found) = self.look(build, vertex, &inputs)
            && self.hold(build, &found)
        {
            self.release(build, vertex);
            self.note(build, vertex, Some(found));
            self.builds[build].active[vertex] = Active { inputs, key, ..Active::default() };
            return Ok(Claim::Found);
        }
        let mut gone = Vec::new();
        for (input, outcome) in self.builds[build].plan.ops[vertex].inputs.clone().into_iter().zip(&inputs) {
            if !self.hold(build, outcome) {
                gone.push(input);
                self.builds[build].is_there[input] = false;
            }
        }
        if !gone.is_empty() {
            self.release(build, vertex);
            return Ok(Claim::Gone(gone));
        }
        self.builds[build].active[vertex] = Active { inputs, key, has_lock: true, ..Active::default() };
        Ok(Claim::Lead(key))
    }

    /// Takes the next cache; the vertex goes on when it has all.
    fn mount(&mut self, build: usize, vertex: usize) -> Option<Event<u64>> {
        if self.builds[build].is_told_to_stop {
            return Some(Event::Cancelled(vertex));
        }
        let state = &self.builds[build];
        let Some((cache, sharing)) = state.plan.ops[vertex].caches.get(state.active[vertex].caches) else {
            return Some(Event::Mounted(vertex));
        };
        let users = self.caches.entry(*cache).or_default();
        let is_free = match sharing {
            Sharing::Private => true,
            Sharing::Shared => users.iter().all(|user| user.2 != Sharing::Locked),
            Sharing::Locked => users.iter().all(|user| user.2 == Sharing::Private),
        };
        if is_free {
            users.push((build, vertex, *sharing));
            self.builds[build].active[vertex].caches += 1;
        }
        None
    }

    /// What must hold when an execution begins.
    fn check_execution(&mut self, build: usize, vertex: usize) -> Checked {
        let state = &self.builds[build];
        let (op, active) = (&state.plan.ops[vertex], &state.active[vertex]);
        let at = || format!("vertex {vertex} of build {build}");
        ensure(active.has_lock, || format!("{} executes without its key's lock", at()))?;
        ensure(active.inputs.len() == op.inputs.len(), || format!("{} executes before its inputs", at()))?;
        for input in &active.inputs {
            let is_held = input.chain.iter().all(|layer| state.held.contains(layer));
            ensure(is_held && self.is_there(input), || format!("{} executes before its inputs", at()))?;
        }
        let known =
            if state.plan.no_cache { state.made.get(&active.key) } else { self.records.get(&active.key) };
        let is_known = known.is_some_and(|outcome| self.is_there(outcome));
        ensure(!is_known, || format!("{} executes what is there", at()))?;
        ensure(active.caches == op.caches.len(), || format!("{} lacks a cache", at()))?;
        ensure(state.running < state.plan.jobs, || format!("{} has no slot", at()))?;
        ensure(!state.is_told_to_stop, || format!("{} begins after the end", at()))?;
        ensure(state.is_needed(vertex), || format!("{} executes in vain", at()))?;
        let other = self.executing.insert(active.key, (build, vertex));
        ensure(other.is_none(), || format!("{} executes beside an equal one", at()))?;
        self.builds[build].running += 1;
        self.executions += 1;
        Ok(())
    }

    fn execute(&mut self, build: usize, vertex: usize) -> Event<u64> {
        let state = &mut self.builds[build];
        let op = &state.plan.ops[vertex];
        let active = &mut state.active[vertex];
        state.running -= 1;
        self.executing.remove(&active.key);
        if state.is_told_to_stop && self.random.chance(80) {
            return Event::Cancelled(vertex);
        }
        if op.fails {
            return Event::Failed(vertex);
        }
        self.last_layer += 1;
        self.layers.insert(self.last_layer);
        state.held.insert(self.last_layer);
        let below = active.inputs.first().map(|input| input.chain.to_vec()).unwrap_or_default();
        let id = if op.kind == Kind::Run {
            mix(active.key ^ u64::from(self.last_layer) << 20)
        } else {
            active.key
        };
        let chain = below.into_iter().chain([self.last_layer]).collect();
        active.made = Some(Outcome { id, chain });
        Event::Executed(vertex)
    }

    fn record(&mut self, build: usize, vertex: usize) -> Event<u64> {
        if self.random.chance(1) && self.builds[build].plan.ops.iter().any(|op| op.fails) {
            return Event::Failed(vertex);
        }
        let active = &mut self.builds[build].active[vertex];
        let (key, made) = (active.key, active.made.take().expect("it was executed"));
        self.records.insert(key, made.clone());
        self.builds[build].made.insert(key, made.clone());
        self.note(build, vertex, Some(made));
        Event::Recorded(vertex)
    }

    /// What must hold when a build is over.
    fn end(&mut self, build: usize) -> Checked {
        let state = &mut self.builds[build];
        state.is_over = true;
        ensure(state.flight.is_empty(), || format!("build {build} ends while something is under way"))?;
        ensure(state.running == 0, || format!("build {build} ends with a taken slot"))?;
        ensure(state.core.failed() == state.first_failure, || {
            format!("{:?} failed first, {:?} is told", state.first_failure, state.core.failed())
        })?;
        let has_locks = self.locks.values().any(|holder| holder.0 == build)
            || self.caches.values().flatten().any(|user| user.0 == build);
        ensure(!has_locks, || format!("build {build} ends with a lock"))?;
        let state = &self.builds[build];
        if state.core.is_stopping() {
            let why = state.first_failure.is_some() || state.was_stopped;
            return ensure(why, || format!("build {build} stops by itself"));
        }
        for target in &state.plan.targets {
            let outcome = state.outcomes[*target].as_ref();
            let is_whole = outcome.is_some_and(|outcome| self.is_whole(build, *target, outcome));
            ensure(is_whole, || format!("build {build} has no result of its target {target}"))?;
        }
        self.builds[build].held.clear();
        Ok(())
    }

    /// Tells whether a target's layers are there; one that was there from the beginning isn't held.
    fn is_whole(&self, build: usize, target: usize, outcome: &Outcome) -> bool {
        self.builds[build].active[target].inputs.is_empty() || self.is_there(outcome)
    }

    fn after(&self) -> Checked {
        ensure(self.locks.is_empty(), || "a lock is left".into())?;
        ensure(self.caches.values().all(Vec::is_empty), || "a cache is left locked".into())?;
        ensure(self.executing.is_empty(), || "an execution is left".into())
    }
}

impl Build {
    fn new(plan: Plan, fault: Fault) -> Self {
        let size = plan.ops.len();
        let mut core = Core::new([], &[], &[], 1);
        core.fault = fault;
        Self {
            core,
            outcomes: vec![None; size],
            is_there: vec![false; size],
            is_looked: vec![false; size],
            active: (0..size).map(|_| Active::default()).collect(),
            flight: Vec::new(),
            running: 0,
            held: HashSet::new(),
            made: HashMap::new(),
            first_failure: None,
            was_stopped: false,
            is_told_to_stop: false,
            has_begun: false,
            is_over: false,
            plan,
        }
    }

    fn inputs(&self, vertex: usize) -> Option<Vec<Outcome>> {
        self.plan.ops[vertex].inputs.iter().map(|input| self.outcomes[*input].clone()).collect()
    }

    /// Tells by looking at all whether a target can't do without the execution of `vertex`.
    fn is_needed(&self, vertex: usize) -> bool {
        let mut is_needed = vec![false; self.plan.ops.len()];
        self.plan.targets.iter().for_each(|target| is_needed[*target] = true);
        for user in (vertex..self.plan.ops.len()).rev() {
            if !is_needed[user] || self.is_there[user] {
                continue;
            }
            for input in &self.plan.ops[user].inputs {
                // Before the look-up the id is enough.
                is_needed[*input] |= self.is_looked[user] || self.outcomes[*input].is_none();
            }
        }
        is_needed[vertex]
    }
}

impl Op {
    fn key(&self, inputs: &[Outcome]) -> u64 {
        let kind = self.kind.clone() as u64;
        inputs.iter().fold(mix(self.label ^ kind << 40), |key, input| mix(key ^ input.id))
    }

    fn merged(&self, inputs: &[Outcome]) -> Outcome {
        let chain = inputs.iter().flat_map(|input| input.chain.iter().copied()).collect();
        Outcome { id: self.key(inputs), chain }
    }
}
