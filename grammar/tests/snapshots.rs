//! Every `testdata/dockerfiles/<case>/Dockerfile` against its `expected.txt`: the tree with the place
//! of each word, and the diagnostics as users see them. In place of the Dockerfile a case may have
//! `Trigger`, an ONBUILD trigger, or `generate`, whose lines `COUNT TEXT` say what to repeat (`\\n` in
//! TEXT ends a line): files too large to keep.
//!
//! `KILN_UPDATE_SNAPSHOTS=1 cargo test -p kiln-grammar --test snapshots` writes the expectations anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_grammar::ast::{
    CommandLine, CopyFlags, CopySource, Declaration, Healthcheck, Heredoc, Kind, Pair, Word,
};
use kiln_grammar::{Diagnostic, Dockerfile, Instruction, Source, Span, parse, parse_trigger};

#[path = "support/literals.rs"]
mod literals;

/// What no text brings about: only a mistake in `dockerfile.pest` or in the formatter could.
const GUARDS: [&str; 5] = [
    "not-formatted",
    "this file can't be formatted without changing what it means",
    "this is not how {} is written",
    "syntax",
    "a mount without `target=` goes to the WORKDIR, which is `/` here: add `target=<path>`",
];

/// A new message goes into a case of `testdata/dockerfiles`, with the mistake that brings it about.
#[test]
fn every_message_has_a_case() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata"));
    // Those of expansion are seen when a file is lowered.
    let cases = ["dockerfiles", "messages"].map(|kind| fs::read_dir(root.join(kind)).expect("is there"));
    let cases = cases.into_iter().flatten().map(|entry| entry.expect("readable").path());
    let expected = cases.map(|case| fs::read_to_string(case.join("expected.txt")));
    let seen: String = expected.map(Result::unwrap_or_default).collect();
    let mut unseen = Vec::new();
    for literal in literals::all(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let missing = match literal.is_code() {
            true => !seen.contains(&format!("[{}] ", literal.text)),
            false => literal.is_sentence() && !seen.contains(&literal.longest_part()),
        };
        // The table of rules describes them for lists of rules, not for a mistake.
        let missing = missing && !literal.place.starts_with("lint/rules.rs");
        if missing && !GUARDS.contains(&literal.text.as_str()) {
            unseen.push(format!("{}: {:?}", literal.place, literal.text));
        }
    }
    assert!(
        unseen.is_empty(),
        "no case of testdata/dockerfiles shows these, add one:\n{}",
        unseen.join("\n")
    );
}

