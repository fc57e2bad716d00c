//! kiln's findings against those that docker has of the same Dockerfiles: `testdata/checks.json`, recorded with
//! `docker buildx build --call=check,format=json` of the engine that it names, one line `FIRST-LAST Rule` each.

use std::path::Path;

use serde_json::Value;

use crate::support::binary::Kiln;
use crate::support::needs_root;

/// Rules whose place is another one: kiln points at the blank line and at the comment, docker at the instruction.
const PLACED_ELSEWHERE: [&str; 2] = ["NoEmptyContinuation", "InvalidDefinitionDescription"];

/// The rules that only kiln has.
const OWN: [&str; 11] = [
    "BrokenTrigger",
    "CopyIgnoredFile",
    "CopySeveralToFile",
    "EmptyCommand",
    "HeredocIgnoresFailures",
    "InlineComment",
    "InvalidJsonForm",
    "MisplacedFlag",
    "UnknownCheck",
    "UselessFlags",
    "UselessMountKey",
];

#[test]
fn docker_finds_the_same() {
    if !needs_root("docker_finds_the_same") {
        return;
    }
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let recorded: Value =
        serde_json::from_slice(&std::fs::read(testdata.join("checks.json")).unwrap()).unwrap();
    let cases = recorded["cases"].as_object().unwrap();
    assert!(cases.len() > 200, "{} cases", cases.len());
    let kiln = Kiln::busybox();
    let mut wrong = Vec::new();
    for (name, expected) in cases {
        let expected: Vec<&str> = expected.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let case = testdata.join("dockerfiles").join(name);
        let text = std::fs::read(case.join("Dockerfile")).unwrap();
        if let Err(why) = same(&expected, found(&kiln, &case), &String::from_utf8_lossy(&text)) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `(line, rule)` of each of kiln's findings that docker could have.
fn found(kiln: &Kiln, case: &Path) -> Vec<(u64, String)> {
    let context = if case.join("context").is_dir() { case.join("context") } else { case.to_owned() };
    let (file, context) = (case.join("Dockerfile"), context);
    let words = ["lint", "--format=json", "-f", file.to_str().unwrap(), context.to_str().unwrap()];
    let report: Value = serde_json::from_str(&kiln.run(&words).out).unwrap();
    let line = |found: &Value| found["location"]["ranges"][0]["start"]["line"].as_u64().unwrap_or(0);
    let rule = |found: &Value| found["ruleName"].as_str().unwrap().to_owned();
    let warnings = report["warnings"].as_array().unwrap().iter().map(|found| (line(found), rule(found)));
    warnings.filter(|(_, rule)| !OWN.contains(&rule.as_str())).collect()
}

/// Each of docker's has one of kiln's inside its lines, and the other way round.
///
/// Where a word says what to take for a variable that isn't there (`${x:-y}`), docker warns and kiln doesn't.
fn same(expected: &[&str], mut found: Vec<(u64, String)>, text: &str) -> Result<(), String> {
    let mut missed = Vec::new();
    for one in expected {
        let (lines, rule) = one.split_once(' ').unwrap();
        let (first, last) = lines.split_once('-').unwrap();
        let lines = first.parse::<u64>().unwrap()..=last.parse().unwrap();
        let here = |line: &u64| PLACED_ELSEWHERE.contains(&rule) || lines.contains(line);
        let near = found.iter().position(|(line, name)| name == rule && here(line));
        let fallback = || {
            let skipped = usize::try_from(*lines.start()).unwrap() - 1;
            let count = usize::try_from(lines.end() - lines.start()).unwrap() + 1;
            rule == "UndefinedVar" && text.lines().skip(skipped).take(count).any(|line| line.contains("${"))
        };
        match near {
            Some(index) => drop(found.remove(index)),
            None if fallback() => {}
            None => missed.push(*one),
        }
    }
    match missed.is_empty() && found.is_empty() {
        true => Ok(()),
        false => Err(format!("only docker: {missed:?}, only kiln: {found:?}")),
    }
}
