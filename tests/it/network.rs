//! Real namespaces on a real bridge.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use kiln::network::{Endpoint, Networks, Pool};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::needs_root;

/// A network of its own that takes its bridge and packet filter away at the end.
struct TestNetwork {
    networks: Networks,
    folder: tempfile::TempDir,
}

impl TestNetwork {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { networks: Networks::new(&folder.path().join("networks")), folder }
    }

    fn connect(&self) -> Endpoint {
        self.networks.connect("test").unwrap()
    }

    fn records(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("networks/bridge/addresses")).unwrap().count()
    }
}

impl Drop for TestNetwork {
    fn drop(&mut self) {
        self.networks.remove().unwrap();
    }
}

/// Runs `work` on a thread inside `namespace`.
fn inside<T: Send + 'static>(
    namespace: &impl AsFd,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let fd: OwnedFd = namespace.as_fd().try_clone_to_owned().unwrap();
    std::thread::spawn(move || {
        move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    })
}

fn reaches(from: &Endpoint, address: Ipv4Addr, port: u16) -> bool {
    let connect = move || {
        let mut stream = TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(2)).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    };
    inside(&from.namespace, connect).join().unwrap().as_deref() == Some("hello")
}

/// Says hello to everybody who comes, and gives the port.
fn greeter(listener: TcpListener) -> u16 {
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"hello");
        }
    });
    port
}

#[test]
fn an_endpoint_has_loopback_an_address_and_a_way_out() {
    if !needs_root("an_endpoint_has_loopback_an_address_and_a_way_out") {
        return;
    }
    let network = TestNetwork::new();
    let endpoint = network.connect();
    let listener = TcpListener::bind((endpoint.gateway, 0)).unwrap();
    assert!(reaches(&endpoint, endpoint.gateway, greeter(listener)), "the host answers at the gateway");
    let routes =
        inside(&endpoint.namespace, || std::fs::read_to_string("/proc/thread-self/net/route").unwrap());
    assert!(routes.join().unwrap().lines().any(|line| line.starts_with("eth0\t00000000")));
    let lo = inside(&endpoint.namespace, || TcpListener::bind("127.0.0.1:0").map(greeter).unwrap());
    assert!(reaches(&endpoint, Ipv4Addr::LOCALHOST, lo.join().unwrap()));
}

#[test]
fn two_endpoints_reach_each_other_and_addresses_differ() {
    if !needs_root("two_endpoints_reach_each_other_and_addresses_differ") {
        return;
    }
    let network = TestNetwork::new();
    let (one, other) = (network.connect(), network.connect());
    assert_ne!(one.address, other.address);
    let port = inside(&other.namespace, || TcpListener::bind("0.0.0.0:0").map(greeter).unwrap());
    assert!(reaches(&one, other.address.addr(), port.join().unwrap()));
    assert_eq!(network.records(), 2);
    drop(one);
    drop(other);
    assert_eq!(network.records(), 0, "addresses are given back");
}

#[test]
fn what_leaves_is_masqueraded_and_nothing_comes_in_uninvited() {
    if !needs_root("what_leaves_is_masqueraded_and_nothing_comes_in_uninvited") {
        return;
    }
    // An endpoint of the outer network plays the host of an inner one, whose subnet nobody else knows.
    let world = TestNetwork::new();
    let host = world.connect();
    let folder = tempfile::tempdir().unwrap();
    let home = Networks::new(&folder.path().join("networks"));
    let container = inside(&host.namespace, move || home.connect("test").unwrap()).join().unwrap();
    assert_ne!(container.address.trunc(), host.address.trunc(), "the subnet of a route is not chosen");

    let server = TcpListener::bind((host.gateway, 0)).unwrap();
    let target = (host.gateway, server.local_addr().unwrap().port());
    let client = inside(&container.namespace, move || TcpStream::connect(target).unwrap());
    // It is connected before it is accepted: who waited for it first would wait for ever when it fails.
    client.join().unwrap();
    let (_stream, from) = server.accept().unwrap();
    assert_eq!(from.ip(), host.address.addr(), "the world sees the host's address");

    let listen = inside(&container.namespace, || TcpListener::bind("0.0.0.0:0").map(greeter).unwrap());
    let port = listen.join().unwrap();
    let stranger = world.connect();
    route(&stranger, &container, &host);
    assert!(!reaches(&stranger, container.address.addr(), port), "a stranger can't reach a container");
}

