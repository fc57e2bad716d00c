//! Quotes, escapes and `$` in a word.
//!
//! | written | becomes |
//! |---|---|
//! | `$n` `${n}` | the value, or nothing |
//! | `${n:-w}` `${n-w}` | `w` when `n` is unset (`:`: or empty) |
//! | `${n:+w}` `${n+w}` | `w` when `n` is set (`:`: and not empty) |
//! | `${n:?w}` `${n?w}` | an error with the text `w` when `n` is unset (`:`: or empty) |
//! | `${n#p}` `${n##p}` | without the shortest, longest prefix that matches `p` |
//! | `${n%p}` `${n%%p}` | without the shortest, longest suffix that matches `p` |
//! | `${n/p/r}` `${n//p/r}` | the first match, all matches of `p` replaced by `r` |
//!
//! `w`, `p` and `r` are words again. In `p`, `*` and `?` are wildcards and `\` escapes them. Single
//! quotes keep all as it is; double quotes keep all but `$` and the escape character before `"`, `$`
//! and itself. A name is a letter or `_` with letters, digits and `_` after it, a number, or one of
//! `@ * # ? - $ !`.
//!
//! What a word may grow to, how deep it may nest and how much work it may cause is bounded.

mod pattern;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use crate::ast::{Span, Word};

/// Values of variables.
pub trait Lookup {
    /// The value of `name`; `None` when it is not set.
    fn get(&self, name: &str) -> Option<String>;

    /// Hears of a variable that is not set, where the word doesn't say what to take instead.
    fn missed(&self, _name: &str) {}
}

impl<F: Fn(&str) -> Option<String>> Lookup for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// A word that can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordError {
    /// What is wrong: one sentence, lower case, no full stop.
    pub message: String,
    /// Where it is: an offset in bytes into the word's text.
    pub at: usize,
}

impl WordError {
    /// The place of the mistake in the source, for an error about `word`'s text.
    ///
    /// From the mistake to the word's end, or the whole word when its text isn't what stands there
    /// byte by byte (continuations, JSON strings).
    pub fn span(&self, word: &Word) -> Span {
        let verbatim = word.span.end - word.span.start == word.text.len();
        let skipped = if verbatim { self.at.min(word.text.len()) } else { 0 };
        Span { start: word.span.start + skipped, ..word.span }
    }
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WordError {}

/// `${…}` inside `${…}` may go this deep.
const MAX_DEPTH: usize = 50;

/// What one word may become, in bytes. The kernel takes 128 KiB per argument or variable.
const MAX_RESULT_BYTES: usize = 1 << 20;

/// The bytes of values that one word may look at, and the steps of its patterns.
const MAX_WORK: usize = 1 << 24;

/// Expands one word; quotes and escapes are removed, and the result stays one word.
///
/// # Errors
/// When the word's syntax is wrong, a `?` asks for a variable that is missing, or a bound is hit.
pub fn expand(text: &str, escape: char, vars: &dyn Lookup) -> Result<String, WordError> {
    let mut output = Output::default();
    Expander::new(text, escape, vars).run(None, &mut output)?;
    Ok(output.current)
}

/// Expands a word whose unquoted blanks, those of values included, separate words (EXPOSE).
///
/// # Errors
/// As [`expand`].
pub fn expand_list(text: &str, escape: char, vars: &dyn Lookup) -> Result<Vec<String>, WordError> {
    let mut output = Output { split: true, ..Output::default() };
    Expander::new(text, escape, vars).run(None, &mut output)?;
    output.end_word();
    Ok(output.words)
}

/// Expands the body of a COPY or ADD heredoc: quotes are text, escapes are removed.
///
/// BuildKit takes `\` as the escape character of bodies whatever the `escape` directive says.
///
/// # Errors
/// As [`expand`].
pub fn expand_body(text: &str, escape: char, vars: &dyn Lookup) -> Result<String, WordError> {
    let mut output = Output::default();
    Expander { quotes: false, ..Expander::new(text, escape, vars) }.run(None, &mut output)?;
    Ok(output.current)
}

/// Removes quotes and escapes and leaves every `$` as it is: the text of a flag before expansion.
pub fn unquote(text: &str, escape: char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            Some('\'') => out.push(c),
            _ if c == escape => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out
}

/// The names that a word uses, each once, in order; also those inside `${…}` that may not be needed.
pub fn variables(text: &str, escape: char) -> Vec<String> {
    let names: RefCell<Vec<String>> = RefCell::default();
    let seen: RefCell<HashSet<String>> = RefCell::default();
    let record = |name: &str| {
        if seen.borrow_mut().insert(name.to_owned()) {
            names.borrow_mut().push(name.to_owned());
        }
        Some(String::from("x"))
    };
    // A broken word is reported elsewhere; the names before the mistake count.
    let _ = expand(text, escape, &record);
    names.into_inner()
}

/// Checks a word's syntax without values.
///
/// # Errors
/// When [`expand`] would fail whatever the values are.
pub fn check(text: &str, escape: char) -> Result<(), WordError> {
    if !text.contains(['$', '\'', '"']) {
        return Ok(());
    }
    expand(text, escape, &|_: &str| Some(String::from("x"))).map(drop)
}

/// Collects what a word becomes.
#[derive(Default)]
struct Output {
    split: bool,
    words: Vec<String>,
    current: String,
}

impl Output {
    /// Text that may separate words.
    fn plain(&mut self, text: &str) {
        if !self.split {
            self.current.push_str(text);
            return;
        }
        for c in text.chars() {
            if c.is_whitespace() {
                self.end_word();
            } else {
                self.current.push(c);
            }
        }
    }

