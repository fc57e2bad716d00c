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

    /// `value` with the first or all leftmost, longest matches replaced.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let ends = match_ends(&self.tokens, &chars, true);
        let mut out = String::with_capacity(value.len());
        let (mut at, mut last_end, mut done) = (0, None, false);
        while at <= chars.len() {
            // An empty match right after a match is none, as in Go.
            let found = ends[at].filter(|end| !done && (*end > at || last_end != Some(at)));
            if let Some(end) = found {
                out.push_str(replacement);
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
