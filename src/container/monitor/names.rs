//! The connection to the resolver of the container's network.
//!
//! The container's sockets belong to the monitor; the resolver has copies. So a resolver that dies takes no question
//! with it that it hasn't read, and the next one goes on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};

use super::keeper::Keeper;
use super::serve::{Duty, Hands};
use crate::container::helper::{self, Given, Helper};
use crate::container::identity;
use crate::container::record::Record;
use crate::network::NameSockets;
use crate::resolver::{self, Serve};

/// The door of `main`.
const DOOR: &str = "_resolver";
/// How long it takes until a resolver listens, more or less.
const SOON: Duration = Duration::from_millis(10);
/// How long one is given until another one is started.
const LATER: Duration = Duration::from_secs(1);
/// So often it is looked for soon.
const QUICK_TRIES: u32 = 100;
const PORT: u16 = 53;

/// What a resolver has to do.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    /// Of the network.
    folder: PathBuf,
}

/// The door `kiln _resolver`; gives the process's exit code.
pub fn resolver_main() -> i32 {
    let work = || {
        let socket = helper::settle_in()?;
        let Some(Given { task, mut fds, program }) = helper::receive_task::<Task>(&socket)? else {
            return Ok(());
        };
        drop(socket);
        let right = fds.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let done = resolver::run(&task.folder, right);
        drop(program);
        done
    };
    i32::from(work().is_err())
}

/// Keeps the container's names answered, and its files in step with its networks.
#[derive(Debug)]
pub(super) struct Names {
    /// None until it is in a network with names.
    sockets: Option<NameSockets>,
    /// The networks and the number of links as they were at the last look.
    seen: (Vec<String>, usize),
    /// What the resolver is to know; `None` has to be found out.
    wanted: Option<Serve>,
    link: Option<OwnedFd>,
    /// What it knows.
    told: Serve,
    tries: u32,
    /// When it is looked for again.
    next_try: Instant,
    /// Before that no other one is started.
    next_start: Instant,
}

impl Names {
    /// Takes over what the start has made.
    pub(super) fn new(sockets: Option<NameSockets>, record: &Record) -> Self {
        let now = Instant::now();
        Self {
            wanted: sockets.is_none().then(Serve::default),
            sockets,
            seen: look(record),
            link: None,
            told: Serve::default(),
            tries: 0,
            next_try: now,
            next_start: now,
        }
    }

    /// Follows what has changed of the container's networks and links.
    fn follow(&mut self, keeper: &Keeper, now: Instant) {
        if !is_same(&self.seen, &keeper.record) {
            self.seen = look(&keeper.record);
            self.wanted = None;
            // A full disk keeps the old ones.
            let _ = identity::rewrite(&keeper.record, &keeper.folder);
        }
        if self.wanted.is_some() {
            return;
        }
        let wanted = settings(keeper);
        if let (None, Some(namespace), false) = (&self.sockets, &keeper.namespace, wanted.networks.is_empty())
        {
            self.sockets = NameSockets::make(namespace.as_fd()).ok();
        }
        // Each network has its own resolver; a container asks that of its first one.
        if wanted.networks.first() != self.told.networks.first() {
            (self.link, self.next_try) = (None, now);
        }
        self.wanted = Some(wanted);
    }

    fn look_for_it(&mut self, now: Instant, keeper: &mut Keeper) {
        let (Some(serve), Some(sockets)) = (&self.wanted, &self.sockets) else { return };
        let Some(folder) = serve.networks.first() else { return };
        let found = resolver::connect(folder).and_then(|link| {
            resolver::tell(&link, serve, Some([sockets.udp.as_fd(), sockets.tcp.as_fd()])).map(|()| link)
        });
        if let Ok(link) = found {
            (self.link, self.told, self.tries) = (Some(link), serve.clone(), 0);
            return;
        }
        self.tries += 1;
        self.next_try = now + if self.tries < QUICK_TRIES { SOON } else { LATER };
        if now >= self.next_start
            && let Ok(Some(right)) = resolver::claim(folder)
        {
            self.next_start = now + LATER;
            let task = Task { folder: folder.clone() };
            let started = Helper::child(&[DOOR], &task, &[right]);
            // Another one tries it in a second.
            keeper.helpers.extend(started.map(|(_, child)| child));
        }
    }

    fn wants_one(&self) -> bool {
        self.sockets.is_some() && self.wanted.as_ref().is_none_or(|wanted| !wanted.networks.is_empty())
    }
}

impl Duty<Keeper> for Names {
    fn poll_fds(&self) -> Vec<PollFd<'_>> {
        // It never says anything: what comes is its end.
        self.link.iter().map(|link| PollFd::new(link, PollFlags::IN)).collect()
    }

    fn deadline(&self) -> Option<Instant> {
        (self.link.is_none() && self.wants_one()).then_some(self.next_try)
    }

    fn handle(
        &mut self,
        events: &[PollFlags],
        now: Instant,
        hands: &mut Hands<'_, Keeper>,
    ) -> io::Result<()> {
        if events.iter().any(|event| !event.is_empty()) {
            (self.link, self.next_try) = (None, now);
            hands.keeper.reap();
        }
        self.follow(hands.keeper, now);
        match (&self.link, &self.wanted) {
            (None, _) if self.wants_one() && self.next_try <= now => self.look_for_it(now, hands.keeper),
            (Some(link), Some(wanted)) if *wanted != self.told => match resolver::tell(link, wanted, None) {
                Ok(()) => self.told.clone_from(wanted),
                Err(_) => (self.link, self.next_try) = (None, now),
            },
            _ => {}
        }
        Ok(())
    }
}

fn look(record: &Record) -> (Vec<String>, usize) {
    let networks = record.state.endpoints.iter().map(|endpoint| endpoint.network.clone());
    (networks.collect(), record.config.links.len())
}

fn is_same((networks, links): &(Vec<String>, usize), record: &Record) -> bool {
    *links == record.config.links.len()
        && record.state.endpoints.iter().map(|endpoint| &endpoint.network).eq(networks)
}

fn settings(keeper: &Keeper) -> Serve {
    let record = &keeper.record;
    let (named, others): (Vec<_>, Vec<_>) =
        record.state.endpoints.iter().partition(|endpoint| endpoint.has_names());
    let networks = &keeper.containers.networks;
    // The resolver is on the machine: loopback would be another one than the container's.
    let server = |text: &String| {
        let address = text.parse::<IpAddr>().ok().filter(|address| !address.is_loopback())?;
        Some(SocketAddr::new(address, PORT))
    };
    Serve {
        networks: named.into_iter().map(|endpoint| networks.folder_of(&endpoint.network)).collect(),
        links: record.config.links.iter().map(|(id, alias)| (alias.clone(), id.clone())).collect(),
        servers: record.config.dns.iter().filter_map(server).collect(),
        has_other_way: !others.is_empty(),
    }
}
