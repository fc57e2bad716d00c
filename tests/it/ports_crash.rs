//! What becomes of published ports when something of kiln is killed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use kiln::network::Networks;
use rustix::process::{Pid, Signal, kill_process};

use crate::ports::{SERVER, addresses, own_address, says_hello, start};
use crate::support::binary::{Kiln, gone};
use crate::support::needs_root;

fn kiln(name: &str) -> Option<Kiln> {
    needs_root(name).then(Kiln::busybox)
}

/// The processes of kiln that have a socket listening on `port`, by the name of their door.
fn holders(door: &str, port: u16) -> Vec<Pid> {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listens = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == "0A"
    };
    let sockets: Vec<_> = text
        .lines()
        .filter(listens)
        .map(|line| format!("socket:[{}]", line.split_whitespace().nth(9).unwrap()))
        .collect();
    let has_it = |folder: &Path| {
        let fds = std::fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
        let mut links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
    };
    let is_door = |folder: &Path| {
        let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(door.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pid = |name: &str| name.parse().ok().and_then(Pid::from_raw);
    let found = processes.filter(|process| is_door(&process.path()) && has_it(&process.path()));
    found.filter_map(|process| pid(process.file_name().to_str()?)).collect()
}

/// What the packet filter leads somewhere, by the elements of `table`.
fn led(table: &str) -> String {
    let maps = ["any4", "any6", "one4", "one6"].map(|name| ("map", name));
    let sets = ["open4", "open6", "self4", "self6"].map(|name| ("set", name));
    let list = |(kind, name): &(&str, &str)| {
        let nft = std::process::Command::new("nft").args(["list", kind, "inet", table, name]).output();
        let text = String::from_utf8(nft.expect("the tests need nft").stdout).unwrap();
        assert!(text.contains(name), "{name} of {table}: {text}");
        text.split_once("elements").map(|(_, elements)| elements.to_owned()).unwrap_or_default()
    };
    maps.iter().chain(&sets).map(list).collect()
}

/// A container whose server has answered by the proxy, and where.
fn served(kiln: &Kiln) -> SocketAddr {
    start(kiln, &["--name", "web", "-p", "80"], SERVER);
    let port = addresses(kiln, "web", "80")[0].port();
    let at = (Ipv4Addr::LOCALHOST, port).into();
    says_hello(at);
    at
}

#[test]
fn after_a_killed_proxy_the_next_client_is_served() {
    let Some(kiln) = kiln("after_a_killed_proxy_the_next_client_is_served") else { return };
    let at = served(&kiln);
    for _ in 0..3 {
        let proxies = holders("_proxy", at.port());
        assert_eq!(proxies.len(), 1);
        kill_process(proxies[0], Signal::KILL).unwrap();
        says_hello(at);
    }
    kiln.ok(&["rm", "-f", "web"]);
    assert_eq!(holders("_proxy", at.port()), []);
}

#[test]
fn a_killed_monitor_leaves_no_port_and_no_proxy() {
    let Some(kiln) = kiln("a_killed_monitor_leaves_no_port_and_no_proxy") else { return };
    let at = served(&kiln);
    let monitors = holders("_monitor", at.port());
    assert_eq!(monitors.len(), 1);
    kill_process(monitors[0], Signal::KILL).unwrap();
    gone("the port's holders", || {
        std::thread::sleep(Duration::from_millis(5));
        let found = ["_monitor", "_proxy"].iter().flat_map(|door| holders(door, at.port()));
        found.map(|pid| pid.as_raw_nonzero().to_string()).collect()
    });
    drop(TcpListener::bind(("0.0.0.0", at.port())).expect("the port is free"));
    assert_eq!(kiln.ok(&["port", "web"]), "");
    // Another container has it now, and what led to the lost one leads to it.
    start(&kiln, &["--name", "next", "-p", &format!("{}:80", at.port())], SERVER);
    says_hello(at);
    says_hello((own_address(), at.port()).into());
    kiln.ok(&["start", "web"]);
    assert_ne!(addresses(&kiln, "web", "80")[0].port(), at.port());
    let networks = Networks::new(&kiln.root().join("networks"));
    assert!(led(networks.table()).contains(&at.port().to_string()));
    kiln.ok(&["rm", "-f", "web"]);
    for monitor in holders("_monitor", at.port()) {
        kill_process(monitor, Signal::KILL).unwrap();
    }
    kiln.ok(&["rm", "-f", "next"]);
    assert_eq!(led(networks.table()), "", "nothing leads to where nobody is");
}
