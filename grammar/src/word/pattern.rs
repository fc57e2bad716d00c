//! Shell patterns of `${n#p}`, `${n%p}` and `${n/p/r}`: `*`, `?` and literal characters.
//!
//! `*` and `?` don't match a line end. Matching fills one table row per part of the pattern, so its
//! cost is at most the length of the pattern times that of the value, whatever they are.

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// `*`.
    Any,
    /// `?`.
    One,
    Literal(char),
}

/// A pattern that was checked.
#[derive(Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

/// An end of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Start,
    End,
}

impl Pattern {
    /// Parses a pattern; `\` may stand before `* ? \` to take them literally and before `}` and `/`.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(c),
                    Some(other) => return Err(format!("invalid escape '\\{other}'")),
                    None => return Err("it ends with an escape".to_owned()),
                },
                c => Token::Literal(c),
            });
        }
        Ok(Pattern { tokens })
    }

    /// `value` without the shortest or longest match at one of its ends.
    pub(super) fn trim(&self, value: &str, side: Side, longest: bool) -> String {
        let mut chars: Vec<char> = value.chars().collect();
        let mut tokens = self.tokens.clone();
        if side == Side::End {
            chars.reverse();
            tokens.reverse();
        }
        let end = match_ends(&tokens, &chars, longest)[0].unwrap_or(0);
        let rest = chars[end..].iter();
        if side == Side::End { rest.rev().collect() } else { rest.collect() }
    }

    /// `value` with the first or all leftmost, longest matches replaced; cut soon after `most` bytes.
    ///
    /// As in BuildKit, where all are replaced the replacement is one of Go's `regexp`: `$0` in it stands
    /// for the match, `$$` for a `$`, other names for nothing.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool, most: usize) -> String {
        let chars: Vec<char> = value.chars().collect();
        let ends = match_ends(&self.tokens, &chars, true);
        let template = if all { template(replacement) } else { vec![Part::Text(replacement)] };
        let mut out = String::with_capacity(value.len());
        let (mut at, mut last_end, mut done) = (0, None, false);
        while at <= chars.len() && out.len() <= most {
            // An empty match right after a match is none, as in Go.
            let found = ends[at].filter(|end| !done && (*end > at || last_end != Some(at)));
            if let Some(end) = found {
                for part in &template {
                    match part {
                        Part::Text(text) => out.push_str(text),
                        Part::Match => out.extend(&chars[at..end]),
                    }
                }
                last_end = Some(end);
                done = !all;
                if end > at {
                    at = end;
                    continue;
                }
            }
            out.extend(chars.get(at));
            at += 1;
        }
        out
    }
}

/// A part of a replacement.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    /// What the pattern matched.
    Match,
}

/// Splits a replacement by the rules of Go's `Regexp.Expand`, for patterns without groups.
fn template(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        parts.push(Part::Text(&rest[..at]));
        let after = &rest[at + 1..];
        if let Some(other) = after.strip_prefix('$') {
            parts.push(Part::Text("$"));
            rest = other;
            continue;
        }
        let inside = after.strip_prefix('{').unwrap_or(after);
        let length = inside.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inside.len());
        let (name, tail) = inside.split_at(length);
        let tail = if inside.len() < after.len() { tail.strip_prefix('}') } else { Some(tail) };
        match tail.filter(|_| !name.is_empty()) {
            Some(tail) => {
                if name == "0" {
                    parts.push(Part::Match);
                }
                rest = tail;
            }
            None => {
                parts.push(Part::Text("$"));
                rest = after;
            }
        }
    }
    parts.push(Part::Text(rest));
    parts
}

/// For each place in `value`, where the longest or shortest match that starts there ends.
fn match_ends(tokens: &[Token], value: &[char], longest: bool) -> Vec<Option<usize>> {
    let better = |a: Option<usize>, b: Option<usize>| match (a, b) {
        (Some(a), Some(b)) => Some(if longest { a.max(b) } else { a.min(b) }),
        (a, b) => a.or(b),
    };
    // `row[i]`: the end of a match of the tokens after the current one, starting at `i`.
    let mut row: Vec<Option<usize>> = (0..=value.len()).map(Some).collect();
    for token in tokens.iter().rev() {
        let mut next = vec![None; value.len() + 1];
        for at in (0..=value.len()).rev() {
            let c = value.get(at).copied();
            let inside = c.is_some_and(|c| c != '\n');
            next[at] = match token {
                Token::Literal(wanted) if c == Some(*wanted) => row[at + 1],
                Token::Literal(_) => None,
                Token::One if inside => row[at + 1],
                Token::One => None,
                Token::Any if inside => better(row[at], next[at + 1]),
                Token::Any => row[at],
            };
        }
        row = next;
    }
    row
}
