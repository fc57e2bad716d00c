//! Failures that are shared: who waited for a step that failed needn't run it again to see that.
//!
//! An attempt that failed leaves its end in the key's lock file. A vertex that found the key busy remembers what stood
//! there; when it has the lock and finds something new, that attempt ended while it waited, and its end is the
//! vertex' own. An attempt that was stopped or killed leaves nothing: the next one in the queue leads. So no clock
//! is asked, and nothing is remembered for builds that come later.

use std::io::Read as _;

use kiln_cache::{Digest, KeyLock};
use serde::{Deserialize, Serialize};

use super::claim::Work;
use super::lookup::store_error;
use super::{OpError, Solver};
use crate::api::{Event, Failure, FailureKind, StepLog, StepOutcome, Stream};

/// The most of a log that is left for others; of a longer one its last lines are.
const LOG_BYTES: u64 = 64 << 10;

/// How a step's program failed.
#[derive(Serialize, Deserialize)]
struct Told {
    code: i32,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
    tail: Vec<String>,
    log: String,
}

impl Told {
    /// What others may know of `failure`: that of a program, no trouble of this build's own.
    fn new(failure: &Failure) -> Option<Self> {
        let FailureKind::Step(code) = failure.kind else { return None };
        let tail = failure.log_tail.as_ref().map(|(_, lines)| lines.clone()).unwrap_or_default();
        let mut bytes = Vec::new();
        if let Some(log) = &failure.log {
            log.read().take(LOG_BYTES + 1).read_to_end(&mut bytes).ok()?;
        }
        let log = match bytes.len() as u64 <= LOG_BYTES {
            true => String::from_utf8_lossy(&bytes).into_owned(),
            false => tail.iter().map(|line| format!("{line}\n")).collect(),
        };
        let Failure { message, causes, hints, .. } = failure.clone();
        Some(Self { code, message, causes, hints, tail, log })
    }

    /// The same failure, of the step `name`.
    fn failure(self, name: &str) -> Failure {
        let mut failure = Failure::new(FailureKind::Step(self.code), self.message);
        (failure.causes, failure.hints) = (self.causes, self.hints);
        failure.log_tail = Some((name.to_owned(), self.tail));
        failure.log = Some(StepLog::new(self.log.into_bytes(), None, 0));
        failure
    }
}

impl Work {
    /// Leaves the failure for those who wait for the key. One that can't be left is theirs to find out.
    pub(super) fn leave(&self, failure: &Failure) {
        if let Some(text) = Told::new(failure).and_then(|told| serde_json::to_string(&told).ok()) {
            let _ = self.lock.leave(&self.cheap.digest, &text);
        }
    }
}

fn unreadable(error: std::io::Error) -> OpError {
    let mut failure = Failure::new(FailureKind::System, "cannot use the lock file of a step");
    failure.causes.push(error.to_string());
    Box::new(failure)
}

impl Solver {
    /// Notes that `vertex` waits for `key`, and what the last attempt before left.
    pub(super) fn queue(&self, vertex: usize, key: &Digest) -> Result<(), OpError> {
        if !self.queued().contains_key(&vertex) {
            let last = self.store.last_attempt(key).map_err(store_error)?;
            self.queued().insert(vertex, last.map(|attempt| attempt.id));
        }
        Ok(())
    }

    /// The failure of an attempt that ended while `vertex` waited for `lock`.
    ///
    /// Who refuses what others made makes its own attempt. If there is none to share, what was left is removed: a new
    /// attempt begins.
    pub(super) fn shared(
        &self,
        vertex: usize,
        key: &Digest,
        lock: &KeyLock,
    ) -> Result<Option<OpError>, OpError> {
        let node = &self.nodes[vertex];
        if let Some(seen) = self.queued().remove(&vertex)
            && node.op.fails_alike()
            && !self.refuses(vertex)
            && let Some(attempt) = lock.attempt(key).map_err(unreadable)?
            && seen.as_ref() != Some(&attempt.id)
            && let Ok(told) = serde_json::from_str::<Told>(&attempt.text)
        {
            return Ok(Some(self.tell(vertex, told)));
        }
        lock.forget().map_err(unreadable)?;
        Ok(None)
    }

    /// Shows the step as if it had run here.
    fn tell(&self, vertex: usize, told: Told) -> OpError {
        let node = &self.nodes[vertex];
        if let Some(step) = node.step {
            self.events.send(Event::Started(step));
            let bytes = told.log.clone().into_bytes();
            self.events.send(Event::Output { step, stream: Stream::Stdout, bytes });
        }
        let failure = told.failure(&node.label.description);
        self.finished(vertex, StepOutcome::Failed(failure.message.clone()));
        Box::new(failure)
    }
}
