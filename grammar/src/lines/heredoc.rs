//! Finds the heredocs that an instruction opens.
//!
//! A heredoc is a shell word of the form `[fd]<<[-]name`; blanks may stand before the name, and
//! quoting any part of the name keeps the body from being expanded. The quoting is the shell's,
//! whatever the `escape` directive says. Words that begin elsewhere (`cat<<EOF`), here-strings
//! (`<<<`) and shifts inside `$((…))` open nothing.

use super::{first_word, is_blank};

/// One heredoc word, before its body is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// Offset of the word.
    pub(crate) start: usize,
    /// Offset one past the word.
    pub(crate) end: usize,
    /// The name without quotes.
    pub(crate) name: String,
    /// False when any part of the name was quoted.
    pub(crate) expand: bool,
    /// True for `<<-`.
    pub(crate) strip_tabs: bool,
    /// The number before `<<`.
    pub(crate) fd: Option<u32>,
}

/// Finds the heredocs of an instruction's text, in order; none unless it is RUN, COPY or ADD.
///
/// A line with an unclosed quote opens none: what follows it isn't known to be outside quotes.
pub(crate) fn openings(text: &str) -> Vec<Opening> {
    if !text.contains("<<") {
        return Vec::new();
    }
    let Some((start, shell)) = arguments(text) else { return Vec::new() };
    let mut scanner = Scanner { text, at: start, shell, arithmetic: 0 };
    scanner.openings().unwrap_or_default()
}

/// Where the arguments of a RUN, COPY or ADD start, below ONBUILD too; true for RUN.
fn arguments(text: &str) -> Option<(usize, bool)> {
    let mut at = 0;
    loop {
        let word = first_word(&text[at..]);
        let after = at + word.len();
        match word.to_ascii_uppercase().as_str() {
            "RUN" => return Some((after, true)),
            "COPY" | "ADD" => return Some((after, false)),
            "ONBUILD" if at == 0 => at = text.len() - text[after..].trim_start_matches(is_blank).len(),
            _ => return None,
        }
    }
}

/// Removes the tabs at the start of each line.
pub(crate) fn without_tabs(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// A quote is not closed.
struct Unclosed;

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// In a RUN, a name ends where the shell ends a word: at `;`, `|`, `&`, `>`, `(` or `)`.
    shell: bool,
    /// How many `$((` are open.
    arithmetic: usize,
}

