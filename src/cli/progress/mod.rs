//! How a running verb is shown, on standard error.
//!
//! `plain` writes a line per event, as BuildKit does; `tty` repaints a block; `transfers` shows pulls and pushes
//! outside a build. Each is a state that turns an event and a time into text, so that tests need no clock and no
//! terminal; the wiring to standard error is here.

mod plain;
mod transfers;
mod tty;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::Error;
use super::settings::Environment;
use super::style::Style;
use super::terminal;
use crate::api::{Event, Events, Progress};

/// How often a block with running steps is repainted.
const REPAINT: Duration = Duration::from_millis(100);

/// Reads `--progress`, else `KILN_PROGRESS` and `BUILDKIT_PROGRESS`.
pub(crate) fn chosen(flag: Option<&str>, environment: &Environment) -> Result<Progress, Error> {
    let variable = || environment.filled("KILN_PROGRESS").or_else(|| environment.filled("BUILDKIT_PROGRESS"));
    match flag.or_else(variable).unwrap_or("auto") {
        "auto" => Ok(Progress::Auto),
        "plain" => Ok(Progress::Plain),
        "tty" => Ok(Progress::Tty),
        "quiet" | "none" => Ok(Progress::Quiet),
        "rawjson" => Err(Error::usage("`--progress rawjson` is not supported yet")),
        other => {
            Err(Error::usage(format!("unknown progress `{other}`"))
                .hint("it may be auto, plain, tty or quiet"))
        }
    }
}

/// A verb's progress while it runs.
pub(crate) struct Shown {
    /// Where the verb sends its events.
    pub(crate) events: Events,
    view: Option<Arc<View>>,
}

impl Shown {
    /// Shows a build's steps.
    pub(crate) fn steps(progress: Progress, style: Style, log_lines: usize) -> Result<Self, Error> {
        let terminal = terminal::is_terminal(io::stderr());
        match progress {
            Progress::Quiet => Ok(Self { events: Events::none(), view: None }),
            Progress::Tty if !terminal => Err(Error::usage("`--progress tty` needs a terminal")
                .hint("use `--progress plain` where standard error is a file or a pipe")),
            Progress::Tty => Ok(Self::new(Kind::Tty(tty::Tty::new(style, log_lines)))),
            Progress::Auto if terminal => Ok(Self::new(Kind::Tty(tty::Tty::new(style, log_lines)))),
            Progress::Auto | Progress::Plain => Ok(Self::new(Kind::Plain(plain::Plain::default()))),
        }
    }

    /// Tells whether all that a step writes is shown for good as it comes.
    pub(crate) fn has_logs(&self) -> bool {
        self.view.as_ref().is_some_and(|view| matches!(view.lock().kind, Kind::Plain(_)))
    }

    /// Shows what a pull or a push moves.
    pub(crate) fn transfers(quiet: bool) -> Self {
        if quiet {
            return Self { events: Events::none(), view: None };
        }
        Self::new(Kind::Transfers(transfers::Transfers::new(terminal::is_terminal(io::stderr()))))
    }

    fn new(kind: Kind) -> Self {
        let state = State { kind, painted: 0, ticking: false, done: false };
        let view = Arc::new(View { start: Instant::now(), state: Mutex::new(state) });
        let sink = Arc::clone(&view);
        let events = Events::new(move |event| View::take(&sink, event));
        Self { events, view: Some(view) }
    }

    /// Paints the last state and leaves it on the screen; later events are dropped.
    pub(crate) fn finish(self) {
        if let Some(view) = self.view {
            let mut state = view.lock();
            let now = view.start.elapsed();
            state.done = true;
            if let Kind::Tty(tty) = &mut state.kind {
                tty.finish();
            }
            state.paint(now);
        }
    }
}

/// What is shown and since when.
struct View {
    start: Instant,
    state: Mutex<State>,
}

struct State {
    kind: Kind,
    /// How many lines the last painted block has.
    painted: usize,
    /// Whether the repainting thread runs.
    ticking: bool,
    done: bool,
}

