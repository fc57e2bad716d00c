//! Fifty builds at once from eight processes over one store, beside prunes, removals and `kill -9`: every image is
//! right, and in the end nothing is damaged and nothing is left.
//!
//! `KILN_STRESS_SECONDS` says how long (20 by default, `make stress` takes 300), `KILN` names another program to
//! try, `KILN_STRESS_SEED` repeats the same choices (though not the same interleaving).

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::binary::{Kiln, Ran, busybox_tar, finish, names, run, start};
use crate::support::needs_root;

const PROCESSES: usize = 8;
/// Of the eight processes together.
const BUILDS_AT_ONCE: usize = 50;
/// What a store without anything may take: the database, the reserve, the locks of keys.
const EMPTY_BYTES: u64 = 24 << 20;

/// What a process of the test is told by its environment.
const ROOT: &str = "KILN_STRESS_ROOT";
const NUMBER: &str = "KILN_STRESS_NUMBER";

/// A small generator (xorshift), so that a seed says all.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// One Dockerfile with what has to be in `/all` of its image.
struct Recipe {
    text: String,
    all: String,
    fails: bool,
}

/// Builds of one thread, one after another.
struct Builder {
    root: PathBuf,
    scratch: tempfile::TempDir,
    dice: Dice,
    context: PathBuf,
    name: String,
    done: BTreeMap<&'static str, u64>,
}

