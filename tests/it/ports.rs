//! Published ports, from the command line to the program in the container.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::binary::{Kiln, Ran};
use crate::support::{ledger, needs_root};

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Says `hello` to everybody, over port 80.
pub(crate) const SERVER: &str = "echo hello > /tmp/index.html; exec busybox httpd -f -p 80 -h /tmp";

fn kiln(name: &str) -> Option<Kiln> {
    needs_root(name).then(Kiln::busybox)
}

/// Starts a container in the background.
pub(crate) fn start(kiln: &Kiln, options: &[&str], script: &str) {
    kiln.ok(&[&["run", "-d"], options, &["busybox", "sh", "-c", script]].concat());
}

/// The one page that the server has; `None` when there is no connection.
pub(crate) fn page(at: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.rsplit("\r\n\r\n").next().map(str::to_owned)
}

/// Waits for the page of a server that is coming up.
pub(crate) fn says_hello(at: SocketAddr) {
    says(at, "hello\n");
}

/// The same with another page.
pub(crate) fn says(at: SocketAddr, expected: &str) {
    let end = Instant::now() + PATIENCE;
    while page(at).as_deref() != Some(expected) {
        assert!(Instant::now() < end, "nothing answers at {at}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where `kiln port` says that a port is reached.
pub(crate) fn addresses(kiln: &Kiln, container: &str, port: &str) -> Vec<SocketAddr> {
    kiln.ok(&["port", container, port]).lines().map(|line| line.parse().unwrap()).collect()
}

/// The machine's own address, as its routes choose it; nothing is sent.
pub(crate) fn own_address() -> Ipv4Addr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    match socket.connect("203.0.113.1:9").and_then(|()| socket.local_addr()) {
        Ok(SocketAddr::V4(address)) => *address.ip(),
        _ => Ipv4Addr::LOCALHOST,
    }
}

/// Gives each datagram back, in the network of a container that runs, until that is gone.
fn echo(kiln: &Kiln, container: &str, port: u16) {
    let pid = kiln.ok(&["inspect", "-f", "{{.State.Pid}}", container]);
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", pid.trim())).unwrap();
    let bind = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        UdpSocket::bind(("0.0.0.0", port)).unwrap()
    };
    let socket = std::thread::spawn(bind).join().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
            if &buffer[..length] == b"end" {
                break;
            }
        }
    });
}

/// A start that was refused, with these words.
fn refused(ran: Ran, words: &[&str]) {
    assert_eq!(ran.code, 125, "{ran}");
    for word in words {
        assert!(ran.error.contains(word), "`{word}` is missing in:\n{ran}");
    }
}

/// A port that is free at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_published_port_answers_on_loopback_on_the_machines_address_and_to_containers() {
    let name = "a_published_port_answers_on_loopback_on_the_machines_address_and_to_containers";
    let Some(kiln) = kiln(name) else { return };
    let port = free_port();
    start(&kiln, &["--name", "web", "-p", &format!("{port}:80")], SERVER);
    for address in ["127.0.0.1", "127.0.0.9", "[::1]", &own_address().to_string()] {
        says_hello(format!("{address}:{port}").parse().unwrap());
    }
    let ask = |address: &str| {
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {address} {port}");
        let asked = kiln.ok(&["run", "--rm", "busybox", "sh", "-c", &script]);
        assert!(asked.ends_with("hello\n"), "{address}: {asked}");
        // The container itself, by a way around.
        let asked = kiln.ok(&["exec", "web", "sh", "-c", &script]);
        assert!(asked.ends_with("hello\n"), "itself by {address}: {asked}");
    };
    ask(&own_address().to_string());
    let gateway = kiln.ok(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "web"]);
    ask(gateway.trim());

    let shown = kiln.ok(&["port", "web"]);
    assert_eq!(shown, format!("80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}\n"));
    let shown = kiln.ok(&["ps", "--format", "{{.Ports}}"]);
    assert_eq!(shown.trim(), format!("0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp"));
    let (of_host, udp) = (format!("publish={port}"), format!("publish={port}/udp"));
    for (filter, expected) in [
        ("publish=80", "web\n"),
        (of_host.as_str(), "web\n"),
        (udp.as_str(), ""),
        ("publish=81", ""),
        ("expose=80/tcp", "web\n"),
    ] {
        assert_eq!(kiln.ok(&["ps", "--filter", filter, "--format", "{{.Names}}"]), expected, "{filter}");
    }
    let format = "{{json .NetworkSettings.Ports}} {{json .HostConfig.PortBindings}}";
    let expected = format!(
        r#"{{"80/tcp":[{{"HostIp":"0.0.0.0","HostPort":"{port}"}},{{"HostIp":"::","HostPort":"{port}"}}]}} {{"80/tcp":[{{"HostIp":"","HostPort":"{port}"}}]}}"#
    );
    assert_eq!(kiln.ok(&["inspect", "-f", format, "web"]).trim(), expected);

    kiln.ok(&["rm", "-f", "web"]);
    TcpListener::bind(("0.0.0.0", port)).expect("the port is free again");
}