impl Scanner<'_> {
    fn openings(&mut self) -> Result<Vec<Opening>, Unclosed> {
        let mut found = Vec::new();
        while let Some(c) = self.peek() {
            if is_blank(c) {
                self.at += c.len_utf8();
            } else if let Some(opening) = self.opening()? {
                found.push(opening);
            } else {
                self.word()?;
            }
        }
        Ok(found)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// The heredoc that starts here, if one does; stays in place otherwise.
    fn opening(&mut self) -> Result<Option<Opening>, Unclosed> {
        let start = self.at;
        let digits = self.text[start..].bytes().take_while(u8::is_ascii_digit).count();
        let Some(rest) = self.text[start + digits..].strip_prefix("<<") else { return Ok(None) };
        if self.arithmetic > 0 || rest.starts_with('<') {
            return Ok(None);
        }
        let fd = self.text[start..start + digits].parse().ok();
        let strip_tabs = rest.starts_with('-');
        let rest = &rest[usize::from(strip_tabs)..];
        self.at = self.text.len() - rest.trim_start_matches(is_blank).len();
        let (name, expand) = self.name()?;
        if name.is_empty() || self.peek() == Some('<') {
            self.at = start;
            return Ok(None);
        }
        Ok(Some(Opening { start, end: self.at, name, expand, strip_tabs, fd }))
    }

    /// The delimiter without its quotes, and whether it had none.
    fn name(&mut self) -> Result<(String, bool), Unclosed> {
        let mut name = String::new();
        let mut expand = true;
        while let Some(c) = self.peek() {
            if is_blank(c) || c == '<' || (self.shell && matches!(c, ';' | '|' | '&' | '>' | '(' | ')')) {
                break;
            }
            let piece = self.at;
            self.piece(c)?;
            let piece = &self.text[piece..self.at];
            match c {
                '\'' | '"' => {
                    expand = false;
                    name.push_str(&piece[1..piece.len() - 1]);
                }
                '\\' => name.push_str(&piece[1..]),
                _ => name.push_str(piece),
            }
        }
        Ok((name, expand))
    }

    /// Skips a word that opens no heredoc.
    fn word(&mut self) -> Result<(), Unclosed> {
        let mut first = true;
        while let Some(c) = self.peek() {
            if is_blank(c) {
                break;
            }
            let rest = &self.text[self.at..];
            // `a <<b` ends a shell word before `<<`, but only blanks end a word here, as in BuildKit.
            if rest.starts_with("$((") {
                self.arithmetic += 1;
                self.at += 3;
            } else if self.arithmetic > 0 && rest.starts_with("))") {
                self.arithmetic -= 1;
                self.at += 2;
            } else {
                self.piece(c)?;
            }
            first = false;
        }
        debug_assert!(!first, "a word has at least one character");
        Ok(())
    }

    /// Skips one character, one escaped character or one quoted string.
    fn piece(&mut self, c: char) -> Result<(), Unclosed> {
        self.at += c.len_utf8();
        match c {
            '\'' => {
                let close = self.text[self.at..].find('\'').ok_or(Unclosed)?;
                self.at += close + 1;
            }
            '"' => loop {
                let c = self.peek().ok_or(Unclosed)?;
                self.at += c.len_utf8();
                match c {
                    '"' => break,
                    '\\' => self.at += self.peek().ok_or(Unclosed)?.len_utf8(),
                    _ => {}
                }
            },
            '\\' => self.at += self.peek().map_or(0, char::len_utf8),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        openings(text).into_iter().map(|opening| opening.name).collect()
    }

    #[test]
    fn words_that_open_heredocs() {
        let table: &[(&str, &[&str])] = &[
            ("RUN <<EOF", &["EOF"]),
            ("run <<-EOF", &["EOF"]),
            ("RUN <<- EOF", &["EOF"]),
            ("RUN << -EOF", &["-EOF"]),
            ("RUN <<  EOF  > foo", &["EOF"]),
            ("RUN <<'EOF'", &["EOF"]),
            ("RUN 4<<EOF", &["EOF"]),
            ("RUN <<EOF <<EOF2", &["EOF", "EOF2"]),
            ("RUN '<<EOF'", &[]),
            ("RUN \"<<EOF\"", &[]),
            ("RUN \\<<EOF", &[]),
            ("RUN cat<<EOF", &[]),
            ("RUN <<<EOF", &[]),
            ("RUN cat <<< EOF", &[]),
            ("RUN <<", &[]),
            ("RUN <<-", &[]),
            ("RUN <<'one two'", &["one two"]),
            ("RUN <<eo'f'", &["eof"]),
            ("RUN <<eo\\'f", &["eo'f"]),
            ("RUN <<$EOF", &["$EOF"]),
            ("RUN echo $((1 << 3))", &[]),
            ("RUN echo $((1 << 3)) <<EOF", &["EOF"]),
            ("RUN cat <<EOF>out", &["EOF"]),
            ("RUN cat <<A|tr a b; cat <<B", &["A", "B"]),
            ("RUN --mount=type=cache,target=/foo <<MOUNT", &["MOUNT"]),
            ("RUN [\"<<EOF\"]", &[]),
            ("RUN cat <<EOF 'open", &[]),
            ("COPY <<file.txt <<b /dest", &["file.txt", "b"]),
            ("COPY <<a(b) /dest", &["a(b)"]),
            ("ONBUILD COPY <<a /dest", &["a"]),
            ("ONBUILD ONBUILD COPY <<a /dest", &[]),
            ("USER <<EOF", &[]),
            ("ENV a=<<EOF", &[]),
        ];
        for (text, expected) in table {
            assert_eq!(names(text), *expected, "{text}");
        }
    }

    #[test]
    fn a_word_keeps_its_parts() {
        let opening = &openings("RUN cat 3<<-\"E F\"x")[0];
        let expected =
            Opening { start: 8, end: 18, name: "E Fx".into(), expand: false, strip_tabs: true, fd: Some(3) };
        assert_eq!(*opening, expected);
        assert!(openings("RUN <<eo\\'f")[0].expand, "an escape is no quote");
    }

    #[test]
    fn tabs_are_removed_from_each_line() {
        assert_eq!(without_tabs("\thello\n\t\tworld\n\n x\t"), "hello\nworld\n\n x\t");
    }
}
