//! A line per event, as BuildKit's `--progress=plain` writes them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Lines, amount};
use crate::api::{Event, StepId, StepOutcome, Stream};
use crate::cli::reason;
use crate::cli::text::harmless;

/// A transfer is told again after this time, and when it is complete.
const TRANSFER_INTERVAL: Duration = Duration::from_secs(5);

/// What has been told so far.
#[derive(Debug, Default)]
pub(super) struct Plain {
    steps: BTreeMap<StepId, Step>,
    /// The step that the last line belongs to.
    current: Option<StepId>,
    /// Whether anything has been written.
    begun: bool,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    started: Option<Duration>,
    stdout: Lines,
    stderr: Lines,
    transfers: BTreeMap<String, Duration>,
    /// Why it runs, until it has begun.
    reason: Option<String>,
    ended: bool,
}

impl Plain {
    /// Returns the text that `event` adds.
    pub(super) fn take(&mut self, event: Event, now: Duration) -> String {
        let mut out = String::new();
        match event {
            Event::Planned { step, name } => self.steps.entry(step).or_default().name = one_line(&name),
            Event::Started(step) => {
                let state = self.steps.entry(step).or_default();
                state.started = Some(now);
                let reason = state.reason.take();
                self.head(step, &mut out);
                out.extend(reason);
            }
            Event::Ran { step, reasons } => {
                let line = format!("#{step} ran: {}\n", reason::line(&reasons));
                let state = self.steps.entry(step).or_default();
                if state.started.is_none() {
                    // It may still have to wait for its turn.
                    state.reason = Some(line);
                } else {
                    self.head(step, &mut out);
                    out.push_str(&line);
                }
            }
            Event::Output { step, stream, bytes } => {
                let state = self.steps.entry(step).or_default();
                let lines = match stream {
                    Stream::Stdout => state.stdout.take(&bytes),
                    Stream::Stderr => state.stderr.take(&bytes),
                };
                let since = now.saturating_sub(state.started.unwrap_or(now));
                self.log(step, since, lines, &mut out);
            }
            // What moves outside of a step is told by status lines.
            Event::Transfer { step: 0, .. } => {}
            Event::Transfer { step, item, done, total } => {
                self.transfer(step, &item, (done, total), now, &mut out)
            }
            Event::Finished(step, outcome) => self.finished(step, &outcome, now, &mut out),
            Event::Status(line) => out += &(harmless(line.as_bytes()) + "\n"),
            Event::Warning(text) => {
                for line in text.lines() {
                    out += &(harmless(line.as_bytes()) + "\n");
                }
            }
        }
        self.begun |= !out.is_empty();
        out
    }

    /// Makes `step` the current one: a blank line and its name, when another one's lines stand above.
    fn head(&mut self, step: StepId, out: &mut String) {
        if self.current == Some(step) {
            return;
        }
        if let Some(left) = self.current.filter(|left| self.steps.get(left).is_some_and(|left| !left.ended)) {
            out.push_str(&format!("#{left} ...\n"));
        }
        if self.begun {
            out.push('\n');
        }
        let name = self.steps.get(&step).map_or("", |state| state.name.as_str());
        out.push_str(&format!("#{step} {name}\n"));
        self.current = Some(step);
    }

    fn log(&mut self, step: StepId, since: Duration, lines: Vec<String>, out: &mut String) {
        for line in lines {
            self.head(step, out);
            out.push_str(&format!("#{step} {:.3} {line}\n", since.as_secs_f64()));
        }
    }

    fn transfer(
        &mut self,
        step: StepId,
        item: &str,
        (done, total): (u64, u64),
        now: Duration,
        out: &mut String,
    ) {
        let known = self.steps.entry(step).or_default().transfers.get(item).copied();
        let complete = total > 0 && done >= total;
        // The first sight of it only starts its clock, unless that is also its end.
        let due = known.map_or(complete, |told| complete || now.saturating_sub(told) >= TRANSFER_INTERVAL);
        if known.is_none() || due {
            // Told for good: a later repetition of the same end adds nothing.
            let told = if complete { Duration::MAX } else { now };
            self.steps.entry(step).or_default().transfers.insert(item.to_owned(), told);
        }
        if due && known != Some(Duration::MAX) {
            self.head(step, out);
            let end = if complete { " done" } else { "" };
            out.push_str(&format!("#{step} {} {}{end}\n", harmless(item.as_bytes()), amount(done, total)));
        }
    }

    fn finished(&mut self, step: StepId, outcome: &StepOutcome, now: Duration, out: &mut String) {
        let state = self.steps.entry(step).or_default();
        let since = now.saturating_sub(state.started.unwrap_or(now));
        let rest: Vec<String> = state.stdout.rest().into_iter().chain(state.stderr.rest()).collect();
        self.log(step, since, rest, out);
        self.head(step, out);
        let line = match outcome {
            StepOutcome::Done(time) => format!("DONE {:.1}s", time.as_secs_f64()),
            StepOutcome::Cached => "CACHED".to_owned(),
            StepOutcome::Failed(reason) => format!("ERROR: {}", one_line(reason)),
            StepOutcome::Cancelled => "CANCELED".to_owned(),
        };
        out.push_str(&format!("#{step} {line}\n"));
        if let Some(state) = self.steps.get_mut(&step) {
            state.ended = true;
        }
    }
}

/// A step's name or reason on one line; heredocs bring newlines.
fn one_line(text: &str) -> String {
    crate::cli::text::one_line(text).trim_end().to_owned()
}
