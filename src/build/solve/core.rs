//! The truth of one build's schedule: which vertex waits for what, and what is to be done next.
//!
//! A plain state machine: no store, no clock, no thread, no runtime. It is told what happened ([`Core::tell`]) and says
//! what to do ([`Core::next`]); who does it is the driver's business, or the simulation's of the tests.
//!
//! Work is done on demand, from the targets down. A vertex is wanted for its result's **id**, which is enough to look
//! up what stands above it, or for its **layers**, which an execution above it needs:
//!
//! 1. Nothing known: the inputs' ids are wanted, then the vertex is looked up by them.
//! 2. Nothing found, or its layers were collected and are wanted: the inputs' layers are wanted.
//! 3. All there: key lock → look up again → cache mounts → job slot → execute → record → unlock.
//!
//! So a hit never touches what lies below it. Equal vertices stand in line behind the one that has the key's lock.
//! After the first failure, or the user's word, nothing begins any more; what runs is told to stop and waited for.
//!
//! Each vertex is advanced when something that it waits for arrives, never asked in vain: the cost is that of the
//! edges.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

#[cfg(test)]
use super::tests::simulation::Fault;

/// Look-ups and claims at a time: each takes a thread.
const MAX_CLAIMS: usize = 8;

/// Vertices that have their key's lock, beyond those that run: each has a file open.
const SPARE_LEADERS: usize = 64;

/// What is known of a vertex' result, or wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Have {
    /// Nothing.
    Nothing,
    /// Its id; its layers were collected.
    Id,
    /// Its layers are there.
    Layers,
}

/// What the driver shall do. All but the last two are answered by one [`Event`] of the vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Look it up by its inputs' ids: [`Event::Looked`].
    Look(usize),
    /// Take its key's lock, look it up again and hold its inputs: [`Event::Claimed`].
    Claim(usize),
    /// Wait a little, the longer the more often it was tried: [`Event::Resumed`].
    Pause(usize, u32),
    /// Take its cache mounts: [`Event::Mounted`].
    Mount(usize),
    /// Do its work: [`Event::Executed`].
    Execute(usize),
    /// Record its result: [`Event::Recorded`].
    Record(usize),
    /// Let go its cache mounts and its key's lock.
    Release(usize),
    /// End what is under way, as soon as may be.
    Stop,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event<K> {
    /// It was looked up by its inputs' ids.
    Looked(usize, Have),
    /// Its claim has an answer.
    Claimed(usize, Claim<K>),
    /// Its pause is over.
    Resumed(usize),
    /// It has its cache mounts.
    Mounted(usize),
    /// It has done its work.
    Executed(usize),
    /// Its result is recorded.
    Recorded(usize),
    /// What it was asked to do failed.
    Failed(usize),
    /// It ended because of [`Action::Stop`].
    Cancelled(usize),
    /// The user wants no more of it.
    Stop,
}

/// What a vertex found when its turn came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim<K> {
    /// Somebody made it meanwhile; its layers are held.
    Found,
    /// It is this build's to run: it has the key's lock.
    Lead(K),
    /// Somebody else has the key's lock.
    Busy(K),
    /// The layers of these inputs were collected, or made anew, meanwhile.
    Gone(Vec<usize>),
}

/// Where a vertex stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody waits for more than it has.
    Idle,
    /// It waits for what its inputs lack of this.
    Inputs(Have),
    /// It waits for its turn to be looked up or claimed, or does so, or pauses.
    Claiming,
    /// It waits for an equal vertex.
    InLine,
    /// It has its key's lock and waits for its cache mounts or a slot, or records.
    Leading,
    /// It executes.
    Running,
    /// It failed, was cancelled, or will never begin.
    Ended,
}

#[derive(Debug)]
struct Vertex<K> {
    inputs: Box<[usize]>,
    users: Vec<usize>,
    have: Have,
    want: Have,
    /// Whether it was looked up by its inputs' ids.
    is_looked: bool,
    state: State,
    /// How many inputs lack what it waits for.
    missing: usize,
    /// How often its key was busy.
    tries: u32,
    key: Option<K>,
}

