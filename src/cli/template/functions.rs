//! The functions of templates: Go's own and docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::TemplateError;

/// Every function that a template may call.
pub(super) const NAMES: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "index", "slice", "len", "print", "println",
    "printf", "html", "urlquery", "json", "split", "join", "title", "lower", "upper", "pad", "truncate",
];

/// Calls the function `name`, which is one of [`NAMES`].
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let fail = |message: &str| Err(TemplateError(format!("`{name}`: {message}")));
    let text = |at: usize| -> Result<String, TemplateError> {
        arguments.get(at).map(show).ok_or_else(|| TemplateError(format!("`{name}` needs more arguments")))
    };
    if arguments.is_empty() && !matches!(name, "print" | "println") {
        return fail("needs an argument");
    }
    Ok(match name {
        "and" => arguments.iter().find(|v| !truth(v)).or(arguments.last()).cloned().unwrap_or(Value::Null),
        "or" => arguments.iter().find(|v| truth(v)).or(arguments.last()).cloned().unwrap_or(Value::Null),
        "not" => Value::Bool(!truth(&arguments[0])),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => Value::Bool(compare(name, arguments)?),
        "index" => index(arguments)?,
        "slice" => slice(arguments)?,
        "len" => match &arguments[0] {
            Value::String(text) => Value::from(text.len()),
            Value::Array(items) => Value::from(items.len()),
            Value::Object(fields) => Value::from(fields.len()),
            Value::Null => Value::from(0),
            other => return fail(&format!("`{}` has no length", show(other))),
        },
        "print" => Value::String(print(arguments)),
        "println" => Value::String(arguments.iter().map(show).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => Value::String(printf(&text(0)?, &arguments[1..])?),
        "html" => Value::String(html(&print(arguments))),
        "urlquery" => Value::String(urlquery(&print(arguments))),
        "json" => Value::String(
            serde_json::to_string(&arguments[0])
                .map_err(|error| TemplateError(format!("`json`: {error}")))?,
        ),
        "split" => {
            let (whole, separator) = (text(0)?, text(1)?);
            Value::from(whole.split(separator.as_str()).map(str::to_owned).collect::<Vec<_>>())
        }
        "join" => match &arguments[0] {
            Value::Array(items) => Value::String(items.iter().map(show).collect::<Vec<_>>().join(&text(1)?)),
            Value::Null => Value::String(String::new()),
            other => return fail(&format!("`{}` is not a list", show(other))),
        },
        "title" => Value::String(title(&text(0)?)),
        "lower" => Value::String(text(0)?.to_lowercase()),
        "upper" => Value::String(text(0)?.to_uppercase()),
        "pad" => {
            let (middle, before, after) = (text(0)?, count(arguments, 1)?, count(arguments, 2)?);
            Value::String(if middle.is_empty() {
                middle
            } else {
                " ".repeat(before) + &middle + &" ".repeat(after)
            })
        }
        "truncate" => Value::String(text(0)?.chars().take(count(arguments, 1)?).collect()),
        other => return Err(TemplateError(format!("function `{other}` is not defined"))),
    })
}

/// What `{{if}}` makes of a value.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// A value as Go prints it.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key}:{}", show_element(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// What has no fields is a `struct {}` in docker's maps, such as the exposed ports.
fn show_element(value: &Value) -> String {
    match value {
        Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
        value => show(value),
    }
}

fn count(arguments: &[Value], at: usize) -> Result<usize, TemplateError> {
    /// Longer padding is a mistake, and would only eat memory.
    const MAX: u64 = 1 << 16;
    let number = arguments.get(at).and_then(Value::as_u64).filter(|&number| number <= MAX);
    number
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| TemplateError("a length must be a small whole number".into()))
}

