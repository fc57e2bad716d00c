//! The flags of each instruction: which there are, and how a mistake in one is told.

use crate::ast::Word;
use crate::diagnostic::{Diagnostic, quote};
use crate::instruction::Scope;
use crate::keyword::Keyword;
use crate::parse::{Flag, Piece};
use crate::suggest::closest;

/// How a flag is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `--name=value`, once.
    Value,
    /// `--name=value`, any number of times.
    List,
    /// `--name`, `--name=true` or `--name=false`, once.
    Switch,
}

use Shape::{List, Switch, Value};

/// The flags of an instruction.
fn known(keyword: Keyword) -> &'static [(&'static str, Shape)] {
    match keyword {
        Keyword::From => &[("platform", Value)],
        Keyword::Run => &[("mount", List), ("network", Value), ("security", Value), ("device", List)],
        Keyword::Copy => &[
            ("from", Value),
            ("chown", Value),
            ("chmod", Value),
            ("link", Switch),
            ("parents", Switch),
            ("exclude", List),
        ],
        Keyword::Add => &[
            ("chown", Value),
            ("chmod", Value),
            ("link", Switch),
            ("exclude", List),
            ("checksum", Value),
            ("keep-git-dir", Switch),
            ("unpack", Switch),
        ],
        Keyword::Healthcheck => &[
            ("interval", Value),
            ("timeout", Value),
            ("start-period", Value),
            ("start-interval", Value),
            ("retries", Value),
        ],
        _ => &[],
    }
}

/// The flags that an instruction was given, checked.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    words: Vec<(&'static str, Word)>,
    switches: Vec<(&'static str, bool)>,
    /// Flags that were reported for being there twice: once is enough.
    doubled: Vec<&'static str>,
}

impl Flags {
    /// Checks the flags of an instruction; a wrong one is reported and left out.
    pub(crate) fn collect(scope: &mut Scope<'_, '_>, keyword: Keyword, given: Vec<Flag>) -> Flags {
        let mut flags = Flags::default();
        for flag in given {
            match flags.add(scope, keyword, &flag) {
                Ok(()) => {}
                Err(mistake) => scope.report(mistake),
            }
        }
        flags
    }

    fn add(&mut self, scope: &mut Scope<'_, '_>, keyword: Keyword, flag: &Flag) -> Result<(), Diagnostic> {
        let span = scope.span(flag.start, flag.end);
        let written = format!("--{}", flag.name.text);
        let found = known(keyword).iter().find(|(name, _)| *name == flag.name.text);
        let Some((name, shape)) = found.copied() else {
            let span = scope.span(flag.start, flag.name.end);
            return Err(Diagnostic::error(
                "unknown-flag",
                span,
                format!("unknown flag: {}", quote(&written)),
            )
            .maybe_hint(hint(keyword, &flag.name.text)));
        };
        let again = || {
            self.words.iter().any(|(known, _)| *known == name)
                || self.switches.iter().any(|(known, _)| *known == name)
        };
        if shape != List && again() {
            if self.doubled.contains(&name) {
                return Ok(());
            }
            self.doubled.push(name);
            return Err(Diagnostic::error(
                "duplicate-flag",
                span,
                format!("duplicate flag specified: `{written}`"),
            ));
        }
        let missing = || {
            Diagnostic::error("missing-flag-value", span, format!("missing a value on flag: `{written}`"))
                .hint(format!("write `{written}=<value>`"))
        };
        match (shape, &flag.value) {
            (Switch, None) => self.switches.push((name, true)),
            (Switch, Some(value)) => {
                let text = unquoted(&value.text);
                let on = match text.to_ascii_lowercase().as_str() {
                    "true" => true,
                    "false" => false,
                    "" => return Err(missing()),
                    _ => {
                        let message =
                            format!("expecting boolean value for flag `{written}`, not: {}", quote(&text));
                        let span = scope.span(value.start, value.end);
                        return Err(
                            Diagnostic::error("boolean-flag", span, message).hint("write true or false")
                        );
                    }
                };
                self.switches.push((name, on));
            }
            (_, None) => return Err(missing()),
            // An empty value counts as none, but not as a mode.
            (Value, Some(value)) if matches!(name, "network" | "security") && value.text.is_empty() => {
                return Err(missing());
            }
            (_, Some(value)) => {
                let value = Piece { text: unquoted(&value.text), ..*value };
                // The values inside these are expanded one by one.
                let word = match name {
                    "mount" | "device" => scope.plain_word(&value),
                    _ => scope.word(&value),
                };
                self.words.push((name, word));
            }
        }
        Ok(())
    }

    /// The value of a flag; an empty one counts as not given.
    pub(crate) fn value(&mut self, name: &str) -> Option<Word> {
        let at = self.words.iter().position(|(known, _)| *known == name)?;
        Some(self.words.remove(at).1).filter(|word| !word.text.is_empty())
    }

    /// The values of a flag that may be repeated.
    pub(crate) fn list(&mut self, name: &str) -> Vec<Word> {
        let (wanted, rest) =
            std::mem::take(&mut self.words).into_iter().partition(|(known, _)| *known == name);
        self.words = rest;
        let wanted: Vec<(&str, Word)> = wanted;
        wanted.into_iter().map(|(_, word)| word).collect()
    }

    /// Whether a switch is on; `None` when it was not given.
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.switches.iter().find(|(known, _)| *known == name).map(|(_, on)| *on)
    }

    /// True when no flag was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.switches.is_empty()
    }
}

/// Why a word among the arguments of `keyword` isn't the flag that it looks like.
pub(crate) fn misplaced(keyword: Keyword, word: &str) -> Option<String> {
    let bare = word.trim_start_matches(['-', '–', '—']);
    let name = bare.split('=').next().unwrap_or("");
    let known = bare.len() < word.len() && known(keyword).iter().any(|(known, _)| *known == name);
    let two = word.strip_prefix("--").is_some_and(|rest| rest == bare);
    known.then(|| match two {
        true => format!("flags stand right after {}", keyword.name()),
        false => format!("a flag begins with two plain dashes: --{name}"),
    })
}

/// The value of a flag without its quotes; `\` is the escape character, in quotes of both kinds too.
///
/// As in BuildKit, what is left is expanded as a word again: a `$` in single quotes counts.
fn unquoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ if c == '\\' => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out
}

/// What to do about an unknown flag.
fn hint(keyword: Keyword, name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let names = || known(keyword).iter().map(|(name, _)| *name);
    if let Some(exact) = names().find(|known| *known == lower) {
        return Some(format!("flags are lower case: `--{exact}`"));
    }
    if let Some(near) = closest(&lower, names()) {
        return Some(format!("did you mean --{near}?"));
    }
    let owners =
        Keyword::ALL.into_iter().filter(|other| known(*other).iter().any(|(known, _)| *known == lower));
    let owners: Vec<&str> = owners.map(Keyword::name).collect();
    if !owners.is_empty() {
        return Some(format!("`--{lower}` is a flag of {}", owners.join(" and ")));
    }
    match keyword {
        Keyword::Run | Keyword::Cmd | Keyword::Entrypoint => Some(format!(
            "for a command that begins so, use the JSON form: {} [\"--{name}\", …]",
            keyword.name()
        )),
        _ if names().next().is_none() => Some(format!("{} has no flags", keyword.name())),
        _ => Some(format!("{} knows --{}", keyword.name(), names().collect::<Vec<_>>().join(", --"))),
    }
}
