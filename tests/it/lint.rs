//! `kiln lint` and `kiln build --check`, as users and pipelines call them.

use std::path::Path;

use crate::support::binary::{Kiln, run};
use crate::support::needs_root;

const UNWISE: &str = "FROM busybox AS Build\nCOPY secret.txt $DIR\nCMD run\n";

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// The rules that a report in BuildKit's form names.
fn rules(out: &str) -> Vec<&str> {
    let names = out.lines().filter_map(|line| line.strip_prefix("WARNING: "));
    names.map(|name| name.split(' ').next().unwrap()).collect()
}

#[test]
fn a_clean_file_gives_0_and_findings_give_1() {
    let kiln = Kiln::empty();
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        &[("clean/Dockerfile", "FROM scratch\nCMD [\"x\"]\n"), ("bad/Dockerfile", "FORM x\n")],
    );
    let ran = |words: &[&str]| {
        let mut command = kiln.command(words);
        run(command.current_dir(folder.path()))
    };
    let clean = ran(&["lint", "clean"]).ok();
    assert_eq!((clean.out.as_str(), clean.error.as_str()), ("Check complete, no warnings found.\n", ""));
    assert_eq!(ran(&["lint", "-f", "clean/Dockerfile"]).ok().out, clean.out);
    let bad = ran(&["lint", "clean/Dockerfile", "bad/Dockerfile"]);
    assert_eq!(bad.code, 1, "{bad}");
    assert!(
        bad.out.contains("ERROR: unknown instruction: `FORM`\nhint: did you mean FROM?\nbad/Dockerfile:1\n")
    );
    assert!(ran(&["lint", "nowhere"]).code == 1);
    assert!(!kiln.root().exists(), "looking at a file makes no store");
}

#[test]
fn bases_that_are_not_there_are_left_out_and_not_pulled() {
    let kiln = Kiln::empty();
    let ran = kiln.run_with(&["lint", "-"], UNWISE.as_bytes());
    assert_eq!(ran.code, 1, "{ran}");
    assert_eq!(rules(&ran.out), ["StageNameCasing", "JSONArgsRecommended"]);
    assert!(ran.error.contains("note: `busybox:latest` is not in the store"), "{ran}");
}

#[test]
fn a_base_in_the_store_tells_which_variables_there_are() {
    if !needs_root("a_base_in_the_store_tells_which_variables_there_are") {
        return;
    }
    let kiln = Kiln::busybox();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("Dockerfile", UNWISE), (".dockerignore", "secret.txt\n")]);
    let context = folder.path().to_str().unwrap();
    let all = ["StageNameCasing", "CopyIgnoredFile", "UndefinedVar", "JSONArgsRecommended"];
    for words in [&["lint", context][..], &["build", "--check", context], &["build", "--call=check", context]]
    {
        let ran = kiln.run(words);
        assert_eq!((ran.code, rules(&ran.out)), (1, all.to_vec()), "{words:?}\n{ran}");
    }
    let skipped = "BUILDKIT_DOCKERFILE_CHECK=skip=UndefinedVar,CopyIgnoredFile";
    let ran = kiln.run(&["lint", "--build-arg", skipped, context]);
    assert_eq!(rules(&ran.out), ["StageNameCasing", "JSONArgsRecommended"]);
}

#[test]
fn pipelines_get_json_and_sarif() {
    let kiln = Kiln::empty();
    let report = |words: &[&str]| -> serde_json::Value {
        let ran = kiln.run_with(words, UNWISE.as_bytes());
        assert_eq!(ran.code, 1, "{ran}");
        serde_json::from_str(&ran.out).unwrap()
    };
    for words in [&["lint", "--format", "json", "-"][..], &["build", "--call=check,format=json", "-"]] {
        let json = report(words);
        assert_eq!(json["warnings"][0]["ruleName"], "StageNameCasing");
        assert_eq!(json["warnings"].as_array().unwrap().len(), 2);
    }
    let sarif = report(&["lint", "--format=sarif", "-"]);
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "StageNameCasing");
}

