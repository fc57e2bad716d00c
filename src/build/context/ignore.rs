//! `.dockerignore`: which paths of a context are hidden.

use std::sync::Arc;

use super::pattern::{BadPattern, Glob, IgnorePattern};
use crate::build::tree::Filter;

/// The patterns of an ignore file, or of `COPY --exclude`.
///
/// The last pattern that matches decides; one with `!` shows again what an earlier one hid. A pattern
/// that matches a directory covers all that is below it. Source: moby's patternmatcher.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    /// True for `!pattern`.
    shows: bool,
    pattern: IgnorePattern,
    /// The parts of a pattern with `!`, for [`Ignore::may_show_below`].
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    /// One directory level.
    Level(Glob),
    /// A part that may cross slashes, or might: anything can follow.
    Anything,
}

/// Which of the patterns matched a directory.
pub type Matched = Arc<[bool]>;

/// A mistake in an ignore file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A pattern that can't be read.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// A `!` alone.
    #[error("illegal exclusion pattern: \"!\"")]
    Empty,
}

impl Ignore {
    /// Reads the text of an ignore file.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#"));
        Self::new(lines)
    }

    /// Compiles patterns as an ignore file has them, one each; empty ones are dropped.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, IgnoreError> {
        let rules = patterns.into_iter().map(<[u8]>::trim_ascii).filter(|pattern| !pattern.is_empty());
        Ok(Self { rules: rules.map(Rule::new).collect::<Result<_, _>>()? })
    }

    /// Hides all but what `pattern` matches, and what is below that.
    pub fn all_but(pattern: &[u8]) -> Result<Self, IgnoreError> {
        Ok(Self { rules: vec![Rule::of(false, b"**")?, Rule::of(true, pattern)?] })
    }

    /// Hides `path` and what is below it, whatever the patterns say.
    pub fn hide(&mut self, path: &[u8]) -> Result<(), IgnoreError> {
        let mut pattern = Vec::with_capacity(path.len());
        for byte in path {
            if byte.is_ascii_punctuation() && *byte != b'/' {
                pattern.push(b'\\');
            }
            pattern.push(*byte);
        }
        self.rules.push(Rule { shows: false, parts: Vec::new(), pattern: IgnorePattern::new(&pattern)? });
        Ok(())
    }

    /// Tells whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Tells whether a pattern shows what another one hides.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.shows)
    }

    /// Tells whether `path` is hidden, itself or with a directory above it.
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut state = self.start();
        let mut hidden = false;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for end in ends.chain([path.len()]) {
            (hidden, state) = self.check(&state, &path[..end]);
        }
        hidden
    }

    /// Tells whether `path`, whose parent has `parent`, is hidden; gives its own state.
    pub fn check(&self, parent: &Matched, path: &[u8]) -> (bool, Matched) {
        if self.rules.is_empty() {
            return (false, parent.clone());
        }
        let mut hidden = false;
        let mut matched = vec![false; self.rules.len()];
        for (index, rule) in self.rules.iter().enumerate() {
            // A rule that could change nothing isn't looked at, and doesn't count as matched below.
            let matches = parent[index] || (rule.shows == hidden && rule.pattern.matches(path));
            matched[index] = matches;
            if matches {
                hidden = !rule.shows;
            }
        }
        (hidden, matched.into())
    }

    /// Tells whether a `!` pattern might show something below the hidden directory `dir`.
    pub fn may_show_below(&self, dir: &[u8]) -> bool {
        self.rules.iter().filter(|rule| rule.shows).any(|rule| rule.may_match_below(dir))
    }
}

impl Rule {
    fn new(text: &[u8]) -> Result<Self, IgnoreError> {
        let (shows, text) = match text.strip_prefix(b"!") {
            Some(rest) => (true, rest.trim_ascii()),
            None => (false, text),
        };
        if text.is_empty() {
            return Err(IgnoreError::Empty);
        }
        Self::of(shows, text)
    }

    fn of(shows: bool, text: &[u8]) -> Result<Self, IgnoreError> {
        let pattern = clean_pattern(text);
        let parts = match shows {
            true => pattern.split(|byte| *byte == b'/').map(part).collect::<Result<_, _>>()?,
            false => Vec::new(),
        };
        Ok(Self { shows, parts, pattern: IgnorePattern::new(&pattern)? })
    }

    fn may_match_below(&self, dir: &[u8]) -> bool {
        let mut parts = self.parts.iter();
        for name in dir.split(|byte| *byte == b'/') {
            match parts.next() {
                Some(Part::Anything) => return true,
                Some(Part::Level(glob)) if glob.matches(name) => {}
                _ => return false,
            }
        }
        parts.next().is_some()
    }
}

fn part(part: &[u8]) -> Result<Part, BadPattern> {
    // A class may match a slash, an escape may hide one: both are left to the whole pattern.
    if part.windows(2).any(|pair| pair == b"**") || part.iter().any(|byte| b"[\\]".contains(byte)) {
        return Ok(Part::Anything);
    }
    Ok(Part::Level(Glob::new(part)?))
}

