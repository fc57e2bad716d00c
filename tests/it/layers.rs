//! Who may use whom: the layer table of the architecture, held against the source text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// `(module, what it may use)`, bottom to top. `cache` and `grammar` are the crates.
const LAYERS: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("blocking", &[]),
    // Secrets go from the command line through all below it to the launcher.
    ("redacted", &[]),
    ("oci", &["cache"]),
    ("api", &["redacted", "oci", "cache"]),
    ("registry", &["oci", "cache"]),
    // Connections are set up in one place, which is `registry`.
    ("fetch", &["redacted", "api", "blocking", "registry", "cache"]),
    ("runtime", &["sys", "redacted", "cache"]),
    ("bundle", &["sys", "runtime"]),
    ("cdi", &["api", "runtime"]),
    ("network", &["sys", "api"]),
    ("volume", &["sys", "api"]),
    ("resolver", &["sys", "network"]),
    ("proxy", &["sys"]),
    ("rotated", &[]),
    ("events", &["api", "rotated"]),
    ("image", &["sys", "api", "blocking", "oci", "registry", "cache"]),
    ("build::tree", &["sys", "image", "cache"]),
    ("build::context", &["cache", "build::tree"]),
    ("build::graph", &["grammar", "oci", "api", "cache"]),
    ("build::solve", &["api", "blocking", "build::graph", "cache"]),
    ("build::why", &["api", "build::graph", "build::solve", "cache"]),
    (
        "build::ops",
        &[
            "sys",
            "redacted",
            "blocking",
            "oci",
            "api",
            "cdi",
            "runtime",
            "network",
            "volume",
            "image",
            "fetch",
            // Names that a failing step perhaps meant.
            "grammar",
            "cache",
            "build::tree",
            "build::context",
            "build::graph",
            "build::solve",
        ],
    ),
    (
        "container",
        &[
            "sys", "redacted", "api", "blocking", "oci", "runtime", "network", "volume", "resolver", "proxy",
            "rotated", "events", "image", "cache",
        ],
    ),
    (
        "engine",
        &[
            "sys",
            "redacted",
            "blocking",
            "oci",
            "api",
            "registry",
            "cdi",
            "runtime",
            "network",
            "volume",
            "events",
            "image",
            "fetch",
            "cache",
            "grammar",
            "build::context",
            "build::graph",
            "build::solve",
            "build::why",
            "build::ops",
            "container",
        ],
    ),
    ("cli", &["redacted", "api", "oci", "bundle", "engine", "sys"]),
];

/// `(word, the only places that may have it, why)`.
const OWNED: &[(&str, &[&str], &str)] = &[
    ("unsafe {", &["src/sys/"], "only `sys` has unsafe code"),
    ("unsafe fn", &["src/sys/"], "only `sys` has unsafe code"),
    ("spawn_blocking", &["src/blocking.rs"], "`blocking` is the one door"),
    ("reqwest::", &["src/registry/", "src/fetch/"], "only `registry` and `fetch` speak HTTP"),
    ("rusqlite::", &["cache/src/meta/"], "only `cache::meta` knows SQL"),
    ("hickory_proto::", &["src/resolver/message.rs"], "only the resolver's messages are DNS"),
    ("println!", &["src/cli/"], "only `cli` prints"),
    ("env::var", &["src/cli/"], "only `cli` reads the environment"),
    ("pest::", &["grammar/src/parse", "grammar/src/instruction"], "only the parser knows pest"),
    (
        "process::exit",
        &["src/main.rs", "src/runtime/", "src/bundle/", "src/container/helper.rs"],
        "the door ends the process; a forked child ends itself",
    ),
];

/// A source file: its path from the checkout's root and its text without comments and tests.
struct Source {
    path: String,
    code: String,
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let Some(module) = module_of(&source.path) else { continue };
        let allowed = LAYERS.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            wrong.push(format!("{}: module `{module}` is not in the table", source.path));
            continue;
        };
        for used in uses(&source.code) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: `{module}` may not use `{used}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_has_one_owner_is_named_there_alone() {
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().chain(sources("cache/src")).chain(sources("grammar/src")) {
        for (word, places, why) in OWNED {
            let here = places.iter().any(|place| source.path.starts_with(place));
            if !here && source.code.contains(word) {
                wrong.push(format!("{}: has `{word}`: {why}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_open_with_their_purpose() {
    let mut wrong = Vec::new();
    for folder in ["src", "cache/src", "grammar/src", "tests/it"] {
        for path in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().count();
            if lines > 700 {
                wrong.push(format!("{}: {lines} lines", path.display()));
            }
            if !text.starts_with("//!") {
                wrong.push(format!("{}: doesn't open with `//!`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table's module of a file; `None` for the crate's own roots.
fn module_of(path: &str) -> Option<String> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut parts = inner.split('/');
    match (parts.next()?, parts.next()) {
        ("main" | "lib", None) | ("build", Some("mod")) => None,
        ("build", Some(part)) => Some(format!("build::{part}")),
        (module, _) => Some(module.to_owned()),
    }
}

/// The modules that `code` names by `crate::…` and the crates that it names by their own paths.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        for path in paths(&code[at + "crate::".len()..]) {
            let mut parts = path.split("::");
            let first = parts.next().unwrap_or_default();
            let second = parts.next().unwrap_or_default();
            match first {
                "build" if second.is_empty() => {}
                "build" => drop(found.insert(format!("build::{second}"))),
                _ => drop(found.insert(first.to_owned())),
            }
        }
    }
    for (name, module) in [("kiln_cache", "cache"), ("kiln_grammar", "grammar")] {
        if code.contains(name) {
            found.insert(module.to_owned());
        }
    }
    found
}

/// The paths that a `use` tree (or a plain path) at the start of `text` names, two segments deep.
fn paths(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
        let path = text[..end].trim_end_matches(':');
        if let Some(inner) = text[end..].strip_prefix('{')
            && !path.contains("::")
        {
            return paths(&format!("{{{inner}")).into_iter().map(|rest| format!("{path}::{rest}")).collect();
        }
        return vec![path.to_owned()];
    };
    let (mut depth, mut start, mut items) = (0usize, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.into_iter().map(str::trim).filter(|item| !item.is_empty()).flat_map(paths).collect()
}

fn sources(folder: &str) -> Vec<Source> {
    let root = root();
    let files = rust_files(&root.join(folder)).into_iter();
    files
        .filter(|path| !path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests")))
        .filter(|path| !path.strip_prefix(&root).is_ok_and(|path| path.iter().any(|part| part == "tests")))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code: Vec<&str> =
                shipped.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            Source { path: path.strip_prefix(&root).unwrap().display().to_string(), code: code.join("\n") }
        })
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(Result::ok);
    files
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn use_trees_are_read_as_the_compiler_reads_them() {
    assert_eq!(paths("api::{Event, Events};"), ["api::Event", "api::Events"]);
    assert_eq!(
        paths("{api, build::graph::Op, image::{self, layer}};"),
        ["api", "build::graph::Op", "image::self", "image::layer"]
    );
    assert_eq!(paths("oci::chain_id(x)"), ["oci::chain_id"]);
}