#[test]
fn dockerfiles_give_the_expected_trees_and_diagnostics() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/dockerfiles"));
    let mut cases: Vec<PathBuf> =
        fs::read_dir(root).expect("testdata is there").map(|entry| entry.expect("readable").path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    #[expect(clippy::disallowed_methods, reason = "a switch of the test itself")]
    let update = std::env::var_os("KILN_UPDATE_SNAPSHOTS").is_some();
    let mut wrong = Vec::new();
    for case in cases {
        let actual = match fs::read_to_string(case.join("Trigger")) {
            Ok(trigger) => trigger_snapshot(trigger.trim_end_matches('\n')),
            Err(_) => snapshot(&dockerfile(&case)),
        };
        let file = case.join("expected.txt");
        if !file.exists() && case.join("image.json").exists() {
            // A whole build is recorded instead: tests/it/peer.
            continue;
        }
        if update {
            fs::write(&file, &actual).expect("written");
        } else if fs::read_to_string(&file).unwrap_or_default() != actual {
            wrong.push(format!("--- {}\n{actual}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn dockerfile(case: &Path) -> Vec<u8> {
    let Ok(recipe) = fs::read_to_string(case.join("generate")) else {
        return fs::read(case.join("Dockerfile")).expect("a Dockerfile");
    };
    let parts = recipe.lines().map(|line| {
        let (count, text) = line.split_once(' ').expect("COUNT TEXT");
        text.replace("\\n", "\n").repeat(count.parse().expect("a number"))
    });
    parts.collect::<String>().into_bytes()
}

fn trigger_snapshot(text: &str) -> String {
    let mut dump = Dump { source: Source { name: "trigger", text }, out: String::new() };
    match parse_trigger(text, '\\') {
        Ok(trigger) => dump.out = dump.instruction(&trigger) + "\n",
        Err(found) => dump.diagnostics(&found),
    }
    dump.out
}

fn snapshot(text: &[u8]) -> String {
    let lossy = String::from_utf8_lossy(text);
    let source = Source { name: "Dockerfile", text: &lossy };
    let mut dump = Dump { source, out: String::new() };
    match parse("Dockerfile", text) {
        Ok(file) => dump.file(&file),
        Err(found) => dump.diagnostics(&found),
    }
    dump.out
}

struct Dump<'a> {
    source: Source<'a>,
    out: String,
}

impl Dump<'_> {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }

    fn diagnostics(&mut self, found: &[Diagnostic]) {
        for diagnostic in found {
            let shown = diagnostic.render(&self.source);
            self.line(&format!("[{}] {shown}", diagnostic.code));
        }
    }

    fn file(&mut self, file: &Dockerfile) {
        if let Some(syntax) = &file.directives.syntax {
            self.line(&format!("syntax {}", self.word(syntax)));
        }
        if let Some(check) = &file.directives.check {
            self.line(&format!("check {}", self.word(check)));
        }
        if file.directives.escape != '\\' {
            self.line(&format!("escape {}", file.directives.escape));
        }
        for declaration in &file.globals {
            self.line(&format!("ARG {}", self.declaration(declaration)));
        }
        for stage in &file.stages {
            let mut line = format!("{} FROM {}", self.range(stage.span), self.word(&stage.base));
            if let Some(platform) = &stage.platform {
                let _ = write!(line, " platform {}", self.word(platform));
            }
            if let Some(name) = &stage.name {
                let _ = write!(line, " AS {}", self.word(name));
            }
            self.line(&line);
            for instruction in &stage.instructions {
                let text = self.instruction(instruction);
                self.line(&format!("  {} {text}", self.range(instruction.span)));
            }
        }
        self.diagnostics(&file.warnings);
    }

    fn range(&self, span: Span) -> String {
        let (start, end) = (self.source.line_column(span.start), self.source.line_column(span.end));
        format!("{}:{}-{}:{}", start.0, start.1, end.0, end.1)
    }

    fn word(&self, word: &Word) -> String {
        let (line, column) = self.source.line_column(word.span.start);
        format!("{:?}@{line}:{column}", word.text)
    }

    fn words(&self, words: &[Word]) -> String {
        words.iter().map(|word| self.word(word)).collect::<Vec<_>>().join(" ")
    }

    fn declaration(&self, declaration: &Declaration) -> String {
        match &declaration.default {
            Some(default) => format!("{} = {}", self.word(&declaration.name), self.word(default)),
            None => self.word(&declaration.name),
        }
    }

    fn pairs(&self, pairs: &[Pair]) -> String {
        let shown = pairs.iter().map(|pair| {
            let mark = if pair.legacy { "legacy " } else { "" };
            format!("{mark}{} = {}", self.word(&pair.key), self.word(&pair.value))
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    fn heredoc(&self, heredoc: &Heredoc) -> String {
        let fd = heredoc.fd.map(|fd| format!(" fd {fd}")).unwrap_or_default();
        let expand = if heredoc.expand { "" } else { " literal" };
        format!("{} {:?}{fd}{expand} {:?}", heredoc.token, heredoc.name, heredoc.body)
    }

    fn instruction(&self, instruction: &Instruction) -> String {
        match &instruction.kind {
            Kind::Run(run) => {
                let mut out = format!("RUN {}", command(&run.command));
                for (name, words) in [("mount", &run.mounts), ("device", &run.devices)] {
                    words.iter().for_each(|word| self.flag(&mut out, name, Some(word)));
                }
                self.flag(&mut out, "network", run.network.as_ref());
                self.flag(&mut out, "security", run.security.as_ref());
                for heredoc in &run.heredocs {
                    let _ = write!(out, "\n      {}", self.heredoc(heredoc));
                }
                out
            }
            Kind::Copy(copy) => {
                let mut out = format!("COPY {}", self.paths(&copy.sources, &copy.destination));
                self.flag(&mut out, "from", copy.from.as_ref());
                out.push_str(if copy.parents { " parents" } else { "" });
                out + &self.copy_flags(&copy.flags)
            }
            Kind::Add(add) => {
                let mut out = format!("ADD {}", self.paths(&add.sources, &add.destination));
                self.flag(&mut out, "checksum", add.checksum.as_ref());
                out.push_str(if add.keep_git_dir { " keep-git-dir" } else { "" });
                let _ = write!(out, "{}", add.unpack.map(|on| format!(" unpack={on}")).unwrap_or_default());
                out + &self.copy_flags(&add.flags)
            }
            Kind::Cmd(line) => format!("CMD {}", command(line)),
            Kind::Entrypoint(line) => format!("ENTRYPOINT {}", command(line)),
            Kind::Env(pairs) => format!("ENV {}", self.pairs(pairs)),
            Kind::Label(pairs) => format!("LABEL {}", self.pairs(pairs)),
            Kind::Arg(names) => {
                format!(
                    "ARG {}",
                    names.iter().map(|name| self.declaration(name)).collect::<Vec<_>>().join(", ")
                )
            }
            Kind::Expose(words) => format!("EXPOSE {}", self.words(words)),
            Kind::Volume(words) => format!("VOLUME {}", self.words(words)),
            Kind::Workdir(word) => format!("WORKDIR {}", self.word(word)),
            Kind::User(word) => format!("USER {}", self.word(word)),
            Kind::Maintainer(word) => format!("MAINTAINER {}", self.word(word)),
            Kind::Stopsignal(word) => format!("STOPSIGNAL {}", self.word(word)),
            Kind::Shell(words) => format!("SHELL {words:?}"),
            Kind::Onbuild(onbuild) => {
                let trigger = onbuild.trigger.as_ref();
                format!(
                    "ONBUILD {:?} {}",
                    onbuild.text,
                    trigger.map(|trigger| self.instruction(trigger)).unwrap_or_default()
                )
            }
            Kind::Healthcheck(check) => healthcheck(check),
        }
    }

    fn flag(&self, out: &mut String, name: &str, word: Option<&Word>) {
        if let Some(word) = word {
            let _ = write!(out, " {name} {}", self.word(word));
        }
    }

    fn copy_flags(&self, flags: &CopyFlags) -> String {
        let mut out = String::new();
        self.flag(&mut out, "chown", flags.chown.as_ref());
        self.flag(&mut out, "chmod", flags.chmod.as_ref());
        out.push_str(if flags.link { " link" } else { "" });
        flags.excludes.iter().for_each(|word| self.flag(&mut out, "exclude", Some(word)));
        out
    }

    fn paths(&self, sources: &[CopySource], destination: &Word) -> String {
        let mut out = String::new();
        for source in sources {
            let _ = match source {
                CopySource::Path(word) => write!(out, "{} ", self.word(word)),
                CopySource::Heredoc(heredoc) => write!(out, "({}) ", self.heredoc(heredoc)),
            };
        }
        out + "-> " + &self.word(destination)
    }
}

fn command(line: &CommandLine) -> String {
    match line {
        CommandLine::Shell(text) => format!("shell {text:?}"),
        CommandLine::Exec(words) => format!("exec {words:?}"),
    }
}

fn healthcheck(check: &Healthcheck) -> String {
    match check {
        Healthcheck::None => "HEALTHCHECK NONE".to_owned(),
        Healthcheck::Command { command: line, interval, timeout, start_period, start_interval, retries } => {
            format!(
                "HEALTHCHECK {} interval {interval} timeout {timeout} start-period {start_period} \
             start-interval {start_interval} retries {retries}",
                command(line)
            )
        }
    }
}
