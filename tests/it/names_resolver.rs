//! Containers of a network find each other by name: real containers, and the resolver behind them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::binary::{Kiln, gone};
use crate::support::needs_root;

const RESOLVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);
const PATIENCE: Duration = Duration::from_secs(30);

/// A store with busybox and two networks, `back` and `front`.
struct World {
    kiln: Kiln,
    /// The third part of the subnets' addresses.
    subnet: u8,
}

impl World {
    fn new(name: &str) -> Option<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        if !needs_root(&format!("names_resolver::{name}")) {
            return None;
        }
        let subnet = NEXT.fetch_add(2, Ordering::Relaxed);
        let world = Self { kiln: Kiln::busybox(), subnet };
        for (name, third) in [("back", subnet), ("front", subnet + 1)] {
            world.kiln.ok(&["network", "create", "--subnet", &format!("10.233.{third}.0/24"), name]);
        }
        Some(world)
    }

    fn start(&self, name: &str, flags: &[&str]) -> String {
        let words = [&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat();
        self.kiln.ok(&words).trim().to_owned()
    }

    /// Works in a container's network.
    fn inside<T: Send + 'static>(
        &self,
        container: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let pid = self.kiln.ok(&["inspect", "-f", "{{.State.Pid}}", container]);
        let namespace: OwnedFd = std::fs::File::open(format!("/proc/{}/ns/net", pid.trim())).unwrap().into();
        std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }

    fn ask(&self, container: &str, name: &str, kind: RecordType) -> Message {
        let (name, query) = (name.to_owned(), question(name, kind));
        let answer = self.inside(container, move || exchange(&query)).join().unwrap();
        answer.unwrap_or_else(|| panic!("no answer for {name}"))
    }

    /// The addresses of a name; none when there is no such name.
    fn addresses(&self, container: &str, name: &str) -> Option<Vec<String>> {
        let answer = self.ask(container, name, RecordType::A);
        let mut found: Vec<_> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        found.sort();
        match answer.metadata.response_code {
            ResponseCode::NXDomain => None,
            ResponseCode::NoError => Some(found),
            other => panic!("{name}: {other}"),
        }
    }

    /// Asks once, and tells whether there were addresses.
    fn finds(&self, container: &str, name: &str) -> bool {
        let query = question(name, RecordType::A);
        let ask = move || {
            let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
            socket.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
            socket.connect(RESOLVER).ok()?;
            socket.send(&query.to_vec().ok()?).ok()?;
            let mut bytes = [0; 4096];
            let length = socket.recv(&mut bytes).ok()?;
            Message::from_vec(&bytes[..length]).ok()
        };
        let answer = self.inside(container, ask).join().unwrap();
        answer.is_some_and(|answer| !answer.answers.is_empty())
    }

    fn at(&self, third: u8, last: u8) -> Option<Vec<String>> {
        Some(vec![format!("10.233.{}.{last}", self.subnet + third)])
    }

    /// The resolvers of this store: who holds their locks.
    fn resolvers(&self) -> Vec<u32> {
        let root = self.kiln.root().to_owned();
        let is_ours = |fd: &std::fs::DirEntry| {
            std::fs::read_link(fd.path())
                .is_ok_and(|path| path.starts_with(&root) && path.ends_with("resolver.lock"))
        };
        let has_lock = |process: &u32| {
            let fds = std::fs::read_dir(format!("/proc/{process}/fd"));
            fds.is_ok_and(|fds| fds.flatten().any(|fd| is_ours(&fd)))
        };
        let name = |process: &u32| std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        processes.filter(|process| name(process).ends_with(b"_resolver\0") && has_lock(process)).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let all = self.kiln.run(&["ps", "-aq"]).out;
        let words: Vec<&str> = ["rm", "-f"].into_iter().chain(all.split_whitespace()).collect();
        if words.len() > 2 {
            self.kiln.run(&words);
        }
        self.kiln.run(&["network", "rm", "back", "front"]);
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message
}