/// The state machine. `K` is a key by which equal vertices are known.
#[derive(Debug)]
pub(super) struct Core<K> {
    vertices: Vec<Vertex<K>>,
    is_target: Vec<bool>,
    /// Targets without layers.
    unmet: usize,
    /// Vertices that may have to be advanced.
    todo: Vec<usize>,
    /// Those whose turn it is to be looked up or claimed.
    ready: VecDeque<usize>,
    claims: usize,
    leaders: usize,
    /// Those that wait behind the vertex that has the key.
    lines: HashMap<K, Vec<usize>>,
    /// Those that wait for a slot.
    queue: VecDeque<usize>,
    running: usize,
    jobs: usize,
    actions: VecDeque<Action>,
    /// Actions whose answer is awaited.
    open: usize,
    is_stopping: bool,
    failed: Option<usize>,
    #[cfg(test)]
    pub(in crate::build::solve) fault: Fault,
}

impl<K: Copy + Eq + Hash> Core<K> {
    /// Returns the schedule of vertices with these inputs, all smaller than their own number, of which `have` is known.
    ///
    /// Those of which nothing is known although their inputs' ids are were looked up in vain. At most `jobs` execute at
    /// the same time.
    pub(super) fn new(
        inputs: impl IntoIterator<Item = Vec<usize>>,
        have: &[Have],
        targets: &[usize],
        jobs: usize,
    ) -> Self {
        let mut vertices: Vec<Vertex<K>> = Vec::with_capacity(have.len());
        for (vertex, inputs) in inputs.into_iter().enumerate() {
            for input in &inputs {
                vertices[*input].users.push(vertex);
            }
            vertices.push(Vertex {
                is_looked: inputs.iter().all(|input| have[*input] >= Have::Id),
                inputs: inputs.into(),
                users: Vec::new(),
                have: have[vertex],
                want: Have::Nothing,
                state: State::Idle,
                missing: 0,
                tries: 0,
                key: None,
            });
        }
        let mut core = Self {
            is_target: vec![false; vertices.len()],
            vertices,
            unmet: 0,
            todo: Vec::new(),
            ready: VecDeque::new(),
            claims: 0,
            leaders: 0,
            lines: HashMap::new(),
            queue: VecDeque::new(),
            running: 0,
            jobs: jobs.max(1),
            actions: VecDeque::new(),
            open: 0,
            is_stopping: false,
            failed: None,
            #[cfg(test)]
            fault: Fault::None,
        };
        for target in targets {
            core.aim(*target);
        }
        core
    }

    fn aim(&mut self, target: usize) {
        if !std::mem::replace(&mut self.is_target[target], true) {
            self.vertices[target].want = Have::Layers;
            self.unmet += usize::from(self.vertices[target].have < Have::Layers);
            self.todo.push(target);
        }
    }

    /// What is to be done next; `None` when all depends on what is under way.
    pub(super) fn next(&mut self) -> Option<Action> {
        while let Some(vertex) = self.todo.pop() {
            self.advance(vertex);
        }
        self.begin_claims();
        self.begin_executions();
        self.actions.pop_front()
    }

    /// True when all is done: nothing is under way, and the targets are met or the build has stopped.
    ///
    /// If it stays false while nothing is under way, the schedule is wrong.
    pub(super) fn is_over(&self) -> bool {
        self.open == 0 && self.actions.is_empty() && (self.is_stopping || self.unmet == 0)
    }

    /// How many answers are awaited.
    pub(super) fn underway(&self) -> usize {
        self.open
    }

    /// The vertex that failed first.
    pub(super) fn failed(&self) -> Option<usize> {
        self.failed
    }

    /// True when it ends before the targets are met.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Takes in what happened.
    pub(super) fn tell(&mut self, event: Event<K>) {
        match event {
            Event::Looked(vertex, have) => {
                self.answered_claim(vertex, State::Idle);
                self.vertices[vertex].is_looked = true;
                self.raise(vertex, have);
            }
            Event::Claimed(vertex, claim) => self.claimed(vertex, claim),
            Event::Resumed(vertex) => {
                self.open -= 1;
                self.enter_line_for_claim(vertex);
            }
            Event::Mounted(vertex) => {
                self.open -= 1;
                match self.is_stopping {
                    true => self.end(vertex),
                    false => self.queue.push_back(vertex),
                }
            }
            Event::Executed(vertex) => {
                self.left_slot(vertex);
                self.vertices[vertex].state = State::Leading;
                #[cfg(test)]
                if self.fault == Fault::UnlocksBeforeRecord {
                    self.actions.push_back(Action::Release(vertex));
                }
                self.ask(Action::Record(vertex));
                self.open -= 1;
            }
            Event::Recorded(vertex) => {
                self.open -= 1;
                self.release(vertex);
                self.vertices[vertex].state = State::Idle;
                self.raise(vertex, Have::Layers);
            }
            Event::Failed(vertex) => {
                self.stopped(vertex);
                let is_first = !self.is_stopping;
                #[cfg(test)]
                let is_first = is_first || self.fault == Fault::TellsTheLastFailure;
                if is_first {
                    self.failed = Some(vertex);
                }
                self.stop();
            }
            Event::Cancelled(vertex) => self.stopped(vertex),
            Event::Stop => self.stop(),
        }
    }
}

