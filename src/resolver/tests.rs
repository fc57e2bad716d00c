//! A resolver between sockets: containers that ask, folders that say who is there, and servers outside that lie.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rustix::fs::{FlockOperation, flock};

use super::{Serve, claim, connect, run, tell};

/// The folders of a store's networks.
struct Networks {
    folder: tempfile::TempDir,
}

impl Networks {
    fn new() -> Self {
        let networks = Self { folder: tempfile::tempdir().unwrap() };
        networks.add("back", "172.38.0.0/16");
        networks
    }

    fn path(&self, network: &str) -> PathBuf {
        self.folder.path().join(network)
    }

    fn add(&self, network: &str, subnet: &str) {
        let folder = self.path(network);
        std::fs::create_dir_all(folder.join("endpoints")).unwrap();
        std::fs::create_dir(folder.join("addresses")).unwrap();
        let internal = network == "hidden";
        let record =
            serde_json::json!({ "name": network, "internal": internal, "subnet": { "net": subnet } });
        std::fs::write(folder.join("network.json"), record.to_string()).unwrap();
    }

    /// Connects a container, whose life is the file's.
    fn connect(&self, network: &str, name: &str, address: &str, aliases: &[&str]) -> File {
        let folder = self.path(network);
        let lease = File::create(folder.join("addresses").join(address)).unwrap();
        flock(&lease, FlockOperation::LockExclusive).unwrap();
        let id = format!("{name:0>64}");
        let v6 = address.rsplit('.').next().map(|last| format!("fd00::{last}"));
        let endpoint = serde_json::json!({
            "id": id, "name": name, "aliases": aliases, "v4": address, "v6": v6, "lease": address,
        });
        let new = folder.join("endpoints").join(format!("{id}.new"));
        std::fs::write(&new, endpoint.to_string()).unwrap();
        std::fs::rename(&new, new.with_extension("json")).unwrap();
        lease
    }

    fn disconnect(&self, network: &str, name: &str) {
        std::fs::remove_file(self.path(network).join(format!("endpoints/{name:0>64}.json"))).unwrap();
    }

    fn start(&self) -> JoinHandle<()> {
        let folder = self.path("back");
        let right = claim(&folder).unwrap().unwrap();
        std::thread::spawn(move || run(&folder, right).unwrap())
    }
}

/// A container's side.
struct Container {
    _link: OwnedFd,
    dns: SocketAddr,
    tcp: SocketAddr,
}

impl Container {
    fn new(networks: &Networks, serve: Serve) -> Self {
        let (udp, tcp) = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&udp, 4 << 20).unwrap();
        let link = loop {
            if let Ok(link) = connect(&networks.path("back")) {
                break link;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let networks = if serve.networks.is_empty() { vec![networks.path("back")] } else { serve.networks };
        let serve = Serve { networks, ..serve };
        tell(&link, &serve, Some([udp.as_fd(), tcp.as_fd()])).unwrap();
        Self { _link: link, dns: udp.local_addr().unwrap(), tcp: tcp.local_addr().unwrap() }
    }

    fn plain(networks: &Networks) -> Self {
        // A port that nobody listens on.
        let servers = vec!["127.0.0.1:1".parse().unwrap()];
        Self::new(networks, Serve { servers, ..Serve::default() })
    }

    fn with_server(networks: &Networks, server: SocketAddr) -> Self {
        Self::new(networks, Serve { servers: vec![server], ..Serve::default() })
    }

    fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.send_to(bytes, self.dns).unwrap();
        let mut answer = vec![0; 65_535];
        let length = socket.recv(&mut answer).unwrap();
        answer.truncate(length);
        answer
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        let query = question(name, kind);
        let answer = Message::from_vec(&self.send(&query.to_vec().unwrap())).unwrap();
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert_eq!(answer.queries, query.queries);
        answer
    }

    fn addresses(&self, name: &str) -> Vec<String> {
        let mut found = texts(&self.ask(name, RecordType::A));
        found.sort();
        found
    }