/// Asks the resolver of the namespace that this thread is in.
fn exchange(query: &Message) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(RESOLVER).unwrap();
    socket.send(&query.to_vec().unwrap()).unwrap();
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).ok()?;
    Message::from_vec(&bytes[..length]).ok()
}

/// Waits for what a monitor does after a command.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    gone(what, || if is_so() { Vec::new() } else { vec!["not yet".to_owned()] });
}

#[test]
fn containers_find_each_other_by_all_their_names_in_their_networks_only() {
    let Some(world) = World::new("containers_find_each_other_by_all_their_names") else { return };
    let id = world.start("db", &["--network", "back", "--network-alias", "store", "-h", "data"]);
    world.start("web", &["--network", "back"]);
    world.start("shop", &["--network", "front"]);
    for name in ["db", "DB", "store", "data", "db.back", "store.back", &id[..12]] {
        assert_eq!(world.addresses("web", name), world.at(0, 2), "{name}");
        assert_eq!(world.addresses("shop", name), None, "{name}");
    }
    let reverse = world.ask("web", &format!("2.{}.233.10.in-addr.arpa", world.subnet), RecordType::PTR);
    assert_eq!(reverse.answers[0].data.to_string(), "db.back.");
    let none = world.ask("web", "db", RecordType::AAAA);
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
    // What the program itself sees.
    let shown = world.kiln.ok(&["exec", "web", "busybox", "nslookup", "db"]);
    assert!(shown.contains(&format!("10.233.{}.2", world.subnet)), "{shown}");
    let file = world.kiln.ok(&["exec", "web", "cat", "/etc/resolv.conf"]);
    assert!(file.starts_with("nameserver 127.0.0.11\n") && file.contains("ndots:0"), "{file}");
}

#[test]
fn the_kernel_follows_no_connection_of_a_container_for_its_names() {
    let Some(world) = World::new("the_kernel_follows_no_connection") else { return };
    world.start("web", &["--network", "back"]);
    let query = question("web", RecordType::A);
    let found = world.inside("web", move || {
        let _own_server = UdpSocket::bind("0.0.0.0:53").unwrap();
        let by_datagram = exchange(&query).map(|answer| answer.answers.len());
        let mut stream = TcpStream::connect(RESOLVER).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let bytes = query.to_vec().unwrap();
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &bytes].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        let by_stream = Message::from_vec(&answer).unwrap().answers.len();
        // A kernel without the file follows none anywhere.
        let followed = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
        (by_datagram, by_stream, followed.map_or(0, |text| text.trim().parse().unwrap()))
    });
    assert_eq!(found.join().unwrap(), (Some(1), 1, 0));
}

#[test]
fn names_change_as_soon_as_containers_do() {
    let Some(world) = World::new("names_change_as_soon_as_containers_do") else { return };
    world.start("web", &["--network", "back"]);
    for _ in 0..3 {
        assert_eq!(world.addresses("web", "db"), None);
        world.start("db", &["--network", "back"]);
        assert!(world.addresses("web", "db").is_some());
        world.kiln.ok(&["rename", "db", "base"]);
        assert_eq!(world.addresses("web", "db"), None);
        assert!(world.addresses("web", "base").is_some());
        world.kiln.ok(&["stop", "-t", "0", "base"]);
        assert_eq!(world.addresses("web", "base"), None);
        world.kiln.ok(&["start", "base"]);
        assert!(world.addresses("web", "base").is_some());
        world.kiln.ok(&["rm", "-f", "base"]);
        assert_eq!(world.addresses("web", "base"), None);
    }
}

