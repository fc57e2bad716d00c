//! What a monitor closes when nobody waits for it any more.
//!
//! The kernel takes network namespaces down one lot after another, with all links locked and waiting for all processors
//! for each lot, however many are in it: where many containers start one after another, every start would wait for the end
//! of the one before. So those that end shortly after each other let go of their networks at the same moment.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::filter::close_filter;
use super::namespace::Namespace;

/// From one of those moments to the next: all processes of the machine have the same ones.
const LOT: Duration = Duration::from_millis(100);

/// Closes a network that nothing is in any more, and the socket for the packet filter. For a process that has nothing
/// else to do.
pub fn close_late(network: Option<Namespace>) {
    if let Some(network) = network {
        let now = clock_gettime(ClockId::Monotonic);
        std::thread::sleep(until_next(now.tv_nsec.unsigned_abs()));
        drop(network);
    }
    close_filter();
}

/// The time until the next moment; a second has a whole number of them.
fn until_next(nanoseconds: u64) -> Duration {
    let lot = LOT.as_nanos() as u64;
    Duration::from_nanos(lot - nanoseconds % lot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_end_shortly_after_each_other_wait_for_the_same_moment() {
        let at = |millis: u64| Duration::from_millis(millis) + until_next(millis * 1_000_000);
        assert_eq!(at(3), LOT);
        assert_eq!(at(99), LOT);
        assert_eq!(at(100), 2 * LOT);
        assert_eq!(at(999), Duration::from_secs(1));
    }
}
