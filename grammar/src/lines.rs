//! Layer 1: physical lines to instructions.
//!
//! A grammar can't do this part well: `# escape=` changes the lexer, a comment inside a continuation
//! vanishes, and several heredocs on a line close first in, first out. So it is a hand scanner:
//!
//! 1. the byte order mark and the parser directives at the top ([`directives`]);
//! 2. lines joined at a trailing escape character, comments and blank lines between them dropped;
//! 3. the bodies of heredocs cut off ([`heredoc`]).
//!
//! What comes out is one [`Line`] per instruction, with a map from its bytes back to the source.

pub(crate) mod directives;
pub(crate) mod heredoc;

use std::borrow::Cow;

pub(crate) use directives::foreign_frontend;

use crate::ast::{Directives, Heredoc, Span};
use crate::diagnostic::Diagnostic;
use crate::source::BYTE_ORDER_MARK;

/// The longest physical line in bytes, as in BuildKit.
const MAX_LINE_BYTES: usize = 65_535;

/// The longest instruction in bytes, continuations joined. A program's argument holds 128 KiB, so
/// nothing that could run is refused.
const MAX_INSTRUCTION_BYTES: usize = 1 << 20;

/// The most instructions of a file: far more than the layers that any image can have.
const MAX_INSTRUCTIONS: usize = 50_000;

/// After so many heredocs with an end that is only nearly right, what follows one isn't looked at.
const MAX_NEAR_MISSES: usize = 50;

/// One instruction's text with its place in the source.
#[derive(Debug, Clone)]
pub(crate) struct Line<'a> {
    /// The text: continuations joined, outer blanks trimmed.
    pub(crate) text: Cow<'a, str>,
    /// Where pieces of `text` come from: (offset in `text`, offset in the source), ascending.
    map: Vec<(usize, usize)>,
    /// All physical lines of the instruction, heredocs included, without the last line end.
    pub(crate) span: Span,
    /// The heredocs, in order.
    pub(crate) heredocs: Vec<Cut>,
    /// The comments of the block right above it: offset in the source and text after the `#`, trimmed.
    pub(crate) comments: Vec<(usize, &'a str)>,
}

/// A heredoc whose body was cut off.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    /// Offset of its `<<` word in the instruction's text.
    pub(crate) at: usize,
    /// The heredoc.
    pub(crate) heredoc: Heredoc,
}

impl Line<'_> {
    /// The place in the source of the bytes `start..end` of the text.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let first = self.source_offset(start);
        if end <= start {
            return Span { start: first, end: first };
        }
        Span { start: first, end: self.source_offset(end - 1) + 1 }
    }

    /// Makes all places equal, so that lines are compared by what they say.
    pub(crate) fn forget_places(&mut self) {
        self.map.clear();
        self.comments.clear();
        self.span = Span::default();
        self.heredocs.iter_mut().for_each(|cut| cut.heredoc.span = Span::default());
    }

    /// Where the lines of the instruction end and its heredocs begin, without the last line end.
    pub(crate) fn head_end(&self) -> usize {
        // The body of the first one begins after a line end.
        self.heredocs.first().map_or(self.span.end, |cut| cut.heredoc.span.start - 1)
    }

    fn source_offset(&self, at: usize) -> usize {
        if self.map.is_empty() {
            return 0;
        }
        let index = self.map.partition_point(|(from, _)| *from <= at).saturating_sub(1);
        let (from, to) = self.map.get(index).copied().unwrap_or((0, self.span.start));
        to + at.saturating_sub(from)
    }

    /// The instruction's first word and its end, as written.
    pub(crate) fn keyword(&self) -> &str {
        first_word(&self.text)
    }
}

/// The text up to the first blank.
pub(crate) fn first_word(text: &str) -> &str {
    text.split(is_blank).next().unwrap_or("")
}

/// What separates words; a no-break space, for instance, does not.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r' | '\n')
}

/// What layer 1 finds in a file.
pub(crate) struct Scanned<'a> {
    pub(crate) directives: Directives,
    /// Where their lines end.
    pub(crate) directives_end: usize,
    pub(crate) lines: Vec<Line<'a>>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Splits a whole file.
pub(crate) fn scan(text: &str) -> Scanned<'_> {
    let start = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
    let mut diagnostics = Vec::new();
    let (directives, end) = directives::scan(text, start, &mut diagnostics);
    let mut scanner = Scanner {
        text,
        at: start,
        escape: directives.escape,
        diagnostics,
        directives_end: end,
        near_misses: 0,
    };
    let lines = scanner.lines();
    Scanned { directives, directives_end: end, lines, diagnostics: scanner.diagnostics }
}

