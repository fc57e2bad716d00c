//! Freezes the processes, and lets them go on.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::Keeper;
use super::clients::ClientId;
use super::serve::{Duty, Hands};
use crate::api::ContainerState;
use crate::container::wire::Packet;

/// A process can only be frozen where the kernel lets it return.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

/// Pauses and unpauses.
#[derive(Debug, Default)]
pub(super) struct Pausing {
    /// Who waits until all is frozen, and how long it may take.
    waiting: Option<(ClientId, Instant)>,
    look_at: Option<Instant>,
}

/// Lets processes go on that are to hear a signal.
pub(super) fn thaw(hands: &mut Hands<'_, Keeper>) {
    if let (Some(process), ContainerState::Paused) = (hands.process, hands.keeper.record.state.status) {
        // What can't be thawed can still be killed.
        let _ = process.freeze(false);
        let _ = set(hands.keeper, ContainerState::Running, "unpause");
    }
}

fn set(keeper: &mut Keeper, status: ContainerState, action: &str) -> io::Result<()> {
    keeper.record.state.status = status;
    keeper.write()?;
    keeper.tell(action, &[]);
    Ok(())
}

impl Pausing {
    fn pause(&mut self, from: ClientId, hands: &mut Hands<'_, Keeper>) -> Result<(), String> {
        let process = hands.process.ok_or("it waits to be started again")?;
        if hands.keeper.record.state.status == ContainerState::Paused || self.waiting.is_some() {
            return Err("it is already paused".to_owned());
        }
        process.freeze(true).map_err(|error| error.to_string())?;
        // Its cgroups may have become one more.
        hands.keeper.record.state.process = process.target().ok();
        let now = Instant::now();
        (self.waiting, self.look_at) = (Some((from, now + PATIENCE)), Some(now));
        Ok(())
    }

    fn unpause(hands: &mut Hands<'_, Keeper>) -> Result<(), String> {
        let process = hands.process.filter(|_| hands.keeper.record.state.status == ContainerState::Paused);
        process.ok_or("it is not paused")?.freeze(false).map_err(|error| error.to_string())?;
        set(hands.keeper, ContainerState::Running, "unpause").map_err(|error| error.to_string())
    }
}

impl Duty<Keeper> for Pausing {
    fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    fn handle(&mut self, _: &[PollFlags], now: Instant, hands: &mut Hands<'_, Keeper>) -> io::Result<()> {
        let (Some(process), Some((from, until))) = (hands.process, self.waiting) else { return Ok(()) };
        let answer = if process.is_frozen() {
            match set(hands.keeper, ContainerState::Paused, "pause") {
                Ok(()) => Packet::Done,
                Err(error) => Packet::Refused(error.to_string()),
            }
        } else if until <= now {
            let _ = process.freeze(false);
            Packet::Refused("the kernel could not freeze all of its processes".to_owned())
        } else {
            self.look_at = Some(now + PAUSE);
            return Ok(());
        };
        hands.clients.answer(from, &answer);
        (self.waiting, self.look_at) = (None, None);
        Ok(())
    }

    fn request(&mut self, from: ClientId, request: &Packet, hands: &mut Hands<'_, Keeper>) -> bool {
        let refused = match request {
            Packet::Pause => match self.pause(from, hands) {
                Ok(()) => return true,
                Err(why) => Some(why),
            },
            Packet::Unpause => Self::unpause(hands).err(),
            _ => return false,
        };
        hands.clients.answer(from, &refused.map_or(Packet::Done, Packet::Refused));
        true
    }
}
