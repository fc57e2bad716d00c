//! One canonical form of a Dockerfile, for `kiln fmt`.
//!
//! - Keywords are upper case, one blank separates words, a flag that is on has no `=true`.
//! - Lines that continue an instruction are indented by four blanks; blank lines inside it are gone.
//! - One blank line at most separates what stood apart, and one stands above each further stage.
//! - Comments keep their text and their place. Lines end with LF, the last one too.
//! - The text of scripts (`RUN`, shell forms, heredocs) keeps every byte.
//!
//! An instruction is rewritten by the boldest of four ways that leaves its meaning as it was
//! ([`rewrite`]); at the end the whole text is parsed again, and all its instructions, its directives
//! and its comments are compared with those of before. So formatting never changes what is built, and
//! formatting twice is formatting once.

mod rewrite;
#[cfg(test)]
mod tests;

use crate::ast::{Kind, Span, Stage};
use crate::diagnostic::{Diagnostic, Severity};
use crate::instruction::{self, Parsed};
use crate::keyword::Keyword;
use crate::lines::{self, Line, Scanned, directives};
use crate::source::BYTE_ORDER_MARK;

/// Returns the canonical form of a Dockerfile. `name` is only used in messages.
///
/// # Errors
/// All mistakes of the file: what can't be parsed is left alone.
pub fn format(name: &str, text: &[u8]) -> Result<String, Vec<Diagnostic>> {
    crate::parse_checked(name, text, Some(""))?;
    let text = crate::readable(name, text).map_err(|mistake| vec![mistake])?;
    let scanned = lines::scan(text);
    let formatted = Writer::new(text, &scanned).write(&scanned);
    match same(text, &scanned, &formatted) {
        true => Ok(formatted),
        false => {
            let message = "this file can't be formatted without changing what it means";
            Err(vec![Diagnostic::error("not-formatted", Span::default(), message)])
        }
    }
}

/// The new text while it grows.
struct Writer<'a> {
    text: &'a str,
    escape: char,
    /// Where the lines of parser directives end.
    directives_end: usize,
    out: String,
    /// A blank line stood before what comes next.
    apart: bool,
    /// Comments that may belong to the next instruction.
    block: Vec<String>,
    stages: usize,
}

impl<'a> Writer<'a> {
    fn new(text: &'a str, scanned: &Scanned<'a>) -> Self {
        Self {
            text,
            escape: scanned.directives.escape,
            directives_end: scanned.directives_end,
            out: String::with_capacity(text.len()),
            apart: false,
            block: Vec::new(),
            stages: 0,
        }
    }

    fn write(mut self, scanned: &Scanned<'a>) -> String {
        let mut at = if self.text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
        for line in &scanned.lines {
            let start = self.text[at..line.span.start].rfind('\n').map_or(at, |end| at + end + 1);
            self.gap(at, start);
            self.instruction(line);
            at = self.text[line.span.end..].find('\n').map_or(self.text.len(), |end| line.span.end + end + 1);
        }
        self.gap(at, self.text.len());
        self.flush(false);
        self.out
    }

    /// Comments and blank lines between instructions.
    fn gap(&mut self, start: usize, end: usize) {
        let mut at = start;
        for line in self.text[start..end].split_inclusive('\n') {
            let content = line.trim();
            if content.is_empty() {
                self.flush(false);
                self.apart = true;
            } else if at < self.directives_end {
                self.block.push(directives::canonical(content));
            } else {
                // A blank line at the top keeps this comment from being a directive.
                let first = self.out.is_empty() && self.block.is_empty();
                if first && self.apart && directives::is_directive(content) {
                    self.out.push('\n');
                }
                self.block.push(content.to_owned());
            }
            at += line.len();
        }
    }

    /// Writes the comments that wait; below a blank line when they stood apart or `apart` says so.
    fn flush(&mut self, apart: bool) {
        if self.block.is_empty() {
            return;
        }
        self.separate(apart);
        for comment in self.block.drain(..) {
            self.out.push_str(&comment);
            self.out.push('\n');
        }
    }

    fn separate(&mut self, apart: bool) {
        if (self.apart || apart) && !self.out.is_empty() && !self.out.ends_with("\n\n") && self.out != "\n" {
            self.out.push('\n');
        }
        self.apart = false;
    }

    fn instruction(&mut self, line: &Line<'_>) {
        let stage = Keyword::of(line.keyword()) == Some(Keyword::From);
        let further = stage && self.stages > 0;
        self.stages += usize::from(stage);
        if self.block.is_empty() {
            self.separate(further);
        }
        self.flush(further);
        self.out.push_str(&rewrite::instruction(self.text, line, self.escape));
    }
}

/// What an instruction says, without where it says so.
#[derive(Debug, PartialEq)]
enum Meaning {
    From(Stage),
    Other(Kind),
}

/// The meaning of a line; `None` when it has mistakes.
fn meaning(mut line: Line<'_>, escape: char) -> Option<Meaning> {
    line.forget_places();
    let keyword = Keyword::of(line.keyword())?;
    let mut found = Vec::new();
    let parsed = instruction::parse(&line, keyword, escape, &mut found);
    if found.iter().any(|one| one.severity == Severity::Error) {
        return None;
    }
    match parsed.ok()? {
        Parsed::From(stage) => Some(Meaning::From(Stage { original: String::new(), ..stage })),
        Parsed::Other(other) => Some(Meaning::Other(other.kind)),
    }
}

/// Tells whether both texts have the same directives, instructions and comments.
fn same(before: &str, scanned: &Scanned<'_>, after: &str) -> bool {
    let again = lines::scan(after);
    let word = |word: &Option<crate::ast::Word>| word.as_ref().map(|word| word.text.clone());
    let directives = |scanned: &Scanned<'_>| {
        let found = &scanned.directives;
        (word(&found.syntax), found.escape, word(&found.check))
    };
    let escape = scanned.directives.escape;
    let meanings = |scanned: &Scanned<'_>| -> Option<Vec<Meaning>> {
        scanned.lines.iter().map(|line| meaning(line.clone(), escape)).collect()
    };
    directives(scanned) == directives(&again)
        && meanings(scanned).is_some_and(|all| Some(all) == meanings(&again))
        && comments(before, scanned) == comments(after, &again)
        && !again.diagnostics.iter().any(|found| found.severity == Severity::Error)
}

/// The comments of a file, in order, directives aside.
fn comments<'a>(text: &'a str, scanned: &Scanned<'_>) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut at = scanned.directives_end;
    let mut add = |part: &'a str, first: bool| {
        let lines = part.lines().skip(usize::from(!first)).map(str::trim);
        found.extend(lines.filter(|line| line.starts_with('#')));
    };
    for line in &scanned.lines {
        add(&text[at.min(line.span.start)..line.span.start], true);
        // The first line is the instruction's own, whatever it begins with.
        add(&text[line.span.start..line.head_end()], false);
        at = line.span.end;
    }
    add(&text[at.min(text.len())..], true);
    found
}
