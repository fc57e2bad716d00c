//! The time between an end and the next start.

use std::io;
use std::time::Instant;

use rustix::event::PollFlags;

use super::Keeper;
use super::serve::{Duty, Hands};

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
