//! Text that is shown: its width, shortened forms, and bytes that must not reach the terminal.

/// Returns how many columns a terminal gives `c`: 0, 1 or 2.
pub(crate) fn char_width(c: char) -> usize {
    match u32::from(c) {
        0..=0x1f | 0x7f..=0x9f => 0,
        // Combining marks, zero-width joiners, variation selectors.
        0x300..=0x36f | 0x483..=0x489 | 0x591..=0x5bd | 0x610..=0x61a | 0x64b..=0x65f => 0,
        0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x2064 | 0x20d0..=0x20f0 => 0,
        0xfe00..=0xfe0f | 0xfe20..=0xfe2f | 0xfeff | 0xe0100..=0xe01ef => 0,
        // East Asian wide and fullwidth, emoji.
        0x1100..=0x115f | 0x231a..=0x231b | 0x2329..=0x232a | 0x23e9..=0x23ec => 2,
        0x25fd..=0x25fe | 0x2614..=0x2615 | 0x2648..=0x2653 | 0x26a1 | 0x26bd..=0x26be => 2,
        0x2705 | 0x270a..=0x270b | 0x2728 | 0x274c | 0x274e | 0x2753..=0x2755 | 0x2757 => 2,
        0x2795..=0x2797 | 0x27b0 | 0x2b1b..=0x2b1c | 0x2b50 | 0x2b55 => 2,
        0x2e80..=0x303e | 0x3041..=0xa4cf | 0xa960..=0xa97f | 0xac00..=0xd7a3 => 2,
        0xf900..=0xfaff | 0xfe10..=0xfe19 | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x1f004 | 0x1f0cf | 0x1f18e | 0x1f191..=0x1f19a | 0x1f200..=0x1f320 => 2,
        0x1f32d..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f7e0..=0x1f7eb | 0x1f90c..=0x1f9ff => 2,
        0x1fa70..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Returns how many columns a terminal gives `text`.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Cuts `text` to `columns`, with `…` as its last one when something is lost.
pub(crate) fn ellipsis(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = cut(text, columns.saturating_sub(1)).to_owned();
    if columns > 0 {
        out.push('…');
    }
    out
}

/// Returns the longest beginning of `text` that fits in `columns`.
pub(crate) fn cut(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += char_width(c);
        if used > columns {
            return &text[..at];
        }
    }
    text
}

/// Returns the 12 digits of `id` that tables show: without `sha256:`.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

/// Returns `text` in double quotes with Go's escapes.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Makes a line of a program's output harmless: escape sequences go, other control characters go, a tab becomes
/// blanks, and a carriage return keeps only what stands after it, as a terminal would show.
pub(crate) fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\r', '\n']);
    let line = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or("");
    let mut out = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' => skip_escape(&mut characters),
            // The one-character form of `ESC [`.
            '\u{9b}' => skip_control_sequence(&mut characters),
            '\t' => out.push_str(&" ".repeat(8 - width(&out) % 8)),
            '\u{8}' => drop(out.pop()),
            c if c.is_control() || is_direction(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// Marks that turn the direction of the text around them, and so what a reader believes to see.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => skip_control_sequence(characters),
        // Operating system commands and their kin end with BEL or `ESC \`.
        Some(']' | 'P' | '^' | '_' | 'X') => {
            while let Some(c) = characters.next() {
                if c == '\u{7}' || (c == '\u{1b}' && characters.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some('(' | ')' | '*' | '+' | '#' | '%' | ' ') => drop(characters.next()),
        _ => {}
    }
}

fn skip_control_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(c) = characters.next_if(|c| matches!(c, '\u{20}'..='\u{7e}')) {
        if matches!(c, '\u{40}'..='\u{7e}') {
            break;
        }
    }
}

/// Returns `text` on one line: control characters become blanks.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_count_columns() {
        for (text, expected) in
            [("abc", 3), ("日本", 4), ("e\u{301}", 1), ("🚀x", 3), ("", 0), ("a\u{200d}b", 2)]
        {
            assert_eq!(width(text), expected, "{text:?}");
        }
    }

    #[test]
    fn long_text_ends_in_an_ellipsis() {
        for (text, columns, expected) in [
            ("hello", 5, "hello"),
            ("hello!", 5, "hell…"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("ab", 0, ""),
        ] {
            assert_eq!(ellipsis(text, columns), expected);
        }
    }

    #[test]
    fn output_of_steps_cannot_steer_the_terminal() {
        for (bytes, expected) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b[2J\x1b[Hgone", "gone"),
            (b"\x1b]0;title\x07text", "text"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1bP evil \x1b\\x", "x"),
            (b"10%\r50%\r100%\r", "100%"),
            (b"a\tb", "a       b"),
            (b"ab\x08c\x07\x00", "ac"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("\u{9b}31mred \u{202e}evil".as_bytes(), "red evil"),
            (b"\x1b", ""),
            (b"\x1b[", ""),
            (b"line\n", "line"),
        ] {
            assert_eq!(harmless(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn ids_are_shown_by_twelve_digits() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("0123"), "0123");
    }
}
