//! The tutorial of six redis servers that form a cluster: addresses that were asked for, published ports,
//! configuration and data on the host, and a master that goes and comes back.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::binary::Kiln;
use crate::tutorials::{Shop, port, shop, wait_for};

/// How many servers there are: three masters with a replica each.
const NODES: u8 = 6;

/// The servers on their network.
struct Cluster<'a> {
    kiln: &'a Kiln,
    /// The second number of the subnet.
    second: u8,
    /// The host's port of each server.
    ports: Vec<u16>,
}

impl<'a> Cluster<'a> {
    /// Starts the servers as the tutorial does, and makes a cluster of them.
    fn start(shop: &'a Shop) -> Self {
        let rest = "VOLUME /data\nWORKDIR /data\nEXPOSE 6379\nCMD [\"redis-server\"]\n";
        shop.image("redis", "redis-server", rest);
        let second = shop.network("redis", 38);
        let mut cluster = Self { kiln: &shop.kiln, second, ports: Vec::new() };
        for node in 1..=NODES {
            cluster.run(node);
        }
        for node in 1..=NODES {
            wait_for(|| cluster.cli(node, &["ping"]), |said| said == "PONG");
        }
        let nodes: Vec<String> = (1..=NODES).map(|node| format!("{}:6379", cluster.address(node))).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let words = [&["--cluster", "create"], &nodes[..], &["--cluster-replicas", "1", "--cluster-yes"]];
        let made = cluster.cli(1, &words.concat());
        assert!(made.contains("[OK] All 16384 slots covered."), "{made}");
        for node in 1..=NODES {
            wait_for(|| cluster.cli(node, &["cluster", "info"]), |said| said.contains("cluster_state:ok"));
        }
        cluster
    }

    /// Starts a server with a configuration and a folder for its data on the host.
    fn run(&mut self, node: u8) {
        let address = self.address(node);
        let mut config = "port 6379\nbind 0.0.0.0\nprotected-mode no\nappendonly yes\n\
             cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-node-timeout 5000\n"
            .to_owned();
        writeln!(config, "cluster-announce-ip {address}\ncluster-announce-port 6379").unwrap();
        writeln!(config, "cluster-announce-bus-port 16379").unwrap();
        let folder = self.kiln.context(&[("redis.conf", &config)]);
        let folder = folder.to_str().unwrap();
        let (client, bus) = (port(6370 + u16::from(node)), port(16370 + u16::from(node)));
        let name = format!("redis-{node}");
        let words = ["run", "-d", "--name", &name, "--net", "redis", "--ip", &address];
        let places = [
            "-p",
            &format!("{client}:6379"),
            "-p",
            &format!("{bus}:16379"),
            "-v",
            &format!("{folder}/data:/data"),
            "-v",
            &format!("{folder}/redis.conf:/etc/redis/redis.conf"),
        ];
        self.kiln.ok(&[&words[..], &places, &["redis", "redis-server", "/etc/redis/redis.conf"]].concat());
        self.ports.push(client);
    }

    fn address(&self, node: u8) -> String {
        format!("172.{}.0.1{node}", self.second)
    }

    /// Asks a server from its own container; what it says, good or bad.
    fn cli(&self, node: u8, words: &[&str]) -> String {
        let name = format!("redis-{node}");
        let ran = self.kiln.run(&[&["exec", &name, "redis-cli"], words].concat());
        (ran.out + &ran.error).trim_end().to_owned()
    }

    /// Asks a server through its published port: the first line of the answer, for a text its second.
    fn by_port(&self, node: u8, words: &str) -> String {
        let stream = TcpStream::connect(("127.0.0.1", self.ports[usize::from(node - 1)])).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        (&stream).write_all(format!("{words}\r\n").as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        let first = lines.next().unwrap();
        if first.starts_with('$') { lines.next().unwrap() } else { first }
    }

    /// The server that has a key.
    fn holder(&self, key: &str) -> u8 {
        let moved = (1..=NODES).map(|node| self.cli(node, &["get", key]));
        let moved: Vec<String> = moved.filter(|answer| answer.starts_with("MOVED ")).collect();
        let holder = (1..=NODES).find(|node| moved[0].ends_with(&format!(" {}:6379", self.address(*node))));
        holder.unwrap_or_else(|| panic!("{moved:?}"))
    }

    /// The line of one server in the list that another one has.
    fn seen(&self, by: u8, node: u8) -> String {
        let nodes = self.cli(by, &["cluster", "nodes"]);
        let address = format!(" {}:6379@16379", self.address(node));
        nodes.lines().find(|line| line.contains(&address)).unwrap_or_else(|| panic!("{nodes}")).to_owned()
    }
}

#[test]
fn six_redis_servers_form_a_cluster_that_survives_the_stop_of_a_master() {
    let name = "six_redis_servers_form_a_cluster_that_survives_the_stop_of_a_master";
    let Some(shop) = shop(name) else { return };
    let cluster = Cluster::start(&shop);
    let kiln = cluster.kiln;

    // `wait` tells that the replica has it too.
    let set = ["exec", "-i", "redis-1", "redis-cli", "-c", "-h", "redis-2"];
    wait_for(
        || kiln.run_with(&set, b"set tea assam\nwait 1 10000\n").ok().out,
        |said| said.ends_with("OK\n1\n"),
    );
    let master = cluster.holder("tea");
    let other = master % NODES + 1;
    assert_eq!(cluster.cli(other, &["-c", "get", "tea"]), "assam");
    assert_eq!(cluster.by_port(master, "GET tea"), "assam");
    let moved = cluster.by_port(other, "GET tea");
    assert!(moved.starts_with("-MOVED") && moved.contains(&cluster.address(master)), "{moved}");

    let stopped = format!("redis-{master}");
    kiln.ok(&["stop", &stopped]);
    // Before the others know of it they send clients to an address where nobody answers.
    wait_for(|| cluster.seen(other, master), |seen| seen.contains("master,fail "));
    wait_for(|| cluster.cli(other, &["cluster", "info"]), |said| said.contains("cluster_state:ok"));
    assert_eq!(cluster.cli(other, &["-c", "get", "tea"]), "assam");
    let new = cluster.holder("tea");
    assert_ne!(new, master);
    assert_eq!(cluster.by_port(new, "SET tea darjeeling"), "+OK");

    kiln.ok(&["start", &stopped]);
    wait_for(|| cluster.seen(new, master), |seen| seen.contains(" slave ") && seen.ends_with(" connected"));
    let format = "{{.NetworkSettings.Networks.redis.IPAddress}}";
    assert_eq!(kiln.ok(&["inspect", "-f", format, &stopped]).trim_end(), cluster.address(master));
    let own = ["exec", "-i", &stopped, "redis-cli"];
    wait_for(|| kiln.run_with(&own, b"readonly\nget tea\n").ok().out, |said| said == "OK\ndarjeeling\n");
    assert!(cluster.by_port(master, "GET tea").contains(&cluster.address(new)));

    let names: Vec<String> = (1..=NODES).map(|node| format!("redis-{node}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    kiln.ok(&[&["rm", "-f"], &names[..]].concat());
    kiln.ok(&["network", "rm", "redis"]);
}