/// Gives `stranger` a route to the subnet of `container` by way of `host`.
fn route(stranger: &Endpoint, container: &Endpoint, host: &Endpoint) {
    let (subnet, way) = (container.address.trunc().to_string(), host.address.addr().to_string());
    let add = move || {
        std::process::Command::new("ip")
            .args(["route", "add", &subnet, "via", &way])
            .status()
            .unwrap()
            .success()
    };
    assert!(inside(&stranger.namespace, add).join().unwrap());
}

#[test]
fn a_pool_gives_endpoints_that_nobody_else_has() {
    if !needs_root("a_pool_gives_endpoints_that_nobody_else_has") {
        return;
    }
    let network = TestNetwork::new();
    let pool = Pool::new(network.networks.default_network().unwrap(), 2, 3);
    let taken: Vec<_> = (0..5).map(|_| pool.take().unwrap()).collect();
    let mut addresses: Vec<_> = taken.iter().map(|endpoint| endpoint.address).collect();
    addresses.dedup();
    assert_eq!(addresses.len(), 5);
}

#[test]
fn a_namespace_that_sent_nothing_serves_another_step_and_no_other_does() {
    if !needs_root("a_namespace_that_sent_nothing_serves_another_step_and_no_other_does") {
        return;
    }
    let network = TestNetwork::new();
    let pool = Pool::new(network.networks.default_network().unwrap(), 1, 9);
    let first = pool.take().unwrap();
    let silent = first.address;
    // A socket that sends nothing leaves nothing.
    drop(inside(&first.namespace, || TcpListener::bind("127.0.0.1:8000").unwrap()).join().unwrap());
    pool.give_back(first);
    let again = pool.take().unwrap();
    assert_eq!(again.address, silent);
    let port =
        inside(&again.namespace, || greeter(TcpListener::bind("127.0.0.1:0").unwrap())).join().unwrap();
    assert!(reaches(&again, Ipv4Addr::LOCALHOST, port));
    pool.give_back(again);
    let talked = pool.take().unwrap();
    assert_ne!(talked.address, silent, "to itself, over loopback");
    let gateway = talked.gateway;
    let sent = inside(&talked.namespace, move || {
        std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (gateway, 9)).unwrap()
    });
    let address = talked.address;
    sent.join().unwrap();
    pool.give_back(talked);
    assert_ne!(pool.take().unwrap().address, address, "to the bridge");
}

#[test]
fn a_flushed_packet_filter_comes_back_with_the_next_connection() {
    if !needs_root("a_flushed_packet_filter_comes_back_with_the_next_connection") {
        return;
    }
    let network = TestNetwork::new();
    drop(network.connect());
    let table = network.networks.table().to_owned();
    let listed = || {
        let list =
            std::process::Command::new("nft").args(["list", "table", "inet", &table]).output().unwrap();
        String::from_utf8(list.stdout).unwrap()
    };
    if !Path::new("/usr/sbin/nft").exists() {
        println!("the rules are not compared: nft is not installed");
        return;
    }
    assert!(listed().contains("masquerade"), "{}", listed());
    std::process::Command::new("nft").args(["delete", "table", "inet", &table]).status().unwrap();
    drop(network.connect());
    let rules = listed();
    for rule in [
        "iifname @masked masquerade",
        "ct state established,related accept",
        "iifname . oifname vmap @within",
        "iifname @bridges accept",
        "oifname @bridges drop",
        &format!("elements = {{ \"{}\" }}", network.networks.bridge()),
    ] {
        assert!(rules.contains(rule), "{rule} in {rules}");
    }
}

