//! Comma-separated fields of a flag's value, as Go's `encoding/csv` splits one line.

use std::borrow::Cow;

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// Its text without quotes.
    pub(crate) text: Cow<'a, str>,
    /// Offset of its first byte, a quote included.
    pub(crate) start: usize,
    /// Offset one past its last byte.
    pub(crate) end: usize,
}

/// A quote that isn't closed or stands where none may, and its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misquoted {
    pub(crate) at: usize,
    pub(crate) why: &'static str,
}

/// Splits a text at its commas. A field that begins with `"` ends at the next lone `"`; `""` inside
/// stands for one quote.
pub(crate) fn fields(text: &str) -> Result<Vec<Field<'_>>, Misquoted> {
    let mut found = Vec::new();
    let mut start = 0;
    loop {
        let field = match text[start..].strip_prefix('"') {
            Some(_) => quoted(text, start)?,
            None => bare(text, start)?,
        };
        let end = field.end;
        found.push(field);
        if end == text.len() {
            return Ok(found);
        }
        start = end + 1;
    }
}

fn bare(text: &str, start: usize) -> Result<Field<'_>, Misquoted> {
    let end = text[start..].find(',').map_or(text.len(), |at| start + at);
    let field = &text[start..end];
    match field.find('"') {
        Some(at) => Err(Misquoted { at: start + at, why: "a quote may stand only around a whole field" }),
        None => Ok(Field { text: Cow::Borrowed(field), start, end }),
    }
}

fn quoted(text: &str, start: usize) -> Result<Field<'_>, Misquoted> {
    let mut at = start + 1;
    let mut content = String::new();
    loop {
        let Some(close) = text[at..].find('"') else {
            return Err(Misquoted { at: start, why: "a quote is not closed" });
        };
        content.push_str(&text[at..at + close]);
        at += close + 1;
        if !text[at..].starts_with('"') {
            break;
        }
        content.push('"');
        at += 1;
    }
    if !text[at..].is_empty() && !text[at..].starts_with(',') {
        return Err(Misquoted { at, why: "a quoted field must end at its quote" });
    }
    Ok(Field { text: Cow::Owned(content), start, end: at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_as_go_splits_them() {
        let table: &[(&str, &[&str])] = &[
            ("", &[""]),
            ("a", &["a"]),
            ("a,b=c,", &["a", "b=c", ""]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("\"a \"\"q\"\"\"", &["a \"q\""]),
            (" \t,é", &[" \t", "é"]),
        ];
        for (text, expected) in table {
            let found = fields(text).expect("splits");
            let texts: Vec<&str> = found.iter().map(|field| field.text.as_ref()).collect();
            assert_eq!(texts, *expected, "{text}");
            let parts: Vec<&str> = found.iter().map(|field| &text[field.start..field.end]).collect();
            assert_eq!(parts.join(","), *text, "places of {text}");
        }
        for (text, at) in [("a\"b", 1), ("x,\"a", 2), ("\"a\"b,c", 3), ("\"", 0), ("\"\"\"", 0)] {
            assert_eq!(fields(text).expect_err("misquoted").at, at, "{text}");
        }
    }
}