fn compare(name: &str, arguments: &[Value]) -> Result<bool, TemplateError> {
    let [first, others @ ..] = arguments else { return Ok(false) };
    if others.is_empty() {
        return Err(TemplateError(format!("`{name}` compares two values; only one is given")));
    }
    if name == "eq" {
        return Ok(others.iter().any(|other| equal(first, other)));
    }
    if name == "ne" {
        return Ok(!equal(first, &others[0]));
    }
    let order = match (first, &others[0]) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let Some(order) = order else {
        return Err(TemplateError(format!("`{name}`: incompatible types for comparison")));
    };
    Ok(match name {
        "lt" => order == Ordering::Less,
        "le" => order != Ordering::Greater,
        "gt" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

fn index(arguments: &[Value]) -> Result<Value, TemplateError> {
    let mut at = &arguments[0];
    for key in &arguments[1..] {
        at = match (at, key) {
            // As Go: the zero value when the key isn't there.
            (Value::Object(fields), Value::String(key)) => match fields.get(key) {
                Some(value) => value,
                None => return Ok(Value::String(String::new())),
            },
            (Value::Array(items), key) => {
                let found = key.as_u64().and_then(|at| items.get(usize::try_from(at).ok()?));
                found.ok_or_else(|| {
                    TemplateError(format!("`index`: {} is out of range of {} items", show(key), items.len()))
                })?
            }
            (other, key) => {
                let message = format!("`index`: `{}` can't be indexed by `{}`", show(other), show(key));
                return Err(TemplateError(message));
            }
        };
    }
    Ok(at.clone())
}

fn slice(arguments: &[Value]) -> Result<Value, TemplateError> {
    let bad = || TemplateError("`slice`: out of range".into());
    let from = if arguments.len() > 1 { count(arguments, 1)? } else { 0 };
    let to = if arguments.len() > 2 { Some(count(arguments, 2)?) } else { None };
    match &arguments[0] {
        Value::String(text) => {
            let part = text.get(from..to.unwrap_or(text.len())).ok_or_else(bad)?;
            Ok(Value::String(part.to_owned()))
        }
        Value::Array(items) => {
            let part = items.get(from..to.unwrap_or(items.len())).ok_or_else(bad)?;
            Ok(Value::Array(part.to_vec()))
        }
        other => Err(TemplateError(format!("`slice`: `{}` can't be sliced", show(other)))),
    }
}

fn title(text: &str) -> String {
    let mut up = true;
    text.chars()
        .map(|c| {
            let out = if up { c.to_ascii_uppercase() } else { c };
            up = !c.is_alphanumeric() && c != '_' && c != '\'';
            out
        })
        .collect()
}

/// As Go's Sprint: a blank stands between two values of which none is text.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 && !value.is_string() && !arguments[at - 1].is_string() {
            out.push(' ');
        }
        out += &show(value);
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&#34;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// `printf` with the verbs that a format needs: `%s %v %d %q %t %f %x %X %o %b %c %%`, with width, precision, `-`
/// and `0`.
fn printf(format: &str, arguments: &[Value]) -> Result<String, TemplateError> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let verb = &rest[at + 1..];
        let end = verb
            .find(|c: char| !matches!(c, '-' | '+' | '0'..='9' | '.'))
            .ok_or_else(|| TemplateError("`printf`: `%` without a verb".into()))?;
        let kind = verb[end..].chars().next().unwrap_or('%');
        rest = &verb[end + kind.len_utf8()..];
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = arguments.next().ok_or_else(|| TemplateError("`printf`: too few arguments".into()))?;
        out.push_str(&verb_text(kind, &verb[..end], value)?);
    }
    out.push_str(rest);
    Ok(out)
}

/// A number, or the bytes of a text in hexadecimal digits.
fn in_base(kind: char, value: &Value) -> Option<String> {
    let text = match (kind, value.as_i64(), value) {
        ('x' | 'X', None, Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        (_, Some(number), _) => {
            let (sign, number) = (if number < 0 { "-" } else { "" }, number.unsigned_abs());
            match kind {
                'o' => format!("{sign}{number:o}"),
                'b' => format!("{sign}{number:b}"),
                _ => format!("{sign}{number:x}"),
            }
        }
        _ => return None,
    };
    Some(if kind == 'X' { text.to_uppercase() } else { text })
}

fn verb_text(kind: char, flags: &str, value: &Value) -> Result<String, TemplateError> {
    let bad = || TemplateError(format!("`printf`: `%{flags}{kind}` doesn't fit `{}`", show(value)));
    let (width, precision) = flags.split_once('.').unwrap_or((flags, ""));
    let (left, zero) = (width.contains('-'), width.trim_start_matches(['-', '+']).starts_with('0'));
    let width: usize = width.trim_start_matches(['-', '+', '0']).parse().unwrap_or(0);
    let precision: Option<usize> = precision.parse().ok();
    if width.max(precision.unwrap_or(0)) > 4096 {
        return Err(TemplateError("`printf`: width is too large".into()));
    }
    let mut text = match kind {
        's' | 'v' | 't' => show(value),
        'q' => super::super::text::quote(&show(value)),
        'd' => value.as_i64().ok_or_else(bad)?.to_string(),
        'c' => {
            let code = value.as_u64().and_then(|code| u32::try_from(code).ok()).and_then(char::from_u32);
            code.ok_or_else(bad)?.to_string()
        }
        'x' | 'X' | 'o' | 'b' => in_base(kind, value).ok_or_else(bad)?,
        'f' => format!("{:.*}", precision.unwrap_or(6), value.as_f64().ok_or_else(bad)?),
        _ => return Err(bad()),
    };
    if let (Some(limit), 's') = (precision, kind) {
        text = text.chars().take(limit).collect();
    }
    let missing = width.saturating_sub(text.chars().count());
    Ok(match (left, zero && kind != 's') {
        (true, _) => text + &" ".repeat(missing),
        (false, true) => "0".repeat(missing) + &text,
        (false, false) => " ".repeat(missing) + &text,
    })
}
