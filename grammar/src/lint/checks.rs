//! Which rules a file wants: `# check=`, the build-arg that overrides it, and comments above instructions.

use std::collections::BTreeSet;

use super::rules::{self, Origin, RULES, Rule, Trial};
use crate::ast::{Directives, Span};
use crate::diagnostic::{Diagnostic, Severity, quote};
use crate::lines::Line;
use crate::suggest::closest;

/// Which warnings are wanted, and whether they stop the build.
///
/// The file's own wish is its directive `# check=skip=A,B|all;experimental=A|all;error=true`; the
/// build-arg `BUILDKIT_DOCKERFILE_CHECK` takes its place. A comment `# check=skip=A` in the block right
/// above an instruction holds for that instruction alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    whole: Wishes,
    /// Where the directive stands.
    span: Span,
    /// What comments want for the instructions below them, in the order of the file.
    local: Vec<(Span, Wishes)>,
}

/// What one text asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wishes {
    skip: Names,
    experimental: Names,
    error: bool,
}

/// Names of rules in [`plain`] form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names(Vec<String>);

impl Names {
    fn has(&self, name: &str) -> bool {
        !self.0.is_empty() && {
            let name = plain(name);
            self.0.iter().any(|known| *known == name || known == "all")
        }
    }
}

impl Checks {
    /// Reads a file's wishes; mistakes in them are reported.
    pub(crate) fn of(
        directives: &Directives,
        overriding: Option<&str>,
        lines: &[Line<'_>],
        found: &mut Vec<Diagnostic>,
    ) -> Checks {
        let mut checks = Checks::default();
        let directive = directives.check.as_ref().map(|word| (word.text.as_str(), word.span));
        let text = overriding.map(|text| (text, Span::NOWHERE)).or(directive);
        if let Some((text, span)) = text.filter(|(text, _)| !text.trim().is_empty()) {
            checks.span = span;
            match Wishes::parse(text, span, found) {
                Ok(wishes) => checks.whole = wishes,
                Err(mistake) => found.push(mistake),
            }
        }
        for line in lines {
            checks.local.extend(local(line, found).map(|wishes| (line.span, wishes)));
        }
        checks
    }

    /// Tells whether a warning of this code at this place is wanted. What is no rule is always wanted.
    pub fn wants(&self, code: &str, span: Span) -> bool {
        let Some(rule) = rules::by_code(code) else { return true };
        let tried = || self.names(rule, span, |wishes| &wishes.experimental);
        let skipped = || self.names(rule, span, |wishes| &wishes.skip);
        match rule.trial {
            Trial::Over => !skipped(),
            Trial::Silent => tried(),
            Trial::Heard => tried() || !skipped(),
        }
    }

    /// Tells whether the file, or a comment above this place, names the rule in one of its lists.
    fn names(&self, rule: &Rule, span: Span, list: fn(&Wishes) -> &Names) -> bool {
        let here = self.local_at(span.start);
        list(&self.whole).has(rule.name) || here.is_some_and(|wishes| list(wishes).has(rule.name))
    }

    /// Removes the warnings that nobody wants.
    pub fn keep(&self, found: &mut Vec<Diagnostic>) {
        found.retain(|one| one.severity == Severity::Error || self.wants(one.code, one.span));
    }

    /// The error that `error=true` makes of broken rules of docker's.
    pub fn verdict(&self, found: &[Diagnostic]) -> Option<Diagnostic> {
        if !self.whole.error {
            return None;
        }
        let rules = found.iter().filter_map(|one| Some((rules::by_code(one.code)?, one.span)));
        let counts = |(rule, span): &(&Rule, Span)| {
            let tried = || self.names(rule, *span, |wishes| &wishes.experimental);
            rule.origin == Origin::Docker && (rule.trial == Trial::Over || tried())
        };
        let mut names: Vec<&str> = rules.filter(counts).map(|(rule, _)| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        let message = format!("lint violation found for rules: {}", names.join(", "));
        (!names.is_empty()).then(|| Diagnostic::error("check-failed", self.span, message))
    }

    fn local_at(&self, offset: usize) -> Option<&Wishes> {
        let before = self.local.partition_point(|(span, _)| span.start <= offset);
        let (span, wishes) = self.local[..before].last()?;
        (offset <= span.end).then_some(wishes)
    }
}

impl Wishes {
    fn parse(text: &str, span: Span, found: &mut Vec<Diagnostic>) -> Result<Wishes, Diagnostic> {
        let mut wishes = Wishes::default();
        for part in text.split(';') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match key.trim() {
                "skip" => wishes.skip = names(value, span, found),
                "experimental" => wishes.experimental = names(value, span, found),
                "error" => match boolean(value) {
                    Some(error) => wishes.error = error,
                    None => return Err(invalid(part, span)),
                },
                _ => return Err(invalid(part, span)),
            }
        }
        Ok(wishes)
    }
}

fn invalid(part: &str, span: Span) -> Diagnostic {
    let message = format!("invalid check option {}", quote(part.trim()));
    let hint = "write skip=<Rule>,…, experimental=<Rule>,… or error=true, separated by `;`";
    Diagnostic::error("check-directive", span, message).hint(hint)
}

/// Go's spellings of a truth value.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// More unknown names of one list are not reported.
const MAX_UNKNOWN: usize = 20;

/// The rules of a list; one that doesn't exist is reported.
fn names(list: &str, span: Span, found: &mut Vec<Diagnostic>) -> Names {
    let mut known = BTreeSet::new();
    let mut unknown = 0;
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let wanted = plain(name);
        if wanted == "all" || RULES.iter().any(|rule| plain(rule.name) == wanted) {
            known.insert(wanted);
            continue;
        }
        unknown += 1;
        if unknown > MAX_UNKNOWN {
            continue;
        }
        let near = closest(name, RULES.iter().map(|rule| rule.name));
        let message = format!("no check is named {}", quote(name));
        let hint = near.map(|near| format!("did you mean {near}?"));
        found.push(Diagnostic::warning("unknown-check", span, message).maybe_hint(hint));
    }
    Names(known.into_iter().collect())
}

/// What the first `# check=` comment right above an instruction asks for. Words after a blank explain it.
fn local(line: &Line<'_>, found: &mut Vec<Diagnostic>) -> Option<Wishes> {
    let (at, value) = line.comments.iter().find_map(|(at, text)| {
        let (key, value) = text.split_once('=')?;
        key.trim_end().eq_ignore_ascii_case("check").then(|| (at + text.len() - value.len(), value))
    })?;
    let blanks = value.len() - value.trim_start().len();
    let text = value.split_whitespace().next()?;
    let span = Span { start: at + blanks, end: at + blanks + text.len() };
    match Wishes::parse(text, span, found) {
        Ok(wishes) => Some(wishes),
        Err(mistake) => {
            found.push(Diagnostic { code: "unknown-check", severity: Severity::Warning, ..mistake });
            None
        }
    }
}

/// A rule's name without case and dashes, so that `JSONArgsRecommended` is `json-args-recommended`.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}
