//! Which ends are followed by a start, and after which time.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::keeper::Keeper;
use super::serve::{Duty, Hands};
use crate::api::RestartPolicy;

/// The first delay, doubled from start to start …
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// … up to this.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A program that ran for this long begins anew with the first.
const STEADY: Duration = Duration::from_secs(10);

/// Tells whether `policy` starts a program again that ended with `code` after so many restarts.
pub(in crate::container) fn is_wanted_again(policy: RestartPolicy, code: i32, restarts: u32) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::OnFailure(limit) => code != 0 && limit.is_none_or(|limit| restarts < limit),
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
    }
}

/// The delays between ends and starts.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// Gives the delay after a run of this length.
    pub(super) fn next(&mut self, ran: Duration) -> Duration {
        let doubled = self.last.filter(|_| ran < STEADY).map(|last| (last * 2).min(LONGEST_DELAY));
        *self.last.insert(doubled.unwrap_or(FIRST_DELAY))
    }
}

/// Ends the loop when the time has come.
#[derive(Debug)]
pub(super) struct Delay {
    pub(super) until: Instant,
}

impl Duty<Keeper> for Delay {
    fn deadline(&self) -> Option<Instant> {
        Some(self.until)
    }

    fn handle(&mut self, _: &[PollFlags], now: Instant, hands: &mut Hands<'_, Keeper>) -> io::Result<()> {
        hands.is_over |= self.until <= now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: moby, restartmanager.
    #[test]
    fn delays_double_up_to_a_minute_until_a_run_is_steady() {
        let mut backoff = Backoff::default();
        let mut next = |seconds| backoff.next(Duration::from_secs(seconds)).as_millis();
        assert_eq!([next(0), next(9), next(1), next(0)], [100, 200, 400, 800]);
        assert_eq!((0..7).map(|_| next(0)).last(), Some(60_000));
        assert_eq!([next(10), next(0)], [100, 200]);
    }

    #[test]
    fn a_policy_says_which_ends_are_followed_by_a_start() {
        let some = RestartPolicy::OnFailure(Some(2));
        for (policy, code, restarts, again) in [
            (RestartPolicy::No, 1, 0, false),
            (RestartPolicy::Always, 0, 99, true),
            (RestartPolicy::UnlessStopped, 1, 99, true),
            (RestartPolicy::OnFailure(None), 0, 0, false),
            (RestartPolicy::OnFailure(None), 1, 99, true),
            (some, 1, 1, true),
            (some, 1, 2, false),
        ] {
            assert_eq!(is_wanted_again(policy, code, restarts), again, "{policy:?} {code} {restarts}");
        }
    }
}
