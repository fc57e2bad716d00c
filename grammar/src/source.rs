//! The text of a Dockerfile as people see it: lines, columns, and how wide each character is shown.

use std::ops::Range;

use crate::ast::Span;

/// A file's name and text, for turning offsets into places.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The name to show, for instance `Dockerfile`.
    pub name: &'a str,
    /// The whole text, as it was given to [`crate::parse`].
    pub text: &'a str,
}

impl<'a> Source<'a> {
    /// Returns the line and the column of a byte offset, both counted from 1, columns in characters.
    ///
    /// An offset past the end is taken as the end; one inside a character as that character's start.
    /// A byte order mark takes no column.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.boundary(offset);
        let before = &self.text[..offset];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before[start..].chars().filter(|c| *c != BYTE_ORDER_MARK).count() + 1;
        (line, column)
    }

    /// Returns line `number` (from 1) without its line end; empty past the last line.
    pub fn line(&self, number: usize) -> &'a str {
        let line = self.text.split('\n').nth(number.saturating_sub(1)).unwrap_or("");
        line.trim_end_matches('\r')
    }

    /// The start of the character that `offset` points into.
    fn boundary(&self, offset: usize) -> usize {
        (0..=offset.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
    }

    /// The line that `span` starts in and the part of the span inside that line, as bytes of the line.
    pub(crate) fn excerpt(&self, span: Span) -> (&'a str, Range<usize>) {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end).max(start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let line = self.text[line_start..line_end].trim_end_matches('\r');
        let inside = |at: usize| (at - line_start).min(line.len());
        (line, inside(start)..inside(end.min(line_end)))
    }
}

/// The mark that some editors put at the start of a UTF-8 file.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// A tab is shown as this many blanks.
const TAB_COLUMNS: usize = 4;

/// What a character looks like in a terminal: harmless text and the columns that it takes.
///
/// Control characters become their pictures, so that a hostile file can't drive the terminal;
/// characters that reorder text become a replacement character.
pub(crate) fn shown(c: char, out: &mut String) -> usize {
    match c {
        '\t' => {
            out.extend(std::iter::repeat_n(' ', TAB_COLUMNS));
            TAB_COLUMNS
        }
        '\u{0}'..='\u{1f}' => {
            out.push(char::from_u32(0x2400 + c as u32).unwrap_or(char::REPLACEMENT_CHARACTER));
            1
        }
        BYTE_ORDER_MARK => 0,
        '\u{7f}' => {
            out.push('\u{2421}');
            1
        }
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            out.push(char::REPLACEMENT_CHARACTER);
            1
        }
        _ => {
            out.push(c);
            columns(c)
        }
    }
}

/// The columns of a printable character: 0 for combining ones, 2 for East Asian wide ones and emoji.
///
/// The ranges are the blocks of Unicode's EastAsianWidth `W` and `F`, not every single gap in them.
fn columns(c: char) -> usize {
    match c as u32 {
        0x0300..=0x036f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x200b..=0x200d | 0x2060 | 0xfe20..=0xfe2f | 0xe0100..=0xe01ef => 0,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0x33ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff => 2,
        0xa000..=0xa4cf | 0xa960..=0xa97f | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f680..=0x1f6ff => 2,
        0x1f900..=0x1f9ff | 0x1fa70..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_from_one() {
        let source = Source { name: "Dockerfile", text: "FROM a\nRUN é中x\r\nlast" };
        let table = [(0, (1, 1)), (5, (1, 6)), (7, (2, 1)), (11, (2, 5)), (13, (2, 6)), (16, (2, 7))];
        for (offset, expected) in table {
            assert_eq!(source.line_column(offset), expected, "{offset}");
        }
        assert_eq!(source.line_column(12), (2, 5), "inside é");
        assert_eq!(source.line_column(999), (3, 5));
        assert_eq!(source.line(2), "RUN é中x");
        assert_eq!(source.line(9), "");
        assert_eq!(source.line(0), "FROM a");
    }

    #[test]
    fn a_byte_order_mark_takes_no_column() {
        let source = Source { name: "Dockerfile", text: "\u{feff}FORM x" };
        assert_eq!(source.line_column(3), (1, 1));
    }

    #[test]
    fn an_escape_sequence_is_shown_as_a_picture() {
        let mut out = String::new();
        let width: usize = "a\u{1b}[31m\0\u{202e}中".chars().map(|c| shown(c, &mut out)).sum();
        assert_eq!(out, "a␛[31m␀\u{fffd}中");
        assert_eq!(width, 10);
    }
}
