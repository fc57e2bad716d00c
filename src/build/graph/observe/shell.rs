//! Reads the part of the shell's language that can be judged.
//!
//! What isn't understood is no error: [`commands`] gives `None`, and everything counts.

/// A simple command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// Its words, assignments and reserved words included.
    pub(super) words: Vec<Word>,
    /// The files that its outputs go to.
    pub(super) targets: Vec<Word>,
}

/// A word with its quotes removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// Its text; variables in it are left out.
    pub(super) text: String,
    /// True when the text is all of it, whatever variables there are and files that a pattern could match.
    pub(super) literal: bool,
    /// The name that it gives a value to, as the first words of a command and those of `export` do.
    pub(super) assigns: Option<String>,
}

/// Characters that end a word where they aren't quoted.
const ENDS: &[u8] = b" \t\n;&|<>()";

/// Splits a script into its commands; `None` if it has anything that could run or read what isn't seen here.
pub(super) fn commands(script: &str) -> Option<Vec<Command>> {
    let mut scanner = Scanner { text: script.as_bytes(), at: 0, ..Scanner::default() };
    scanner.all()?;
    Some(scanner.commands)
}

#[derive(Default)]
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    commands: Vec<Command>,
    current: Command,
    word: Option<Building>,
    /// The next word is where an output goes.
    target: bool,
    heredocs: Vec<Heredoc>,
}

/// A word that isn't finished.
#[derive(Default)]
struct Building {
    bytes: Vec<u8>,
    not_literal: bool,
    quoted: bool,
    assigns: Option<String>,
}

struct Heredoc {
    delimiter: Vec<u8>,
    quoted: bool,
    strip_tabs: bool,
}

