//! Layer 2: one instruction's text to its parts, by the grammar in `dockerfile.pest`.
//!
//! This file alone knows pest. What leaves it are [`Syntax`] values whose offsets are bytes of the
//! instruction's text.

use std::num::NonZeroUsize;
use std::sync::Once;

use pest::Parser as _;
use pest::iterators::Pair;

use crate::keyword::Keyword;
use crate::lines::is_blank;

#[derive(pest_derive::Parser)]
#[grammar = "dockerfile.pest"]
struct Grammar;

/// Rule calls that one instruction may take: a guard against hostile text, far above the need of the
/// longest instruction that layer 1 lets through.
const CALL_LIMIT: NonZeroUsize = NonZeroUsize::new(1 << 28).expect("not zero");

/// JSON values nested deeper than this are refused before the recursive rules see them.
const MAX_NESTING: usize = 100;

/// A piece of the instruction's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// `--name=value`.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: Piece,
    pub(crate) value: Option<Piece>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// An element of a JSON array.
#[derive(Debug)]
pub(crate) enum Element {
    /// A string, decoded; the piece's offsets are those of the literal with its quotes.
    Text(Piece),
    /// Any other value.
    Other(Piece),
}

/// An argument of an instruction.
#[derive(Debug)]
pub(crate) enum Argument {
    Word(Piece),
    Heredoc(Piece),
    /// The rest of the line.
    Text(Piece),
    Array(Vec<Element>),
    /// `key=value`, and a bare `key` where the instruction allows it.
    Pair(Piece, Option<Piece>),
    /// A word without `=` among pairs.
    Stray(Piece),
    /// `KEY rest of the line`.
    Legacy(Piece, Option<Piece>),
}

/// The parts of an instruction.
#[derive(Debug, Default)]
pub(crate) struct Syntax {
    pub(crate) flags: Vec<Flag>,
    pub(crate) arguments: Vec<Argument>,
}

/// Why the grammar refused a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It doesn't match from this offset on.
    At(usize),
    /// Its brackets are nested too deeply.
    TooDeep,
}

/// Parses an instruction that begins with `keyword`.
pub(crate) fn parse(keyword: Keyword, text: &str, escape: char) -> Result<Syntax, Refusal> {
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| pest::set_call_limit(Some(CALL_LIMIT)));
    if nested_deeply(text) {
        return Err(Refusal::TooDeep);
    }
    let input = format!("{escape}{text}");
    let pairs = Grammar::parse(rule(keyword), &input).map_err(|error| {
        let at = match error.location {
            pest::error::InputLocation::Pos(at) | pest::error::InputLocation::Span((at, _)) => at,
        };
        Refusal::At(at.saturating_sub(1))
    })?;
    let mut syntax = Syntax::default();
    for part in pairs.flat_map(Pair::into_inner) {
        collect(part, &mut syntax);
    }
    Ok(syntax)
}

fn rule(keyword: Keyword) -> Rule {
    match keyword {
        Keyword::Add => Rule::add,
        Keyword::Arg => Rule::arg,
        Keyword::Cmd => Rule::cmd,
        Keyword::Copy => Rule::copy,
        Keyword::Entrypoint => Rule::entrypoint,
        Keyword::Env => Rule::env,
        Keyword::Expose => Rule::expose,
        Keyword::From => Rule::from,
        Keyword::Healthcheck => Rule::healthcheck,
        Keyword::Label => Rule::label,
        Keyword::Maintainer => Rule::maintainer,
        Keyword::Onbuild => Rule::onbuild,
        Keyword::Run => Rule::run,
        Keyword::Shell => Rule::shell,
        Keyword::Stopsignal => Rule::stopsignal,
        Keyword::User => Rule::user,
        Keyword::Volume => Rule::volume,
        Keyword::Workdir => Rule::workdir,
    }
}

fn collect(part: Pair<'_, Rule>, syntax: &mut Syntax) {
    let whole = piece(&part);
    let argument = match part.as_rule() {
        Rule::flag => {
            let (name, value) = two(part);
            syntax.flags.push(Flag { name, value, start: whole.start, end: whole.end });
            return;
        }
        Rule::word => Argument::Word(whole),
        Rule::heredoc => Argument::Heredoc(whole),
        Rule::text => Argument::Text(whole),
        Rule::array => Argument::Array(part.into_inner().map(element).collect()),
        Rule::pair | Rule::declaration => {
            let (key, value) = two(part);
            Argument::Pair(key, value)
        }
        Rule::stray => Argument::Stray(whole),
        Rule::legacy => {
            let (key, value) = two(part);
            Argument::Legacy(key, value)
        }
        // `as` and the end of the input say nothing more.
        _ => return,
    };
    syntax.arguments.push(argument);
}

/// The text of a pair; offsets without the escape character in front.
fn piece(pair: &Pair<'_, Rule>) -> Piece {
    let span = pair.as_span();
    Piece { text: span.as_str().to_owned(), start: span.start() - 1, end: span.end() - 1 }
}

/// The first child and the one after it, if any.
fn two(pair: Pair<'_, Rule>) -> (Piece, Option<Piece>) {
    let empty = Piece { text: String::new(), ..piece(&pair) };
    let mut inner = pair.into_inner().map(|pair| piece(&pair));
    (inner.next().unwrap_or(empty), inner.next())
}

fn element(pair: Pair<'_, Rule>) -> Element {
    let literal = piece(&pair);
    if pair.as_rule() != Rule::string {
        return Element::Other(literal);
    }
    let text = decode(&literal.text[1..literal.text.len() - 1]);
    Element::Text(Piece { text, ..literal })
}