#[test]
fn a_port_of_one_address_is_reached_there_alone() {
    let Some(kiln) = kiln("a_port_of_one_address_is_reached_there_alone") else { return };
    start(&kiln, &["--name", "web", "-p", "127.0.0.1::80", "-p", "[::1]::80"], SERVER);
    let found = addresses(&kiln, "web", "80");
    assert_eq!(found.len(), 2);
    for at in &found {
        says_hello(*at);
        assert_eq!(page((own_address(), at.port()).into()), None, "not elsewhere");
    }
}

#[test]
fn datagrams_find_their_way_and_back() {
    let Some(kiln) = kiln("datagrams_find_their_way_and_back") else { return };
    start(&kiln, &["--name", "dns", "-p", "53/udp"], "exec sleep 1000");
    echo(&kiln, "dns", 53);
    let found = addresses(&kiln, "dns", "53/udp");
    assert_eq!(found.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);
    for at in ["127.0.0.1", "127.0.0.9", "::1", &own_address().to_string()] {
        let socket = UdpSocket::bind(if at.contains(':') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket.connect((at, found[0].port())).unwrap();
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 16];
        loop {
            let _ = socket.send(b"question");
            if socket.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"question") {
                break;
            }
            assert!(Instant::now() < end, "no answer from {at}");
        }
    }
    let last = UdpSocket::bind("0.0.0.0:0").unwrap();
    last.send_to(b"end", (Ipv4Addr::LOCALHOST, found[0].port())).unwrap();
}

#[test]
fn ranges_exposed_ports_and_free_ones_are_published() {
    let Some(kiln) = kiln("ranges_exposed_ports_and_free_ones_are_published") else { return };
    let options = ["--name", "web", "-P", "--expose", "80", "--expose", "7000/udp", "-p", "9000-9001"];
    start(&kiln, &options, SERVER);
    for (port, count) in [("80", 2), ("7000/udp", 2), ("9000", 2), ("9001", 2)] {
        assert_eq!(addresses(&kiln, "web", port).len(), count, "{port}");
    }
    let first = addresses(&kiln, "web", "80")[0].port();
    says_hello((Ipv4Addr::LOCALHOST, first).into());
    // Of a range of the machine's ports one is taken that is free.
    let (from, to) = (first, first.saturating_add(40));
    start(&kiln, &["--name", "other", "-p", &format!("127.0.0.1:{from}-{to}:80")], SERVER);
    let other = addresses(&kiln, "other", "80")[0];
    assert!((from + 1..=to).contains(&other.port()), "{other}");
    says_hello(other);
    kiln.run(&["port", "web", "81"])
        .fails_with(&["no public port `81/tcp` published for `web`", "`kiln port web`"]);
}