    fn code(&self, name: &str) -> ResponseCode {
        self.ask(name, RecordType::A).metadata.response_code
    }

    fn ask_stream(&self, queries: &[Message]) -> Vec<Message> {
        let mut stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        for query in queries {
            stream.write_all(&super::stream::frame(&query.to_vec().unwrap())).unwrap();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let mut rest = &all[..];
        let mut messages = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk::<2>() {
            let (message, tail) = tail.split_at(u16::from_be_bytes(*length).into());
            messages.push(Message::from_vec(message).unwrap());
            rest = tail;
        }
        messages
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn texts(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

/// Starts a server outside: what it says to a question.
fn server(say: impl Fn(&Message) -> Option<Message> + Send + Clone + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::bind(address).unwrap();
    let over_tcp = say.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            if let Some(answer) = say(&Message::from_vec(&bytes[..length]).unwrap()) {
                let bytes = answer.to_vec().unwrap();
                let cut = if bytes.len() > 512 { answer.truncate().to_vec().unwrap() } else { bytes };
                socket.send_to(&cut, from).unwrap();
            }
        }
    });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut bytes).unwrap();
            let answer = over_tcp(&Message::from_vec(&bytes).unwrap()).unwrap();
            stream.write_all(&super::stream::frame(&answer.to_vec().unwrap())).unwrap();
        }
    });
    address
}

fn answer_to(query: &Message, records: impl IntoIterator<Item = RData>) -> Message {
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.add_query(query.queries[0].clone());
    for data in records {
        answer.add_answer(Record::from_rdata(query.queries[0].name.clone(), 60, data));
    }
    answer
}

fn a(text: &str) -> RData {
    RData::A(A(text.parse::<Ipv4Addr>().unwrap()))
}

