//! Rules about stages and the file as a whole.

use std::collections::BTreeSet;

use super::{Linter, keyword_span};
use crate::ast::{Dockerfile, Span, Stage, Word};
use crate::diagnostic::quote;
use crate::lines::first_word;
use crate::suggest::closest;

/// Names that mean something else in FROM and `--from`.
const RESERVED: [&str; 2] = ["scratch", "context"];

/// Variables that every FROM has.
const PREDEFINED: [&str; 11] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETOSVERSION",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "BUILDOSVERSION",
    "TARGETSTAGE",
];

impl Linter<'_> {
    pub(super) fn stages(&mut self, file: &Dockerfile) {
        let globals = file.globals.iter().map(|declaration| declaration.name.text.as_str());
        let declared: BTreeSet<&str> = globals.chain(PREDEFINED).collect();
        let mut names = BTreeSet::new();
        for stage in &file.stages {
            self.undeclared_arguments(stage, &declared, file.directives.escape);
            self.as_casing(stage);
            self.platform(stage);
            let Some(name) = &stage.name else { continue };
            self.stage_name(name);
            if !names.insert(name.text.as_str()) {
                let message =
                    format!("duplicate stage name {}: stage names should be unique", quote(&name.text));
                self.warn("duplicate-stage-name", name.span, message, None);
            }
        }
    }

    /// Variables of a FROM that no ARG before the first FROM declares.
    fn undeclared_arguments(&mut self, stage: &Stage, declared: &BTreeSet<&str>, escape: char) {
        for word in [Some(&stage.base), stage.platform.as_ref()].into_iter().flatten() {
            for name in crate::word::variables(&word.text, escape) {
                if declared.contains(name.as_str()) {
                    continue;
                }
                let hint = match closest(&name, declared.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("declare it before the first FROM: ARG {name}"),
                };
                let message = format!("FROM argument {} is not declared", quote(&name));
                self.warn("undefined-arg-in-from", word.span, message, Some(hint));
            }
        }
    }

    fn stage_name(&mut self, name: &Word) {
        if RESERVED.contains(&name.text.as_str()) {
            let message = format!("stage name {} is reserved: it should not be used", quote(&name.text));
            self.warn("reserved-stage-name", name.span, message, None);
        }
        let written = self.written(name.span).to_owned();
        if written.eq_ignore_ascii_case(&name.text) && written != name.text {
            let message = format!("stage name {} should be lowercase", quote(&written));
            self.warn("stage-name-casing", name.span, message, Some(format!("write `{}`", name.text)));
        }
    }

    /// `FROM … as`: the two keywords in different case.
    fn as_casing(&mut self, stage: &Stage) {
        let Some(name) = &stage.name else { return };
        let between = Span { start: stage.base.span.end, end: name.span.start };
        let from = first_word(&stage.original);
        let Some(at) = self.written(between).find(['a', 'A']) else { return };
        let span = Span { start: between.start + at, end: between.start + at + 2 };
        let word = self.written(span).to_owned();
        if word.eq_ignore_ascii_case("as") && lower(&word) != lower(from) && (upper(from) || lower(from)) {
            let message = format!("`{word}` and `{from}` keywords' casing do not match");
            self.warn("from-as-casing", span, message, None);
        }
    }

    fn platform(&mut self, stage: &Stage) {
        let Some(platform) = &stage.platform else { return };
        let text = crate::word::unquote(&platform.text, '\\');
        if text == "$TARGETPLATFORM" || text == "${TARGETPLATFORM}" {
            let message =
                format!("setting platform to predefined {text} in FROM is redundant as this is the default");
            self.warn("redundant-target-platform", platform.span, message, None);
        } else if !text.contains('$') {
            let name = stage.name.as_ref().map_or("", |name| name.text.as_str());
            let (system, architecture) = text.split_once('/').unwrap_or(("linux", &text));
            let architecture = architecture.split('/').next().unwrap_or("");
            let named = |part: &str| !part.is_empty() && name.contains(part);
            if !named(system) && !named(go_architecture(architecture)) {
                let message = format!("FROM --platform flag should not use constant value {}", quote(&text));
                let hint = "use $BUILDPLATFORM, or name the platform in the stage's name".to_owned();
                self.warn("from-platform-flag-const-disallowed", platform.span, message, Some(hint));
            }
        }
    }

    /// Keywords in mixed case, or not in the case of most of them.
    pub(super) fn casing(&mut self, file: &Dockerfile) {
        let mut keywords: Vec<(Span, &str)> = Vec::new();
        for stage in &file.stages {
            let instructions = stage.instructions.iter().map(|found| (found.span, &found.original));
            for (span, original) in std::iter::once((stage.span, &stage.original)).chain(instructions) {
                let span = keyword_span(span, original);
                keywords.push((span, first_word(original)));
            }
        }
        let lowers = keywords.iter().filter(|(_, word)| lower(word)).count();
        let uppers = keywords.iter().filter(|(_, word)| upper(word)).count();
        let majority = if lowers > uppers { "lowercase" } else { "uppercase" };
        for (span, word) in keywords {
            if (lowers > uppers && lower(word)) || (lowers <= uppers && upper(word)) {
                continue;
            }
            let message =
                format!("command {} should match the case of the command majority ({majority})", quote(word));
            self.warn("consistent-instruction-casing", span, message, None);
        }
    }
}

/// An architecture's name in Go, which is how docker's platforms name it.
fn go_architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armel" => "arm",
        "i386" => "386",
        name => name,
    }
}

fn lower(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn upper(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_uppercase())
}
