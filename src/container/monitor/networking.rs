//! Connects a running container to networks, and takes it out of them, as `config.json` says.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::clients::ClientId;
use super::keeper::Keeper;
use super::ports::Ports;
use super::serve::{Duty, Hands, Running};
use crate::api::NetworkWish;
use crate::container::networking::way_out;
use crate::container::ports::Held;
use crate::container::record::Endpoint;
use crate::container::wire::Packet;
use crate::network::{Joined, Namespace, Network};
use crate::runtime::{At, StartError};

/// Holds the container's addresses and ports, and what its links are configured by.
///
/// The sockets of a namespace stay in it: the monitor has one in the container's, and never stays there itself.
#[derive(Debug)]
pub(super) struct Networking {
    /// None without a network of its own, and as long as that has nothing but loopback from its first process.
    namespace: Option<Namespace>,
    /// In the order of the record's endpoints.
    leases: Vec<OwnedFd>,
    /// The machine's ports, while it has an endpoint that they lead to.
    ports: Option<Ports>,
    /// The record may have been changed after the start had read it, and before anybody could be told.
    is_new: bool,
}

impl Networking {
    /// Takes over what the start has connected.
    pub(super) fn new(namespace: Option<Namespace>, leases: Vec<OwnedFd>) -> Self {
        Self { namespace, leases, ports: None, is_new: true }
    }

    /// Takes the ports that lead to a container that starts.
    pub(super) fn hold_ports(&mut self, keeper: &mut Keeper) -> Result<(), StartError> {
        match keeper.record.state.endpoints.is_empty() {
            true => Ok(()),
            false => {
                let held = keeper.containers.hold_ports(&keeper.record)?;
                self.lead_ports(held, keeper)
            }
        }
    }

    /// Has ports lead to the container.
    fn lead_ports(&mut self, held: Vec<Held>, keeper: &mut Keeper) -> Result<(), StartError> {
        if !held.is_empty() {
            keeper.record.state.ports = held.iter().map(|held| held.port).collect();
            self.ports = Some(Ports::new(held, keeper).at("ports", || "cannot publish the ports")?);
        }
        Ok(())
    }

    fn reconcile(&mut self, process: Option<&dyn Running>, keeper: &mut Keeper) -> Result<(), StartError> {
        keeper.reload().map_err(|error| refused(&error))?;
        let containers = keeper.containers.clone();
        let wanted = containers.networks_of(&keeper.record.config).map_err(|error| refused(&error))?;
        // Before anything is connected: of a port that can't be had nothing is left.
        let held = match wanted.is_empty() || self.ports.is_some() {
            true => Vec::new(),
            false => containers.hold_ports(&keeper.record)?,
        };
        let placed = self.place(&wanted, process, keeper);
        if keeper.record.state.endpoints.is_empty() {
            self.ports.take().into_iter().for_each(|ports| ports.close(keeper));
            keeper.record.state.ports.clear();
        } else {
            self.lead_ports(held, keeper)?;
        }
        placed?;
        keeper.write().map_err(|error| refused(&error))
    }