/// Splits a text without directives: an ONBUILD trigger.
pub(crate) fn scan_plain(text: &str, escape: char) -> (Vec<Line<'_>>, Vec<Diagnostic>) {
    let mut scanner =
        Scanner { text, at: 0, escape, diagnostics: Vec::new(), directives_end: 0, near_misses: 0 };
    let lines = scanner.lines();
    (lines, scanner.diagnostics)
}

/// A physical line: its bytes without the line end, and where the next one starts.
#[derive(Debug, Clone, Copy)]
struct Physical {
    start: usize,
    end: usize,
    next: usize,
}

/// The physical line at `at`; `None` at the end of the text. Trailing carriage returns belong to the
/// line end.
fn physical(text: &str, at: usize) -> Option<Physical> {
    if at >= text.len() {
        return None;
    }
    let (stop, next) = match text[at..].find('\n') {
        Some(found) => (at + found, at + found + 1),
        None => (text.len(), text.len()),
    };
    let end = at + text[at..stop].trim_end_matches('\r').len();
    Some(Physical { start: at, end, next })
}

/// Takes the escape character off the end of a line, and tells whether there was one.
///
/// Blanks may follow it; a doubled one is no continuation.
pub(crate) fn cut_continuation(line: &str, escape: char) -> (&str, bool) {
    let content = line.trim_end_matches([' ', '\t']);
    match content.strip_suffix(escape) {
        Some(kept) if !kept.ends_with(escape) => (kept, true),
        _ => (line, false),
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    escape: char,
    diagnostics: Vec<Diagnostic>,
    /// Where the lines of parser directives end; they are no comments of the instruction below them.
    directives_end: usize,
    /// Heredocs whose end was only nearly right.
    near_misses: usize,
}

/// The pieces of an instruction while its lines are joined.
struct Joined<'a> {
    text: Cow<'a, str>,
    map: Vec<(usize, usize)>,
    /// One past the last line that belongs to the instruction.
    end: usize,
}

