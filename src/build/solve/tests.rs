//! The scheduler with ops that only count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_cache::key::KeyBuilder;
use kiln_cache::{Digest, Label, Snapshot, Store};

use super::{Context, Executed, Key, Node, Op, OpError, OpFuture, Outcome, Solver, Stopped};
use crate::api::{Events, Failure, FailureKind};

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

    fn content_key(&self, inputs: &[Outcome], _store: &Store) -> Result<Option<Key>, OpError> {
        if self.content.is_some() {
            *self.runs.lock().unwrap().entry(format!("{} read", self.name)).or_default() += 1;
        }
        Ok(self.content.as_ref().map(|_| Key { digest: self.full(inputs), parts: Vec::new() }))
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a Context) -> OpFuture<'a> {
        Box::pin(async move {
            let count = {
                let mut runs = self.runs.lock().unwrap();
                let count = runs.entry(self.name.clone()).or_default();
                *count += 1;
                *count
            };
            tokio::time::sleep(self.pause).await;
            if self.fails {
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
            Ok(Executed { outcome, key: Key { digest, parts: Vec::new() } })
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
        });
        Solver::new(nodes.collect(), self.store.clone(), self.store.lease(), Events::none(), no_cache)
    }

    fn solve(&self, ops: &[(Counted, &[usize])]) -> Result<Vec<Outcome>, Stopped> {
        self.solve_with(ops, false)
    }

    fn solve_with(&self, ops: &[(Counted, &[usize])], no_cache: bool) -> Result<Vec<Outcome>, Stopped> {
        let solver = self.solver(ops, no_cache);
        let found = solver.cached()?;
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
        bench.solve(&[(Counted { content, from, ..bench.op("copy") }, &[])]).unwrap()
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
    assert_eq!((stopped.vertex, stopped.error.message.as_str()), (0, "wrong failed"));
    assert_eq!(bench.runs("never"), 0);
    bench.solve(&[(bench.op("wrong"), &[])]).unwrap();
    assert_eq!(bench.runs("wrong"), 2);
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
        })
        .into_iter()
        .collect();
    let solver = Solver::new(nodes, bench.store.clone(), bench.store.lease(), Events::none(), false);
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
