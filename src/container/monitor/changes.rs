//! What commands change of a container while it runs.

use super::clients::ClientId;
use super::keeper::Keeper;
use super::serve::{Duty, Hands};
use crate::container::spec;
use crate::container::wire::Packet;

/// Takes over what `config.json` says now.
#[derive(Debug)]
pub(super) struct Changes;

impl Duty<Keeper> for Changes {
    fn request(&mut self, from: ClientId, request: &Packet, hands: &mut Hands<'_, Keeper>) -> bool {
        let Packet::Update = request else { return false };
        let answer = take_over(hands).map_or_else(Packet::Refused, |()| Packet::Done);
        hands.clients.answer(from, &answer);
        true
    }
}

fn take_over(hands: &mut Hands<'_, Keeper>) -> Result<(), String> {
    let keeper = &mut *hands.keeper;
    let before = keeper.record.config.resources.clone();
    keeper.reload().map_err(|error| error.to_string())?;
    let (Some(process), true) = (hands.process, keeper.record.config.resources != before) else {
        return Ok(());
    };
    let limit = |resources| {
        let limits = spec::limits::limits(resources).map_err(|error| error.to_string())?;
        process.limit(&limits).map_err(|error| error.message)
    };
    let result = limit(&keeper.record.config.resources);
    if result.is_err() {
        // Some may have been written; who asked puts the file back.
        let _ = limit(&before);
        keeper.record.config.resources = before;
    }
    // Its cgroups may have become more.
    keeper.record.state.process = process.target().ok();
    let written = keeper.write().map_err(|error| error.to_string());
    result.and(written)
}
