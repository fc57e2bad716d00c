//! Published ports beside another program's packet filter, on a host that is a namespace of a test network.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::Command;

use kiln::network::{Endpoint, Networks};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::ports::{SERVER, page, says_hello};
use crate::support::binary::{Kiln, Ran, run};
use crate::support::needs_root;

/// A host with a packet filter as iptables makes it for ufw; this machine is another one in its network.
struct Host {
    endpoint: Option<Endpoint>,
    networks: Networks,
    kiln: Kiln,
    _folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let networks = Networks::new(&folder.path().join("networks"));
        let endpoint = networks.connect("host").unwrap();
        let host = Self { endpoint: Some(endpoint), networks, kiln: Kiln::busybox(), _folder: folder };
        let mut iptables = Command::new("iptables");
        assert!(host.inside(iptables.args(["-P", "FORWARD", "DROP"])).code == 0);
        host
    }

    /// Runs a command on the host.
    fn inside(&self, command: &mut Command) -> Ran {
        let namespace = self.endpoint.as_ref().unwrap().namespace.as_fd();
        let work = || {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).unwrap();
            run(command)
        };
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    fn kiln(&self, words: &[&str]) -> Ran {
        self.inside(self.kiln.command(words).env("KILN_CONFIG", self.kiln.scratch()))
    }

    /// Where another machine sees a port.
    fn at(&self, port: u16) -> SocketAddr {
        (self.endpoint.as_ref().unwrap().address.addr(), port).into()
    }

    /// The page as the host itself sees it.
    fn own_page(&self, port: u16) -> String {
        let script =
            format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {} {port}", self.at(port).ip());
        self.inside(Command::new("sh").args(["-c", &script])).out
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.kiln(&["rm", "-f", "web", "open"]);
        self.endpoint = None;
        self.networks.remove().unwrap();
    }
}

#[test]
fn a_filter_that_drops_is_respected_unless_the_configuration_opens_it() {
    if !needs_root("a_filter_that_drops_is_respected_unless_the_configuration_opens_it") {
        return;
    }
    let host = Host::new();
    let ran = host.kiln(&["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", SERVER]).ok();
    assert!(ran.error.contains("note: `ip filter FORWARD` drops what other machines send"), "{ran}");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !host.own_page(8080).ends_with("hello\n") {
        assert!(std::time::Instant::now() < end, "the host itself is not what the filter is about");
    }
    assert_eq!(page(host.at(8080)), None, "the filter isn't gone around");
    // Its owner can still read it, and let others through.
    let listed = host.inside(Command::new("iptables").args(["-S", "FORWARD"])).ok();
    assert!(listed.out.contains("--ctstate RELATED,ESTABLISHED"), "{listed}");
    let accept = ["-A", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "ACCEPT"];
    host.inside(Command::new("iptables").args(accept)).ok();
    says_hello(host.at(8080));
    host.inside(Command::new("iptables").args(["-D"]).args(&accept[1..])).ok();
    assert_eq!(page(host.at(8080)), None);

    std::fs::write(host.kiln.scratch().join("config.toml"), "[publish]\nfirewall = \"open\"\n").unwrap();
    let ran =
        host.kiln(&["run", "-d", "--name", "open", "-p", "8081:80", "busybox", "sh", "-c", SERVER]).ok();
    assert!(!ran.error.contains("note:"), "{ran}");
    says_hello(host.at(8081));
    let listed = host.inside(Command::new("iptables").args(["-S", "FORWARD"])).ok();
    assert!(listed.out.contains("--ctstate DNAT"), "{listed}");
}
