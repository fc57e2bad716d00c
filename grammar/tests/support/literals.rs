//! The texts in a crate's source that users may see, found by reading the source.
//!
//! Not a Rust parser: it knows comments, strings and characters, and leaves out what stands below
//! `#[cfg(test)]` and in files and folders named `tests`.

use std::fs;
use std::path::{Path, PathBuf};

/// A string in the source.
pub(super) struct Literal {
    /// `file:line`.
    pub(super) place: String,
    /// The code just before it, without blanks at its end.
    pub(super) before: String,
    /// The string, escapes resolved.
    pub(super) text: String,
}

impl Literal {
    /// True for a sentence: several words that aren't for developers alone.
    pub(super) fn is_sentence(&self) -> bool {
        let developers = ["expect(", "reason =", "debug_assert!(", "todo!(", "unreachable!("];
        let words = self.text.split_whitespace().filter(|word| word.contains(char::is_alphabetic));
        let nearby = self.before.char_indices().rev().nth(40).map_or(0, |(at, _)| at);
        words.count() > 1 && !developers.iter().any(|mark| self.before[nearby..].contains(mark))
    }

    /// True for the code of a diagnostic.
    pub(super) fn is_code(&self) -> bool {
        let calls = ["error(", "warning(", "code:", "wrong("];
        let lower = |c: char| c.is_ascii_lowercase() || c == '-';
        calls.iter().any(|call| self.before.ends_with(call))
            && !self.text.is_empty()
            && self.text.chars().all(lower)
    }

    /// The longest part of a sentence without placeholders.
    pub(super) fn longest_part(&self) -> String {
        let text = self.text.replace("{{", "\u{1}").replace("}}", "\u{2}");
        let parts = text.split('{').enumerate().map(|(index, part)| match index {
            0 => part,
            _ => part.split_once('}').map_or("", |(_, rest)| rest),
        });
        let longest = parts.max_by_key(|part| part.len()).unwrap_or_default();
        longest.replace('\u{1}', "{").replace('\u{2}', "}")
    }
}

/// All strings of the Rust files below `folder`.
pub(super) fn all(folder: &Path) -> Vec<Literal> {
    let mut found = Vec::new();
    let mut files = rust_files(folder);
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let name = file.strip_prefix(folder).unwrap_or(&file).display().to_string();
        scan(&name, text, &mut found);
    }
    found
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn scan(name: &str, text: &str, found: &mut Vec<Literal>) {
    let bytes = text.as_bytes();
    let (mut at, mut code) = (0, String::new());
    while at < bytes.len() {
        let rest = &text[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") {
            let (open, close) = if rest.starts_with("r\"") { (2, "\"") } else { (3, "\"#") };
            at += open + rest[open..].find(close).map_or(rest.len() - open, |end| end + close.len());
        } else if rest.starts_with("'\\") {
            at += 3 + rest[3..].find('\'').map_or(0, |end| end + 1);
        } else if rest.starts_with('\'') && rest.chars().nth(2) == Some('\'') {
            at += rest.char_indices().nth(3).map_or(rest.len(), |(end, _)| end);
        } else if let Some(inside) = rest.strip_prefix('"') {
            let (string, length) = string(inside);
            let line = text[..at].matches('\n').count() + 1;
            let before: String = code.trim_end().to_owned();
            found.push(Literal { place: format!("{name}:{line}"), before, text: string });
            at += 1 + length;
            code.clear();
        } else {
            let c = rest.chars().next().expect("not at the end");
            code.push(c);
            at += c.len_utf8();
        }
    }
}

/// The string that starts here and its length with the closing quote.
fn string(text: &str) -> (String, usize) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, at + 1),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('u') => {
                    let digits: String =
                        chars.by_ref().map(|(_, c)| c).skip(1).take_while(|c| *c != '}').collect();
                    out.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
                }
                Some('\n') => {
                    // A line that goes on: its blanks belong to the source.
                    let rest = &text[chars.offset()..];
                    let blanks = rest.len() - rest.trim_start().len();
                    for _ in 0..rest[..blanks].chars().count() {
                        chars.next();
                    }
                }
                Some(c) => out.push(c),
                None => break,
            },
            c => out.push(c),
        }
    }
    (out, text.len())
}
