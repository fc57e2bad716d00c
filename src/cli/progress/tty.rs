//! A block that is repainted: a head line, a line per step, and below running steps their last lines.
//!
//! ```text
//! [+] Building 3.1s (7/9)
//!  => CACHED [build 2/4] RUN apt-get install -y gcc                      0.0s
//!  => [build 3/4] COPY . /src                                            0.1s
//!  => [build 4/4] RUN make                                               2.0s
//!  => => # cc -c main.c
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Lines, amount};
use crate::api::{Event, StepId, StepOutcome, Stream};
use crate::cli::reason;
use crate::cli::style::Style;
use crate::cli::text::{ellipsis, harmless, one_line, width};

/// Layers shown below a step that pulls.
const MAX_TRANSFERS: usize = 8;
/// The number under which base images are pulled, before the steps are known.
const OUTSIDE: StepId = 0;

/// What is known of the build.
#[derive(Debug)]
pub(super) struct Tty {
    style: Style,
    log_lines: usize,
    steps: BTreeMap<StepId, Step>,
    finished: bool,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    started: Option<Duration>,
    outcome: Option<(StepOutcome, Duration)>,
    stdout: Lines,
    stderr: Lines,
    tail: VecDeque<String>,
    /// Why it runs.
    reason: Option<String>,
    transfers: Vec<(String, u64, u64)>,
}

impl Tty {
    /// Shows up to `log_lines` lines of each running step.
    pub(super) fn new(style: Style, log_lines: usize) -> Self {
        Self { style, log_lines, steps: BTreeMap::new(), finished: false }
    }

    /// Takes `event`; returns lines that belong above the block for good.
    pub(super) fn take(&mut self, event: Event, now: Duration) -> Vec<String> {
        match event {
            Event::Planned { step, name } => self.steps.entry(step).or_default().name = one_line(&name),
            Event::Started(step) => self.steps.entry(step).or_default().started = Some(now),
            Event::Ran { step, reasons } => {
                self.steps.entry(step).or_default().reason = Some(reason::line(&reasons));
            }
            Event::Output { step, stream, bytes } => {
                let limit = self.log_lines;
                let state = self.steps.entry(step).or_default();
                let lines = match stream {
                    Stream::Stdout => state.stdout.take(&bytes),
                    Stream::Stderr => state.stderr.take(&bytes),
                };
                state.tail.extend(lines);
                let surplus = state.tail.len().saturating_sub(limit);
                state.tail.drain(..surplus);
            }
            Event::Transfer { step, item, done, total } => {
                let transfers = &mut self.steps.entry(step).or_default().transfers;
                match transfers.iter_mut().find(|known| known.0 == item) {
                    Some(known) => (known.1, known.2) = (done, total),
                    None => transfers.push((item, done, total)),
                }
            }
            Event::Finished(step, outcome) => {
                let state = self.steps.entry(step).or_default();
                let elapsed = state.started.map_or(Duration::ZERO, |started| now.saturating_sub(started));
                let elapsed = if let StepOutcome::Done(time) = &outcome { *time } else { elapsed };
                state.outcome = Some((outcome, elapsed));
            }
            Event::Status(line) => return vec![harmless(line.as_bytes())],
            Event::Warning(text) => {
                return text.lines().map(|line| self.style.yellow(&harmless(line.as_bytes()))).collect();
            }
        }
        Vec::new()
    }

    /// Makes the head line say that it is over.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// The block at `now`, in at most `rows` lines of less than `columns`.
    pub(super) fn block(&self, now: Duration, rows: usize, columns: usize) -> Vec<String> {
        let steps = || self.steps.iter().filter(|(step, _)| **step != OUTSIDE).map(|(_, state)| state);
        let done = steps().filter(|step| step.outcome.is_some()).count();
        if self.steps.is_empty() || rows == 0 {
            return Vec::new();
        }
        // A line that fills the last column would wrap on some terminals.
        let columns = columns.saturating_sub(1).max(1);
        let end = if self.finished { " FINISHED" } else { "" };
        let head = format!("[+] Building {:.1}s ({done}/{}){end}", now.as_secs_f64(), steps().count());
        let outside = self.steps.get(&OUTSIDE).map(|state| (true, moving(state, columns)));
        let inside =
            steps().filter_map(|step| Some((step.outcome.is_none(), self.step(step, now, columns)?)));
        let mut groups: Vec<(bool, Vec<String>)> = outside.into_iter().chain(inside).collect();
        fit(&mut groups, rows - 1);
        let mut block = vec![ellipsis(&head, columns)];
        block.extend(groups.into_iter().flat_map(|(_, lines)| lines));
        block
    }

