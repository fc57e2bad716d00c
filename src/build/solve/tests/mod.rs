//! The scheduler with ops that only count.

pub(super) mod simulation;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_cache::key::KeyBuilder;
use kiln_cache::{Digest, Label, NewImage, Snapshot, Store, Sweep};

use super::{
    Blind, Context, Executed, Key, Known, Node, Op, OpError, OpFuture, Outcome, Setup, Solver, Stopped,
};
use crate::api::{Events, Failure, FailureKind, Stop};

/// How often each op ran, by name.
type Runs = Arc<Mutex<BTreeMap<String, u32>>>;

/// An op that makes an empty layer, or fails.
#[derive(Clone)]
struct Counted {
    name: String,
    /// What it reads; `None` for an op without a content key.
    content: Option<String>,
    /// What its cheap key has beside the name: which other result it reads from, for a closed op with content.
    from: Option<String>,
    fails: bool,
    pause: Duration,
    /// True when two runs give different results, as RUN does.
    fresh: bool,
    runs: Runs,
}

impl Counted {
    fn key(&self, kind: &str, inputs: &[Outcome]) -> KeyBuilder {
        let mut key = KeyBuilder::new(kind, 1).field("name", &self.name);
        for input in inputs {
            key = key.field("input", input.id.to_string());
        }
        key
    }

    fn full(&self, inputs: &[Outcome]) -> Digest {
        self.key("full", inputs).optional("content", self.content.as_ref()).digest()
    }
}

impl Op for Counted {
    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        let kind = if self.content.is_some() { "cheap" } else { "full" };
        let key = self.key(kind, inputs).optional("from", self.from.as_ref());
        Key { parts: key.parts(), digest: key.digest() }
    }

    fn family(&self, inputs: &[Outcome]) -> Digest {
        self.key("family", inputs).digest()
    }

    fn is_closed(&self) -> bool {
        self.content.is_none() || self.from.is_some()
    }

    fn reads(&self, _input: usize) -> bool {
        self.from.is_some()
    }

    fn content_key(&self, inputs: &[Outcome], _store: &Store) -> Result<Option<Key>, OpError> {
        if self.content.is_some() {
            *self.runs.lock().unwrap().entry(format!("{} read", self.name)).or_default() += 1;
        }
        Ok(self.content.as_ref().map(|_| Key { digest: self.full(inputs), parts: Vec::new().into() }))
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a Context) -> OpFuture<'a> {
        Box::pin(async move {
            let count = {
                let mut runs = self.runs.lock().unwrap();
                let count = runs.entry(self.name.clone()).or_default();
                *count += 1;
                *count
            };
            context.stop.unless(tokio::time::sleep(self.pause)).await;
            if self.fails || context.stop.is_given() {
                return Err(Box::new(Failure::new(FailureKind::Step(1), format!("{} failed", self.name))));
            }
            let staged = context.store.stage(&context.lease).unwrap();
            let snapshot = staged.commit(Snapshot { created: 1, ..Snapshot::default() }).unwrap();
            let digest = self.full(inputs);
            let salt = if self.fresh { count } else { 0 };
            let id =
                KeyBuilder::new("result", 1).field("key", digest.to_string()).field("n", salt.to_string());
            let mut chain = inputs.first().map(|input| input.chain.clone()).unwrap_or_default();
            chain.push(snapshot);
            let outcome = Outcome { id: id.digest(), chain, created: 1 };
            Ok(Executed { outcome, key: Key { digest, parts: Vec::new().into() } })
        })
    }
}

