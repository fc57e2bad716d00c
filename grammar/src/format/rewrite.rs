//! One instruction in its canonical form, as far as its meaning allows.
//!
//! 1. all words squeezed, arrays spaced, continuations indented: what most instructions take;
//! 2. the flags alone, because the text after them is a script's;
//! 3. the keyword alone;
//! 4. as written.

use std::cmp::Ordering;

use super::{Meaning, meaning};
use crate::keyword::Keyword;
use crate::lines::{self, Line, cut_continuation, first_word, is_blank};

/// What continued lines begin with.
const INDENT: &str = "    ";

/// A physical line of an instruction.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    /// Without the escape character at its end.
    text: &'a str,
    comment: bool,
}

/// Returns the instruction of `line` with its heredocs, and a line end after each line.
pub(super) fn instruction(source: &str, line: &Line<'_>, escape: char) -> String {
    let head = &source[line.span.start..line.head_end()];
    let parts = parts(head, escape);
    let heredocs = heredocs(source, line);
    let Some(expected) = meaning(line.clone(), escape) else { return raw(head, &heredocs) };
    let ways = [
        squeezed(&parts, escape, true),
        squeezed(&parts, escape, false),
        flags_only(&parts, escape),
        keyword_only(&parts, escape),
    ];
    let fits = |way: &String| read(&format!("{way}{heredocs}"), escape).as_ref() == Some(&expected);
    match ways.into_iter().find(fits) {
        Some(way) => way + &heredocs,
        None => raw(head, &heredocs),
    }
}

/// The lines as written, but for their ends.
fn raw(head: &str, heredocs: &str) -> String {
    let lines: Vec<&str> = head.split('\n').map(|line| line.trim_end_matches('\r')).collect();
    format!("{}\n{heredocs}", lines.join("\n"))
}

/// The meaning of a rewritten instruction; `None` when it isn't one alone.
fn read(text: &str, escape: char) -> Option<Meaning> {
    let (mut lines, found) = lines::scan_plain(text, escape);
    let line = lines.pop().filter(|_| lines.is_empty())?;
    // A new warning would be a new mistake.
    found.is_empty().then(|| meaning(line, escape)).flatten()
}

/// The physical lines of an instruction; blank ones say nothing.
fn parts(head: &str, escape: char) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for (index, line) in head.split('\n').enumerate() {
        let line = line.trim_end_matches('\r');
        let comment = index > 0 && line.trim_start().starts_with('#');
        if comment {
            parts.push(Part { text: line.trim_end(), comment });
        } else if index == 0 || !line.trim().is_empty() {
            parts.push(Part { text: cut_continuation(line, escape).0, comment });
        }
    }
    parts
}

/// The bodies of the heredocs with the lines that end them.
fn heredocs(source: &str, line: &Line<'_>) -> String {
    let mut text = String::new();
    for cut in &line.heredocs {
        let span = cut.heredoc.span;
        text.push_str(&source[span.start..span.end]);
        text.push('\n');
    }
    text
}

/// Joins the lines of an instruction: all but the last that isn't a comment end with the escape character.
///
/// Comments below that one belong to the instruction no longer.
fn joined(lines: Vec<(String, bool)>, escape: char) -> String {
    let last = lines.iter().rposition(|(_, comment)| !comment).unwrap_or(0);
    let mut out = String::new();
    for (index, (text, comment)) in lines.into_iter().enumerate() {
        match index.cmp(&last) {
            Ordering::Less => out.push_str(&text),
            Ordering::Equal => out.push_str(text.trim_end_matches([' ', '\t'])),
            Ordering::Greater => out.push_str(text.trim()),
        }
        if index < last && !comment {
            out.push(escape);
        }
        out.push('\n');
    }
    out
}

/// A line that goes on: one blank stands before the escape character.
fn with_blank(text: String, last: bool) -> String {
    if last || text.ends_with(' ') { text } else { text + " " }
}

