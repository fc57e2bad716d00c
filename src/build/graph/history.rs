//! The text that an image's history shows of an instruction, in BuildKit's spelling.

use super::op::{CopySource, CopySpec};
use crate::oci::Healthcheck;

/// `COPY` and `ADD`: the flags that change files, the sources and the destination.
pub(super) fn copy(word: &str, spec: &CopySpec, chmod: Option<&str>, destination: &str) -> String {
    let mut text = word.to_owned();
    if spec.parents {
        text.push_str(" --parents");
    }
    if let Some(chown) = &spec.chown {
        text.push_str(&format!(" --chown={chown}"));
    }
    if let Some(mode) = chmod.filter(|mode| !mode.is_empty()) {
        text.push_str(&format!(" --chmod={mode}"));
    }
    for source in &spec.sources {
        match source {
            CopySource::Path(path) | CopySource::Remote { shown: path, .. } => {
                text.push_str(&format!(" {path}"));
            }
            CopySource::Inline { name, .. } => text.push_str(&format!(" <<{name}")),
        }
    }
    format!("{text} {destination} # buildkit")
}

/// `RUN`: the declared ARGs, then the program.
pub(super) fn run(args: &[String], declared: &[(String, String)]) -> String {
    let mut text = String::from("RUN ");
    if !declared.is_empty() {
        text.push_str(&format!("|{} ", declared.len()));
        for (name, value) in declared {
            text.push_str(&format!("{name}={value} "));
        }
    }
    format!("{text}{} # buildkit", args.join(" "))
}

/// `CMD` and `ENTRYPOINT`: a quoted list.
pub(super) fn command(word: &str, args: &[String]) -> String {
    format!("{word} {}", quoted(args))
}

/// A list in Go's `%q` form: `["a" "b"]`.
fn quoted(args: &[String]) -> String {
    let items: Vec<String> = args.iter().map(|arg| quote(arg, '"')).collect();
    format!("[{}]", items.join(" "))
}

/// `text` as Go's `%q` shows a string (mark `"`) or a rune (mark `'`).
fn quote(text: &str, mark: char) -> String {
    let mut shown = String::from(mark);
    for char in text.chars() {
        match char {
            '\x07' => shown.push_str("\\a"),
            '\x08' => shown.push_str("\\b"),
            '\t' => shown.push_str("\\t"),
            '\n' => shown.push_str("\\n"),
            '\x0b' => shown.push_str("\\v"),
            '\x0c' => shown.push_str("\\f"),
            '\r' => shown.push_str("\\r"),
            '\\' => shown.push_str("\\\\"),
            char if char == mark => shown.extend(['\\', mark]),
            char if char.is_ascii_control() => shown.push_str(&format!("\\x{:02x}", u32::from(char))),
            char if char.is_control() => shown.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => shown.push(char),
        }
    }
    shown.push(mark);
    shown
}

/// A time span as Go prints it: `1m30s`, `1.5s`, `20ms`.
fn duration(nanos: i64) -> String {
    let part = |unit: i64, name: &str| {
        let text = format!("{:.9}", nanos as f64 / unit as f64);
        format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => part(1_000, "µs"),
        1_000_000..1_000_000_000 => part(1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = format!("{:.9}", rest as f64 / 1e9);
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `HEALTHCHECK`, as Go prints the struct: the times are quoted texts, the retries a quoted rune.
pub(super) fn healthcheck(probe: &Healthcheck) -> String {
    let seconds = |nanos: i64| quote(&duration(nanos), '"');
    let retries = u32::try_from(probe.retries).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    format!(
        "HEALTHCHECK &{{{} {} {} {} {} {}}}",
        quoted(&probe.test),
        seconds(probe.interval),
        seconds(probe.timeout),
        seconds(probe.start_period),
        seconds(probe.start_interval),
        quote(retries.encode_utf8(&mut [0; 4]), '\''),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of docker.io 20.10.24 with BuildKit, but for the start interval, which came later.
    #[test]
    fn a_healthcheck_is_shown_as_go_prints_it() {
        let shown = |test: &[&str], interval: i64, start_period: i64, retries| {
            let test = test.iter().map(|word| (*word).to_owned()).collect();
            let probe = Healthcheck { test, interval, start_period, retries, ..Healthcheck::default() };
            healthcheck(&probe)
        };
        assert_eq!(
            shown(&["CMD-SHELL", "x || exit 1"], 300_000_000_000, 0, 0),
            r#"HEALTHCHECK &{["CMD-SHELL" "x || exit 1"] "5m0s" "0s" "0s" "0s" '\x00'}"#
        );
        assert_eq!(
            shown(&["CMD", "a", "b c"], 0, 90_000_000_000, 5),
            r#"HEALTHCHECK &{["CMD" "a" "b c"] "0s" "0s" "1m30s" "0s" '\x05'}"#
        );
        assert_eq!(shown(&["NONE"], 0, 0, 0), r#"HEALTHCHECK &{["NONE"] "0s" "0s" "0s" "0s" '\x00'}"#);
    }

    #[test]
    fn texts_and_times_are_spelt_as_in_go() {
        assert_eq!(quote("a\"b\\c\n\x1b'é", '"'), r#""a\"b\\c\n\x1b'é""#);
        assert_eq!(quote("'", '\''), r"'\''");
        let cases = [(0, "0s"), (1_500_000, "1.5ms"), (1_500_000_000, "1.5s"), (3_600_000_000_000, "1h0m0s")];
        for (nanos, text) in cases {
            assert_eq!(duration(nanos), text);
        }
    }
}
