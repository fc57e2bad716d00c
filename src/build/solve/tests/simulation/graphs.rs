//! What is built: graphs of many shapes, and what will go wrong with them.

/// A small generator of numbers: the same on every machine, for ever (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number less than `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    /// True in `percent` of the cases.
    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What an op is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Is there, or isn't: a base image.
    Source,
    /// Gives the same each time: a copy.
    Copy,
    /// Gives something else each time: a program.
    Run,
    /// Follows from its inputs: layers put on each other.
    Merge,
}

/// Who else may have a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sharing {
    Shared,
    Private,
    Locked,
}

/// A vertex.
#[derive(Debug, Clone)]
pub(super) struct Op {
    pub(super) inputs: Vec<usize>,
    /// Equal ops have equal labels.
    pub(super) label: u64,
    pub(super) kind: Kind,
    pub(super) fails: bool,
    /// It ends rarely.
    pub(super) is_slow: bool,
    /// Sorted by their numbers.
    pub(super) caches: Vec<(usize, Sharing)>,
}

impl Op {
    fn new(label: usize, inputs: Vec<usize>) -> Self {
        let kind = if inputs.is_empty() { Kind::Source } else { Kind::Run };
        Self { inputs, label: label as u64, kind, fails: false, is_slow: false, caches: Vec::new() }
    }
}

/// One build.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    pub(super) targets: Vec<usize>,
    pub(super) jobs: usize,
    pub(super) no_cache: bool,
    /// The user stops it, or its process is killed, at some moment.
    pub(super) is_stopped: bool,
    pub(super) is_killed: bool,
}

impl Plan {
    /// A build that nothing disturbs, of all that nothing else uses.
    pub(super) fn quiet(ops: Vec<Op>) -> Self {
        let mut is_used = vec![false; ops.len()];
        ops.iter().flat_map(|op| &op.inputs).for_each(|input| is_used[*input] = true);
        let targets = (0..ops.len()).filter(|vertex| !is_used[*vertex]).collect();
        Self { ops, targets, jobs: 4, no_cache: false, is_stopped: false, is_killed: false }
    }
}

pub(super) fn chain(size: usize) -> Vec<Op> {
    (0..size).map(|vertex| Op::new(vertex, vertex.checked_sub(1).into_iter().collect())).collect()
}

/// One vertex that reads all others.
pub(super) fn wide(size: usize) -> Vec<Op> {
    let mut ops: Vec<Op> =
        (0..size - 1).map(|vertex| Op::new(vertex, if vertex == 0 { vec![] } else { vec![0] })).collect();
    ops.push(Op::new(size, (0..size - 1).collect()));
    ops
}

/// Chains on one base, each of which reads the one before.
pub(super) fn stages(size: usize) -> Vec<Op> {
    const STEPS: usize = 7;
    let inputs = |vertex: usize| match vertex {
        0 => vec![],
        _ if vertex.is_multiple_of(STEPS) => vec![0, vertex - 1],
        _ => vec![vertex - 1],
    };
    (0..size).map(|vertex| Op::new(vertex, inputs(vertex))).collect()
}

fn diamonds(size: usize) -> Vec<Op> {
    let inputs = |vertex: usize| match vertex % 3 {
        _ if vertex == 0 => vec![],
        0 => vec![vertex - 2, vertex - 1],
        step => vec![vertex - step],
    };
    (0..size).map(|vertex| Op::new(vertex, inputs(vertex))).collect()
}

fn any(random: &mut Random, size: usize) -> Vec<Op> {
    let mut ops = vec![Op::new(0, vec![])];
    for vertex in 1..size {
        let count = random.below(4);
        let inputs = (0..count).map(|_| random.below(vertex)).collect();
        ops.push(Op::new(vertex, inputs));
    }
    ops
}

/// The builds of one seed: of one graph, each with its own changes.
pub(super) fn plans(random: &mut Random) -> Vec<Plan> {
    let size = 1 + if random.chance(10) { random.below(60) } else { random.below(14) };
    let mut ops = match random.below(6) {
        0 => chain(size),
        1 => wide(size.max(2)),
        2 => stages(size),
        3 => diamonds(size),
        _ => any(random, size),
    };
    let has_caches = random.chance(30);
    let labels = if random.chance(25) { 1 + size / 3 } else { usize::MAX };
    for op in &mut ops {
        dress(op, random, has_caches);
        op.label %= labels as u64;
    }
    let no_failures = random.chance(50);
    let count = 1 + random.below(4);
    (0..count).map(|_| plan(&ops, random, no_failures)).collect()
}

/// Draws what an op is like.
fn dress(op: &mut Op, random: &mut Random, has_caches: bool) {
    op.kind = match (op.inputs.len(), random.below(10)) {
        (0, 0..8) => Kind::Source,
        (2.., 0..2) => Kind::Merge,
        (_, 0..6) => Kind::Run,
        _ => Kind::Copy,
    };
    op.is_slow = random.chance(15);
    if has_caches && random.chance(40) && matches!(op.kind, Kind::Run) {
        let mut caches: Vec<usize> = (0..1 + random.below(2)).map(|_| random.below(3)).collect();
        caches.sort_unstable();
        caches.dedup();
        let sharing = [Sharing::Shared, Sharing::Private, Sharing::Locked];
        op.caches = caches.into_iter().map(|cache| (cache, sharing[random.below(3)])).collect();
    }
}

fn plan(ops: &[Op], random: &mut Random, no_failures: bool) -> Plan {
    let mut ops = ops.to_vec();
    let changes = [2, 10, 30][random.below(3)];
    for op in &mut ops {
        if random.chance(changes) {
            op.label = 1000 + random.below(5) as u64;
        }
        op.fails = !no_failures && random.chance(7) && matches!(op.kind, Kind::Run | Kind::Copy);
    }
    let mut plan = Plan::quiet(ops);
    if random.chance(20) {
        let more = random.below(plan.ops.len());
        plan.targets.push(more);
    }
    if random.chance(15) {
        plan.targets = vec![random.below(plan.ops.len())];
    }
    plan.jobs = [1, 2, 3, 16][random.below(4)];
    plan.no_cache = random.chance(10);
    plan.is_stopped = random.chance(10);
    plan.is_killed = random.chance(10);
    plan
}