/// Go's `filepath.Clean` without the leading slash; leading `..` stay, and so match nothing.
fn clean_pattern(text: &[u8]) -> Vec<u8> {
    let rooted = text.starts_with(b"/");
    let mut up: Vec<&[u8]> = Vec::new();
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in text.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if !parts.is_empty() => drop(parts.pop()),
            b".." if rooted => {}
            b".." => up.push(part),
            _ => parts.push(part),
        }
    }
    up.append(&mut parts);
    match up.is_empty() {
        true => b".".to_vec(),
        false => up.join(&b'/'),
    }
}

/// Returns the directory of a path: for callers that walk from the root.
pub(super) fn levels(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
    ends.chain([path.len()]).map(move |end| &path[..end]).filter(|level| !level.is_empty())
}

impl Filter for Ignore {
    type State = Matched;

    fn start(&self) -> Matched {
        vec![false; self.rules.len()].into()
    }

    fn descend(&self, state: &Matched, relative: &[u8], is_dir: bool) -> Option<(Matched, bool)> {
        let (hidden, state) = self.check(state, relative);
        match hidden {
            false => Some((state, false)),
            true => (is_dir && self.may_show_below(relative)).then_some((state, true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore(lines: &str) -> Ignore {
        Ignore::parse(lines.as_bytes()).unwrap()
    }

    #[test]
    fn a_path_is_hidden_by_its_own_name_whatever_the_patterns_say() {
        for name in ["store", "!a b*[x]\\?.#é", "über/**/s", " blank "] {
            let mut ignore = ignore("x*\n!**");
            ignore.hide(name.as_bytes()).unwrap();
            assert!(ignore.matches(name.as_bytes()), "{name}");
            assert!(ignore.matches(format!("{name}/below/it").as_bytes()), "{name}");
            assert!(
                !ignore.matches(b"star")
                    && !ignore.matches(b"!a bc")
                    && !ignore.matches(format!("{name}x").as_bytes())
            );
        }
    }

    /// Hidden, itself or with a directory above it; after moby's tests and docker's documentation.
    #[test]
    fn patterns_hide_what_docker_hides() {
        for (lines, path, hidden) in [
            ("", "a", false),
            ("*.go", "main.go", true),
            ("*.go", "cmd/main.go", false),
            ("**/*.go", "cmd/main.go", true),
            ("!main.go\n*.go", "main.go", true),
            ("*.go\n!main.go", "main.go", false),
            ("docs\n!docs/README.md", "docs/README.md", false),
            ("docs\n!docs/README.md", "docs/other", true),
            ("docs/\n!docs/README.md", "docs/README.md", false),
            ("docs/*\n!docs/README.md", "docs/README.md", false),
            ("docs/*", "docs", false),
            ("docs", "docs/a/b/c", true),
            ("/docs", "docs/a", true),
            ("./docs", "docs/a", true),
            ("docs/../src", "src/x", true),
            ("../docs", "docs/x", false),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file/deep", true),
            ("**\n!util/docker/web", "util/docker/web/foo", false),
            ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true),
            ("**\n!dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", false),
            ("*\n!src", "src/main.c", false),
            ("*\n!src/*.c", "src/main.c", false),
            ("*\n!src/*.c", "src/main.h", true),
            ("# *.go\n#x", "main.go", false),
            ("  *.go  \r\n", "main.go", true),
            (" # x", "# x", true),
            ("! main.go", "main.go", false),
            ("\u{feff}*.go", "main.go", true),
            ("[a-c]*", "beta", true),
            ("*/temp*", "a/temporary", true),
            ("*/temp*", "temporary", false),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
        ] {
            assert_eq!(ignore(lines).matches(path.as_bytes()), hidden, "{lines:?} {path}");
        }
    }

    #[test]
    fn a_lone_exclamation_mark_and_a_bad_pattern_are_errors() {
        let error = Ignore::parse(b"a\n!\n").unwrap_err();
        assert_eq!(error.to_string(), "illegal exclusion pattern: \"!\"");
        let error = Ignore::parse(b"a\n[").unwrap_err();
        assert_eq!(error.to_string(), "syntax error in pattern `[`");
    }

    #[test]
    fn a_hidden_directory_is_entered_only_if_a_pattern_could_show_something_in_it() {
        for (lines, dir, enters) in [
            ("*\n!src/keep", "src", true),
            ("*\n!src/keep", "other", false),
            ("*\n!src/keep", "src/keep", false),
            ("*\n!src/*/x", "src/a", true),
            ("*\n!src/*/x", "src/a/x", false),
            ("*\n!**/x", "any/where", true),
            ("*\n!s[a-z]c/x", "src", true),
            ("*", "src", false),
        ] {
            assert_eq!(ignore(lines).may_show_below(dir.as_bytes()), enters, "{lines:?} {dir}");
        }
    }
}
