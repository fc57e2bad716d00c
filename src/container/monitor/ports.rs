//! Keeps the machine's ports of a container, and has what comes to them carried on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, epoll};
use serde::{Deserialize, Serialize};

use super::Keeper;
use super::serve::{Duty, Hands};
use crate::api::{BoundPort, Protocol};
use crate::container::helper::{self, Given, Helper};
use crate::container::ports::Held;
use crate::container::record::Endpoint;
use crate::network::PortElement;
use crate::proxy::{self, Route};
use crate::sys::packet;

/// The door of `main`.
pub(super) const DOOR: &str = "_proxy";
/// After a proxy has ended the next one waits for so long: one that can't run isn't started all the time.
const PAUSE: Duration = Duration::from_millis(200);

/// Holds the ports, and starts the proxy when something has come.
#[derive(Debug)]
pub(super) struct Ports {
    held: Vec<Held>,
    /// All of them.
    poll: OwnedFd,
    /// Where they lead.
    to: Target,
    proxy: Option<Proxy>,
    next: Option<Instant>,
}

/// The proxy, and the socket whose end is the end of the other side.
#[derive(Debug)]
struct Proxy {
    socket: OwnedFd,
    child: Child,
}

/// Where ports lead: the first place that isn't closed, or a closed one, which the proxy reaches.
fn place(endpoints: &[Endpoint]) -> Option<&Endpoint> {
    endpoints.iter().find(|endpoint| !endpoint.internal).or(endpoints.first())
}

/// The container's addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Target {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
}

impl Target {
    fn of(endpoints: &[Endpoint]) -> Self {
        let Some(place) = place(endpoints) else { return Self::default() };
        Self {
            v4: place.address.map(|net| net.addr().into()),
            v6: place.address6.map(|net| net.addr().into()),
        }
    }

    /// The elements by which the kernel leads what comes to `held`; loopback is the proxy's, and so is what comes over
    /// one family for an address of the other.
    fn elements(self, held: &[Held]) -> Vec<PortElement> {
        let element = |held: &Held| {
            let BoundPort { address, host, container, protocol } = held.port;
            let to = if address.is_ipv6() { self.v6 } else { self.v4 }?;
            let is_led = !address.is_loopback();
            let at = Some(address).filter(|address| !address.is_unspecified());
            let to = SocketAddr::new(to, container);
            is_led.then_some(PortElement { host: at, port: host, to, protocol: protocol.number() })
        };
        held.iter().filter_map(element).collect()
    }

    /// The one that clients of `address` are led to, of its family where there is one.
    fn for_clients_of(self, address: IpAddr) -> Option<IpAddr> {
        if address.is_ipv6() { self.v6.or(self.v4) } else { self.v4.or(self.v6) }
    }
}

/// What a proxy has to do; the sockets come in packets of their own.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    routes: Vec<(bool, SocketAddr)>,
}

impl Ports {
    /// Leads the ports of a container to it, and watches them.
    pub(super) fn new(held: Vec<Held>, keeper: &Keeper) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for held in &held {
            epoll::add(&poll, &held.socket, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        }
        let to = Target::of(&keeper.record.state.endpoints);
        let ports = Self { held, poll, to, proxy: None, next: None };
        ports.publish(keeper)?;
        Ok(ports)
    }

    /// Has the kernel lead to the container what it can.
    fn publish(&self, keeper: &Keeper) -> io::Result<()> {
        let Some(place) = place(&keeper.record.state.endpoints) else { return Ok(()) };
        let Some(address) = place.address else { return Ok(()) };
        keeper
            .containers
            .publish(&place.network, address.addr(), &self.to.elements(&self.held))
            .map_err(io::Error::other)
    }

    fn start_proxy(&self) -> io::Result<Proxy> {
        let mut routes = Vec::new();
        let mut sockets = Vec::new();
        for Held { socket, port } in &self.held {
            let Some(to) = self.to.for_clients_of(port.address) else { continue };
            routes.push((port.protocol == Protocol::Udp, SocketAddr::new(to, port.container)));
            sockets.push(socket.as_fd());
        }
        let (socket, child) = Helper::child(&[DOOR], &Task { routes }, &[])?;
        for some in sockets.chunks(packet::MOST_FDS) {
            helper::send(&socket, some)?;
        }
        Ok(Proxy { socket, child })
    }

    /// Gives the ports back.
    pub(super) fn close(mut self, keeper: &mut Keeper) {
        self.end_proxy(keeper);
    }

    fn end_proxy(&mut self, keeper: &mut Keeper) {
        if let Some(Proxy { socket, child }) = self.proxy.take() {
            drop(socket);
            keeper.helpers.push(child);
        }
    }
}

impl Duty<Keeper> for Ports {
    fn poll_fds(&self) -> Vec<PollFd<'_>> {
        match &self.proxy {
            Some(proxy) => vec![PollFd::new(&proxy.socket, PollFlags::IN)],
            None if self.next.is_some() => Vec::new(),
            None => vec![PollFd::new(&self.poll, PollFlags::IN)],
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn handle(
        &mut self,
        events: &[PollFlags],
        now: Instant,
        hands: &mut Hands<'_, Keeper>,
    ) -> io::Result<()> {
        hands.keeper.reap();
        let to = Target::of(&hands.keeper.record.state.endpoints);
        if to != self.to {
            self.to = to;
            // Without it clients are served all the same, by the proxy.
            let _ = self.publish(hands.keeper);
            self.end_proxy(hands.keeper);
            return Ok(());
        }
        self.next = self.next.filter(|next| *next > now);
        if !events.iter().any(|events| !events.is_empty()) {
            return Ok(());
        }
        if self.proxy.is_some() {
            self.end_proxy(hands.keeper);
            self.next = Some(now + PAUSE);
            return Ok(());
        }
        match self.start_proxy() {
            Ok(proxy) => self.proxy = Some(proxy),
            // The clients wait, as at a busy server.
            Err(_) => self.next = Some(now + PAUSE),
        }
        Ok(())
    }
}

/// The door `kiln _proxy`: gives the process's exit code.
pub fn proxy_main() -> i32 {
    match serve() {
        Ok(()) => 0,
        Err(_) => super::FAILED,
    }
}

fn serve() -> io::Result<()> {
    let monitor = helper::settle_in()?;
    // Its ports are those of the monitor's, and free when that is gone. One that has gone already hangs up.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let Some(Given { task, program, .. }) = helper::receive_task::<Task>(&monitor)? else { return Ok(()) };
    let mut sockets = Vec::new();
    while sockets.len() < task.routes.len() {
        let some = helper::receive(monitor.as_fd())?;
        if some.is_empty() {
            return Ok(());
        }
        sockets.extend(some);
    }
    let route = |(socket, (datagrams, to))| Route { socket, datagrams, to };
    let served = proxy::serve(&monitor, sockets.into_iter().zip(task.routes).map(route).collect());
    drop(program);
    served
}