/// All words squeezed; arrays spaced when `arrays` says so.
fn squeezed(parts: &[Part<'_>], escape: char, arrays: bool) -> String {
    let mut squeezer = Squeezer { escape, quote: None, arrays, in_array: false, words: 0, keyword: None };
    let mut lines = Vec::new();
    let last = parts.iter().rposition(|part| !part.comment).unwrap_or(0);
    for (index, part) in parts.iter().enumerate() {
        if part.comment {
            lines.push((format!("{INDENT}{}", part.text.trim()), true));
            continue;
        }
        let open = squeezer.quote.is_some();
        let text = squeezer.line(part.text, index == last);
        if text.trim().is_empty() && !open {
            continue;
        }
        let indent = if lines.is_empty() || open { "" } else { INDENT };
        let text = format!("{indent}{text}");
        // A blank inside quotes would be a part of the value.
        let text = if squeezer.quote.is_some() { text } else { with_blank(text, index == last) };
        lines.push((text, false));
    }
    joined(lines, escape)
}

/// Squeezes line after line of one instruction.
struct Squeezer {
    escape: char,
    /// The quote that is open.
    quote: Option<char>,
    arrays: bool,
    /// Inside a JSON array.
    in_array: bool,
    /// Words so far, flags aside.
    words: usize,
    keyword: Option<Keyword>,
}

impl Squeezer {
    fn line(&mut self, text: &str, last: bool) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        if self.quote.is_some() {
            rest = self.piece(rest, &mut out);
        }
        loop {
            let word = rest.trim_start_matches(is_blank);
            let blanks = word.len() < rest.len();
            if self.quote.is_some() || word.is_empty() {
                break;
            }
            if !out.is_empty() && blanks && !self.in_array {
                out.push(' ');
            }
            rest = self.word(word, &mut out);
        }
        if self.quote.is_none() && !last { out.trim_end().to_owned() } else { out }
    }

    /// Takes one word off `text`, canonical.
    fn word<'a>(&mut self, text: &'a str, out: &mut String) -> &'a str {
        if self.arrays && !self.in_array && self.words > 0 && text.starts_with('[') {
            self.in_array = true;
        }
        if self.in_array {
            return self.array(text, out);
        }
        let mut word = String::new();
        let rest = self.piece(text, &mut word);
        out.push_str(&self.canonical(word));
        rest
    }

    /// Copies a word up to a blank outside of quotes, or to the end of the line.
    fn piece<'a>(&mut self, text: &'a str, out: &mut String) -> &'a str {
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match self.quote {
                None if is_blank(c) => return &text[at..],
                None if c == '\'' || c == '"' => self.quote = Some(c),
                Some(open) if c == open => self.quote = None,
                Some('\'') => {}
                _ if c == self.escape => {
                    out.push(c);
                    out.extend(chars.next().map(|(_, c)| c));
                    continue;
                }
                _ => {}
            }
            out.push(c);
        }
        ""
    }

    /// Copies a part of a JSON array: no blanks but one after each comma.
    fn array<'a>(&mut self, text: &'a str, out: &mut String) -> &'a str {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match self.quote {
                Some(_) if c == '\\' => {
                    out.push(c);
                    out.extend(chars.next());
                    continue;
                }
                Some(_) if c == '"' => self.quote = None,
                None if c == '"' => self.quote = Some('"'),
                None if is_blank(c) => continue,
                _ => {}
            }
            out.push(c);
            if self.quote.is_none() && c == ',' {
                out.push(' ');
            }
        }
        ""
    }

    /// A word with what has a canonical spelling in it.
    fn canonical(&mut self, word: String) -> String {
        if self.words > 0 && word.starts_with("--") && self.words == 1 {
            return flag(word);
        }
        self.words += 1;
        match (self.words, self.keyword) {
            (1, _) => {
                self.keyword = Keyword::of(&word);
                self.keyword.map_or(word, |keyword| keyword.name().to_owned())
            }
            (2, Some(Keyword::Healthcheck)) => word.to_ascii_uppercase(),
            (3, Some(Keyword::From)) if word.eq_ignore_ascii_case("as") => "AS".to_owned(),
            _ => word,
        }
    }
}

/// `--link=true` is `--link`.
fn flag(word: String) -> String {
    match word.split_once('=') {
        Some((name, value)) if value.eq_ignore_ascii_case("true") && !name.contains(['\'', '"']) => {
            name.to_owned()
        }
        _ => word,
    }
}

/// The keyword and the flags squeezed; the text after them keeps every byte.
fn flags_only(parts: &[Part<'_>], escape: char) -> String {
    let mut squeezer =
        Squeezer { escape, quote: None, arrays: false, in_array: false, words: 0, keyword: None };
    let mut lines = Vec::new();
    let mut in_flags = true;
    let last = parts.iter().rposition(|part| !part.comment).unwrap_or(0);
    for (index, part) in parts.iter().enumerate() {
        if part.comment {
            let text = if in_flags { format!("{INDENT}{}", part.text.trim()) } else { part.text.to_owned() };
            lines.push((text, true));
        } else if in_flags {
            let (text, more) = head_line(part.text, &mut squeezer);
            in_flags = more;
            let indent = if lines.is_empty() { "" } else { INDENT };
            let text = format!("{indent}{text}");
            if !text.trim().is_empty() {
                lines.push((if more { with_blank(text, index == last) } else { text }, false));
            }
        } else {
            lines.push((part.text.to_owned(), false));
        }
    }
    joined(lines, escape)
}

/// A line with the keyword or flags, and what follows them as it is; false when the script has begun.
fn head_line(text: &str, squeezer: &mut Squeezer) -> (String, bool) {
    let mut out = String::new();
    let mut rest = text.trim_start_matches(is_blank);
    loop {
        let expected = match squeezer.words {
            0 => true,
            1 => rest.starts_with("--") || squeezer.keyword == Some(Keyword::Healthcheck),
            _ => false,
        };
        if rest.is_empty() {
            return (out.trim_end().to_owned(), true);
        }
        if !expected {
            return (out + rest, false);
        }
        rest = squeezer.word(rest, &mut out).trim_start_matches(is_blank);
        out.push(' ');
    }
}

/// The keyword alone.
fn keyword_only(parts: &[Part<'_>], escape: char) -> String {
    let mut lines: Vec<(String, bool)> =
        parts.iter().map(|part| (part.text.to_owned(), part.comment)).collect();
    if let Some((first, _)) = lines.first_mut() {
        let word = first_word(first);
        if let Some(keyword) = Keyword::of(word) {
            first.replace_range(..word.len(), keyword.name());
        }
    }
    joined(lines, escape)
}
