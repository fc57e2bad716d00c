//! Freezes the processes while a client copies what they write to: they go on when it goes, however that ends.

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

/// Holds the processes for clients.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// Who has it, and until when that has to be answered; none once it was.
    holders: Vec<(ClientId, Option<Instant>)>,
    /// It was this that froze them.
    froze: bool,
    look_at: Option<Instant>,
}

impl Holding {
    fn hold(&mut self, from: ClientId, hands: &mut Hands<'_, Keeper>) -> Result<(), String> {
        let process = hands.process.ok_or("it waits to be started again")?;
        if self.holders.is_empty() && hands.keeper.record.state.status != ContainerState::Paused {
            process.freeze(true).map_err(|error| error.to_string())?;
            self.froze = true;
        }
        let now = Instant::now();
        self.holders.push((from, Some(now + PATIENCE)));
        self.look_at = Some(now);
        Ok(())
    }

    /// Lets them go on once nobody holds them.
    fn release(&mut self, hands: &mut Hands<'_, Keeper>) {
        if !self.holders.is_empty() {
            return;
        }
        self.look_at = None;
        if let (true, Some(process)) = (std::mem::take(&mut self.froze), hands.process) {
            // What can't be thawed can still be killed.
            let _ = process.freeze(false);
        }
    }
}

impl Duty<Keeper> for Holding {
    fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    fn handle(&mut self, _: &[PollFlags], now: Instant, hands: &mut Hands<'_, Keeper>) -> io::Result<()> {
        if self.holders.is_empty() {
            return Ok(());
        }
        self.holders.retain(|(client, _)| hands.clients.has(*client));
        self.look_at = None;
        let is_frozen = hands.process.is_none_or(|process| process.is_frozen());
        let mut refused = Vec::new();
        for (client, until) in &mut self.holders {
            match until {
                Some(_) if is_frozen => {
                    hands.clients.answer(*client, &Packet::Done);
                    *until = None;
                }
                Some(end) if *end <= now => refused.push(*client),
                Some(_) => self.look_at = Some(now + PAUSE),
                None => {}
            }
        }
        for client in &refused {
            let why = "the kernel could not freeze all of its processes".to_owned();
            hands.clients.answer(*client, &Packet::Refused(why));
        }
        self.holders.retain(|(client, _)| !refused.contains(client));
        self.release(hands);
        Ok(())
    }

    fn request(&mut self, from: ClientId, request: &Packet, hands: &mut Hands<'_, Keeper>) -> bool {
        let refused = match request {
            Packet::Hold => match self.hold(from, hands) {
                Ok(()) => return true,
                Err(why) => why,
            },
            Packet::Pause | Packet::Unpause if !self.holders.is_empty() => {
                "one of its volumes is being copied".to_owned()
            }
            _ => return false,
        };
        hands.clients.answer(from, &Packet::Refused(refused));
        true
    }
}