impl Scanner<'_> {
    fn all(&mut self) -> Option<()> {
        while let Some(byte) = self.peek() {
            match byte {
                0 | b'`' | b'(' | b')' => return None,
                b' ' | b'\t' => self.end_word()?,
                b'\n' => {
                    self.end_command()?;
                    self.at += 1;
                    self.heredoc_bodies()?;
                    continue;
                }
                b';' | b'&' | b'|' => self.end_command()?,
                b'#' if self.word.is_none() => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.at += 1;
                    }
                    continue;
                }
                b'<' => {
                    self.heredoc()?;
                    continue;
                }
                b'>' => {
                    self.output()?;
                    continue;
                }
                _ => {
                    self.part_of_word(byte)?;
                    continue;
                }
            }
            self.at += 1;
        }
        self.end_command()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn word(&mut self) -> &mut Building {
        self.word.get_or_insert_default()
    }

    fn part_of_word(&mut self, byte: u8) -> Option<()> {
        self.at += 1;
        match byte {
            b'\\' => match self.next()? {
                b'\n' => {}
                escaped => {
                    let word = self.word();
                    word.quoted = true;
                    word.bytes.push(escaped);
                }
            },
            b'\'' => {
                let rest = &self.text[self.at..];
                let length = rest.iter().position(|byte| *byte == b'\'')?;
                let word = self.word();
                word.quoted = true;
                word.bytes.extend(&rest[..length]);
                self.at += length + 1;
            }
            b'"' => self.double_quoted()?,
            b'$' => self.expansion(false)?,
            b'=' => {
                let word = self.word();
                let name = String::from_utf8_lossy(&word.bytes).into_owned();
                if !word.quoted && !word.not_literal && word.assigns.is_none() {
                    word.assigns = Some(name);
                }
                word.bytes.push(byte);
            }
            b'*' | b'?' | b'[' | b'{' | b'}' | b'~' => {
                let word = self.word();
                word.not_literal = true;
                word.bytes.push(byte);
            }
            // Some locales have further blanks.
            byte if !byte.is_ascii_graphic() => return None,
            byte => self.word().bytes.push(byte),
        }
        Some(())
    }

    fn double_quoted(&mut self) -> Option<()> {
        self.word().quoted = true;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'`' => return None,
                b'$' if self.peek() == Some(b'"') => self.word().bytes.push(b'$'),
                b'$' => self.expansion(true)?,
                b'\\' => match self.next()? {
                    b'\n' => {}
                    byte @ (b'"' | b'\\' | b'$' | b'`') => self.word().bytes.push(byte),
                    byte => self.word().bytes.extend([b'\\', byte]),
                },
                byte => self.word().bytes.push(byte),
            }
        }
    }

    /// A variable after its `$`: `$name`, `${name}` and the special ones, nothing else.
    fn expansion(&mut self, quoted: bool) -> Option<()> {
        match self.peek() {
            Some(b'{') => {
                let rest = &self.text[self.at + 1..];
                let length = rest.iter().position(|byte| *byte == b'}')?;
                if !is_parameter(&rest[..length]) {
                    return None;
                }
                self.at += length + 2;
            }
            Some(b'(' | b'[') => return None,
            Some(b'\'' | b'"') if !quoted => return None,
            Some(byte) if byte.is_ascii_alphabetic() || byte == b'_' => {
                let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                while self.peek().is_some_and(name) {
                    self.at += 1;
                }
            }
            Some(byte) if is_parameter(&[byte]) => self.at += 1,
            _ => {
                self.word().bytes.push(b'$');
                return Some(());
            }
        }
        self.word().not_literal = true;
        Some(())
    }

    fn end_word(&mut self) -> Option<()> {
        let Some(built) = self.word.take() else { return Some(()) };
        let text = String::from_utf8(built.bytes).ok()?;
        // `[` is a command; alone it is no pattern.
        let literal = !built.not_literal || text == "[";
        let word = Word { text, literal, assigns: built.assigns };
        match std::mem::take(&mut self.target) {
            true => self.current.targets.push(word),
            false => self.current.words.push(word),
        }
        Some(())
    }

    fn end_command(&mut self) -> Option<()> {
        self.end_word()?;
        if self.target {
            return None;
        }
        let command = std::mem::take(&mut self.current);
        if command != Command::default() {
            self.commands.push(command);
        }
        Some(())
    }

    /// `>`, `>>`, `>|`, `>&`.
    fn output(&mut self) -> Option<()> {
        // Digits right before it are a descriptor, no argument.
        if self.word.as_ref().is_some_and(|word| word.bytes.iter().all(u8::is_ascii_digit)) {
            self.word = None;
        }
        self.end_word()?;
        if self.target {
            return None;
        }
        self.at += 1;
        if matches!(self.peek(), Some(b'>' | b'|' | b'&')) {
            self.at += 1;
        }
        self.target = true;
        Some(())
    }

    /// `<<`; every other input is the content of a file.
    fn heredoc(&mut self) -> Option<()> {
        if self.word.as_ref().is_some_and(|word| word.bytes.iter().all(u8::is_ascii_digit)) {
            self.word = None;
        }
        self.end_word()?;
        let rest = self.text[self.at..].strip_prefix(b"<<")?;
        self.at += 2;
        let strip_tabs = rest.first() == Some(&b'-');
        self.at += usize::from(strip_tabs);
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        let (mut delimiter, mut quoted) = (Vec::new(), false);
        while let Some(byte) = self.peek().filter(|byte| !ENDS.contains(byte)) {
            match byte {
                b'\'' | b'"' => quoted = true,
                byte if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) => delimiter.push(byte),
                _ => return None,
            }
            self.at += 1;
        }
        if delimiter.is_empty() {
            return None;
        }
        self.heredocs.push(Heredoc { delimiter, quoted, strip_tabs });
        Some(())
    }

    /// Skips the bodies that begin here; variables in them are checked.
    fn heredoc_bodies(&mut self) -> Option<()> {
        for heredoc in std::mem::take(&mut self.heredocs) {
            let start = self.at;
            let mut end = self.text.len();
            while self.at < self.text.len() {
                let rest = &self.text[self.at..];
                let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                let mut line = &rest[..length];
                while heredoc.strip_tabs && line.first() == Some(&b'\t') {
                    line = &line[1..];
                }
                let begin = self.at;
                self.at = (self.at + length + 1).min(self.text.len());
                if line == heredoc.delimiter {
                    end = begin;
                    break;
                }
            }
            if !heredoc.quoted {
                only_variables(&self.text[start..end])?;
            }
        }
        Some(())
    }
}

/// `None` if the body of a heredoc has more than plain variables in it.
fn only_variables(body: &[u8]) -> Option<()> {
    let mut inside = Scanner { text: body, ..Scanner::default() };
    while let Some(byte) = inside.next() {
        match byte {
            b'`' => return None,
            b'\\' => drop(inside.next()),
            b'$' => inside.expansion(true)?,
            _ => {}
        }
    }
    Some(())
}

/// A variable's name, a number or a special parameter.
fn is_parameter(name: &[u8]) -> bool {
    match name {
        [single] if b"?#@*-$!".contains(single) => true,
        digits if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => true,
        name => std::str::from_utf8(name).is_ok_and(super::names::is_identifier),
    }
}
