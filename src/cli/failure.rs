//! A failure as text: the failing step's last lines, the place in the Dockerfile, the message, its causes, and
//! what to do.

use std::io::Read as _;

use super::progress::Lines;
use super::style::Style;
use super::tell;
use super::text::harmless;
use crate::api::{Excerpt, Failure};

/// What is read of a log at once.
const LOG_BYTES: usize = 32 << 10;

/// Renders `failure` for standard error. Nothing in it can steer the terminal.
pub(crate) fn render(failure: &Failure, style: Style) -> String {
    let mut out = String::new();
    if let Some((name, lines)) = &failure.log_tail {
        out += &log_tail(name, lines);
    }
    if let Some(excerpt) = &failure.excerpt {
        out += &self::excerpt(excerpt);
    }
    for diagnostic in &failure.diagnostics {
        for line in diagnostic.lines() {
            out += &(harmless(line.as_bytes()) + "\n");
        }
        out.push('\n');
    }
    out += &(style.red("error:") + " " + &lines(&failure.message) + "\n");
    let mut told = failure.message.clone();
    for cause in &failure.causes {
        // A message that already ends with its cause needn't say it again.
        if !told.contains(cause.as_str()) {
            out += &format!("  caused by: {}\n", lines(cause));
            told.clone_from(cause);
        }
    }
    for hint in &failure.hints {
        out += &(style.cyan("hint:") + " " + &lines(hint) + "\n");
    }
    out
}

/// The lines of a message, indented below the first one.
fn lines(text: &str) -> String {
    text.lines().map(|line| harmless(line.as_bytes())).collect::<Vec<_>>().join("\n  ")
}

/// Shows all that a failed step wrote, where it wasn't shown while it ran; the failure then needn't repeat its end.
pub(super) fn tell_log(failure: &mut Failure) {
    let Some((log, (name, tail))) = failure.log.take().zip(failure.log_tail.take()) else { return };
    tell(&format!("------\n > {}:\n", harmless(name.as_bytes())));
    let (mut reader, mut lines) = (log.read(), Lines::default());
    let mut buffer = vec![0; LOG_BYTES];
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        let text: String = lines.take(&buffer[..count]).into_iter().map(|line| line + "\n").collect();
        tell(&text);
    }
    if let Some(rest) = lines.rest() {
        tell(&(rest + "\n"));
    }
    if log.left_out() > 0 {
        tell(&format!("[… {} bytes were not kept; the last lines:]\n", log.left_out()));
        tail.iter().for_each(|line| tell(&(harmless(line.as_bytes()) + "\n")));
    }
    tell("------\n");
}

fn log_tail(name: &str, lines: &[String]) -> String {
    let mut out = format!("------\n > {}:\n", harmless(name.as_bytes()));
    for line in lines {
        out += &(harmless(line.as_bytes()) + "\n");
    }
    out + "------\n"
}

/// BuildKit's form: `>>>` on each line that failed.
pub(super) fn excerpt(excerpt: &Excerpt) -> String {
    const RULE: &str = "--------------------\n";
    let first = excerpt.lines.iter().find(|line| line.2).or(excerpt.lines.first()).map_or(0, |line| line.0);
    let mut out = format!("{}:{first}\n{RULE}", harmless(excerpt.file.as_bytes()));
    for (number, text, marked) in &excerpt.lines {
        let mark = if *marked { ">>>" } else { "   " };
        let line = format!("{number:>4} | {mark} {}", harmless(text.as_bytes()));
        out += &(line.trim_end().to_owned() + "\n");
    }
    out + RULE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FailureKind;

    #[test]
    fn a_failed_step_shows_its_log_its_place_and_what_to_do() {
        let mut failure = Failure::new(
            FailureKind::Step(1),
            "process \"/bin/sh -c false\" did not complete successfully: exit code: 1",
        )
        .hint("run again with `--no-cache`");
        failure.log_tail = Some(("[2/2] RUN false".into(), vec!["0.1 \x1b[2Jone".into()]));
        failure.excerpt = Some(Excerpt {
            file: "Dockerfile".into(),
            lines: vec![
                (1, "FROM alpine".into(), false),
                (2, String::new(), false),
                (3, "RUN false".into(), true),
            ],
        });
        failure.causes = vec!["exit code: 1".into(), "the program said no".into()];
        let expected = "\
------
 > [2/2] RUN false:
0.1 one
------
Dockerfile:3
--------------------
   1 |     FROM alpine
   2 |
   3 | >>> RUN false
--------------------
error: process \"/bin/sh -c false\" did not complete successfully: exit code: 1
  caused by: the program said no
hint: run again with `--no-cache`
";
        assert_eq!(render(&failure, Style::plain()), expected);
    }

    #[test]
    fn diagnostics_stand_before_the_message() {
        let mut failure = Failure::new(FailureKind::Invalid, "cannot read Dockerfile");
        failure.diagnostics = vec!["Dockerfile:1:1: error: unknown instruction `FORM`\n  1 | FORM x".into()];
        assert_eq!(
            render(&failure, Style::plain()),
            "Dockerfile:1:1: error: unknown instruction `FORM`\n  1 | FORM x\n\nerror: cannot read Dockerfile\n"
        );
    }
}