#[test]
fn who_has_a_port_already_is_named() {
    let Some(kiln) = kiln("who_has_a_port_already_is_named") else { return };
    let port = free_port();
    let publish = format!("{port}:80");
    start(&kiln, &["--name", "web", "-p", &publish], SERVER);
    let second = ["run", "--name", "second", "-p", &publish, "busybox", "sleep", "1000"];
    let holder = format!("0.0.0.0:{port} is already allocated: container `web` has it");
    refused(kiln.run(&second), &[&holder, "hint: choose another port"]);
    kiln.ok(&["rm", "-f", "web"]);
    kiln.ok(&["start", "second"]);

    let run = |options: &[&str]| kiln.run(&[&["run", "--rm"], options, &["busybox", "true"]].concat());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let process = format!("({}) has it", std::process::id());
    refused(run(&["-p", &format!("{port}:80")]), &["is already allocated: process `", &process]);
    let port = free_port();
    let twice = run(&["-p", &format!("{port}:80"), "-p", &format!("{port}:81")]);
    refused(twice, &["another `-p` of this container has it"]);
    let words = ["cannot publish port 80/tcp: this machine has no address 192.0.2.77"];
    refused(run(&["-p", "192.0.2.77:8801:80"]), &words);
    refused(run(&["-p", "132:132/sctp"]), &["sctp is not supported"]);
    let words = ["conflicting options: `--publish` and `--network container:…`"];
    refused(run(&["-p", "80", "--network", "container:second"]), &words);
    let ran = run(&["-p", "80", "--network", "none"]).ok();
    assert!(ran.error.contains("published ports lead nowhere with `--network none`"), "{ran}");
}

#[test]
fn the_configuration_says_where_ports_are_published() {
    let Some(kiln) = kiln("the_configuration_says_where_ports_are_published") else { return };
    let config = kiln.scratch().join("config");
    std::fs::create_dir(&config).unwrap();
    let run = |text: &str, words: &[&str]| {
        std::fs::write(config.join("config.toml"), text).unwrap();
        crate::support::binary::run(kiln.command(words).env("KILN_CONFIG", &config))
    };
    let here = "[publish]\naddress = \"127.0.0.1\"\n";
    run(here, &["run", "-d", "--name", "web", "-p", "80", "-p", "0.0.0.0::81", "busybox", "sleep", "1000"])
        .ok();
    let ips = |port| addresses(&kiln, "web", port).iter().map(|at| at.ip().to_string()).collect::<Vec<_>>();
    assert_eq!((ips("80"), ips("81")), (vec!["127.0.0.1".into()], vec!["0.0.0.0".into()]));
    let wrong = run("[publish]\nadress = \"127.0.0.1\"\n", &["ps"]);
    assert_ne!(wrong.code, 0);
    assert!(wrong.error.contains("config.toml`: line 2: unknown field `adress`"), "{wrong}");
}

#[test]
fn a_container_that_is_started_again_keeps_its_ports() {
    let Some(kiln) = kiln("a_container_that_is_started_again_keeps_its_ports") else { return };
    let options = ["--name", "web", "--restart", "always", "-p", "80"];
    start(&kiln, &options, &format!("[ -e /again ] || {{ touch /again; exit 1; }}; {SERVER}"));
    let before = addresses(&kiln, "web", "80");
    says_hello((Ipv4Addr::LOCALHOST, before[0].port()).into());
    assert_eq!(addresses(&kiln, "web", "80"), before);
    kiln.ok(&["restart", "-t", "0", "web"]);
    says_hello((Ipv4Addr::LOCALHOST, before[0].port()).into());
    kiln.ok(&["rm", "-f", "web"]);
}

#[test]
fn a_port_leads_to_the_next_network_when_the_first_one_is_gone() {
    let Some(kiln) = kiln("a_port_leads_to_the_next_network_when_the_first_one_is_gone") else { return };
    for network in ["front", "back"] {
        kiln.ok(&["network", "create", network]);
    }
    kiln.ok(&["network", "create", "--internal", "closed"]);
    let networks = ["--network", "closed", "--network", "front", "--network", "back"];
    start(&kiln, &[&["--name", "web", "-p", "80"], &networks[..]].concat(), SERVER);
    let port = addresses(&kiln, "web", "80")[0].port();
    let everywhere = || {
        says_hello((own_address(), port).into());
        says_hello((Ipv4Addr::LOCALHOST, port).into());
    };
    everywhere();
    // A closed network is no way in.
    kiln.ok(&["network", "disconnect", "closed", "web"]);
    kiln.ok(&["network", "rm", "closed"]);
    kiln.ok(&["network", "disconnect", "front", "web"]);
    assert_eq!(addresses(&kiln, "web", "80")[0].port(), port);
    everywhere();
    ledger::assert_agrees(&kiln, "after the first network");
    kiln.ok(&["network", "disconnect", "back", "web"]);
    ledger::assert_agrees(&kiln, "without a network");
    TcpListener::bind(("0.0.0.0", port)).expect("without a network there is nobody to have it");
    kiln.ok(&["network", "connect", "front", "web"]);
    let port = addresses(&kiln, "web", "80")[0].port();
    says_hello((own_address(), port).into());
    says_hello((Ipv4Addr::LOCALHOST, port).into());
    ledger::assert_agrees(&kiln, "in a network again");
}