enum Kind {
    Plain(plain::Plain),
    Tty(tty::Tty),
    Transfers(transfers::Transfers),
}

impl View {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(view: &Arc<Self>, event: Event) {
        let now = view.start.elapsed();
        let mut state = view.lock();
        if state.done {
            return;
        }
        match &mut state.kind {
            Kind::Plain(plain) => super::tell(&plain.take(event, now)),
            Kind::Transfers(transfers) => {
                let lines = transfers.take(event);
                state.above(&lines, now);
            }
            Kind::Tty(tty) => {
                let urgent = matches!(event, Event::Finished(..) | Event::Warning(_) | Event::Status(_));
                let running = matches!(event, Event::Started(_) | Event::Transfer { .. });
                let lines = tty.take(event, now);
                // The thread is not worth its start while everything comes from the cache.
                if running && !state.ticking {
                    state.ticking = true;
                    Self::tick(view);
                }
                // Nor is painting: the last state of a build that runs nothing comes at once.
                if urgent && (state.ticking || !lines.is_empty()) {
                    state.above(&lines, now);
                }
            }
        }
    }

    /// Repaints until the end, so that times go on while steps are silent.
    fn tick(view: &Arc<Self>) {
        let view = Arc::downgrade(view);
        let tick = move || {
            loop {
                std::thread::sleep(REPAINT);
                let Some(view) = view.upgrade() else { return };
                let mut state = view.lock();
                if state.done {
                    return;
                }
                let now = view.start.elapsed();
                state.paint(now);
            }
        };
        // Without the thread the block is repainted by events alone.
        drop(std::thread::Builder::new().name("progress".into()).stack_size(256 << 10).spawn(tick));
    }
}

impl State {
    /// Writes `lines` where the block was, and the block below them.
    fn above(&mut self, lines: &[String], now: Duration) {
        if !lines.is_empty() {
            let mut out = self.up();
            for line in lines {
                out += &format!("{line}{}\n", self.clear());
            }
            self.painted = 0;
            super::tell(&out);
        }
        self.paint(now);
    }

    /// Paints the block over its last state.
    fn paint(&mut self, now: Duration) {
        // 80 columns where the terminal doesn't say; rows bound the block, so that it never scrolls.
        let (rows, columns) = terminal::size(io::stderr()).unwrap_or((24, 80));
        let (rows, columns) = (usize::from(rows), usize::from(columns));
        let block = match &self.kind {
            Kind::Plain(_) => return,
            Kind::Tty(tty) => tty.block(now, rows.saturating_sub(1), columns),
            Kind::Transfers(transfers) => transfers.block(rows.saturating_sub(1), columns),
        };
        let mut out = self.up();
        for line in &block {
            out += &format!("{line}\x1b[K\n");
        }
        if block.len() < self.painted {
            out += "\x1b[J";
        }
        self.painted = block.len();
        let mut error = io::stderr().lock();
        drop(error.write_all(out.as_bytes()));
    }

    /// Moves to the block's first line.
    fn up(&self) -> String {
        if self.painted > 0 { format!("\x1b[{}A\r", self.painted) } else { String::new() }
    }

    fn clear(&self) -> &'static str {
        if self.painted > 0 { "\x1b[K" } else { "" }
    }
}

/// Cuts a step's output, which comes cut anywhere, into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// A line that never ends is shown in pieces of this size.
    const MAX_BYTES: usize = 64 << 10;

    /// Takes `bytes` and returns the lines that they complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= Self::MAX_BYTES {
                lines.push(super::text::harmless(&self.partial));
                self.partial.clear();
            }
        }
        lines
    }

    /// Returns what stands after the last newline.
    pub(super) fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then(|| super::text::harmless(&rest))
    }
}

/// `1.2MB / 3MB`, or what has come so far when the whole is unknown.
fn amount(done: u64, total: u64) -> String {
    let done_text = super::units::size(done, 4);
    if total == 0 { done_text } else { format!("{done_text} / {}", super::units::size(total, 4)) }
}

#[cfg(test)]
mod tests;
