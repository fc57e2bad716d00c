//! A template's text cut into plain text and actions, and an action into tokens.

use super::TemplateError;

/// A piece of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Outside of braces.
    Text(&'a str),
    /// Between `{{` and `}}`, trimmed.
    Action(&'a str),
}

/// Cuts `text` at its braces; `{{-` and `-}}` take the blanks beside them away, comments vanish.
pub(super) fn parts(text: &str) -> Result<Vec<Part<'_>>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let (mut before, after) = (&rest[..open], &rest[open + 2..]);
        let close = action_end(after)
            .ok_or_else(|| TemplateError(format!("`{{{{{}` has no closing `}}}}`", after.trim_end())))?;
        let (mut action, mut following) = (&after[..close], &after[close + 2..]);
        if let Some(inner) = action.strip_prefix('-').filter(|inner| inner.starts_with(char::is_whitespace)) {
            action = inner;
            before = before.trim_end();
        }
        if let Some(inner) = action.strip_suffix('-').filter(|inner| inner.ends_with(char::is_whitespace)) {
            action = inner;
            following = following.trim_start();
        }
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let action = action.trim();
        if !action.starts_with("/*") {
            parts.push(Part::Action(action));
        }
        rest = following;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

/// Returns where the action that `text` begins with ends: the first `}}` outside of quotes and comments.
fn action_end(text: &str) -> Option<usize> {
    if text.trim_start_matches('-').trim_start().starts_with("/*") {
        let comment = text.find("*/")?;
        return Some(comment + text[comment..].find("}}")?);
    }
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

/// One token of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A bare word: a keyword, a function, `true`, `nil`.
    Word(String),
    /// `.name` that follows blank or an opening parenthesis; `.` alone has no name.
    Field(String),
    /// `.name` that follows an operand without a blank.
    Below(String),
    /// `$name`.
    Variable(String),
    /// A quoted string, a number.
    Text(String),
    /// A number as written.
    Number(serde_json::Number),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `,`
    Comma,
}

/// Cuts an action into tokens.
pub(super) fn tokens(action: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = action;
    // Whether an operand ends right before `rest`.
    let mut joined = false;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            rest = rest.trim_start();
            joined = false;
            continue;
        }
        let (token, length) = token(rest, c, joined, action)?;
        joined = !matches!(token, Token::Pipe | Token::Open | Token::Declare | Token::Assign | Token::Comma);
        tokens.push(token);
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// Reads the token that `rest` begins with, and its length.
fn token(rest: &str, first: char, joined: bool, action: &str) -> Result<(Token, usize), TemplateError> {
    let name = |from: usize| {
        let text = &rest[from..];
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        (text[..end].to_owned(), from + end)
    };
    Ok(match first {
        '|' => (Token::Pipe, 1),
        '(' => (Token::Open, 1),
        ')' => (Token::Close, 1),
        ',' => (Token::Comma, 1),
        ':' if rest.starts_with(":=") => (Token::Declare, 2),
        '=' => (Token::Assign, 1),
        '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => number(rest)?,
        '.' => {
            let (name, length) = name(1);
            (if joined { Token::Below(name) } else { Token::Field(name) }, length)
        }
        '$' => {
            let (name, length) = name(1);
            (Token::Variable(name), length)
        }
        '"' | '`' | '\'' => quoted(rest, first)?,
        '0'..='9' | '-' | '+' => number(rest)?,
        c if c.is_alphabetic() || c == '_' => {
            let (word, length) = name(0);
            (Token::Word(word), length)
        }
        c => return Err(TemplateError(format!("unexpected `{c}` in `{{{{{action}}}}}`"))),
    })
}

/// Reads a quoted string: `"…"` with escapes, `` `…` `` as it stands, `'c'` as its number.
fn quoted(rest: &str, quote: char) -> Result<(Token, usize), TemplateError> {
    let open = || TemplateError(format!("unterminated quoted string `{rest}`"));
    if quote == '`' {
        let end = rest[1..].find('`').ok_or_else(open)?;
        return Ok((Token::Text(rest[1..=end].to_owned()), end + 2));
    }
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => match characters.next().ok_or_else(open)?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                other => text.push(other),
            },
            c if c == quote && quote == '"' => return Ok((Token::Text(text), at + 1)),
            c if c == quote => {
                let code = text.chars().next().map_or(0, u32::from);
                return Ok((Token::Number(code.into()), at + 1));
            }
            c => text.push(c),
        }
    }
    Err(open())
}

/// Reads a number.
fn number(rest: &str) -> Result<(Token, usize), TemplateError> {
    let end = rest
        .char_indices()
        .find(|&(at, c)| !(c.is_alphanumeric() || c == '.' || (at == 0 && matches!(c, '+' | '-'))))
        .map_or(rest.len(), |(at, _)| at);
    let bad = || TemplateError(format!("bad number `{}`", &rest[..end]));
    let text = rest[..end].trim_start_matches('+');
    if let Ok(whole) = text.parse::<i64>() {
        return Ok((Token::Number(whole.into()), end));
    }
    let of_base = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find_map(|(prefix, base)| {
        let digits = text.to_ascii_lowercase();
        i64::from_str_radix(digits.strip_prefix(prefix)?, base).ok()
    });
    if let Some(whole) = of_base {
        return Ok((Token::Number(whole.into()), end));
    }
    let float = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).ok_or_else(bad)?;
    Ok((Token::Number(float), end))
}