#[test]
fn a_container_that_is_connected_later_has_names_and_is_one() {
    let Some(world) = World::new("a_container_that_is_connected_later") else { return };
    world.start("db", &["--network", "back"]);
    world.start("shop", &["--network", "front"]);
    world.start("late", &[]);
    let file = world.kiln.ok(&["exec", "late", "cat", "/etc/resolv.conf"]);
    assert!(!file.contains("127.0.0.11"), "{file}");
    world.kiln.ok(&["network", "connect", "--alias", "helper", "back", "late"]);
    eventually("the first answer", || world.finds("late", "db"));
    assert_eq!(world.addresses("late", "db"), world.at(0, 2));
    assert_eq!(world.addresses("db", "helper"), world.addresses("db", "late"));
    let file = world.kiln.ok(&["exec", "late", "cat", "/etc/resolv.conf"]);
    assert!(file.starts_with("nameserver 127.0.0.11\n"), "{file}");
    world.kiln.ok(&["network", "connect", "front", "late"]);
    assert_eq!(world.addresses("shop", "late"), world.at(1, 3));
    world.kiln.ok(&["network", "disconnect", "back", "late"]);
    assert_eq!(world.addresses("db", "late"), None);
    eventually("the other resolver answers", || world.finds("late", "shop"));
    assert_eq!(world.addresses("late", "db"), None);
}

#[test]
fn a_resolver_that_is_killed_is_missed_by_nobody_and_the_last_container_ends_it() {
    let Some(world) = World::new("a_resolver_that_is_killed_is_missed_by_nobody") else { return };
    world.start("db", &["--network", "back"]);
    world.start("web", &["--network", "back"]);
    for _ in 0..5 {
        assert_eq!(world.addresses("web", "db"), world.at(0, 2));
        let [resolver] = world.resolvers()[..] else { panic!("{:?}", world.resolvers()) };
        let pid = rustix::process::Pid::from_raw(resolver.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert_eq!(world.addresses("web", "db"), world.at(0, 2));
        assert_eq!(world.addresses("db", "web"), world.at(0, 3));
    }
    world.kiln.ok(&["rm", "-f", "web"]);
    assert_eq!(world.addresses("db", "web"), None);
    world.kiln.ok(&["rm", "-f", "db"]);
    gone("the resolver", || world.resolvers().iter().map(u32::to_string).collect());
}

#[test]
fn a_thousand_questions_at_once_from_one_container_are_answered() {
    let Some(world) = World::new("a_thousand_questions_at_once") else { return };
    world.start("db", &["--network", "back"]);
    world.start("web", &["--network", "back"]);
    let ask = || {
        let sockets: Vec<_> = (0..1000).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let query = question("db", RecordType::A).to_vec().unwrap();
        sockets.iter().for_each(|socket| assert!(socket.send_to(&query, RESOLVER).is_ok()));
        let answered = |socket: &UdpSocket| {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = [0; 512];
            let length = socket.recv(&mut bytes).ok()?;
            Some(Message::from_vec(&bytes[..length]).unwrap().answers[0].data.to_string())
        };
        sockets.iter().filter_map(answered).collect::<Vec<_>>()
    };
    let answers = world.inside("web", ask).join().unwrap();
    assert_eq!(answers.len(), 1000);
    assert!(answers.iter().all(|answer| *answer == world.at(0, 2).unwrap()[0]));
}

#[test]
fn twenty_containers_that_start_together_find_each_other() {
    let Some(world) = World::new("twenty_containers_that_start_together") else { return };
    let names: Vec<_> = (0..20).map(|number| format!("box{number}")).collect();
    std::thread::scope(|scope| {
        for part in names.chunks(5) {
            scope.spawn(|| part.iter().for_each(|name| drop(world.start(name, &["--network", "back"]))));
        }
    });
    let ask_all = |name: &String| {
        let queries: Vec<_> = names.iter().map(|name| question(name, RecordType::A)).collect();
        world.inside(name, move || {
            queries.iter().filter_map(exchange).map(|answer| answer.answers.len()).sum()
        })
    };
    let asked: Vec<JoinHandle<usize>> = names.iter().map(ask_all).collect();
    for thread in asked {
        assert_eq!(thread.join().unwrap(), names.len());
    }
}

#[test]
fn the_port_of_name_servers_is_free_for_the_containers_own() {
    let Some(world) = World::new("the_port_of_name_servers_is_free") else { return };
    world.start("db", &["--network", "back"]);
    let own = || (UdpSocket::bind("0.0.0.0:53").unwrap(), std::net::TcpListener::bind("0.0.0.0:53").unwrap());
    let _own = world.inside("db", own).join().unwrap();
    assert_eq!(world.addresses("db", "db"), world.at(0, 2));
}

#[test]
fn own_servers_are_asked_for_other_names_and_links_are_names_too() {
    let Some(world) = World::new("own_servers_are_asked_for_other_names") else { return };
    world.start("db", &["--network", "back"]);
    let gateway = format!("10.233.{}.1", world.subnet);
    let server = UdpSocket::bind((gateway.as_str(), 53)).unwrap();
    let db = world.at(0, 2).unwrap()[0].clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((length, from)) = server.recv_from(&mut bytes) {
            let query = Message::from_vec(&bytes[..length]).unwrap();
            let mut answer = Message::response(query.metadata.id, OpCode::Query);
            answer.add_query(query.queries[0].clone());
            let name = query.queries[0].name.clone();
            let lies = name.to_ascii().starts_with("rebind");
            let address: Ipv4Addr = if lies { &db } else { "192.0.2.9" }.parse().unwrap();
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A(address))));
            server.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    });
    world.start(
        "web",
        &["--network", "back", "--dns", &gateway, "--dns-search", "example.org", "--link", "db:mine"],
    );
    assert_eq!(world.addresses("web", "www.example.org"), Some(vec!["192.0.2.9".to_owned()]));
    assert_eq!(world.addresses("web", "mine"), world.at(0, 2));
    assert_eq!(world.addresses("db", "mine"), None, "a link is a name for its container alone");
    assert_eq!(world.addresses("web", "nobody"), None, "it was not asked outside");
    let lie = world.ask("web", "rebind.example.org", RecordType::A);
    assert_eq!((lie.metadata.response_code, lie.answers.len()), (ResponseCode::ServFail, 0));
    let file = world.kiln.ok(&["exec", "web", "cat", "/etc/resolv.conf"]);
    assert!(file.contains("search example.org\n") && !file.contains(&gateway), "{file}");
}

