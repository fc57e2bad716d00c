//! What looking a Dockerfile through, and formatting it, gives.

use super::Excerpt;

/// What is wrong, or unwise, in one Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The Dockerfile's name as shown.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What was found, in the order of the file.
    pub findings: Vec<Finding>,
    /// Bases that are not in the store: checks that need them were left out.
    pub unknown_bases: Vec<String>,
}

/// One mistake, or one broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its stable name in kebab case: `stage-name-casing`, `unknown-instruction`.
    pub code: &'static str,
    /// The rule that is broken; `None` for a mistake that stops the build.
    pub rule: Option<BrokenRule>,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// A thing to do.
    pub hint: Option<String>,
    /// Where it is; `None` for what is wrong on the command line.
    pub place: Option<Place>,
}

/// A rule as its users know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRule {
    /// `StageNameCasing`.
    pub name: &'static str,
    /// What it asks for.
    pub about: &'static str,
    /// The page that explains it.
    pub url: Option<String>,
}

/// A part of a Dockerfile; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line and column of its first character.
    pub start: (usize, usize),
    /// Line and column after its last character.
    pub end: (usize, usize),
    /// Its lines and some around them.
    pub excerpt: Excerpt,
}

/// A Dockerfile in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formatted {
    /// The text.
    pub text: String,
    /// Whether it differs from what was there.
    pub changed: bool,
}