    /// The lines of a step; `None` before it starts.
    fn step(&self, step: &Step, now: Duration, columns: usize) -> Option<Vec<String>> {
        let Some((outcome, elapsed)) = &step.outcome else {
            let elapsed = now.saturating_sub(step.started?);
            let mut lines = vec![self.line(" => ", step, elapsed, columns, |text| text.to_owned())];
            lines.extend(moving(step, columns));
            for log in &step.tail {
                lines.push(self.style.faint(&ellipsis(&format!(" => => # {log}"), columns)));
            }
            return Some(lines);
        };
        let style = self.style;
        Some(vec![match outcome {
            StepOutcome::Done(_) => self.line(" => ", step, *elapsed, columns, |text| style.blue(text)),
            StepOutcome::Cached => {
                self.line(" => CACHED ", step, Duration::ZERO, columns, |text| style.blue(text))
            }
            StepOutcome::Failed(_) => {
                self.line(" => ERROR ", step, *elapsed, columns, |text| style.red(text))
            }
            StepOutcome::Cancelled => {
                step.started?;
                self.line(" => CANCELED ", step, *elapsed, columns, |text| style.yellow(text))
            }
        }])
    }

    /// A step's line: its name, why it runs, and its time at the right edge; names are cut to the width.
    fn line(
        &self,
        mark: &str,
        step: &Step,
        elapsed: Duration,
        columns: usize,
        paint: impl Fn(&str) -> String,
    ) -> String {
        let time = format!("{:.1}s", elapsed.as_secs_f64());
        let room = columns.saturating_sub(width(mark) + time.len() + 1);
        if room < 8 {
            return paint(&ellipsis(&format!("{mark}{}", step.name), columns));
        }
        let reason = step.reason.as_ref().map(|reason| format!("  ran: {reason}")).unwrap_or_default();
        // What a long name leaves is the reason's, and two fifths of the line at least.
        let name = ellipsis(&step.name, room.saturating_sub(width(&reason)).max(room - room * 2 / 5));
        let reason = ellipsis(&reason, room - width(&name));
        let gap = " ".repeat(room - width(&name) - width(&reason) + 1);
        if reason.is_empty() {
            return paint(&format!("{mark}{name}{gap}{time}"));
        }
        paint(&format!("{mark}{name}")) + &self.style.faint(&reason) + &paint(&format!("{gap}{time}"))
    }
}

/// The lines of what moves for a step.
fn moving(step: &Step, columns: usize) -> Vec<String> {
    let moving = step.transfers.iter().filter(|(_, done, total)| *total == 0 || done < total);
    let line = |(item, done, total): &(String, u64, u64)| {
        ellipsis(&format!(" => => {} {}", harmless(item.as_bytes()), amount(*done, *total)), columns)
    };
    moving.take(MAX_TRANSFERS).map(line).collect()
}

/// Makes the steps fit in `rows`: first the lines below running steps go, then the steps that ended first.
fn fit(groups: &mut Vec<(bool, Vec<String>)>, rows: usize) {
    let total = |groups: &[(bool, Vec<String>)]| groups.iter().map(|group| group.1.len()).sum::<usize>();
    // Log lines go one by one from the longest, so that each running step keeps what fits.
    while total(groups) > rows {
        let Some(longest) =
            groups.iter_mut().max_by_key(|group| group.1.len()).filter(|group| group.1.len() > 1)
        else {
            break;
        };
        longest.1.remove(1);
    }
    while groups.len() > rows {
        let ended = groups.iter().position(|(running, _)| !running).unwrap_or(0);
        groups.remove(ended);
    }
}