#[test]
fn a_container_is_found_by_name_alias_and_short_id_in_any_case() {
    let networks = Networks::new();
    let _lease = networks.connect("back", "db", "172.38.0.2", &["store", "my.app"]);
    networks.start();
    let container = Container::plain(&networks);
    for name in ["db.", "DB.", "db.back.", "store.", "Store.Back.", "my.app.", "000000000000."] {
        assert_eq!(container.addresses(name), ["172.38.0.2"], "{name}");
    }
    assert_eq!(texts(&container.ask("db.", RecordType::AAAA)), ["fd00::2"]);
    assert_eq!(texts(&container.ask("2.0.38.172.in-addr.arpa.", RecordType::PTR)), ["db.back."]);
    let mail = container.ask("db.", RecordType::MX);
    assert_eq!((mail.metadata.response_code, mail.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(container.ask("db.", RecordType::A).answers[0].ttl, 0);
}

#[test]
fn names_come_and_go_at_once() {
    let networks = Networks::new();
    networks.start();
    let container = Container::plain(&networks);
    for _ in 0..50 {
        assert_eq!(container.code("db."), ResponseCode::NXDomain);
        let lease = networks.connect("back", "db", "172.38.0.2", &[]);
        assert_eq!(container.addresses("db."), ["172.38.0.2"]);
        networks.disconnect("back", "db");
        assert_eq!(container.code("db."), ResponseCode::NXDomain);
        let _again = (drop(lease), networks.connect("back", "db", "172.38.0.3", &[]));
        assert_eq!(container.addresses("db."), ["172.38.0.3"]);
        drop(_again);
    }
}

#[test]
fn one_that_died_without_a_word_has_no_name_any_more() {
    let networks = Networks::new();
    let lease = networks.connect("back", "db", "172.38.0.2", &[]);
    networks.start();
    let container = Container::plain(&networks);
    assert_eq!(container.addresses("db."), ["172.38.0.2"]);
    drop(lease);
    assert_eq!(container.code("db."), ResponseCode::NXDomain);
}

#[test]
fn an_alias_of_several_gives_all_of_them_in_turns() {
    let networks = Networks::new();
    let _leases: Vec<_> = (2..5)
        .map(|last| networks.connect("back", &format!("web{last}"), &format!("172.38.0.{last}"), &["web"]))
        .collect();
    networks.start();
    let container = Container::plain(&networks);
    assert_eq!(container.addresses("web."), ["172.38.0.2", "172.38.0.3", "172.38.0.4"]);
    let first = || texts(&container.ask("web.", RecordType::A))[0].clone();
    let firsts: std::collections::BTreeSet<_> = (0..3).map(|_| first()).collect();
    assert_eq!(firsts.len(), 3);
}

/// Programs ask for IPv6 addresses in between.
#[test]
fn addresses_take_turns_whatever_else_is_asked() {
    let networks = Networks::new();
    let _leases: Vec<_> = (2..4)
        .map(|last| networks.connect("back", &format!("web{last}"), &format!("172.38.0.{last}"), &["web"]))
        .collect();
    networks.start();
    let container = Container::plain(&networks);
    for between in 0..4 {
        let first = || {
            (0..between).for_each(|_| drop(container.ask("web.", RecordType::AAAA)));
            texts(&container.ask("web.", RecordType::A))[0].clone()
        };
        let firsts: std::collections::BTreeSet<_> = (0..6).map(|_| first()).collect();
        assert_eq!(firsts.len(), 2, "{between} other questions in between");
    }
}

#[test]
fn only_own_networks_and_own_links_have_names() {
    let networks = Networks::new();
    networks.add("front", "172.39.0.0/16");
    let _leases = [
        networks.connect("back", "db", "172.38.0.2", &[]),
        networks.connect("front", "shop", "172.39.0.2", &[]),
    ];
    networks.start();
    let inner = Container::new(
        &networks,
        Serve { links: vec![("store".to_owned(), format!("{:0>64}", "db"))], ..Serve::default() },
    );
    assert_eq!(inner.code("shop."), ResponseCode::NXDomain);
    let reverse = inner.ask("2.0.39.172.in-addr.arpa.", RecordType::PTR);
    assert_eq!(reverse.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(inner.addresses("store."), ["172.38.0.2"]);
    let both = vec![networks.path("back"), networks.path("front")];
    let outer = Container::new(&networks, Serve { networks: both, ..Serve::default() });
    assert_eq!(
        (outer.addresses("db."), outer.addresses("shop.")),
        (vec!["172.38.0.2".to_owned()], vec!["172.39.0.2".to_owned()])
    );
    assert_eq!(outer.code("store."), ResponseCode::NXDomain);
}

#[test]
fn other_names_are_asked_of_the_servers_in_turn() {
    let networks = Networks::new();
    networks.start();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let failing = server(|query| {
        let mut answer = answer_to(query, []);
        answer.metadata.response_code = ResponseCode::ServFail;
        Some(answer)
    });
    let good = server(|query| Some(answer_to(query, [a("192.0.2.7")])));
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let servers = vec![failing, gone, silent.local_addr().unwrap(), good];
    let container = Container::new(&networks, Serve { servers, ..Serve::default() });
    assert_eq!(container.addresses("example.org."), ["192.0.2.7"]);
    networks.add("hidden", "172.40.0.0/16");
    let hidden = vec![networks.path("hidden")];
    let internal =
        Container::new(&networks, Serve { networks: hidden, servers: vec![good], ..Serve::default() });
    assert_eq!(internal.code("example.org."), ResponseCode::ServFail, "an internal network asks nobody");
    let lost = Container::with_server(&networks, silent.local_addr().unwrap());
    assert_eq!(lost.code("example.org."), ResponseCode::ServFail);
}

#[test]
fn long_answers_come_over_tcp() {
    let networks = Networks::new();
    networks.start();
    let long = server(|query| {
        Some(answer_to(query, (0..40).map(|n| RData::TXT(TXT::new(vec![format!("{n:050}")])))))
    });
    let container = Container::with_server(&networks, long);
    let cut = container.ask("long.example.", RecordType::TXT);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let whole = container.ask_stream(&[question("long.example.", RecordType::TXT)]);
    assert_eq!(whole[0].answers.len(), 40);

    let leases = (2..102)
        .map(|last| networks.connect("back", &format!("w{last}"), &format!("172.38.0.{last}"), &["web"]));
    let _leases: Vec<_> = leases.collect();
    assert!(container.ask("web.", RecordType::A).metadata.truncation);
    let queries = [question("web.", RecordType::A), question("w5.", RecordType::A)];
    let whole = container.ask_stream(&queries);
    assert_eq!((whole[0].answers.len(), texts(&whole[1])), (100, vec!["172.38.0.5".to_owned()]));
    let mut roomy = question("web.", RecordType::A);
    roomy.set_edns(Edns::new().set_max_payload(4096).clone());
    let answer = Message::from_vec(&container.send(&roomy.to_vec().unwrap())).unwrap();
    assert_eq!(answer.answers.len(), 100);
}

#[test]
fn a_thousand_questions_at_once_are_all_answered() {
    let networks = Networks::new();
    let _lease = networks.connect("back", "db", "172.38.0.2", &[]);
    networks.start();
    let far = server(|query| Some(answer_to(query, [a("192.0.2.7")])));
    let container = Container::with_server(&networks, far);
    for (name, expected) in [("db.", "172.38.0.2"), ("example.org.", "192.0.2.7")] {
        let sockets: Vec<_> = (0..1000).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let query = question(name, RecordType::A).to_vec().unwrap();
        for socket in &sockets {
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            socket.send_to(&query, container.dns).unwrap();
        }
        for socket in sockets {
            let mut bytes = [0; 512];
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(texts(&Message::from_vec(&bytes[..length]).unwrap()), [expected]);
        }
    }
}

#[test]
fn a_flood_of_one_doesnt_keep_another_waiting() {
    let networks = Networks::new();
    let _lease = networks.connect("back", "db", "172.38.0.2", &[]);
    networks.start();
    let far = server(|query| {
        let is_slow = query.queries[0].name.to_ascii().starts_with("slow");
        (!is_slow).then(|| answer_to(query, [a("192.0.2.7")]))
    });
    let (flooder, other) = (Container::with_server(&networks, far), Container::with_server(&networks, far));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stop = Instant::now() + Duration::from_secs(2);
    let dns = flooder.dns;
    let flood = std::thread::spawn(move || {
        let query = question("slow.example.", RecordType::A).to_vec().unwrap();
        while Instant::now() < stop {
            let _ = socket.send_to(&query, dns);
        }
    });
    while Instant::now() < stop {
        assert_eq!(other.addresses("db."), ["172.38.0.2"]);
        assert_eq!(other.addresses("example.org."), ["192.0.2.7"]);
    }
    flood.join().unwrap();
}

#[test]
fn nobody_outside_can_pose_as_a_container_or_lead_inside() {
    let networks = Networks::new();
    let _lease = networks.connect("back", "db", "172.38.0.2", &[]);
    networks.start();
    let far = server(|query| {
        let name = query.queries[0].name.to_ascii();
        Some(match name.split('.').next().unwrap() {
            "rebind" => answer_to(query, [a("172.38.0.2")]),
            "posing" => {
                let mut answer = answer_to(query, []);
                answer.add_answer(Record::from_rdata(Name::from_ascii("db.").unwrap(), 60, a("192.0.2.66")));
                answer
            }
            "alias" => answer_to(query, [RData::CNAME(CNAME(Name::from_ascii("db.").unwrap()))]),
            "mapped" => answer_to(
                query,
                [RData::AAAA("::ffff:172.38.0.2".parse::<std::net::Ipv6Addr>().unwrap().into())],
            ),
            _ => answer_to(query, [a("192.0.2.66")]),
        })
    });
    let container = Container::with_server(&networks, far);
    for name in
        ["rebind.evil.example.", "posing.evil.example.", "alias.evil.example.", "mapped.evil.example."]
    {
        assert_eq!(container.code(name), ResponseCode::ServFail, "{name}");
    }
    assert_eq!(container.addresses("honest.example."), ["192.0.2.66"]);
    // Never asked outside: one label, whatever is in it.
    for name in ["gone.", r"d\.b.", r"db\.back."] {
        assert_eq!(container.code(name), ResponseCode::NXDomain, "{name}");
    }
    let mut zero = question("db.", RecordType::A);
    zero.queries[0].name = Name::from_labels([&b"db\0"[..]]).unwrap();
    let answer = Message::from_vec(&container.send(&zero.to_vec().unwrap())).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    // Two labels that read like one name, and more of them, are others' names.
    for name in ["db.x.", r"d\.b.example.", "db.back.example."] {
        assert_eq!(container.addresses(name), ["192.0.2.66"], "{name}");
    }
}

#[test]
fn forged_answers_are_not_taken() {
    let networks = Networks::new();
    networks.start();
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    let container = Container::with_server(&networks, far.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        let (length, from) = far.recv_from(&mut bytes).unwrap();
        let query = Message::from_vec(&bytes[..length]).unwrap();
        let lie = answer_to(&query, [a("192.0.2.66")]);
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(&lie.to_vec().unwrap(), from).unwrap();
        let mut wrong = lie.clone();
        wrong.metadata.id = wrong.metadata.id.wrapping_add(1);
        far.send_to(&wrong.to_vec().unwrap(), from).unwrap();
        let other = answer_to(&question("other.example.", RecordType::A), [a("192.0.2.66")]);
        let mut other = other.to_vec().unwrap();
        other[..2].copy_from_slice(&query.metadata.id.to_be_bytes());
        far.send_to(&other, from).unwrap();
        far.send_to(&answer_to(&query, [a("192.0.2.7")]).to_vec().unwrap(), from).unwrap();
    });
    assert_eq!(container.addresses("example.org."), ["192.0.2.7"]);
}

#[test]
fn malformed_questions_are_refused_and_harm_nobody() {
    let networks = Networks::new();
    let _lease = networks.connect("back", "db", "172.38.0.2", &[]);
    networks.start();
    let container = Container::plain(&networks);
    let code = |bytes: &[u8]| container.send(bytes)[3] & 0xf;
    let head = |count: u8| vec![7, 7, 1, 0, 0, count, 0, 0, 0, 0, 0, 0];
    assert_eq!(code(&head(0)), 1);
    assert_eq!(code(&head(2)), 1);
    assert_eq!(code(&[head(1), vec![0xc0, 12, 0, 1, 0, 1]].concat()), 1, "a pointer to itself");
    assert_eq!(code(&[head(1), vec![60, b'x']].concat()), 1, "a label beyond the end");
    assert_eq!(code(&[head(1), b"\x02db\0\0\x01\0\x03".to_vec()].concat()), 5, "class CHAOS");
    let mut update = head(1);
    update[2] = 0x28;
    assert_eq!(code(&update), 4);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"x", container.dns).unwrap();
    socket.send_to(&[0xff; 600], container.dns).unwrap();
    assert_eq!(container.addresses("db."), ["172.38.0.2"]);
}

#[test]
fn it_ends_with_its_last_container_and_only_one_is_there() {
    let networks = Networks::new();
    let resolver = networks.start();
    let (one, other) = (Container::plain(&networks), Container::plain(&networks));
    assert!(claim(&networks.path("back")).unwrap().is_none());
    drop(one);
    assert_eq!(other.code("db."), ResponseCode::NXDomain);
    drop(other);
    resolver.join().unwrap();
    assert!(connect(&networks.path("back")).is_err());
    assert!(claim(&networks.path("back")).unwrap().is_some());
}

#[test]
fn settings_change_while_it_runs() {
    let networks = Networks::new();
    networks.add("front", "172.39.0.0/16");
    let _lease = networks.connect("front", "shop", "172.39.0.2", &[]);
    networks.start();
    let container = Container::plain(&networks);
    assert_eq!(container.code("shop."), ResponseCode::NXDomain);
    let both = Serve { networks: vec![networks.path("back"), networks.path("front")], ..Serve::default() };
    tell(&container._link, &both, None).unwrap();
    assert_eq!(container.addresses("shop."), ["172.39.0.2"]);
}