#[test]
fn a_container_that_floods_the_resolver_keeps_no_other_waiting() {
    let Some(world) = World::new("a_container_that_floods_the_resolver") else { return };
    // It takes the questions and says nothing.
    let gateway = format!("10.233.{}.1", world.subnet);
    world.start("db", &["--network", "back"]);
    let _silent = UdpSocket::bind((gateway.as_str(), 53)).unwrap();
    world.start("flooder", &["--network", "back", "--dns", &gateway]);
    world.start("web", &["--network", "back"]);
    let end = Instant::now() + Duration::from_secs(2);
    let flood = world.inside("flooder", move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let query = question("www.example.org", RecordType::A).to_vec().unwrap();
        while Instant::now() < end {
            let _ = socket.send_to(&query, RESOLVER);
        }
    });
    while Instant::now() < end {
        assert_eq!(world.addresses("web", "db"), world.at(0, 2));
    }
    flood.join().unwrap();
}

#[test]
fn a_container_whose_monitor_was_killed_has_no_name() {
    let Some(world) = World::new("a_container_whose_monitor_was_killed") else { return };
    world.start("web", &["--network", "back"]);
    world.start("db", &["--network", "back"]);
    assert_eq!(world.addresses("web", "db"), world.at(0, 3));
    let pid = world.kiln.ok(&["inspect", "-f", "{{.State.Pid}}", "db"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap();
    let monitor = rustix::process::Pid::from_raw(parent.parse().unwrap()).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    eventually("the name is gone", || world.addresses("web", "db").is_none());
    world.kiln.ok(&["start", "db"]);
    assert!(world.addresses("web", "db").is_some());
}