/// Demand: from the targets down.
impl<K: Copy + Eq + Hash> Core<K> {
    fn advance(&mut self, vertex: usize) {
        let state = &self.vertices[vertex];
        if self.is_stopping || state.state != State::Idle || state.have >= state.want {
            return;
        }
        let is_new = state.have == Have::Nothing && !state.is_looked;
        #[cfg(test)]
        let is_new = is_new && self.fault != Fault::MakesWhatIsNotNeeded;
        self.wait(vertex, if is_new { Have::Id } else { Have::Layers });
    }

    /// Makes `vertex` wait until all its inputs have `level`.
    fn wait(&mut self, vertex: usize, level: Have) {
        let mut missing = 0;
        for index in 0..self.vertices[vertex].inputs.len() {
            let number = self.vertices[vertex].inputs[index];
            let input = &mut self.vertices[number];
            input.want = input.want.max(level);
            if input.have < level {
                missing += 1;
                self.todo.push(number);
            }
        }
        #[cfg(test)]
        if self.fault == Fault::StartsBeforeAnInput && missing == 1 {
            missing = 0;
        }
        let state = &mut self.vertices[vertex];
        (state.state, state.missing) = (State::Inputs(level), missing);
        if missing == 0 {
            self.enter_line_for_claim(vertex);
        }
    }

    /// Notes that more is known of a result, and wakes those that waited for it.
    fn raise(&mut self, vertex: usize, have: Have) {
        let before = self.vertices[vertex].have;
        if have > before {
            self.vertices[vertex].have = have;
            self.unmet -= usize::from(self.is_target[vertex] && have == Have::Layers);
            for index in 0..self.vertices[vertex].users.len() {
                let number = self.vertices[vertex].users[index];
                let user = &mut self.vertices[number];
                let State::Inputs(level) = user.state else { continue };
                if before < level && level <= have {
                    user.missing -= 1;
                    if user.missing == 0 {
                        self.enter_line_for_claim(number);
                    }
                }
            }
        }
        self.todo.push(vertex);
    }

    /// Notes that the layers of a result are gone.
    fn lower(&mut self, vertex: usize) {
        if self.vertices[vertex].have < Have::Layers {
            return;
        }
        self.vertices[vertex].have = Have::Id;
        self.unmet += usize::from(self.is_target[vertex]);
        for index in 0..self.vertices[vertex].users.len() {
            let user = self.vertices[vertex].users[index];
            if self.vertices[user].state == State::Inputs(Have::Layers) {
                self.vertices[user].missing += 1;
            }
        }
        self.todo.push(vertex);
    }
}

/// From complete inputs to the key's lock.
impl<K: Copy + Eq + Hash> Core<K> {
    fn enter_line_for_claim(&mut self, vertex: usize) {
        if self.is_stopping {
            self.vertices[vertex].state = State::Ended;
            return;
        }
        self.vertices[vertex].state = State::Claiming;
        self.ready.push_back(vertex);
    }

    fn begin_claims(&mut self) {
        while self.claims < MAX_CLAIMS && self.claims + self.leaders < self.jobs + SPARE_LEADERS {
            let Some(vertex) = self.ready.pop_front() else { return };
            self.claims += 1;
            let state = &self.vertices[vertex];
            let are_there = state.inputs.iter().all(|input| self.vertices[*input].have == Have::Layers);
            #[cfg(test)]
            let are_there = are_there || self.fault == Fault::StartsBeforeAnInput;
            // What was lost since it was ready is found out by the claim, too.
            let by_ids = state.have == Have::Nothing && !state.is_looked && !are_there;
            self.ask(if by_ids { Action::Look(vertex) } else { Action::Claim(vertex) });
        }
    }