impl Builder {
    fn new(root: &Path, name: String, dice: Dice) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let context = scratch.path().join("context");
        fs::create_dir_all(context.join("tree/deep")).unwrap();
        for number in 0..20 {
            fs::write(context.join(format!("tree/deep/{number}")), format!("{number}\n").repeat(500))
                .unwrap();
        }
        fs::write(context.join("data"), "").unwrap();
        Self { root: root.to_owned(), scratch, dice, context, name, done: BTreeMap::new() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let program = std::env::var_os("KILN").unwrap_or_else(|| env!("CARGO_BIN_EXE_kiln").into());
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("KILN_ROOT", &self.root);
        command.env("TMPDIR", self.scratch.path()).stdin(Stdio::null()).args(words);
        command
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn go_on(&mut self) {
        match self.dice.below(100) {
            0..=69 => self.build(),
            70..=79 => self.killed_build(),
            80..=84 => self.remove(),
            85..=89 => self.prune(&["prune", "-f"]),
            90..=91 => self.prune(&["prune", "-f", "-a"]),
            92..=94 => self.prune(&["cache", "prune", "-f"]),
            95 => self.prune(&["builder", "prune", "-f", "-a"]),
            96..=97 => self.check(&["system", "check", "--quick"]),
            _ => self.check(&["system", "check"]),
        }
    }

    /// A new choice of files and steps. Few choices, so that builds meet; some of a kind, so that they don't.
    fn recipe(&mut self) -> Recipe {
        let (argument, data) = (self.dice.below(6), self.dice.below(10));
        fs::write(self.context.join("data"), format!("data {data}\n")).unwrap();
        let sharing = ["shared", "locked", "private"][self.dice.below(3) as usize];
        let (text, all) = match self.dice.below(7) {
            0 => (
                "FROM busybox\nARG N\nCOPY . /context\nRUN cat /context/data /context/tree/deep/7 > /all; echo $N >> /all\n".to_owned(),
                format!("data {data}\n{}{argument}\n", "7\n".repeat(500)),
            ),
            1 => (
                "FROM busybox AS one\nARG N\nCOPY data /\nRUN sleep 0.05; echo one$N | cat - /data > /one\n\
                 FROM busybox AS two\nARG N\nRUN sleep 0.1; echo two$N > /two\n\
                 FROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\nRUN cat /one /two > /all\n"
                    .to_owned(),
                format!("one{argument}\ndata {data}\ntwo{argument}\n"),
            ),
            2 => (
                format!(
                    "FROM busybox\nARG N\nRUN --mount=type=cache,target=/c,sharing={sharing},id=c{argument} \
                     echo $N >> /c/log; tail -n 1 /c/log > /all || cat /c/log | head -n 1 > /all\n"
                ),
                format!("{argument}\n"),
            ),
            3 => {
                let steps: String = (0..10).map(|step| format!("RUN echo $N-{step} >> /all\n")).collect();
                let all: String = (0..10).map(|step| format!("{argument}-{step}\n")).collect();
                (format!("FROM busybox\nARG N\n{steps}"), all)
            }
            4 => (
                "FROM busybox\nARG N\nCOPY --link data /linked/data\nWORKDIR /w/x\nADD tree tree\nCOPY data .\n\
                 RUN mv data moved && rm tree/deep/3 && cat moved /linked/data tree/deep/4 > /all && ls tree/deep | wc -l >> /all\n"
                    .to_owned(),
                format!("data {data}\ndata {data}\n{}19\n", "4\n".repeat(500)),
            ),
            5 => {
                let copies: String = (0..36).map(|step| format!("COPY data /data{step}\n")).collect();
                let text = format!("FROM busybox\nARG N\n{copies}RUN cat /data0 /data35 > /all; echo $N >> /all\n");
                (text, format!("data {data}\ndata {data}\n{argument}\n"))
            }
            _ => (
                "FROM busybox AS good\nARG N\nRUN echo $N > /good\nFROM busybox\nCOPY data /\nCOPY --from=good /good /\n\
                 RUN sleep 0.02; false\n"
                    .to_owned(),
                String::new(),
            ),
        };
        fs::write(self.context.join("Dockerfile"), &text).unwrap();
        let fails = all.is_empty();
        Recipe { text: format!("N={argument} data={data}\n{text}"), all, fails }
    }

    fn words(&mut self, recipe: &Recipe, tag: &str) -> Vec<String> {
        let argument = recipe.text.split(' ').next().unwrap();
        let mut words: Vec<String> =
            ["build", "--progress", "plain", "--network", "none", "--build-arg", argument, "-t", tag]
                .map(str::to_owned)
                .into();
        if self.dice.below(20) == 0 {
            words.push("--no-cache".to_owned());
        }
        if self.dice.below(10) == 0 {
            words.push("--reproducible".to_owned());
        }
        words
    }

    fn tag(&mut self) -> String {
        format!("stress/{}:{}", self.name, self.dice.below(4))
    }

    /// Builds and looks into the image: as a tar of the same build, or by running it.
    fn build(&mut self) {
        let (recipe, tag) = (self.recipe(), self.tag());
        let mut words = self.words(&recipe, &tag);
        let tar = self.scratch.path().join("tar");
        let by_tar = self.dice.below(3) > 0;
        if by_tar {
            words.extend(["-o".to_owned(), format!("type=tar,dest={}", tar.display())]);
        }
        words.push(self.context.to_str().unwrap().to_owned());
        let ran = self.run(&words);
        if recipe.fails {
            assert!(ran.code == 1 && ran.error.contains("exit code: 1"), "{}\n{ran}", recipe.text);
            return self.count("failing builds");
        }
        assert_eq!(ran.code, 0, "{}\n{ran}", recipe.text);
        if by_tar {
            assert_eq!(all_of_tar(&tar), recipe.all, "{}\n{ran}", recipe.text);
            return self.count("builds");
        }
        let ran = self.run(&["run", "--rm", "--pull", "never", "--network", "none", &tag, "cat", "/all"]);
        // A prune or a removal may have come between: of the image, or of the container before it was started.
        let gone = ["no such image", "No such image", "are gone from the store", "/containers/"];
        if ran.code == 125 && gone.iter().any(|words| ran.error.contains(words)) {
            return self.count("builds whose image was removed at once");
        }
        assert_eq!((ran.code, &ran.out), (0, &recipe.all), "{}\n{ran}", recipe.text);
        self.count("builds");
    }

    fn killed_build(&mut self) {
        let (recipe, tag) = (self.recipe(), self.tag());
        let mut words = self.words(&recipe, &tag);
        words.push(self.context.to_str().unwrap().to_owned());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = start(self.command(&words).process_group(0));
        std::thread::sleep(Duration::from_millis(self.dice.below(1500)));
        if self.dice.below(2) == 0 {
            // What has ended needs no kill.
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        } else {
            child.kill().unwrap();
        }
        finish(child);
        self.count("killed builds");
    }

    fn remove(&mut self) {
        let tag = self.tag();
        let ran = self.run(&["rmi", "-f", &tag]);
        assert_eq!(ran.code, 0, "{ran}");
        self.count("removals");
    }

    fn prune(&mut self, words: &[&str]) {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{words:?} {ran}");
        self.count("prunes");
    }

    /// Nothing may look damaged, whatever is born and dies meanwhile.
    fn check(&mut self, words: &[&str]) {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{ran}");
        self.count("checks");
    }

    fn run<T: AsRef<str>>(&self, words: &[T]) -> Ran {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        run(&mut self.command(&words))
    }
}

/// The file `all` of a tar.
fn all_of_tar(path: &Path) -> String {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let mut found = entries.filter(|entry| entry.path().unwrap() == Path::new("all"));
    let mut text = String::new();
    found.next().expect("`/all` is in the image").read_to_string(&mut text).unwrap();
    text
}

/// One of the eight.
#[test]
#[ignore = "a process of `fifty_builds_at_once_from_eight_processes`"]
fn worker() {
    let (Some(root), Some(number)) = (std::env::var_os(ROOT), std::env::var(NUMBER).ok()) else { return };
    let number: usize = number.parse().unwrap();
    let (root, end) = (PathBuf::from(root), Instant::now() + Duration::from_secs(seconds()));
    let threads = BUILDS_AT_ONCE / PROCESSES + usize::from(number < BUILDS_AT_ONCE % PROCESSES);
    let work = |thread: usize| {
        let seed = seed().wrapping_add((number * 100 + thread) as u64);
        let mut builder = Builder::new(&root, format!("w{number}t{thread}"), Dice::new(seed));
        while Instant::now() < end {
            builder.go_on();
        }
        std::mem::take(&mut builder.done)
    };
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        for counted in running.into_iter().map(|thread| thread.join().unwrap()) {
            for (what, count) in counted {
                *done.entry(what).or_default() += count;
            }
        }
    });
    fs::write(root.join(format!("../done{number}")), serde_json::to_vec(&done).unwrap()).unwrap();
}

