//! The text that an image's history shows of an instruction, in BuildKit's spelling.

use kiln_grammar::ast::Healthcheck;

use super::op::{CopySource, CopySpec};

/// `COPY` and `ADD`: the flags that change files, the sources and the destination.
pub(super) fn copy(word: &str, spec: &CopySpec, destination: &str) -> String {
    let mut text = word.to_owned();
    if let Some(chown) = &spec.chown {
        text.push_str(&format!(" --chown={chown}"));
    }
    if let Some(mode) = spec.chmod {
        text.push_str(&format!(" --chmod={mode:o}"));
    }
    for source in &spec.sources {
        match source {
            CopySource::Path(path) => text.push_str(&format!(" {path}")),
            CopySource::Inline { name, .. } => text.push_str(&format!(" <<{name}")),
        }
    }
    format!("{text} {destination} # buildkit")
}

/// `RUN`: the ARGs that it saw, then the program.
pub(super) fn run(args: &[String], visible: &[(String, String)]) -> String {
    let mut text = String::from("RUN ");
    if !visible.is_empty() {
        text.push_str(&format!("|{} ", visible.len()));
        for (name, value) in visible {
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
    let items: Vec<String> = args.iter().map(|arg| format!("{arg:?}")).collect();
    format!("[{}]", items.join(" "))
}

/// `HEALTHCHECK`, as Go prints the struct.
pub(super) fn healthcheck(check: &Healthcheck, test: &[String]) -> String {
    let Healthcheck::Command { interval, timeout, start_period, start_interval, retries, .. } = check else {
        return "HEALTHCHECK NONE".to_owned();
    };
    let seconds = |nanos: &i64| format!("{:?}", format!("{}s", *nanos as f64 / 1e9));
    format!(
        "HEALTHCHECK &{{{} {} {} {} {} '\\x{retries:02x}'}}",
        quoted(test),
        seconds(interval),
        seconds(timeout),
        seconds(start_period),
        seconds(start_interval),
    )
}
