//! What users see of mistakes that lowering finds: `testdata/messages/<case>/Dockerfile` against its
//! `expected.txt`, and a proof that no text was forgotten.
//!
//! A case may have a file `parameters`, one `key value` a line: `target NAME`, `build-arg K=V`,
//! `context NAME=DIR`, `network host`, `hidden PATH` (by the ignore file), `secret ID`, `ssh ID`, `no-cache-filter STAGE`, and `onbuild TRIGGER` and `architecture NAME`, which every base image then has.
//!
//! `KILN_UPDATE_SNAPSHOTS=1 cargo test -p kiln --lib messages` writes the expectations anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_cache::Digest;
use kiln_grammar::Source;
use kiln_grammar::diagnostic::Diagnostic;

use super::super::{unasked, unknown_stages};
use super::{Base, Bases, Hidden, Lowered, Parameters, lower};
use crate::api::{NamedContext, NamedSource, NetworkMode};
use crate::oci::ImageConfig;

#[path = "../../../../grammar/tests/support/literals.rs"]
mod literals;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/messages")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
}

/// What the build of a case has on its command line and in its bases.
fn parameters(case: &Path) -> (Parameters, ImageConfig) {
    let mut parameters = super::parameters();
    let mut base = ImageConfig::default();
    let text = fs::read_to_string(case.join("parameters")).unwrap_or_default();
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "target" => parameters.target = Some(value.to_owned()),
            "build-arg" => {
                let (name, value) = value.split_once('=').unwrap();
                parameters.build_args.push((name.to_owned(), value.to_owned()));
            }
            "context" => {
                let (name, folder) = value.split_once('=').unwrap();
                let source = NamedSource::Directory(folder.into());
                parameters.contexts.push(NamedContext { name: name.to_owned(), source });
            }
            "network" if value == "host" => parameters.network = NetworkMode::Host,
            "onbuild" => base.config.on_build.push(value.to_owned()),
            "hidden" => {
                let hidden = value.to_owned();
                parameters.hidden = Hidden::new(move |path| path == hidden);
            }
            // They are not lowering's: `lent` reads them.
            "secret" | "ssh" | "no-cache-filter" => {}
            "architecture" => {
                (base.os, base.architecture) = ("linux".to_owned(), value.to_owned());
            }
            _ => panic!("{}: what is `{line}`?", case.display()),
        }
    }
    (parameters, base)
}

/// The values of a key of a case.
fn lent(case: &Path, key: &str) -> Vec<String> {
    let text = fs::read_to_string(case.join("parameters")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    lines.map(str::to_owned).collect()
}

/// What the case lends the build although no step asks for it.
fn unasked_of(case: &Path, text: &[u8]) -> Vec<Diagnostic> {
    let Ok(tree) = kiln_grammar::parse("Dockerfile", text) else { return Vec::new() };
    let (secrets, agents) = (lent(case, "secret"), lent(case, "ssh"));
    let words = |all| Vec::from_iter(<[String]>::iter(all).map(String::as_str));
    let mut found = unasked(&tree, &words(&secrets), &words(&agents));
    found.extend(unknown_stages(&tree, &lent(case, "no-cache-filter")));
    found
}

/// All mistakes of the text, warnings too, in the order in which they were found.
fn mistakes(text: &[u8], parameters: &Parameters, base: &ImageConfig) -> Vec<Diagnostic> {
    let tree = match kiln_grammar::parse("Dockerfile", text) {
        Ok(tree) => tree,
        Err(found) => return found,
    };
    let mut bases = Bases::new();
    loop {
        match lower(&tree, &bases, parameters) {
            Ok(Lowered::Ready(graph)) => return graph.warnings,
            Err(found) => return found,
            Ok(Lowered::Missing(wanted)) => bases.extend(wanted.into_iter().map(|wanted| {
                let image = Digest::of(wanted.request.reference.to_string());
                (wanted.request, Base { image, config: base.clone() })
            })),
        }
    }
}

fn snapshot(case: &Path) -> String {
    let text = fs::read(case.join("Dockerfile")).unwrap();
    let (parameters, base) = parameters(case);
    let lossy = String::from_utf8_lossy(&text);
    let source = Source { name: "Dockerfile", text: &lossy };
    let mut out = String::new();
    for found in mistakes(&text, &parameters, &base).into_iter().chain(unasked_of(case, &text)) {
        let _ = writeln!(out, "[{}] {}", found.code, found.render(&source));
    }
    out
}

#[test]
fn mistakes_are_told_as_recorded() {
    #[expect(clippy::disallowed_methods, reason = "a switch of the test itself")]
    let update = std::env::var_os("KILN_UPDATE_SNAPSHOTS").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let (file, actual) = (case.join("expected.txt"), snapshot(&case));
        assert!(!actual.is_empty(), "{} has no mistake", case.display());
        if update {
            fs::write(&file, &actual).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != actual {
            wrong.push(format!("--- {}\n{actual}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Mistakes that the grammar finds before lowering could.
const FOUND_EARLIER: [&str; 2] = ["exec-heredoc", "the exec form of RUN cannot be used with a heredoc"];

/// Texts of lowering that are no messages: what the progress and `kiln history` show.
fn is_shown_elsewhere(literal: &literals::Literal) -> bool {
    let file = literal.place.split(':').next().unwrap_or_default();
    let made = ["note(", "let text = format!(", "let name = format!("];
    matches!(file, "history.rs" | "name.rs") || made.iter().any(|call| literal.before.contains(call))
}

/// A new message goes into a case of `testdata/messages`, with the mistake that brings it about.
#[test]
fn every_message_has_a_case() {
    let seen: String =
        cases().iter().map(|case| fs::read_to_string(case.join("expected.txt")).unwrap()).collect();
    let mut unseen = Vec::new();
    for literal in literals::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/build/graph")) {
        let missing = match literal.is_code() {
            true => !seen.contains(&format!("[{}] ", literal.text)),
            false => {
                literal.is_sentence()
                    && !is_shown_elsewhere(&literal)
                    && !seen.contains(&literal.longest_part())
            }
        };
        if missing && !FOUND_EARLIER.contains(&literal.text.as_str()) {
            unseen.push(format!("{}: {:?}", literal.place, literal.text));
        }
    }
    assert!(unseen.is_empty(), "no case of testdata/messages shows these, add one:\n{}", unseen.join("\n"));
}
