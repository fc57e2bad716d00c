//! Whole builds in a made-up world: no store, no clock, no thread; one seed decides everything.
//!
//! Several builds of similar graphs meet in one store. Which of the things under way ends next, what fails, what is
//! collected, who is stopped or killed, is drawn from the seed. What must hold is checked at each step, and a
//! violation names the seed: `KILN_SIM_SEED=<seed> cargo test simulation` replays it.
//!
//! That the checks see something is shown by [`Fault`]s planted in the core: each is found.

mod graphs;
mod world;

use std::collections::VecDeque;

use crate::build::solve::core::{Action, Claim, Core, Event, Have};
use graphs::{Op, Plan, Random};
use world::World;

/// A bug to plant in the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::build::solve) enum Fault {
    /// As it is.
    None,
    /// What was recorded while it waited for the lock isn't seen.
    ForgetsToLookAgain,
    /// The key's lock is free before the result is recorded.
    UnlocksBeforeRecord,
    /// One input is still missing when a vertex begins.
    StartsBeforeAnInput,
    /// The last one of the queue doesn't wait for a slot.
    RunsOneTooMany,
    /// Those that stand in line behind a key stay there.
    ForgetsTheLine,
    /// Inputs are made before anybody knows that they are needed.
    MakesWhatIsNotNeeded,
    /// Of two failures the later one is told.
    TellsTheLastFailure,
    /// A vertex that fails keeps its lock.
    KeepsTheLock,
}

/// How many graphs the suite runs.
const GRAPHS: u64 = 10_000;

/// How many a planted fault may take to be found.
const FAULT_GRAPHS: u64 = 3_000;

/// Runs the builds of one seed to their ends.
fn simulate(seed: u64, fault: Fault) -> Result<(), String> {
    let mut random = Random::new(seed);
    let plans: Vec<Plan> = graphs::plans(&mut random);
    World::new(random, plans, fault).run()
}

/// The variable is the test's own: a seed to be looked at alone.
#[expect(clippy::disallowed_methods, reason = "a failing seed is replayed by hand")]
fn chosen_seed() -> Option<u64> {
    std::env::var("KILN_SIM_SEED").ok()?.parse().ok()
}

#[test]
fn no_graph_and_no_order_of_events_breaks_a_build() {
    let run = |seed| {
        if let Err(violation) = simulate(seed, Fault::None) {
            panic!("{violation}\nreplay it with KILN_SIM_SEED={seed}");
        }
    };
    if let Some(seed) = chosen_seed() {
        return run(seed);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || (first..GRAPHS).step_by(threads as usize).for_each(run));
        }
    });
}

#[test]
fn each_planted_bug_is_found() {
    let faults = [
        Fault::ForgetsToLookAgain,
        Fault::UnlocksBeforeRecord,
        Fault::StartsBeforeAnInput,
        Fault::RunsOneTooMany,
        Fault::ForgetsTheLine,
        Fault::MakesWhatIsNotNeeded,
        Fault::TellsTheLastFailure,
        Fault::KeepsTheLock,
    ];
    for fault in faults {
        let found = (0..FAULT_GRAPHS).find_map(|seed| Some((seed, simulate(seed, fault).err()?)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("{fault:?} was not found"));
        // The same seed finds it again.
        assert_eq!(simulate(seed, fault), Err(violation), "{fault:?}");
        assert_eq!(simulate(seed, Fault::None), Ok(()), "{fault:?}");
    }
}

#[test]
fn a_seed_says_everything() {
    for seed in 0..50 {
        let lines = |seed| {
            let mut random = Random::new(seed);
            let plans = graphs::plans(&mut random);
            let mut world = World::new(random, plans, Fault::None);
            world.run().unwrap();
            world.log
        };
        assert_eq!(lines(seed), lines(seed));
    }
}

/// How many actions the core gives until all of `ops` have executed, each answered at once.
fn actions(ops: &[Op]) -> usize {
    let inputs = ops.iter().map(|op| op.inputs.clone());
    let targets = Plan::quiet(ops.to_vec()).targets;
    let mut core: Core<usize> = Core::new(inputs, &vec![Have::Nothing; ops.len()], &targets, 4);
    let mut under_way = VecDeque::new();
    let mut count = 0;
    while !core.is_over() {
        while let Some(action) = core.next() {
            count += 1;
            under_way.push_back(action);
        }
        match under_way.pop_front().expect("something is under way until the end") {
            Action::Look(vertex) => core.tell(Event::Looked(vertex, Have::Nothing)),
            Action::Claim(vertex) => core.tell(Event::Claimed(vertex, Claim::Lead(vertex))),
            Action::Pause(vertex, _) => core.tell(Event::Resumed(vertex)),
            Action::Mount(vertex) => core.tell(Event::Mounted(vertex)),
            Action::Execute(vertex) => core.tell(Event::Executed(vertex)),
            Action::Record(vertex) => core.tell(Event::Recorded(vertex)),
            Action::Release(_) | Action::Stop => {}
        }
    }
    count
}

/// The cost of a schedule is that of its edges.
#[test]
fn a_hundred_times_the_vertices_take_a_hundred_times_the_actions() {
    for shape in [graphs::chain, graphs::stages, graphs::wide] {
        let (small, large) = (actions(&shape(100)), actions(&shape(10_000)));
        assert!(large <= small * 102, "{small} actions of 100 vertices, {large} of 10,000");
    }
}

#[test]
fn a_build_of_which_all_is_there_asks_for_nothing() {
    let ops: Vec<Op> = graphs::chain(50);
    let mut world = World::new(Random::new(1), vec![Plan::quiet(ops.clone()), Plan::quiet(ops)], Fault::None);
    world.one_after_another = true;
    world.run().unwrap();
    assert_eq!(world.executions, 49);
}
