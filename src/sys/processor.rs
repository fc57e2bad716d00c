//! On which processor a process runs.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// A forked process begins on its parent's processor, and some kernels leave it there until one of the two sleeps,
/// whatever else is idle.
#[derive(Debug)]
pub struct Elsewhere {
    allowed: CpuSet,
    others: CpuSet,
}

impl Elsewhere {
    /// Anywhere this process may run but where it does; `None` when it has but one processor.
    pub fn from_here() -> Option<Elsewhere> {
        let allowed = sched_getaffinity(None).ok()?;
        let mut others = allowed;
        others.unset(sched_getcpu());
        (others.count() > 0).then_some(Elsewhere { allowed, others })
    }

    /// Moves a process there, or the caller; where it runs later is the kernel's affair again. Both sides of a fork may
    /// call it, in any order: each ends with what was allowed before.
    pub fn send(&self, process: Option<Pid>) {
        // A process that stays is only slower.
        let _ = sched_setaffinity(process, &self.others);
        let _ = sched_setaffinity(process, &self.allowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_allowed_is_allowed_after_it() {
        let before = sched_getaffinity(None).unwrap();
        if let Some(elsewhere) = Elsewhere::from_here() {
            elsewhere.send(None);
        }
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