fn seconds() -> u64 {
    std::env::var("KILN_STRESS_SECONDS").map_or(20, |text| text.parse().unwrap())
}

fn seed() -> u64 {
    std::env::var("KILN_STRESS_SEED").map_or(1, |text| text.parse().unwrap())
}

/// What the machine has of a store outside of it.
fn on_the_machine(root: &Path) -> Vec<String> {
    let marker = root.to_str().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<String> =
        mounts.lines().filter(|line| line.contains(marker)).map(str::to_owned).collect();
    let links = fs::read_to_string("/proc/net/dev").unwrap();
    let bridge = kiln::network::Networks::new(&root.join("networks")).bridge().to_owned();
    found.extend(links.lines().filter(|line| line.contains(&bridge)).map(str::to_owned));
    found
}

fn bytes_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    entries.filter_map(|entry| Some(entry.metadata().ok()?.blocks() * 512)).sum()
}

#[test]
fn fifty_builds_at_once_from_eight_processes() {
    if !needs_root("fifty_builds_at_once_from_eight_processes") {
        return;
    }
    let outside = Kiln::empty();
    let root = outside.scratch().join("root");
    let kiln = Kiln::at(&root);
    let store = Builder::new(&root, "main".to_owned(), Dice::new(0));
    kiln.run_with(&["import", "-", "busybox:latest"], &busybox_tar()).ok();
    // A prune of all images leaves the base alone: a container that runs stands on it.
    store.run(&["run", "-d", "--name", "keeper", "--network", "none", "busybox", "sleep", "100000"]).ok();
    let begin = Instant::now();
    let start_one = |number: usize| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "stress::worker", "--ignored", "--nocapture"]);
        command.env(ROOT, &root).env(NUMBER, number.to_string());
        start(&mut command)
    };
    let workers: Vec<_> = (0..PROCESSES).map(start_one).collect();
    let ends: Vec<Ran> = workers.into_iter().map(finish).collect();
    let mut done: BTreeMap<String, u64> = BTreeMap::new();
    for (number, end) in ends.into_iter().enumerate() {
        assert_eq!(end.code, 0, "process {number}: {end}");
        let counted = fs::read(root.join(format!("../done{number}"))).unwrap();
        for (what, count) in serde_json::from_slice::<BTreeMap<String, u64>>(&counted).unwrap() {
            *done.entry(what).or_default() += count;
        }
    }
    let took = begin.elapsed();
    store.run(&["rm", "-f", "keeper"]).ok();
    kiln.settle();
    println!("{done:?} in {} s; the store had {} KiB", took.as_secs(), bytes_of(&root) >> 10);
    let check = store.run(&["system", "check"]);
    println!("{}", check.out);
    assert_eq!(check.code, 0, "{check}");
    assert_eq!(on_the_machine(&root), Vec::<String>::new());
    store.run(&["prune", "-f", "-a"]).ok();
    let check = store.run(&["system", "check"]);
    assert!(check.is_clean(), "{check}");
    for folder in ["snapshots", "blobs/sha256", "tmp", "trash", "leases", "cache-mounts"] {
        assert_eq!(names(&root.join(folder)), Vec::<String>::new(), "{folder}");
    }
    let left = bytes_of(&root);
    println!("{} KiB are left of it after a prune", left >> 10);
    assert!(left < EMPTY_BYTES, "{left} bytes are left");
}
