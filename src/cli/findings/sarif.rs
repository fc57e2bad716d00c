//! SARIF 2.1.0: one run, a rule for each kind of finding, a result for each finding.
//!
//! Source: OASIS, Static Analysis Results Interchange Format 2.1.0.

use serde_json::{Map, Value, json};

use super::json::pretty;
use crate::api::{CheckReport, Finding, Place};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub(super) fn render(reports: &[CheckReport]) -> String {
    let mut rules: Vec<(&str, Value)> = Vec::new();
    let mut results = Vec::new();
    for report in reports {
        for finding in &report.findings {
            let id = id(finding);
            let index = rules.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
                rules.push((id, rule(finding)));
                rules.len() - 1
            });
            results.push(result(finding, &report.file, index));
        }
    }
    let rules: Vec<Value> = rules.into_iter().map(|(_, rule)| rule).collect();
    let driver = json!({ "name": "kiln", "version": env!("CARGO_PKG_VERSION"), "rules": rules });
    pretty(&json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

/// The rule's name, or the code of a mistake.
fn id(finding: &Finding) -> &'static str {
    finding.rule.as_ref().map_or(finding.code, |rule| rule.name)
}

fn level(finding: &Finding) -> &'static str {
    if finding.rule.is_some() { "warning" } else { "error" }
}

fn rule(finding: &Finding) -> Value {
    let about = finding.rule.as_ref().map_or("the Dockerfile can be read", |rule| rule.about);
    let mut rule = Map::new();
    rule.insert("id".into(), id(finding).into());
    rule.insert("shortDescription".into(), json!({ "text": about }));
    if let Some(url) = finding.rule.as_ref().and_then(|rule| rule.url.as_deref()) {
        rule.insert("helpUri".into(), url.into());
    }
    rule.insert("defaultConfiguration".into(), json!({ "level": level(finding) }));
    Value::Object(rule)
}

fn result(finding: &Finding, file: &str, index: usize) -> Value {
    let text = match &finding.hint {
        Some(hint) => format!("{}; {hint}", finding.message),
        None => finding.message.clone(),
    };
    let mut physical = json!({ "artifactLocation": { "uri": uri(file) } });
    if let Some(place) = &finding.place {
        physical["region"] = region(place);
    }
    json!({
        "ruleId": id(finding),
        "ruleIndex": index,
        "level": level(finding),
        "message": { "text": text },
        "locations": [{ "physicalLocation": physical }],
    })
}

fn region(place: &Place) -> Value {
    json!({
        "startLine": place.start.0,
        "startColumn": place.start.1,
        "endLine": place.end.0,
        "endColumn": place.end.1,
    })
}

/// A path as a URI reference: relative ones stay relative to the folder that is scanned.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.strip_prefix("./").unwrap_or(path).bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if path.starts_with('/') { format!("file://{out}") } else { out }
}
