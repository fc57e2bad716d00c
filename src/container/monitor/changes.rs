//! What commands change of a container while it runs.

use super::clients::ClientId;
use super::keeper::Keeper;
use super::serve::{Duty, Hands};
use crate::container::wire::Packet;

/// Takes over what `config.json` says now.
#[derive(Debug)]
pub(super) struct Changes;

impl Duty<Keeper> for Changes {
    fn request(&mut self, from: ClientId, request: &Packet, hands: &mut Hands<'_, Keeper>) -> bool {
        let Packet::Update = request else { return false };
        let answer = match hands.keeper.reload() {
            Ok(()) => Packet::Done,
            Err(error) => Packet::Refused(error.to_string()),
        };
        hands.clients.answer(from, &answer);
        true
    }
}