/// A store and the counts of a test.
struct Bench {
    _folder: tempfile::TempDir,
    store: Store,
    runs: Runs,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { _folder: folder, store, runs: Runs::default() }
    }

    fn op(&self, name: &str) -> Counted {
        Counted {
            name: name.to_owned(),
            content: None,
            from: None,
            fails: false,
            pause: Duration::ZERO,
            fresh: false,
            runs: Arc::clone(&self.runs),
        }
    }

    fn solver(&self, ops: &[(Counted, &[usize])], no_cache: bool) -> Solver {
        let nodes = ops.iter().map(|(op, inputs)| Node {
            op: Arc::new(op.clone()),
            inputs: inputs.to_vec(),
            step: None,
            label: Label::default(),
            anew: false,
        });
        self.solver_of(nodes.collect(), no_cache)
    }

    /// All vertices that no other one uses are targets.
    fn solver_of(&self, nodes: Vec<Node>, no_cache: bool) -> Solver {
        let is_used = |vertex: &usize| nodes.iter().any(|node| node.inputs.contains(vertex));
        let targets = (0..nodes.len()).filter(|vertex| !is_used(vertex)).collect();
        Solver::new(Setup {
            nodes,
            targets,
            store: self.store.clone(),
            lease: self.store.lease(),
            events: Events::none(),
            no_cache,
            since: None,
            jobs: 0,
            stop: Stop::default(),
            witness: Arc::new(Blind),
        })
    }

    fn solve(&self, ops: &[(Counted, &[usize])]) -> Result<Vec<Outcome>, Stopped> {
        self.solve_with(ops, false)
    }

    fn solve_with(&self, ops: &[(Counted, &[usize])], no_cache: bool) -> Result<Vec<Outcome>, Stopped> {
        let solver = self.solver(ops, no_cache);
        let mut found = solver.cached()?;
        if let Some(outcomes) = solver.complete(&found) {
            return Ok(outcomes);
        }
        solver.secure(&mut found).unwrap();
        runtime().block_on(Arc::new(solver).run(found))
    }

    fn runs(&self, name: &str) -> u32 {
        self.runs.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_second_build_runs_nothing_and_gives_the_same_results() {
    let bench = Bench::new();
    let ops: &[(Counted, &[usize])] =
        &[(bench.op("a"), &[]), (bench.op("b"), &[0]), (bench.op("c"), &[0, 1])];
    let first = bench.solve(ops).unwrap();
    assert!(bench.solver(ops, false).cached().unwrap().iter().all(Option::is_some));
    assert_eq!(bench.solve(ops).unwrap(), first);
    assert_eq!([bench.runs("a"), bench.runs("b"), bench.runs("c")], [1, 1, 1]);
}

#[test]
fn no_cache_runs_everything_again() {
    let bench = Bench::new();
    let ops: &[(Counted, &[usize])] = &[(bench.op("a"), &[]), (bench.op("b"), &[0])];
    bench.solve(ops).unwrap();
    bench.solve_with(ops, true).unwrap();
    assert_eq!([bench.runs("a"), bench.runs("b")], [2, 2]);
}

#[test]
fn a_changed_file_runs_its_copy_and_what_stands_above_and_the_old_one_is_found_again() {
    let bench = Bench::new();
    let build = |content: &str| {
        let copy = Counted { content: Some(content.to_owned()), ..bench.op("copy") };
        bench.solve(&[(bench.op("base"), &[]), (copy, &[0]), (bench.op("run"), &[1])]).unwrap()
    };
    let first = build("one");
    build("two");
    assert_eq!([bench.runs("base"), bench.runs("copy"), bench.runs("run")], [1, 2, 2]);
    assert_eq!(build("one"), first);
    assert_eq!([bench.runs("base"), bench.runs("copy"), bench.runs("run")], [1, 2, 2]);
}

/// A stage that ran again and gave the same files: its copy is found by reading them, once.
#[test]
fn what_was_found_by_content_is_not_read_again() {
    let bench = Bench::new();
    let build = |from: &str| {
        let (content, from) = (Some("same".to_owned()), Some(from.to_owned()));
        let copy = Counted { content, from, ..bench.op("copy") };
        bench.solve(&[(bench.op("stage"), &[]), (copy, &[0])]).unwrap()
    };
    let first = build("one");
    assert_eq!([bench.runs("copy"), bench.runs("copy read")], [1, 0]);
    assert_eq!(build("two"), first);
    assert_eq!([bench.runs("copy"), bench.runs("copy read")], [1, 1]);
    assert_eq!([build("two"), build("one")], [first.clone(), first]);
    assert_eq!([bench.runs("copy"), bench.runs("copy read")], [1, 1]);
}

#[test]
fn a_step_that_ran_again_takes_those_above_along() {
    let bench = Bench::new();
    let ops = |fresh: &Counted| -> Vec<(Counted, &'static [usize])> {
        vec![(fresh.clone(), &[]), (bench.op("above"), &[0])]
    };
    let fresh = Counted { fresh: true, ..bench.op("fresh") };
    bench.solve(&ops(&fresh)).unwrap();
    bench.solve_with(&ops(&fresh)[..1], true).unwrap();
    bench.solve(&ops(&fresh)).unwrap();
    assert_eq!([bench.runs("fresh"), bench.runs("above")], [2, 2]);
}

#[test]
fn equal_vertices_of_one_build_run_once() {
    let bench = Bench::new();
    let slow = Counted { pause: Duration::from_millis(30), ..bench.op("same") };
    let outcomes = bench.solve(&[(slow.clone(), &[]), (slow, &[])]).unwrap();
    assert_eq!(bench.runs("same"), 1);
    assert_eq!(outcomes[0], outcomes[1]);
}

#[test]
fn two_builds_at_the_same_moment_run_each_step_once() {
    let bench = Bench::new();
    let slow = Counted { pause: Duration::from_millis(30), ..bench.op("a") };
    let copy = Counted { content: Some("x".into()), pause: Duration::from_millis(30), ..bench.op("copy") };
    let ops: Vec<(Counted, &[usize])> = vec![(slow, &[]), (copy, &[0]), (bench.op("b"), &[1])];
    std::thread::scope(|scope| {
        let build = || bench.solve(&ops).unwrap();
        let (first, second) = (scope.spawn(build), scope.spawn(build));
        assert_eq!(first.join().unwrap(), second.join().unwrap());
    });
    assert_eq!([bench.runs("a"), bench.runs("copy"), bench.runs("b")], [1, 1, 1]);
}

#[test]
fn a_failure_stops_the_rest_and_is_not_remembered() {
    let bench = Bench::new();
    let wrong = Counted { fails: true, ..bench.op("wrong") };
    let slow = Counted { pause: Duration::from_secs(600), ..bench.op("slow") };
    let ops: &[(Counted, &[usize])] = &[(wrong, &[]), (slow, &[]), (bench.op("never"), &[0])];
    let stopped = bench.solve(ops).unwrap_err();
    assert_eq!((stopped.vertex, stopped.error.message.as_str()), (Some(0), "wrong failed"));
    assert_eq!(bench.runs("never"), 0);
    bench.solve(&[(bench.op("wrong"), &[])]).unwrap();
    assert_eq!(bench.runs("wrong"), 2);
}

impl Bench {
    /// Collects all results but the layers of `kept`.
    fn collect(&self, kept: &Outcome) {
        let lease = self.store.lease();
        let id = self.store.put_blob(b"{}", &lease).unwrap();
        let image = NewImage { id, manifest: None, chain: kept.chain.clone(), size: 0, created: 0 };
        self.store.put_image(&image).unwrap();
        self.store.gc(&Sweep { records: true, ..Sweep::default() }).unwrap();
    }
}

/// `base`, `compiler` and `compile` on it, and `copy`, which stands on `base` and reads what was compiled.
fn compiled(bench: &Bench, copied: &str) -> Vec<(Counted, &'static [usize])> {
    let fresh = |name: &str| Counted { fresh: true, ..bench.op(name) };
    vec![
        (bench.op("base"), &[]),
        (fresh("compiler"), &[0]),
        (fresh("compile"), &[1]),
        (bench.op(copied), &[0, 2]),
        (bench.op("end"), &[3]),
    ]
}

#[test]
fn a_hit_needs_nothing_of_what_was_collected_below_it() {
    let bench = Bench::new();
    let first = bench.solve(&compiled(&bench, "copy")).unwrap();
    bench.collect(&first[4]);
    let found = bench.solver(&compiled(&bench, "copy"), false).cached().unwrap();
    let is_there = |known: &Option<Known>| known.as_ref().map(|known| known.is_there);
    let expected = [true, false, false, true, true].map(Some);
    assert_eq!(found.iter().map(is_there).collect::<Vec<_>>(), expected);
    assert_eq!(bench.solve(&compiled(&bench, "copy")).unwrap(), first);
    assert_eq!(bench.runs("compile"), 1);
}

#[test]
fn what_was_collected_runs_again_when_a_step_above_it_does() {
    let bench = Bench::new();
    let first = bench.solve(&compiled(&bench, "copy")).unwrap();
    bench.collect(&first[3]);
    // The end alone: it stands on what is there.
    bench.solve(&compiled(&bench, "copy")).unwrap();
    assert_eq!([bench.runs("compiler"), bench.runs("compile"), bench.runs("end")], [1, 1, 2]);
    let second = bench.solve(&compiled(&bench, "other copy")).unwrap();
    let runs = ["base", "compiler", "compile", "copy", "other copy", "end"].map(|name| bench.runs(name));
    assert_eq!(runs, [1, 2, 2, 1, 1, 3]);
    assert_eq!(second[0], first[0]);
    assert_ne!(second[2].id, first[2].id);
}

#[test]
fn a_result_that_goes_while_a_build_begins_is_made_again() {
    let bench = Bench::new();
    let first = bench.solve(&compiled(&bench, "copy")).unwrap();
    let solver = bench.solver(&compiled(&bench, "other copy"), false);
    let mut found = solver.cached().unwrap();
    bench.collect(&first[0]);
    solver.secure(&mut found).unwrap();
    runtime().block_on(Arc::new(solver).run(found)).unwrap();
    let runs = ["base", "compiler", "compile", "other copy"].map(|name| bench.runs(name));
    assert_eq!(runs, [1, 2, 2, 1]);
}

#[test]
fn an_order_to_stop_ends_the_build_and_is_no_failure() {
    let bench = Bench::new();
    let slow = Counted { pause: Duration::from_secs(600), ..bench.op("slow") };
    let solver = bench.solver(&[(slow, &[]), (bench.op("above"), &[0])], false);
    let found = solver.cached().unwrap();
    let stop = solver.stop.clone();
    let runs = Arc::clone(&bench.runs);
    std::thread::spawn(move || {
        while runs.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        stop.give();
    });
    let stopped = runtime().block_on(Arc::new(solver).run(found)).unwrap_err();
    assert_eq!((stopped.vertex, stopped.error.kind), (None, FailureKind::Cancelled));
    assert_eq!([bench.runs("slow"), bench.runs("above")], [1, 0]);
}

#[test]
fn independent_vertices_run_at_the_same_time() {
    let bench = Bench::new();
    let barrier = Arc::new(tokio::sync::Barrier::new(3));
    let meet = |name: &str| Meeting { inner: bench.op(name), barrier: Arc::clone(&barrier) };
    let nodes = ["a", "b", "c"]
        .map(|name| Node {
            op: Arc::new(meet(name)),
            inputs: Vec::new(),
            step: None,
            label: Label::default(),
            anew: false,
        })
        .into_iter()
        .collect();
    let solver = bench.solver_of(nodes, false);
    let found = solver.cached().unwrap();
    // Each waits for the others: one after another would never end.
    runtime().block_on(Arc::new(solver).run(found)).unwrap();
}

/// An op that ends only when all its fellows have started.
struct Meeting {
    inner: Counted,
    barrier: Arc<tokio::sync::Barrier>,
}

impl Op for Meeting {
    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        self.inner.cheap_key(inputs)
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a Context) -> OpFuture<'a> {
        Box::pin(async move {
            self.barrier.wait().await;
            self.inner.execute(inputs, context).await
        })
    }
}