/// Docker: `none` is left first.
#[test]
fn a_container_without_a_network_has_its_ports_from_the_first_one_to_the_last() {
    let name = "a_container_without_a_network_has_its_ports_from_the_first_one_to_the_last";
    let Some(kiln) = kiln(name) else { return };
    kiln.ok(&["network", "create", "front"]);
    let port = free_port();
    let publish = format!("{port}:80");
    start(&kiln, &["--name", "web", "--network", "none", "-p", &publish], SERVER);
    let connect = |network: &str| kiln.run(&["network", "connect", network, "web"]);
    connect("front").fails_with(&["has the network `none`", "hint: ", "`kiln network disconnect none web`"]);
    kiln.ok(&["network", "disconnect", "none", "web"]);
    start(&kiln, &["--name", "holder", "-p", &publish], "exec sleep 1000");
    connect("front").fails_with(&[
        "cannot connect container web: cannot publish port 80/tcp",
        "container `holder` has it",
        "hint: choose another port",
    ]);
    assert_eq!(kiln.ok(&["inspect", "-f", "{{json .NetworkSettings.Networks}}", "web"]), "{}\n");
    kiln.ok(&["rm", "-f", "holder"]);
    connect("front").ok();
    let at: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    says_hello(at);
    assert_eq!(addresses(&kiln, "web", "80")[0].port(), port);
    let asked =
        kiln.ok(&["run", "--rm", "--network", "front", "busybox", "busybox", "wget", "-qO-", "http://web/"]);
    assert_eq!(asked, "hello\n");
    connect("none").fails_with(&["container web is connected to network front", "hint: take it out first"]);
    // Its network is the same one in every run.
    kiln.ok(&["restart", "-t", "0", "web"]);
    says_hello(at);
    kiln.ok(&["network", "disconnect", "front", "web"]);
    assert_eq!(kiln.ok(&["port", "web"]), "");
    drop(TcpListener::bind(("0.0.0.0", port)).expect("nobody has it"));
    connect("none").ok();
    connect("front").fails_with(&["has the network `none`"]);
    kiln.ok(&["network", "disconnect", "none", "web"]);
    kiln.ok(&["restart", "-t", "0", "web"]);
    kiln.ok(&["stop", "-t", "0", "web"]);
    kiln.ok(&["start", "web"]);
    let links = kiln.ok(&["exec", "web", "busybox", "ip", "addr"]);
    assert!(links.contains("127.0.0.1/8") && !links.contains("eth0"), "{links}");
    connect("front").ok();
    says_hello(at);
    ledger::assert_agrees(&kiln, "after coming and going");
}

#[test]
fn a_container_that_waits_for_its_next_run_can_be_connected() {
    let Some(kiln) = kiln("a_container_that_waits_for_its_next_run_can_be_connected") else { return };
    kiln.ok(&["network", "create", "front"]);
    let port = free_port();
    let shared = kiln.scratch().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let script = format!("[ -e /shared/again ] && {{ {SERVER}; }}; exit 1");
    let (publish, volume) = (format!("{port}:80"), format!("{}:/shared", shared.display()));
    let options =
        ["--name", "web", "--network", "none", "--restart", "always", "-p", &publish, "-v", &volume];
    start(&kiln, &options, &script);
    let end = Instant::now() + PATIENCE;
    while kiln.ok(&["inspect", "-f", "{{.RestartCount}}", "web"]).trim().parse::<u32>().unwrap() < 4 {
        assert!(Instant::now() < end, "it isn't started again");
        std::thread::sleep(Duration::from_millis(20));
    }
    kiln.ok(&["network", "disconnect", "none", "web"]);
    kiln.ok(&["network", "connect", "front", "web"]);
    std::fs::write(shared.join("again"), "").unwrap();
    says_hello((Ipv4Addr::LOCALHOST, port).into());
    kiln.ok(&["rm", "-f", "web"]);
}
