//! Each cause, provoked by two builds one after the other: graphs and notes are real, solver and ops are played.

use kiln_cache::key::KeyBuilder;
use kiln_cache::{Found as Recorded, Label, Record};

use super::*;
use crate::build::graph::{Base, Bases, Lowered, Parameters, Wanted, lower, tests::parameters};
use crate::oci::ImageConfig;

/// What a build is made of.
#[derive(Clone)]
struct Setup {
    /// Names the Dockerfile.
    build: &'static str,
    text: String,
    args: Vec<(String, String)>,
    /// Another one is another image of the same name.
    image: &'static str,
    /// What is in the files of the context.
    files: &'static str,
    /// Of the op RUN.
    version: u32,
    no_cache: bool,
    /// What the store says of all steps.
    absent: Option<Absent>,
    /// The step that fails has this in its name.
    fails: Option<&'static str>,
}

fn setup(text: &str) -> Setup {
    Setup {
        build: "build",
        text: format!("FROM base\n{text}\n"),
        args: Vec::new(),
        image: "1",
        files: "1",
        version: 1,
        no_cache: false,
        absent: None,
        fails: None,
    }
}

/// A store in which builds come one after the other.
struct World {
    store: Store,
    runs: u32,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Store::open(&folder.path().join("store")).unwrap(), runs: 0, _folder: folder }
    }

    /// Builds, and gives what is told of the steps that run.
    fn build(&mut self, setup: &Setup) -> Vec<Vec<MissReason>> {
        let graph = Arc::new(graph(setup));
        let told: Arc<Mutex<Vec<Vec<MissReason>>>> = Arc::default();
        let sink = Arc::clone(&told);
        let events = Events::new(move |event| {
            let Event::Ran { reasons, .. } = event else { panic!("{event:?}") };
            sink.lock().unwrap().push(reasons);
        });
        let plan = Plan {
            graph: Arc::clone(&graph),
            text: setup.text.as_str().into(),
            build: Digest::of(setup.build),
            first: 1,
            no_cache: setup.no_cache,
        };
        let why = Why::new(plan, self.store.clone(), events);
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut failed = None;
        for (number, vertex) in graph.vertices.iter().enumerate() {
            let inputs: Vec<Outcome> = vertex.inputs().map(|input| outcomes[input].clone()).collect();
            match self.vertex(&why, setup, (number, vertex), &inputs) {
                Some(outcome) => outcomes.push(outcome),
                None => {
                    failed = Some(number);
                    break;
                }
            }
        }
        why.keep(failed);
        drop(why);
        Arc::into_inner(told).unwrap().into_inner().unwrap()
    }

    /// What the solver does with a vertex; `None` if it fails.
    fn vertex(
        &mut self,
        why: &Why,
        setup: &Setup,
        (number, vertex): (usize, &Vertex),
        inputs: &[Outcome],
    ) -> Option<Outcome> {
        let key = key(setup, vertex, inputs);
        let outcome = |id| Outcome { id, chain: Vec::new(), created: 0 };
        let key = match key {
            Ok(key) => key,
            Err(id) => {
                why.has(number, None, &outcome(id));
                return Some(outcome(id));
            }
        };
        let mut absent = setup.absent.unwrap_or(Absent::Never);
        match self.store.find_record(&key.digest).unwrap() {
            Some(Recorded::Present(record)) if setup.absent.is_none() && !setup.no_cache => {
                why.has(number, Some(&key.digest), &outcome(record.result));
                return Some(outcome(record.result));
            }
            _ if setup.no_cache => absent = Absent::Refused,
            _ => {}
        }
        why.runs(number, &key, inputs, &absent);
        if setup.fails.is_some_and(|fails| vertex.name.contains(fails)) {
            return None;
        }
        self.runs += 1;
        let is_fixed = matches!(vertex.op, OpSpec::Copy(_) | OpSpec::Mkdir(_));
        let id = if is_fixed { key.digest } else { Digest::of(self.runs.to_le_bytes()) };
        let record = Record { result: id, chain: Vec::new(), created: 0, parts: key.parts.texts() };
        self.store.put_record(&[key.digest], &record, &Label::default()).unwrap();
        why.ran(number, &key, &outcome(id));
        Some(outcome(id))
    }
}