    fn claimed(&mut self, vertex: usize, claim: Claim<K>) {
        self.answered_claim(vertex, State::Idle);
        if !matches!(claim, Claim::Busy(_)) {
            self.vertices[vertex].tries = 0;
        }
        match claim {
            #[cfg(test)]
            Claim::Found if self.fault == Fault::ForgetsToLookAgain => {
                self.leaders += 1;
                self.vertices[vertex].state = State::Leading;
                self.ask(Action::Mount(vertex));
            }
            Claim::Found => self.raise(vertex, Have::Layers),
            Claim::Lead(key) => {
                self.leaders += 1;
                self.lines.insert(key, Vec::new());
                let state = &mut self.vertices[vertex];
                (state.key, state.state) = (Some(key), State::Leading);
                match self.is_stopping {
                    true => self.end(vertex),
                    false => self.ask(Action::Mount(vertex)),
                }
            }
            Claim::Busy(key) => self.is_busy(vertex, key),
            Claim::Gone(inputs) => {
                inputs.into_iter().for_each(|input| self.lower(input));
                self.todo.push(vertex);
            }
        }
    }

    fn is_busy(&mut self, vertex: usize, key: K) {
        if self.is_stopping {
            self.vertices[vertex].state = State::Ended;
        } else if let Some(line) = self.lines.get_mut(&key) {
            self.vertices[vertex].state = State::InLine;
            line.push(vertex);
        } else {
            let state = &mut self.vertices[vertex];
            state.state = State::Claiming;
            state.tries += 1;
            let tries = state.tries;
            self.ask(Action::Pause(vertex, tries));
        }
    }

    fn answered_claim(&mut self, vertex: usize, state: State) {
        self.open -= 1;
        self.claims -= 1;
        self.vertices[vertex].state = state;
    }
}

/// From the key's lock to the end.
impl<K: Copy + Eq + Hash> Core<K> {
    fn begin_executions(&mut self) {
        #[cfg(test)]
        let extra = usize::from(self.fault == Fault::RunsOneTooMany);
        #[cfg(not(test))]
        let extra = 0;
        while self.running < self.jobs + extra {
            let Some(vertex) = self.queue.pop_front() else { return };
            self.running += 1;
            self.vertices[vertex].state = State::Running;
            self.ask(Action::Execute(vertex));
        }
    }

    fn left_slot(&mut self, vertex: usize) {
        if self.vertices[vertex].state == State::Running {
            self.running -= 1;
        }
    }

    /// Lets go what `vertex` has, and wakes those that stand in line behind it.
    fn release(&mut self, vertex: usize) {
        self.leaders -= 1;
        self.actions.push_back(Action::Release(vertex));
        let line = self.vertices[vertex].key.take().and_then(|key| self.lines.remove(&key));
        #[cfg(test)]
        let line = line.filter(|_| self.fault != Fault::ForgetsTheLine);
        for waiter in line.into_iter().flatten() {
            self.enter_line_for_claim(waiter);
        }
    }

    /// Ends a vertex that has its key's lock and will not go on.
    fn end(&mut self, vertex: usize) {
        self.release(vertex);
        self.vertices[vertex].state = State::Ended;
    }

    /// Ends a vertex whose action came to nothing.
    fn stopped(&mut self, vertex: usize) {
        self.open -= 1;
        match self.vertices[vertex].state {
            State::Claiming => {
                self.claims -= 1;
                self.vertices[vertex].state = State::Ended;
            }
            _ => {
                self.left_slot(vertex);
                #[cfg(test)]
                if self.fault == Fault::KeepsTheLock {
                    return;
                }
                self.end(vertex);
            }
        }
    }

    fn stop(&mut self) {
        if std::mem::replace(&mut self.is_stopping, true) {
            return;
        }
        self.ready.clear();
        for action in std::mem::take(&mut self.actions) {
            self.take_back(action);
        }
        for vertex in std::mem::take(&mut self.queue) {
            self.end(vertex);
        }
        self.actions.push_back(Action::Stop);
    }

    /// Undoes what was asked for and not begun.
    fn take_back(&mut self, action: Action) {
        match action {
            Action::Record(_) | Action::Release(_) => self.actions.push_back(action),
            Action::Pause(vertex, _) => {
                self.open -= 1;
                self.vertices[vertex].state = State::Ended;
            }
            Action::Look(vertex)
            | Action::Claim(vertex)
            | Action::Mount(vertex)
            | Action::Execute(vertex) => {
                self.stopped(vertex);
            }
            Action::Stop => {}
        }
    }

    fn ask(&mut self, action: Action) {
        self.open += 1;
        self.actions.push_back(action);
    }
}