#[test]
fn a_bridge_passes_a_foreign_drop_policy() {
    if !needs_root("a_bridge_passes_a_foreign_drop_policy") {
        return;
    }
    if !Path::new("/usr/sbin/nft").exists() {
        println!("skipped: nft is not installed");
        return;
    }
    // As docker and ufw leave it, in a namespace that plays the host.
    let world = TestNetwork::new();
    let host = world.connect();
    let folder = tempfile::tempdir().unwrap();
    let home = Networks::new(&folder.path().join("networks"));
    let drop_all = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }";
    let work = move || {
        let nft = |text: &str| std::process::Command::new("nft").arg(text).output().unwrap();
        drop(home.connect("test").unwrap());
        nft(drop_all);
        assert_eq!(home.foreign_drops(), ["ip filter FORWARD"]);
        let endpoint = home.connect("test").unwrap();
        drop(home.connect("test").unwrap());
        (
            endpoint,
            String::from_utf8(nft("list chain ip filter FORWARD").stdout).unwrap(),
            home.bridge().to_owned(),
        )
    };
    let (container, rules, bridge) = inside(&host.namespace, work).join().unwrap();
    assert_eq!(rules.matches(&bridge).count(), 2, "once in each direction: {rules}");
    let server = TcpListener::bind((host.gateway, 0)).unwrap();
    assert!(reaches(&container, host.gateway, greeter(server)));
}

#[test]
fn the_bridge_of_a_store_that_is_gone_goes_with_the_next_one_made() {
    if !needs_root("the_bridge_of_a_store_that_is_gone_goes_with_the_next_one_made") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let networks = Networks::new(&folder.path().join("networks"));
    drop(networks.connect("test").unwrap());
    let bridge = Path::new("/sys/class/net").join(networks.bridge());
    assert!(bridge.exists());
    drop(folder);
    let next = TestNetwork::new();
    drop(next.connect());
    assert!(!bridge.exists());
}

#[test]
fn an_unused_bridge_is_removed_and_made_again_but_a_used_one_stays() {
    if !needs_root("an_unused_bridge_is_removed_and_made_again_but_a_used_one_stays") {
        return;
    }
    let network = TestNetwork::new();
    assert!(!network.networks.remove_unused().unwrap(), "nothing was made");
    let endpoint = network.connect();
    assert!(!network.networks.remove_unused().unwrap(), "somebody is connected");
    drop(endpoint);
    assert!(network.networks.remove_unused().unwrap());
    assert_eq!(network.records(), 0);
    network.connect();
}

#[test]
fn what_a_kiln_with_one_network_left_is_taken_over_once() {
    if !needs_root("what_a_kiln_with_one_network_left_is_taken_over_once") {
        return;
    }
    let network = TestNetwork::new();
    let folder = network.folder.path().join("networks");
    let addresses = folder.join("addresses");
    std::fs::create_dir_all(&addresses).unwrap();
    let third = std::process::id() % 250;
    let (subnet, held) = (format!("10.198.{third}.0/24"), format!("10.198.{third}.2"));
    std::fs::write(folder.join("network.json"), format!(r#"{{"version":1,"subnet":"{subnet}"}}"#)).unwrap();
    std::fs::write(folder.join("lock"), "0000000000").unwrap();
    std::fs::write(addresses.join(&held), "an old container").unwrap();
    let holder = std::fs::File::open(addresses.join(&held)).unwrap();
    rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockExclusive).unwrap();

    let endpoint = network.connect();
    assert_eq!(endpoint.address.trunc().to_string(), subnet);
    assert_ne!(endpoint.address.addr().to_string(), held, "it has a holder");
    let members = || -> Vec<(String, String)> {
        let members = network.networks.default_network().unwrap().members().unwrap();
        members.into_iter().map(|lease| (lease.address.to_string(), lease.owner)).collect()
    };
    assert!(members().contains(&(held.clone(), "an old container".to_owned())), "{:?}", members());
    assert!(!folder.join("network.json").exists() && !addresses.exists(), "nothing is there twice");
    // What is put into its place later is nobody's.
    std::fs::write(folder.join("network.json"), r#"{"version":1,"subnet":"10.197.0.0/24"}"#).unwrap();
    assert_eq!(network.connect().address.trunc().to_string(), subnet);
    // The end of its holder is the end of the old lease.
    drop(holder);
    network.networks.reap().unwrap();
    assert!(members().iter().all(|(address, _)| *address != held), "{:?}", members());
    assert!(!folder.join("bridge/addresses").join(&held).exists());
}
