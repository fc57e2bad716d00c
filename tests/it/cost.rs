//! What a no-op build costs, counted: system calls and instructions, which no other load on the machine changes.
//!
//! `make cost` runs these with a release build, which `$KILN_RELEASE` names. When a change is meant to cost more, or
//! makes it cheaper, the numbers here and in the README change with it.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::binary::{Kiln, Ran, run};
use crate::support::needs_root;

/// System calls of a no-op build of [`DOCKERFILE`].
const SYSTEM_CALLS: u64 = 230;

/// How far the count may be off: a machine's own files are read in one piece more or less.
const SYSTEM_CALLS_MARGIN: u64 = 16;

/// Instructions of the same build, as callgrind of valgrind 3.19 counts them.
const INSTRUCTIONS: u64 = 3_400_000;

/// Percent by which they may grow before somebody has to look at it.
const INSTRUCTIONS_MARGIN: u64 = 20;

/// Twelve steps. Nothing is deeper than one folder: valgrind 3.19 doesn't know openat2.
const DOCKERFILE: &str = "FROM busybox\nENV A=1 B=2\nWORKDIR /app\nRUN echo one > one\nCOPY f0 f1 ./\nRUN cat f0 f1 > both\n\
    COPY src src\nRUN ls src | wc -l > count\nENV C=3\nRUN echo $A$B$C > env\nLABEL a=b\nCMD [\"cat\", \"env\"]\n";

/// A store in which [`DOCKERFILE`] was built.
struct Built {
    kiln: Kiln,
    context: PathBuf,
    binary: PathBuf,
}

impl Built {
    fn new() -> Self {
        let binary = PathBuf::from(env::var_os("KILN_RELEASE").expect("`make cost` sets KILN_RELEASE"));
        let kiln = Kiln::busybox();
        let mut files = vec![("Dockerfile".to_owned(), DOCKERFILE.to_owned())];
        files.extend(["f0", "f1"].map(|name| (name.to_owned(), format!("{name}\n"))));
        files
            .extend((0..20).map(|number| (format!("src/f{number}"), format!("file {number}\n").repeat(100))));
        let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
        let context = kiln.context(&files);
        let built = Self { kiln, context, binary };
        // The second one still learns of files that were too young to trust.
        for _ in 0..2 {
            built.under(&[]).ok();
            built.kiln.settle();
        }
        built
    }

    /// Builds once more, the whole as arguments of the program `tool`.
    fn under(&self, tool: &[&str]) -> Ran {
        let build = ["build", "-q", "--network", "none", "-t", "twelve"];
        let mut command = match tool {
            [] => Command::new(&self.binary),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
        };
        command.env_clear().env("PATH", "/usr/bin:/bin").env("KILN_ROOT", self.kiln.root());
        run(command.args(build).arg(&self.context))
    }
}

#[test]
#[ignore = "wants a release build: `make cost`"]
fn a_no_op_build_makes_a_counted_number_of_system_calls() {
    if !needs_root("a_no_op_build_makes_a_counted_number_of_system_calls") {
        return;
    }
    let built = Built::new();
    let log = built.kiln.scratch().join("strace");
    built.under(&["strace", "-f", "-o", log.to_str().unwrap()]).ok();
    let log = fs::read_to_string(log).unwrap();
    let calls = log.lines().filter(|line| line.contains('(') && !line.contains(" resumed>")).count() as u64;
    println!("{calls} system calls");
    assert!(
        calls.abs_diff(SYSTEM_CALLS) <= SYSTEM_CALLS_MARGIN,
        "{calls} system calls, not {SYSTEM_CALLS}:\n{log}"
    );
}

#[test]
#[ignore = "wants a release build: `make cost`"]
fn a_no_op_build_executes_hardly_more_instructions_than_it_did() {
    if !needs_root("a_no_op_build_executes_hardly_more_instructions_than_it_did") {
        return;
    }
    let built = Built::new();
    let profile = format!("--callgrind-out-file={}", built.kiln.scratch().join("callgrind").display());
    let ran = built.under(&["valgrind", "--tool=callgrind", &profile]).ok();
    let said = ran.error.lines().find_map(|line| line.split_once("Collected : "));
    let instructions: u64 = said.expect("callgrind says it").1.trim().parse().unwrap();
    println!("{instructions} instructions");
    let most = INSTRUCTIONS + INSTRUCTIONS / 100 * INSTRUCTIONS_MARGIN;
    assert!(
        instructions <= most,
        "{instructions} instructions, and {INSTRUCTIONS} + {INSTRUCTIONS_MARGIN} % are allowed: \
         look for the cause with `callgrind_annotate`, then write down what it is now"
    );
}
