//! Notices that the kernel killed a process for memory, while the program goes on.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::Keeper;
use super::serve::{Duty, Hands, Running};
use crate::runtime::OomWatch;

/// v1 tells that memory is out, and then kills.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// Waits for that.
#[derive(Debug)]
pub(super) struct Oom {
    watch: Option<OomWatch>,
    look: Option<(Instant, Instant)>,
}

impl Oom {
    /// Watches a process whose memory is limited; without a limit the kernel kills by its own choice among all, and that
    /// is seen at the end.
    pub(super) fn new(process: &dyn Running, keeper: &Keeper) -> Self {
        let limited = keeper.record.config.resources.memory.is_some();
        Self { watch: limited.then(|| process.oom_watch()).flatten(), look: None }
    }
}

impl Duty<Keeper> for Oom {
    fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let fd = self.watch.as_ref().map(OomWatch::poll_fd);
        fd.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).into_iter().collect()
    }

    fn deadline(&self) -> Option<Instant> {
        self.look.map(|(next, _)| next)
    }

    fn handle(
        &mut self,
        events: &[PollFlags],
        now: Instant,
        hands: &mut Hands<'_, Keeper>,
    ) -> io::Result<()> {
        if let Some(watch) = self.watch.as_ref().filter(|_| events.iter().any(|events| !events.is_empty())) {
            let _ = watch.clear();
            self.look = Some((now, now + PATIENCE));
        }
        let (Some((next, until)), Some(process)) = (self.look, hands.process) else { return Ok(()) };
        if next > now {
            return Ok(());
        }
        if process.oom_killed() {
            self.look = None;
            // Once for each start, as the state has it.
            self.watch = None;
            hands.keeper.record.state.oom_killed = true;
            hands.keeper.write()?;
            hands.keeper.tell("oom", &[]);
            return Ok(());
        }
        self.look = Some((now + PAUSE, until)).filter(|_| now < until);
        Ok(())
    }
}