/// A step's key, as its op makes it; the result id of what needs none.
fn key(setup: &Setup, vertex: &Vertex, inputs: &[Outcome]) -> Result<Key, Digest> {
    let rootfs = |key: KeyBuilder| key.field("rootfs", inputs[0].id.to_string());
    let key = match &vertex.op {
        OpSpec::Exec(spec) => {
            let key = rootfs(KeyBuilder::new("exec", setup.version)).list("args", &spec.args);
            let key = key.field("cwd", &spec.cwd).field("user", &spec.user);
            spec.env.iter().fold(key, |key, (name, value)| key.hidden(&format!("env {name}"), value))
        }
        OpSpec::Copy(spec) => rootfs(KeyBuilder::new("copy", 1))
            .field("destination", &spec.destination)
            .optional("chown", spec.chown.as_ref())
            .field("content", setup.files),
        OpSpec::Mkdir(spec) => rootfs(KeyBuilder::new("mkdir", 1)).field("path", &spec.path),
        OpSpec::Source(spec) => return Err(spec.image),
        _ => return Err(Digest::of("nothing")),
    };
    Ok(Key { parts: key.parts(), digest: key.digest() })
}

fn graph(setup: &Setup) -> Graph {
    let tree = kiln_grammar::parse("Dockerfile", setup.text.as_bytes()).unwrap();
    let parameters = Parameters { build_args: setup.args.clone(), ..parameters() };
    let mut bases = Bases::new();
    loop {
        match lower(&tree, &bases, &parameters).unwrap() {
            Lowered::Ready(graph) => return *graph,
            Lowered::Missing(requests) => {
                for Wanted { request, .. } in requests {
                    let image = Digest::of(format!("{}{}", request.reference, setup.image));
                    bases.insert(request, Base { image, config: ImageConfig::default() });
                }
            }
        }
    }
}

/// The causes in the second of two builds.
fn second(one: &Setup, other: &Setup) -> Vec<Vec<MissReason>> {
    let mut world = World::new();
    world.build(one);
    world.build(other)
}

