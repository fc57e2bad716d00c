//! Connects a running container to networks, and takes it out of them, as `config.json` says.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::PollFlags;

use super::clients::ClientId;
use super::keeper::Keeper;
use super::serve::{Duty, Hands};
use crate::api::NetworkWish;
use crate::container::networking::way_out;
use crate::container::record::Endpoint;
use crate::container::wire::Packet;
use crate::network::{Joined, Namespace, Network};

/// Holds the container's addresses, and what its links are configured by.
///
/// The sockets of a namespace stay in it: the monitor has one in the container's, and never goes there itself.
#[derive(Debug)]
pub(super) struct Networking {
    namespace: Option<Namespace>,
    /// In the order of the record's endpoints.
    leases: Vec<OwnedFd>,
    /// The record may have been changed after the start had read it, and before anybody could be told.
    is_new: bool,
}

impl Networking {
    /// Takes over what the start has connected.
    pub(super) fn new(namespace: Option<Namespace>, leases: Vec<OwnedFd>) -> Self {
        Self { namespace, leases, is_new: true }
    }

    fn reconcile(&mut self, keeper: &mut Keeper) -> Result<(), String> {
        keeper.reload().map_err(|error| error.to_string())?;
        let Some(namespace) = &mut self.namespace else {
            return Err("it has no network of its own".to_owned());
        };
        let containers = keeper.containers.clone();
        let wanted = containers.networks_of(&keeper.record.config).map_err(|error| error.to_string())?;
        let endpoints = &mut keeper.record.state.endpoints;
        let is_wanted = |endpoint: &Endpoint| wanted.iter().any(|(it, _)| it.record.id == endpoint.network);
        while let Some(gone) = endpoints.iter().position(|endpoint| !is_wanted(endpoint)) {
            let endpoint = endpoints.remove(gone);
            let lease = self.leases.remove(gone);
            let address = endpoint.address.map(|address| address.addr());
            let network = containers.networks.find(&endpoint.network);
            if let (Some(address), Ok(network)) = (address, network) {
                network.leave(address, lease).map_err(|error| error.to_string())?;
            }
        }
        for (network, wish) in &wanted {
            if endpoints.iter().any(|endpoint| endpoint.network == network.record.id) {
                continue;
            }
            let taken = |number: usize| {
                let name = format!("eth{number}");
                keeper.record.state.endpoints.iter().any(|endpoint| endpoint.interface == name)
            };
            let number = (0..).find(|number| !taken(*number)).unwrap_or_default();
            let record = &keeper.record;
            let (endpoint, joined) = containers
                .join(record, network, wish, namespace, number, false)
                .map_err(|error| error.to_string())?;
            self.leases.extend(Joined::hand_over(joined));
            keeper.record.state.endpoints.push(endpoint);
            return self.reconcile(keeper);
        }
        lead_out(namespace, &wanted)?;
        keeper.write().map_err(|error| error.to_string())
    }
}

/// Puts the default routes where they belong now.
fn lead_out(namespace: &mut Namespace, wanted: &[(Network, NetworkWish)]) -> Result<(), String> {
    let ways: Vec<IpAddr> = way_out(wanted).map(|number| wanted[number].0.ways_out()).unwrap_or_default();
    namespace.lead_out(&ways).map_err(|error| format!("cannot change its routes: {error}"))
}

impl Duty<Keeper> for Networking {
    fn deadline(&self) -> Option<Instant> {
        self.is_new.then(Instant::now)
    }

    fn handle(&mut self, _: &[PollFlags], _: Instant, hands: &mut Hands<'_, Keeper>) -> io::Result<()> {
        if std::mem::take(&mut self.is_new)
            && hands.keeper.reload().is_ok()
            && hands.keeper.record.is_misplaced()
        {
            // What is refused now is tried again by whoever looks at the container next.
            let _ = self.reconcile(hands.keeper);
            let _ = hands.keeper.write();
        }
        Ok(())
    }

    fn request(&mut self, from: ClientId, request: &Packet, hands: &mut Hands<'_, Keeper>) -> bool {
        let Packet::Networks = request else { return false };
        let result = self.reconcile(hands.keeper);
        if result.is_err() {
            // Who asked puts the file back; what was done by then is seen by others.
            let _ = hands.keeper.write();
        }
        hands.clients.answer(from, &result.map_or_else(Packet::Refused, |()| Packet::Done));
        true
    }
}