    /// Text that was quoted or escaped.
    fn quoted(&mut self, text: &str) {
        self.current.push_str(text);
    }

    fn end_word(&mut self) {
        if !self.current.is_empty() {
            self.words.push(std::mem::take(&mut self.current));
        }
    }
}

struct Expander<'a> {
    text: &'a str,
    at: usize,
    escape: char,
    vars: &'a dyn Lookup,
    /// False in heredoc bodies, where quotes are text.
    quotes: bool,
    /// True inside patterns and replacements, where escapes are kept for later.
    keep_escapes: bool,
    depth: usize,
    produced: usize,
    work: usize,
}

impl<'a> Expander<'a> {
    fn new(text: &'a str, escape: char, vars: &'a dyn Lookup) -> Expander<'a> {
        Expander {
            text,
            at: 0,
            escape,
            vars,
            quotes: true,
            keep_escapes: false,
            depth: 0,
            produced: 0,
            work: 0,
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, WordError> {
        Err(WordError { message: message.into(), at: at.min(self.text.len()) })
    }

    /// Counts bytes of the result against the bound.
    fn produce(&mut self, bytes: usize) -> Result<(), WordError> {
        self.produced += bytes;
        if self.produced > MAX_RESULT_BYTES {
            return self.error(self.at, format!("expands to more than {MAX_RESULT_BYTES} bytes"));
        }
        Ok(())
    }

    fn spend(&mut self, steps: usize) -> Result<(), WordError> {
        self.work = self.work.saturating_add(steps);
        if self.work > MAX_WORK {
            return self.error(self.at, "expansion takes too much work");
        }
        Ok(())
    }

    /// Expands up to `stop`, which is taken, or to the end of the text. True when `stop` was found.
    fn run(&mut self, stop: Option<char>, output: &mut Output) -> Result<bool, WordError> {
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += c.len_utf8();
                return Ok(true);
            }
            let before = self.at;
            match c {
                '$' => {
                    let value = self.dollar()?;
                    self.produce(value.len())?;
                    output.plain(&value);
                    continue;
                }
                '\'' if self.quotes => {
                    let text = self.single_quoted()?;
                    output.quoted(text);
                }
                '"' if self.quotes => {
                    let text = self.double_quoted()?;
                    output.quoted(&text);
                }
                _ if c == self.escape => {
                    self.at += c.len_utf8();
                    let escaped = self.next();
                    let from =
                        if self.keep_escapes || escaped.is_none() { before } else { before + c.len_utf8() };
                    if escaped.is_some() || self.keep_escapes {
                        output.quoted(&self.text[from..self.at]);
                    }
                }
                _ => {
                    self.at += c.len_utf8();
                    output.plain(&self.text[before..self.at]);
                }
            }
            self.produce(self.at - before)?;
        }
        Ok(false)
    }

    fn single_quoted(&mut self) -> Result<&'a str, WordError> {
        let start = self.at;
        let rest = &self.text[start + 1..];
        let Some(length) = rest.find('\'') else {
            return self.error(start, "unexpected end of statement while looking for matching single-quote");
        };
        self.at = start + length + 2;
        Ok(&rest[..length])
    }

    fn double_quoted(&mut self) -> Result<String, WordError> {
        let start = self.at;
        let mut out = String::new();
        self.at += 1;
        loop {
            let Some(c) = self.peek() else {
                return self
                    .error(start, "unexpected end of statement while looking for matching double-quote");
            };
            if c == '$' {
                let value = self.dollar()?;
                self.produce(value.len())?;
                out.push_str(&value);
                continue;
            }
            self.at += c.len_utf8();
            if c == '"' {
                return Ok(out);
            }
            let escapes = self.peek().filter(|next| *next == '"' || *next == '$' || *next == self.escape);
            match escapes {
                Some(next) if c == self.escape => {
                    self.at += next.len_utf8();
                    if self.keep_escapes {
                        out.push(c);
                    }
                    out.push(next);
                }
                _ => out.push(c),
            }
        }
    }

    /// What a `$` and the text that belongs to it stand for.
    fn dollar(&mut self) -> Result<String, WordError> {
        let start = self.at;
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            return if name.is_empty() {
                Ok("$".to_owned())
            } else {
                Ok(self.value(name)?.unwrap_or_default())
            };
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error(start, "`${` is nested too deeply");
        }
        let value = self.braces(start)?;
        self.depth -= 1;
        Ok(value)
    }

    /// The inside of `${…}` and its closing brace.
    fn braces(&mut self, start: usize) -> Result<String, WordError> {
        let missing = "syntax error: missing '}'";
        let name = self.name();
        let Some(c) = self.next() else { return self.error(start, missing) };
        if name.is_empty() && matches!(c, '{' | '}' | ':') {
            return self.error(start, "syntax error: bad substitution");
        }
        match c {
            '}' => Ok(self.value(name)?.unwrap_or_default()),
            ':' => match self.next() {
                Some(operator @ ('-' | '+' | '?')) => self.conditional(start, name, operator, true),
                Some(other) => self.error(start, format!("unsupported modifier (:{other}) in substitution")),
                None => self.error(start, missing),
            },
            '-' | '+' | '?' => self.conditional(start, name, c, false),
            '#' | '%' => self.trim(start, name, c),
            '/' => self.replace(start, name),
            other => self.error(start, format!("unsupported modifier ({other}) in substitution")),
        }
    }

    /// The name at the current place; empty when there is none.
    fn name(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let length = match rest.chars().next() {
            Some('0'..='9') => rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            Some(c) if c.is_alphabetic() || c == '_' => {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            }
            _ => 0,
        };
        self.at += length;
        &rest[..length]
    }

    /// The value of a variable that has to be there.
    fn value(&mut self, name: &str) -> Result<Option<String>, WordError> {
        let value = self.perhaps(name)?;
        if value.is_none() {
            self.vars.missed(name);
        }
        Ok(value)
    }

    /// The value of a variable that may be missing.
    fn perhaps(&mut self, name: &str) -> Result<Option<String>, WordError> {
        let value = self.vars.get(name);
        self.spend(value.as_ref().map_or(0, String::len) + name.len())?;
        Ok(value)
    }

    /// The word up to `stop`; its escapes stay when it is a pattern or a replacement.
    fn nested(&mut self, stop: char, keep_escapes: bool) -> Result<Option<String>, WordError> {
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let mut output = Output::default();
        let found = self.run(Some(stop), &mut output)?;
        self.keep_escapes = outer;
        Ok(found.then_some(output.current))
    }

    fn conditional(
        &mut self,
        start: usize,
        name: &str,
        operator: char,
        colon: bool,
    ) -> Result<String, WordError> {
        let Some(word) = self.nested('}', false)? else {
            return self.error(start, "syntax error: missing '}'");
        };
        let value = self.perhaps(name)?;
        let empty = value.as_ref().is_some_and(String::is_empty);
        let present = value.filter(|value| !colon || !value.is_empty());
        match (operator, present) {
            ('-', Some(value)) | ('?', Some(value)) => Ok(value),
            ('-', None) | ('+', Some(_)) => Ok(word),
            ('?', None) => {
                let reason = if empty { "is not allowed to be empty" } else { "is not allowed to be unset" };
                let reason = if word.is_empty() { reason } else { &word };
                self.error(start, format!("{name}: {reason}"))
            }
            _ => Ok(String::new()),
        }
    }

    /// `#`, `##`, `%` and `%%`.
    fn trim(&mut self, start: usize, name: &str, operator: char) -> Result<String, WordError> {
        let longest = self.peek() == Some(operator);
        if longest {
            self.at += 1;
        }
        let Some(pattern) = self.nested('}', true)? else {
            return self.error(start, "syntax error: missing '}'");
        };
        let value = self.value(name)?.unwrap_or_default();
        let compiled = self.compile(start, &pattern, &value)?;
        let side = if operator == '#' { pattern::Side::Start } else { pattern::Side::End };
        Ok(compiled.trim(&value, side, longest))
    }

    /// `/` and `//`.
    fn replace(&mut self, start: usize, name: &str) -> Result<String, WordError> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let Some(pattern) = self.nested('/', true)? else {
            return self.error(start, "syntax error: missing '/' in ${}");
        };
        let Some(replacement) = self.nested('}', true)? else {
            return self.error(start, "syntax error: missing '}'");
        };
        let value = self.value(name)?.unwrap_or_default();
        let compiled = self.compile(start, &pattern, &value)?;
        self.spend(value.len().saturating_mul(replacement.len()))?;
        Ok(compiled.replace(&value, &replacement, all, MAX_RESULT_BYTES))
    }

    fn compile(&mut self, start: usize, text: &str, value: &str) -> Result<pattern::Pattern, WordError> {
        let compiled = pattern::Pattern::parse(text);
        self.spend(text.len().saturating_add(1).saturating_mul(value.len().saturating_add(1)))?;
        match compiled {
            Ok(compiled) => Ok(compiled),
            Err(why) => self.error(start, format!("invalid pattern ({text}) in substitution: {why}")),
        }
    }
}

#[cfg(test)]
mod tests;
