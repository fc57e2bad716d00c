//! What the progress shows of an instruction.

use kiln_grammar::word::Lookup;

use crate::api::RemoteSource;

/// Returns `text` with its first word in upper case and the variables that `scope` knows filled in.
///
/// For people only: `$name` and `${name}` are filled in outside of single quotes; what isn't set (a shell's own
/// variable, say), has a modifier, or is escaped stays as written. Quotes and escapes stay too.
pub(super) fn shown(text: &str, escape: char, scope: &dyn Lookup) -> String {
    let (keyword, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    let mut out = keyword.to_ascii_uppercase();
    let (mut rest, mut single, mut double) = (rest, false, false);
    while let Some(char) = rest.chars().next() {
        let mut taken = char.len_utf8();
        match char {
            '\'' if !double => single = !single,
            '"' if !single => double = !double,
            _ if char == escape && !single => {
                taken += rest[taken..].chars().next().map_or(0, char::len_utf8);
            }
            '$' if !single => {
                if let Some((value, length)) = variable(rest, scope) {
                    out.push_str(&value);
                    rest = &rest[length..];
                    continue;
                }
            }
            _ => {}
        }
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// The stage in a step's label, which is `[build  2/10]` or `[2/10]`; `None` for another label.
pub(super) fn stage(name: &str) -> Option<&str> {
    let (label, _) = name.strip_prefix('[')?.split_once("] ")?;
    let (before, _) = label.rsplit_once('/')?;
    Some(before.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end())
}

/// What the progress shows of a source that is brought from another machine.
pub(super) fn remote(source: &RemoteSource) -> String {
    match source {
        RemoteSource::Http(_) => format!("[download] {}", source.shown()),
        RemoteSource::Git(_) => format!("[git] {}", source.shown()),
    }
}

/// The value of the variable that `text` starts with, and how long its name is as written.
fn variable(text: &str, scope: &dyn Lookup) -> Option<(String, usize)> {
    let braced = text.starts_with("${");
    let start = if braced { 2 } else { 1 };
    let name = &text[start..];
    let end = name.find(|char: char| !(char.is_alphanumeric() || char == '_')).unwrap_or(name.len());
    let (name, after) = name.split_at(end);
    let length = start + end + usize::from(braced);
    if braced && !after.starts_with('}') {
        return None;
    }
    scope.get(name).map(|value| (value, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::graph::scope::Scope;

    #[test]
    fn a_label_has_the_stage() {
        for (name, expected) in [
            ("[2/10] RUN x", Some("")),
            ("[ 2/10] RUN a[0/1] b", Some("")),
            ("[build  2/10] RUN x", Some("build")),
            ("[stage-1 2/3] RUN x", Some("stage-1")),
            ("[internal] load / of the build context", None),
            ("[git] https://host/x.git", None),
            ("FROM busybox", None),
        ] {
            assert_eq!(stage(name), expected, "{name}");
        }
    }

    #[test]
    fn known_variables_are_filled_in_and_the_rest_stays() {
        let mut scope = Scope::default();
        scope.set_env("A", "x y".to_owned());
        for (text, expected) in [
            ("copy $A ${A}/", "COPY x y x y/"),
            ("RUN echo \"$A\" '$A' \\$A $i ${A:-b} ${A $", "RUN echo \"x y\" '$A' \\$A $i ${A:-b} ${A $"),
            ("RUN it\\'s $A", "RUN it\\'s x y"),
            ("RUN", "RUN"),
        ] {
            assert_eq!(shown(text, '\\', &scope), expected);
        }
    }
}