impl<'a> Scanner<'a> {
    fn lines(&mut self) -> Vec<Line<'a>> {
        let mut lines = Vec::new();
        let mut comments = Vec::new();
        while let Some(first) = self.next_physical() {
            let text = self.text;
            let content = text[first.start..first.end].trim_start();
            if content.is_empty() || content.starts_with('#') {
                self.note_comment(first, content, &mut comments);
                continue;
            }
            let comments = std::mem::take(&mut comments);
            if lines.len() == MAX_INSTRUCTIONS {
                let message = format!("more than {MAX_INSTRUCTIONS} instructions");
                let span = Span { start: first.start, end: first.end };
                self.diagnostics.push(Diagnostic::error("too-many-instructions", span, message));
                break;
            }
            let joined = self.join(first);
            let Some(line) = self.trimmed(joined, first) else { continue };
            lines.push(self.with_heredocs(Line { comments, ..line }));
        }
        lines
    }

    /// Adds a comment to the block above the next instruction; a blank line and an empty comment end the block.
    fn note_comment(&self, line: Physical, content: &'a str, block: &mut Vec<(usize, &'a str)>) {
        let inside = content.strip_prefix('#').unwrap_or("").trim_start();
        if inside.is_empty() {
            block.clear();
        } else if line.start >= self.directives_end {
            block.push((line.end - inside.len(), inside.trim_end()));
        }
    }

    /// Takes a physical line, reporting one that is too long.
    fn next_physical(&mut self) -> Option<Physical> {
        let line = physical(self.text, self.at)?;
        self.at = line.next;
        if line.end - line.start > MAX_LINE_BYTES {
            let message = format!("dockerfile line greater than max allowed size of {MAX_LINE_BYTES}");
            let span = Span { start: line.start, end: line.start };
            self.diagnostics.push(Diagnostic::error("line-too-long", span, message));
        }
        Some(line)
    }

    /// Joins the lines of the instruction that starts with `first`.
    fn join(&mut self, first: Physical) -> Joined<'a> {
        let start = first.end - self.text[first.start..first.end].trim_start().len();
        let text = self.text;
        let (kept, mut continues) = cut_continuation(&text[start..first.end], self.escape);
        let mut joined = Joined { text: Cow::Borrowed(kept), map: vec![(0, start)], end: first.end };
        let mut blank: Option<Span> = None;
        while continues {
            let Some(line) = self.next_physical() else { break };
            let content = &self.text[line.start..line.end];
            if content.trim_start().starts_with('#') {
                continue;
            }
            if content.trim_start().is_empty() {
                blank = blank.or(Some(Span { start: line.start, end: line.end }));
                continue;
            }
            let (kept, more) = cut_continuation(content, self.escape);
            joined.map.push((joined.text.len(), line.start));
            joined.text.to_mut().push_str(kept);
            joined.end = line.end;
            continues = more;
        }
        if let Some(span) = blank {
            let message = "empty continuation line: it will become an error in a future release";
            let hint = "remove the blank line, or the escape character at the end of the line before it";
            self.diagnostics.push(Diagnostic::warning("no-empty-continuation", span, message).hint(hint));
        }
        joined
    }

    /// The joined text without outer blanks; `None` when nothing is left or there is too much of it.
    fn trimmed(&mut self, joined: Joined<'a>, first: Physical) -> Option<Line<'a>> {
        let lead = joined.text.len() - joined.text.trim_start().len();
        let text = match joined.text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        };
        if text.is_empty() {
            return None;
        }
        let whole = Line {
            text,
            map: joined.map,
            span: Span { start: first.start, end: joined.end },
            heredocs: vec![],
            comments: vec![],
        };
        let start = whole.source_offset(lead);
        let map = whole.map.iter().map(|(from, to)| {
            let cut = lead.saturating_sub(*from);
            (from.saturating_sub(lead), to + cut)
        });
        let mut map: Vec<(usize, usize)> = map.collect();
        // Pieces that lay wholly in the trimmed blanks would map offset 0 twice; the last one is right.
        map.reverse();
        map.dedup_by_key(|(from, _)| *from);
        map.reverse();
        let line = Line { map, span: Span { start, ..whole.span }, ..whole };
        if line.text.len() > MAX_INSTRUCTION_BYTES {
            let message = format!("instruction greater than max allowed size of {MAX_INSTRUCTION_BYTES}");
            let span = line.span(0, line.keyword().len());
            // A line of it that was reported for its own length is enough.
            if self.diagnostics.last().is_none_or(|found| found.code != "line-too-long") {
                self.diagnostics.push(Diagnostic::error("instruction-too-long", span, message));
            }
            return None;
        }
        Some(line)
    }

    /// Cuts the bodies of the line's heredocs off the text that follows.
    fn with_heredocs(&mut self, mut line: Line<'a>) -> Line<'a> {
        for opening in heredoc::openings(&line.text) {
            let token = line.span(opening.start, opening.end);
            let Some(cut) = self.body(&opening, token, &line.text) else { break };
            line.span.end = line.span.end.max(cut.heredoc.span.end);
            line.heredocs.push(cut);
        }
        line
    }

    /// Reads one heredoc's body up to its terminator; `None` when there is none.
    fn body(&mut self, opening: &heredoc::Opening, token: Span, text: &str) -> Option<Cut> {
        let start = self.at;
        let mut near_miss = None;
        while let Some(line) = self.next_physical() {
            let content = &self.text[line.start..line.end];
            let content = if opening.strip_tabs { content.trim_start_matches('\t') } else { content };
            if content == opening.name {
                let raw = &self.text[start..line.start];
                let body = if opening.strip_tabs { heredoc::without_tabs(raw) } else { raw.to_owned() };
                let heredoc = Heredoc {
                    name: opening.name.clone(),
                    body,
                    raw: raw.to_owned(),
                    expand: opening.expand,
                    strip_tabs: opening.strip_tabs,
                    fd: opening.fd,
                    token: text[opening.start..opening.end].to_owned(),
                    span: Span { start, end: line.end },
                };
                return Some(Cut { at: opening.start, heredoc });
            }
            if near_miss.is_none() && content.trim() == opening.name {
                near_miss = Some(line);
            }
        }
        self.unterminated(opening, token, near_miss);
        None
    }

    /// Reports a heredoc without an end; goes on after a line that looks like the end it should have.
    fn unterminated(&mut self, opening: &heredoc::Opening, token: Span, near_miss: Option<Physical>) {
        let name = crate::diagnostic::quote(&opening.name);
        let hint = match near_miss {
            Some(line) => {
                let number = self.text[..line.start].bytes().filter(|byte| *byte == b'\n').count() + 1;
                let tabs = if opening.strip_tabs { "" } else { " (`<<-` allows leading tabs)" };
                format!("line {number} has blanks around {name}: the end must stand alone on its line{tabs}")
            }
            None => format!("end it with a line that is exactly {name}"),
        };
        // Each one reads on to the end of the file: with many, the rest of the file is theirs.
        self.near_misses += usize::from(near_miss.is_some());
        if let Some(line) = near_miss.filter(|_| self.near_misses <= MAX_NEAR_MISSES) {
            self.at = line.next;
        }
        let message = format!("unterminated heredoc: no line {name} follows");
        self.diagnostics.push(Diagnostic::error("unterminated-heredoc", token, message).hint(hint));
    }
}

#[cfg(test)]
mod tests;