/// The text that a valid JSON string stands for. A lone surrogate becomes U+FFFD, as in Go.
fn decode(literal: &str) -> String {
    let mut out = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest[at + 1..].chars().next().unwrap_or('\\');
        rest = &rest[(at + 2).min(rest.len())..];
        match code {
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'u' => {
                let (c, taken) = unicode(rest);
                out.push(c);
                rest = &rest[taken..];
            }
            other => out.push(other),
        }
    }
    out.push_str(rest);
    out
}

/// The character of `XXXX` or of a surrogate pair `XXXX\uXXXX`, and the bytes that it took.
fn unicode(rest: &str) -> (char, usize) {
    let hex = |at: usize| rest.get(at..at + 4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let first = hex(0).unwrap_or(0xfffd);
    if let Some(c) = char::from_u32(first) {
        return (c, 4);
    }
    let low = rest.get(4..6).filter(|mark| *mark == "\\u").and_then(|_| hex(6));
    match low {
        Some(low @ 0xdc00..=0xdfff) if first < 0xdc00 => {
            let code = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
        }
        _ => (char::REPLACEMENT_CHARACTER, 4),
    }
}

/// True when the recursive JSON rules would go too deep: counts the brackets from the first one that
/// begins a word, strings aside, as far as the text can be JSON.
fn nested_deeply(text: &str) -> bool {
    let bytes = text.as_bytes();
    let opens = |at: &usize| bytes[*at] == b'[' && *at > 0 && is_blank(char::from(bytes[*at - 1]));
    let Some(start) = (0..bytes.len()).find(opens) else { return false };
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in &bytes[start..] {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' | b' ' | b'\t' | b'\r' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E' => {}
            _ => return false,
        }
        if depth > MAX_NESTING {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(text: &str) -> Option<Vec<String>> {
        let mut syntax = parse(Keyword::Cmd, &format!("CMD {text}"), '\\').ok()?;
        match syntax.arguments.pop()? {
            Argument::Array(elements) => elements
                .into_iter()
                .map(|element| match element {
                    Element::Text(piece) => Some(piece.text),
                    Element::Other(_) => None,
                })
                .collect(),
            _ => None,
        }
    }

    #[test]
    fn json_arrays_of_strings_are_decoded() {
        let table: &[(&str, Option<&[&str]>)] = &[
            ("[]", Some(&[])),
            ("[ ]", Some(&[])),
            ("[\"a\"]", Some(&["a"])),
            ("[ \"a\" ,\t\"b\" ]", Some(&["a", "b"])),
            (r#"["\n\t\\\"\/\u0041"]"#, Some(&["\n\t\\\"/A"])),
            (r#"["\ud83d\ude00 \ud83d x \ude00"]"#, Some(&["😀 \u{fffd} x \u{fffd}"])),
            (r#"["\x"]"#, None),
            (r#"["\u12"]"#, None),
            ("['a']", None),
            ("[\"a\",]", None),
            ("[\"a\" \"b\"]", None),
            ("[\"a\"] x", None),
            ("[1]", None),
            ("[[\"a\"]]", None),
            ("[\"a\tb\"]", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|list| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
            assert_eq!(array(text), expected, "{text}");
        }
    }

    #[test]
    fn other_json_values_are_told_from_broken_json() {
        for text in ["[1]", "[-1.5e3]", "[true]", "[null, \"a\"]", "[{\"a\": [1, {}]}]", "[[]]"] {
            let syntax = parse(Keyword::Cmd, &format!("CMD {text}"), '\\').expect("grammatical");
            let [Argument::Array(elements)] = &syntax.arguments[..] else { panic!("{text} is JSON") };
            assert!(elements.iter().any(|element| matches!(element, Element::Other(_))), "{text}");
        }
        for text in ["[01]", "[tru]", "[{a: 1}]", "[ -f x ]", "[\"a\"", "[{\"a\"}]"] {
            let syntax = parse(Keyword::Cmd, &format!("CMD {text}"), '\\').expect("grammatical");
            assert!(matches!(&syntax.arguments[..], [Argument::Text(_)]), "{text} is no JSON");
        }
    }

    #[test]
    fn the_escape_character_in_force_joins_words() {
        let values = |text: &str, escape| {
            let syntax = parse(Keyword::Env, text, escape).expect("grammatical");
            syntax.arguments.len()
        };
        assert_eq!(values("ENV a=b\\ c=d", '\\'), 1);
        assert_eq!(values("ENV a=b\\ c=d", '`'), 2);
        assert_eq!(values("ENV a=b` c=d", '`'), 1);
        assert_eq!(values("ENV a='b\\' c=d", '\\'), 2);
        assert_eq!(values("ENV a=\"b\\\" c=d", '\\'), 1);
    }

    #[test]
    fn a_text_with_the_last_character_of_unicode_is_one_text() {
        for text in ["a\u{10ffff}b \u{10ffff}", "\u{10ffff}", "é b"] {
            let syntax = parse(Keyword::Run, &format!("RUN {text}"), '\\').expect("grammatical");
            let [Argument::Text(piece)] = &syntax.arguments[..] else { panic!("{text} is a text") };
            assert_eq!(piece.text, text);
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = format!("CMD {}", "[".repeat(100_000));
        assert_eq!(parse(Keyword::Cmd, &text, '\\').err(), Some(Refusal::TooDeep));
    }

    #[test]
    fn every_keyword_has_its_own_rule() {
        for keyword in Keyword::ALL {
            let text = format!("{} x", keyword.name());
            assert!(parse(keyword, &text, '\\').is_ok(), "{text}");
            assert!(parse(keyword, "NOTHING x", '\\').is_err(), "{text}");
        }
    }
}