fn names(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

fn earlier(name: &str, ran: bool) -> MissReason {
    MissReason::EarlierStep { name: name.to_owned(), ran }
}

#[test]
fn a_change_of_the_dockerfile_is_told() {
    let instruction = |flags: &str| MissReason::Instruction { flags: names(flags) };
    let setting = |settings: &str| MissReason::Setting { names: names(settings) };
    for (one, other, expected) in [
        ("RUN a", "RUN b", vec![instruction("")]),
        ("RUN a\nRUN c", "RUN b\nRUN c", vec![instruction(""), earlier("[2/3] RUN b", true)]),
        ("RUN a", "COPY a /", vec![instruction("")]),
        ("COPY --chown=1 a /", "COPY --chown=2 a /", vec![instruction("--chown")]),
        ("RUN <<E\na\nE", "RUN <<E\nb\nE", vec![MissReason::Heredoc]),
        ("RUN a", "RUN a\nRUN b", vec![MissReason::NewStep]),
        ("RUN a\nRUN b", "RUN b", vec![MissReason::StepRemoved { name: "[2/3] RUN a".to_owned() }]),
        ("RUN a\nRUN b", "RUN b\nRUN a", vec![MissReason::Order, MissReason::Order]),
        ("USER 1\nRUN a", "USER 2\nRUN a", vec![setting("USER")]),
        ("SHELL [\"x\"]\nRUN a", "SHELL [\"y\"]\nRUN a", vec![setting("SHELL")]),
        ("ENV A=1\nRUN a", "ENV A=2\nRUN a", vec![MissReason::Env { names: names("A") }]),
        ("ENV A=1 B=1\nRUN a", "RUN a", vec![MissReason::Env { names: names("A B") }]),
        ("ARG A=1\nRUN echo $A", "RUN echo $A", vec![MissReason::Arg { names: names("A") }]),
        // A copy whose variable changed, but that comes to the same, is cached.
        (
            "ENV A=a\nCOPY $A /a\nRUN b",
            "ENV A=b\nCOPY $A /a\nRUN b",
            vec![MissReason::Env { names: names("A") }],
        ),
    ] {
        let told = second(&setup(one), &setup(other));
        let expected: Vec<_> = expected.into_iter().map(|reason| vec![reason]).collect();
        assert_eq!(told, expected, "{one:?} and {other:?}");
    }
}

#[test]
fn a_change_outside_of_the_dockerfile_is_told() {
    let text = "ARG A=1\nCOPY x /x$A\nRUN echo $A";
    let one = setup(text);
    let after_copy = |reason| vec![vec![reason], vec![earlier("[2/3] COPY x /x$A", true)]];
    let arg = || MissReason::Arg { names: names("A") };
    let digest = |image: &str| Digest::of(format!("docker.io/library/base:latest{image}")).to_string();
    let base = || MissReason::Base {
        name: "docker.io/library/base:latest".to_owned(),
        was: None,
        from: Some(digest("1")),
        to: digest("2"),
    };
    let files = MissReason::Files { changed: Vec::new(), more: 0 };
    let told = |other: Setup| second(&one, &other);
    assert_eq!(told(Setup { files: "2", ..one.clone() }), after_copy(files));
    let args = vec![("A".to_owned(), "2".to_owned())];
    assert_eq!(told(Setup { args, ..one.clone() }), [vec![arg()], vec![arg()]]);
    assert_eq!(told(Setup { image: "2", ..one.clone() }), [vec![base()], vec![base()]]);
    assert_eq!(told(Setup { version: 2, ..one.clone() }), [vec![MissReason::Upgraded]]);
    assert_eq!(told(one.clone()), Vec::<Vec<MissReason>>::new());
    assert_eq!(World::new().build(&one), [vec![MissReason::NeverBuilt], vec![MissReason::NeverBuilt]]);
}

#[test]
fn what_the_store_and_the_user_say_is_told() {
    let one = setup("RUN a");
    for (absent, no_cache, expected) in [
        (Absent::Collected { at: 7 }, false, MissReason::Collected { at: Some(7) }),
        (Absent::Expired { created: 7 }, false, MissReason::Expired { created: 7 }),
        (Absent::Lost, false, MissReason::Lost),
        (Absent::Refused, false, MissReason::NoCacheFilter),
        (Absent::Refused, true, MissReason::NoCache),
        // Gone, and nobody knows when.
        (Absent::Never, false, MissReason::Collected { at: None }),
    ] {
        let told = second(&one, &Setup { absent: Some(absent), no_cache, ..one.clone() });
        assert_eq!(told, [vec![expected]], "{absent:?}");
    }
}

#[test]
fn a_step_that_failed_says_so_until_it_changes() {
    let mut world = World::new();
    let failing = Setup { fails: Some("RUN b"), ..setup("RUN a\nRUN b\nRUN c") };
    let never = || vec![MissReason::NeverBuilt];
    assert_eq!(world.build(&failing), [never(), never()]);
    assert_eq!(world.build(&failing), [vec![MissReason::FailedLastTime]]);
    let well = Setup { fails: None, ..failing.clone() };
    assert_eq!(world.build(&well), [vec![MissReason::FailedLastTime], never()]);
    let edited = Setup { text: well.text.replace("RUN b", "RUN b2"), fails: Some("b2"), ..well.clone() };
    let instruction = || vec![MissReason::Instruction { flags: Vec::new() }];
    assert_eq!(world.build(&edited), [instruction()]);
    // Compared with the last time that it did well.
    let again = Setup { text: well.text.replace("RUN b", "RUN b3"), ..well };
    assert_eq!(world.build(&again), [instruction(), vec![earlier("[3/4] RUN b3", true)]]);
}

#[test]
fn several_causes_are_told_together_and_the_lowest_step_is_named() {
    let one = setup("ARG A\nARG B\nUSER 1\nRUN echo $A $B\nRUN x\nRUN y");
    let args = vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())];
    let other = Setup { args, text: one.text.replace("USER 1", "USER 2"), ..one.clone() };
    let told = second(&one, &other);
    let setting = MissReason::Setting { names: names("USER") };
    assert_eq!(told[0], [setting, MissReason::Arg { names: names("A B") }]);

    let edited = Setup { text: one.text.replace("echo", "print"), ..one.clone() };
    let name = "[2/4] RUN print $A $B";
    let expected = [vec![earlier(name, true)], vec![earlier(name, true)]];
    assert_eq!(second(&one, &edited)[1..], expected);
}

#[test]
fn a_step_below_that_is_cached_but_another_than_last_time_is_named() {
    let mut world = World::new();
    let one = setup("COPY a /\nRUN x");
    world.build(&one);
    // The other files come from another Dockerfile.
    world.build(&Setup { build: "other", files: "2", ..setup("COPY a /") });
    let told = world.build(&Setup { files: "2", ..one });
    assert_eq!(told, [vec![earlier("[2/3] COPY a /", false)]]);
}