#[test]
fn a_build_shows_the_rules_and_error_true_ends_it() {
    if !needs_root("a_build_shows_the_rules_and_error_true_ends_it") {
        return;
    }
    let kiln = Kiln::busybox();
    let warned = kiln.run_with(&["build", "-"], b"FROM busybox\nENV A=$B\n").ok();
    assert!(
        warned.error.contains("Dockerfile:2:7: warning: usage of undefined variable `$B` [UndefinedVar]"),
        "{warned}"
    );
    let failed = kiln.run_with(&["build", "-"], b"# check=error=true\nFROM busybox\nENV A=$B\nCMD x\n");
    failed.fails_with(&[
        "[UndefinedVar]",
        "[JSONArgsRecommended]",
        "lint violation found for rules: JSONArgsRecommended, UndefinedVar",
    ]);
}

const STAGES: &str = "\
# VERSION of the base
ARG VERSION=12
# build makes it
FROM debian:$VERSION AS build
RUN --mount=type=secret,id=token --mount=type=cache,target=/c true
FROM scratch
COPY --from=build /x /
";

/// Columns and names as buildx 0.29.1 prints them with docker 28.5.2.
#[test]
fn the_targets_and_what_they_take_are_listed() {
    let kiln = Kiln::empty();
    let ran =
        |words: &[&str]| kiln.run_with(&[&["build"], words, &["-"]].concat(), STAGES.as_bytes()).ok().out;
    assert_eq!(ran(&["--call=targets"]), "TARGET      DESCRIPTION\nbuild       makes it\n(default)\n");
    let outline = "\
TARGET:      build
DESCRIPTION: makes it

BUILD ARG   VALUE   DESCRIPTION
VERSION     13      of the base

SECRET   REQUIRED
token

CACHE MOUNT
/c
";
    assert_eq!(ran(&["--call=outline", "--target=build", "--build-arg=VERSION=13"]), outline);
    let json = |words: &[&str]| serde_json::from_str::<serde_json::Value>(&ran(words)).unwrap();
    let targets = json(&["--call=targets,format=json"]);
    assert_eq!(targets["targets"][0]["name"], "build");
    assert_eq!(targets["targets"][0]["base"], "debian:$VERSION");
    assert_eq!(targets["targets"][1]["default"], true);
    let outline = json(&["--call", "outline,format=json"]);
    assert_eq!(outline["args"][0]["name"], "VERSION");
    assert_eq!(outline["args"][0]["location"]["ranges"][0]["start"]["line"], 2);
    assert_eq!(outline["secrets"][0]["name"], "token");
    assert_eq!(outline["cache"][0]["ID"], "/c");
    assert!(!kiln.root().exists(), "nothing was opened");
}

#[test]
fn secrets_that_nobody_asks_for_are_told() {
    let kiln = Kiln::empty();
    let secret = kiln.scratch().join("secret");
    std::fs::write(&secret, "x").unwrap();
    let secret = format!("--secret=id=tokn,src={}", secret.display());
    let ran = kiln.run_with(&["build", "--check", &secret, "-"], STAGES.as_bytes());
    assert_eq!((ran.code, rules(&ran.out)), (1, vec!["UnusedSecret"]), "{ran}");
    assert!(ran.out.contains("hint: did you mean token?"), "{ran}");
}

#[test]
fn what_lint_cannot_do_is_refused() {
    let kiln = Kiln::empty();
    kiln.run(&["lint", "--format", "xml"]).fails_with(&["unknown format `xml`", "plain, json or sarif"]);
    kiln.run(&["lint", "-f", "a", "b", "c"]).fails_with(&["`-f` names the Dockerfile of one directory"]);
    kiln.run(&["build", "--call=nope", "."]).fails_with(&["unknown method `nope`", "outline or targets"]);
    kiln.run(&["build", "--call=targets,format=sarif", "."]).fails_with(&["only a check"]);
    kiln.run(&["build", "--check", "--call=check", "."]).fails_with(&["can't be used together"]);
    kiln.run(&["build", "--call=check,x=y", "."]).fails_with(&["unknown option `x=y`"]);
}