    /// Connects it to the networks that are wanted, and takes it out of others.
    fn place(
        &mut self,
        wanted: &[(Network, NetworkWish)],
        process: Option<&dyn Running>,
        keeper: &mut Keeper,
    ) -> Result<(), StartError> {
        let containers = keeper.containers.clone();
        let endpoints = &mut keeper.record.state.endpoints;
        let is_wanted = |endpoint: &Endpoint| wanted.iter().any(|(it, _)| it.record.id == endpoint.network);
        while let Some(gone) = endpoints.iter().position(|endpoint| !is_wanted(endpoint)) {
            let endpoint = endpoints.remove(gone);
            let lease = self.leases.remove(gone);
            let address = endpoint.address.map(|address| address.addr());
            let network = containers.networks.find(&endpoint.network);
            if let (Some(address), Ok(network)) = (address, network) {
                network.leave(address, lease).map_err(|error| refused(&error))?;
            }
        }
        if self.namespace.is_none() && !wanted.is_empty() {
            self.namespace = Some(take_namespace(process, keeper)?);
        }
        let Some(namespace) = &mut self.namespace else { return Ok(()) };
        for (network, wish) in wanted {
            let record = &mut keeper.record;
            if record.state.endpoints.iter().any(|endpoint| endpoint.network == network.record.id) {
                continue;
            }
            let taken = |number: usize| {
                let name = format!("eth{number}");
                record.state.endpoints.iter().any(|endpoint| endpoint.interface == name)
            };
            let number = (0..).find(|number| !taken(*number)).unwrap_or_default();
            let (endpoint, joined) =
                containers.join(record, network, wish, namespace, number).map_err(|error| refused(&error))?;
            self.leases.extend(Joined::hand_over(joined));
            record.state.endpoints.push(endpoint);
        }
        lead_out(namespace, wanted)
    }
}

/// Takes the network that the program's first process has made, or makes one, for every run to come.
fn take_namespace(process: Option<&dyn Running>, keeper: &mut Keeper) -> Result<Namespace, StartError> {
    let namespace = match process {
        Some(process) => enter(process)?,
        None => {
            let mut made = Namespace::make().at("network", || "cannot make a network namespace")?;
            made.loopback_up().at("network", || "cannot bring up its loopback")?;
            made
        }
    };
    let [fd, _] = namespace.fds();
    keeper.namespace = Some(fd.try_clone_to_owned().at("network", || "cannot keep its network")?);
    Ok(namespace)
}

fn enter(process: &dyn Running) -> Result<Namespace, StartError> {
    let target = process.target().map_err(|error| refused(&error))?;
    let file = File::open(format!("/proc/{}/ns/net", target.pid));
    let namespace =
        file.and_then(|file| Namespace::enter(file.into())).at("network", || "cannot enter its network")?;
    // Asked after the opening: it was still the same process.
    target.open()?;
    Ok(namespace)
}

fn refused(why: &dyn std::fmt::Display) -> StartError {
    StartError::new("network", why.to_string())
}

/// Puts the default routes where they belong now.
fn lead_out(namespace: &mut Namespace, wanted: &[(Network, NetworkWish)]) -> Result<(), StartError> {
    let ways: Vec<IpAddr> = way_out(wanted).map(|number| wanted[number].0.ways_out()).unwrap_or_default();
    namespace.lead_out(&ways).at("network", || "cannot change its routes")
}

impl Duty<Keeper> for Networking {
    fn poll_fds(&self) -> Vec<PollFd<'_>> {
        self.ports.as_ref().map(Ports::poll_fds).unwrap_or_default()
    }

    fn deadline(&self) -> Option<Instant> {
        let new = self.is_new.then(Instant::now);
        new.or_else(|| self.ports.as_ref()?.deadline())
    }

    fn handle(
        &mut self,
        events: &[PollFlags],
        now: Instant,
        hands: &mut Hands<'_, Keeper>,
    ) -> io::Result<()> {
        if !hands.is_over
            && std::mem::take(&mut self.is_new)
            && hands.keeper.reload().is_ok()
            && hands.keeper.record.is_misplaced()
        {
            // What is refused now is tried again by whoever looks at the container next.
            let _ = self.reconcile(hands.process, hands.keeper);
            let _ = hands.keeper.write();
        }
        match &mut self.ports {
            Some(ports) => ports.handle(events, now, hands),
            None => Ok(()),
        }
    }

    fn request(&mut self, from: ClientId, request: &Packet, hands: &mut Hands<'_, Keeper>) -> bool {
        let Packet::Networks = request else { return false };
        let result = self.reconcile(hands.process, hands.keeper);
        if result.is_err() {
            // Who asked puts the file back; what was done by then is seen by others.
            let _ = hands.keeper.write();
        }
        hands.clients.answer(from, &result.map_or_else(Packet::Failed, |()| Packet::Done));
        true
    }
}
