//! What a running verb tells its user.

use std::sync::Arc;
use std::time::Duration;

use super::MissReason;

/// Number of a step within one build, counted from 1 in order of appearance.
pub type StepId = u32;

/// Which of a step's two outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// It ran.
    Done(Duration),
    /// Its result was in the cache.
    Cached,
    /// It failed, with the first line of the reason.
    Failed(String),
    /// Another step's failure or the user stopped it.
    Cancelled,
}

/// What a running verb tells its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step of the plan: all of them are announced before the first one starts.
    Planned {
        /// The step.
        step: StepId,
        /// Its shown name: `[build 2/5] RUN make`.
        name: String,
    },
    /// The step began to run.
    Started(StepId),
    /// Why the step runs: told once, some time before its end; the root cause first.
    Ran {
        /// The step.
        step: StepId,
        /// All causes; one at least.
        reasons: Vec<MissReason>,
    },
    /// The step wrote to its output; bytes as they came, cut anywhere.
    Output {
        /// The step.
        step: StepId,
        /// Which output.
        stream: Stream,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// A part of a step with a known size, such as a layer that is being pulled.
    Transfer {
        /// The step.
        step: StepId,
        /// What moves: `sha256:0123456789ab`.
        item: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all; 0 when unknown.
        total: u64,
    },
    /// The step ended.
    Finished(StepId, StepOutcome),
    /// A line of status outside steps: `latest: Pulling from library/debian`.
    Status(String),
    /// A mistake that doesn't stop the build, as rendered text.
    Warning(String),
}

/// Where events go; cheap to clone, safe to call from any thread.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Hands each event to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops every event.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Tells the user `event`.
    pub fn send(&self, event: Event) {
        (self.0)(event);
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
