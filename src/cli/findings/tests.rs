//! The three forms of a report.

use serde_json::Value;

use super::{Form, json, render};
use crate::api::{BrokenRule, CheckReport, Excerpt, Finding, Place};

fn place(line: usize) -> Place {
    let lines = vec![(line, "FROM a as B".to_owned(), true), (line + 1, String::new(), false)];
    let excerpt = Excerpt { file: "a b/Dockerfile".to_owned(), lines };
    Place { start: (line, 11), end: (line, 12), excerpt }
}

fn rule(place: Option<Place>) -> Finding {
    Finding {
        code: "stage-name-casing",
        rule: Some(BrokenRule {
            name: "StageNameCasing",
            about: "a stage's name is written in lower case",
            url: Some("https://example.org/stage-name-casing/".to_owned()),
        }),
        message: "stage name `B` should be lowercase \x1b[2J".to_owned(),
        hint: Some("write `b`".to_owned()),
        place,
    }
}

fn mistake() -> Finding {
    let message = "unknown instruction: `FORM`".to_owned();
    Finding { code: "unknown-instruction", rule: None, message, hint: None, place: Some(place(2)) }
}

fn report(findings: Vec<Finding>) -> [CheckReport; 1] {
    let (file, text) = ("a b/Dockerfile".to_owned(), "FROM a as B\n".to_owned());
    [CheckReport { file, text, findings, unknown_bases: Vec::new() }]
}

fn parsed(findings: Vec<Finding>, form: Form) -> Value {
    serde_json::from_str(&render(&report(findings), form)).unwrap()
}

#[test]
fn people_get_buildkits_form() {
    let expected = "\
Check failed, 1 error and 2 warnings have been found!

WARNING: StageNameCasing - https://example.org/stage-name-casing/
stage name `B` should be lowercase 
hint: write `b`
a b/Dockerfile:1
--------------------
   1 | >>> FROM a as B
   2 |
--------------------

WARNING: StageNameCasing - https://example.org/stage-name-casing/
stage name `B` should be lowercase 
hint: write `b`

ERROR: unknown instruction: `FORM`
a b/Dockerfile:2
--------------------
   2 | >>> FROM a as B
   3 |
--------------------
";
    assert_eq!(render(&report(vec![rule(Some(place(1))), rule(None), mistake()]), Form::Plain), expected);
}

#[test]
fn the_first_line_counts() {
    let summary = |findings| render(&report(findings), Form::Plain).lines().next().unwrap().to_owned();
    assert_eq!(summary(vec![]), "Check complete, no warnings found.");
    assert_eq!(summary(vec![rule(None)]), "Check complete, 1 warning has been found!");
    assert_eq!(summary(vec![rule(None), rule(None)]), "Check complete, 2 warnings have been found!");
    assert_eq!(summary(vec![mistake()]), "Check failed, 1 error has been found!");
}

/// Names as in BuildKit's `frontend/subrequests/lint`.
#[test]
fn json_has_buildkits_shape() {
    let json = parsed(vec![rule(Some(place(1))), rule(None), mistake()], Form::Json);
    let warning = &json["warnings"][0];
    assert_eq!(warning["ruleName"], "StageNameCasing");
    assert_eq!(warning["url"], "https://example.org/stage-name-casing/");
    assert_eq!(warning["detail"], "stage name `B` should be lowercase \u{1b}[2J");
    assert_eq!(warning["location"]["ranges"][0]["start"]["line"], 1);
    assert_eq!(warning["location"].get("sourceIndex"), None, "0 is left out");
    assert_eq!(json["warnings"][1]["location"]["sourceIndex"], -1);
    assert_eq!(json["sources"][0]["filename"], "a b/Dockerfile");
    assert_eq!(json["sources"][0]["data"], "RlJPTSBhIGFzIEIK");
    assert_eq!(json["error"]["message"], "unknown instruction: `FORM`");
    assert_eq!(json["errors"].as_array().unwrap().len(), 1);
    let clean = parsed(vec![], Form::Json);
    assert_eq!(clean["warnings"].as_array().unwrap().len(), 0);
    assert_eq!(clean.get("error"), None);
}

/// What the schema of SARIF 2.1.0 requires, and what it says of the values used.
#[test]
fn sarif_keeps_to_its_schema() {
    let sarif = parsed(vec![rule(Some(place(1))), rule(None), mistake(), rule(Some(place(3)))], Form::Sarif);
    assert_eq!(sarif["version"], "2.1.0");
    assert!(sarif["$schema"].as_str().unwrap().starts_with("https://"));
    let run = &sarif["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "kiln");
    let rules = driver["rules"].as_array().unwrap();
    let ids: Vec<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["StageNameCasing", "unknown-instruction"], "unique");
    for rule in rules {
        assert!(rule["shortDescription"]["text"].is_string());
        assert!(["warning", "error"].contains(&rule["defaultConfiguration"]["level"].as_str().unwrap()));
    }
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(result["ruleId"], ids[index]);
        assert!(["warning", "error"].contains(&result["level"].as_str().unwrap()));
        assert!(result["message"]["text"].is_string());
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20b/Dockerfile");
        if let Some(region) = place.get("region") {
            let number = |name: &str| region[name].as_u64().unwrap();
            assert!(number("startLine") >= 1 && number("startColumn") >= 1);
            assert!((number("endLine"), number("endColumn")) >= (number("startLine"), number("startColumn")));
        }
    }
}

#[test]
fn base64_has_its_padding() {
    for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
    {
        assert_eq!(json::base64(bytes.as_bytes()), expected);
    }
}
