//! Holds what the kernel has of a store against what kiln's records say of it.
//!
//! Nothing of kiln's own survey is asked: files are read, and the kernel by `ip`, `nft` and `/proc`. Each thing is a line
//! of words, and both sides have to have the same lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::binary::{Kiln, names};

/// How long monitors and resolvers may take to clean up behind their containers.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Lines that say what there is.
type Facts = BTreeSet<String>;

/// Two sides that ought to agree, by what they are.
type Sides = BTreeMap<&'static str, [Facts; 2]>;

/// Waits until kernel and records agree, after one command that puts right what was killed.
pub(crate) fn assert_agrees(kiln: &Kiln, when: &str) {
    agree(kiln, when, |_| true);
}

/// The same, and there is nothing at all any more: no network but the default one's record, no process, no mount.
pub(crate) fn assert_empty(kiln: &Kiln, when: &str) {
    agree(kiln, when, |sides| sides.values().flatten().all(Facts::is_empty));
    let left = Ledger::read(kiln).holders;
    assert!(left.is_empty(), "{when}: processes are left: {left:?}");
    let table = kiln::network::Networks::new(&kiln.root().join("networks")).table().to_owned();
    let rules = printed("nft", &["list", "ruleset"]);
    assert!(!rules.contains(&table), "{when}: {table} is left in\n{rules}");
}

fn agree(kiln: &Kiln, when: &str, is_enough: impl Fn(&Sides) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let sides = Ledger::read(kiln).sides();
        if sides.values().all(|[kernel, records]| kernel == records) && is_enough(&sides) {
            return;
        }
        if Instant::now() > end {
            let mut text = String::new();
            for (what, [is, should]) in sides {
                for line in is.difference(&should) {
                    text += &format!("{what}: only there: {line}\n");
                }
                for line in should.difference(&is) {
                    text += &format!("{what}: only recorded: {line}\n");
                }
                for line in is.intersection(&should) {
                    text += &format!("{what}: both: {line}\n");
                }
            }
            panic!("{when}:\n{text}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// A network by its files.
struct Network {
    record: Value,
    /// Those that somebody holds.
    leases: Vec<Value>,
    /// Addresses that are kept for nobody who lives, and are no reservation.
    stale: Vec<String>,
    /// What is told to those who ask for names: id and address.
    known: Vec<(String, String)>,
    /// The ports that lead to each address.
    ports: BTreeMap<String, Vec<Value>>,
}

/// All that was read of a store.
struct Ledger {
    root: PathBuf,
    networks: Vec<Network>,
    /// The containers that run, by id: their states, with what they are to be as `config`.
    running: BTreeMap<String, Value>,
    /// Every container that the store has or had.
    ids: BTreeSet<String>,
    /// Processes with a file of the store open: their number, their name, and the files.
    holders: Vec<(String, String, Vec<PathBuf>)>,
    /// What `network inspect` shows: network, container, addresses.
    shown: Facts,
}

impl Ledger {
    fn read(kiln: &Kiln) -> Self {
        let root = kiln.root().to_owned();
        let networks: Vec<_> = names(&root.join("networks"))
            .into_iter()
            .filter_map(|name| Network::read(&root.join("networks").join(name)))
            .collect();
        let containers = root.join("containers");
        let mut ids: BTreeSet<_> = names(&containers).into_iter().filter(|name| name.len() == 64).collect();
        let is_alive = |state: &Value| state["status"] == "running" || state["status"] == "restarting";
        let running = ids.iter().filter_map(|id| {
            let mut state = json(&containers.join(id).join("state.json"))?;
            state["config"] = json(&containers.join(id).join("config.json"))?["config"].take();
            is_alive(&state).then(|| (id.clone(), state))
        });
        let running = running.collect();
        let told = fs::read_to_string(root.join("events/events.jsonl")).unwrap_or_default();
        for event in told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if event["kind"] == "container" {
                ids.insert(text(&event["id"]));
            }
        }
        let shown = networks.iter().flat_map(|network| shown(kiln, &network.record)).collect();
        Self { holders: holders(&root), root, networks, running, ids, shown }
    }

    /// The kernel's side, and that of the records.
    fn sides(&self) -> Sides {
        let links = parsed("ip", &["-j", "link"]);
        let bridges = self.bridges(&links);
        let expected: Vec<_> = self.networks.iter().filter(|network| network.is_wanted(&bridges)).collect();
        let recorded = |of: &dyn Fn(&Network) -> Vec<String>| -> Facts {
            expected.iter().flat_map(|network| of(network)).collect()
        };
        let members = recorded(&Network::members);
        BTreeMap::from([
            ("link", [self.links(&links, &bridges), recorded(&Network::links)]),
            ("element", [self.elements(), recorded(&Network::elements)]),
            ("stale address", [self.networks.iter().flat_map(|it| it.stale.clone()).collect(), Facts::new()]),
            ("member by state.json", [self.places(), members.clone()]),
            ("member by config.json", [self.wished(), self.places()]),
            ("member by inspect", [self.shown.clone(), members]),
            ("member with a name", [recorded(&Network::named), recorded(&Network::nameable)]),
            ("inside", [self.inside(), self.places_inside()]),
            ("published", [recorded(&Network::published), self.ports()]),
            ("listener", [self.listeners(), self.bound()]),
            ("process", [self.processes(), self.wanted_processes()]),
            ("cgroup", [self.cgroups(), self.running.keys().cloned().collect()]),
            ("mount", [self.mounts(), Facts::new()]),
        ])
    }

    /// The bridges that say they are this store's.
    fn bridges(&self, links: &Value) -> Facts {
        let networks = self.root.join("networks").display().to_string();
        let mark = format!("kiln:{networks}/");
        let is_own = |alias: &str| alias == networks || alias.starts_with(&mark);
        all(links).filter(|link| is_own(&text(&link["ifalias"]))).map(|link| text(&link["ifname"])).collect()
    }

    fn links(&self, links: &Value, bridges: &Facts) -> Facts {
        let mut facts = Facts::new();
        for bridge in bridges {
            facts.insert(format!("bridge {bridge}"));
            for link in all(&parsed("ip", &["-j", "addr", "show", "dev", bridge])) {
                let addresses = all(&link["addr_info"]);
                facts.extend(
                    addresses.map(|it| format!("{bridge} {}/{}", text(&it["local"]), it["prefixlen"])),
                );
            }
            for route in all(&parsed("ip", &["-j", "route", "show", "dev", bridge])) {
                facts.insert(format!("{bridge} route {}", text(&route["dst"])));
            }
        }
        // A pair without its bridge lives by a namespace alone, and that by a process, which is found.
        for link in all(links) {
            let master = text(&link["master"]);
            if bridges.contains(&master) {
                facts.insert(format!("port {} of {master}", text(&link["ifname"])));
            }
        }
        facts
    }

    /// All elements of both tables of the store.
    fn elements(&self) -> Facts {
        let table = kiln::network::Networks::new(&self.root.join("networks")).table().to_owned();
        let mut facts = Facts::new();
        for family in ["inet", "bridge"] {
            let listed = parsed("nft", &["-n", "-j", "list", "table", family, &table]);
            for object in all(&listed["nftables"]) {
                let set = if object["set"].is_object() { &object["set"] } else { &object["map"] };
                let name = text(&set["name"]);
                facts.extend(all(&set["elem"]).map(|element| format!("{name} {}", shown_element(element))));
            }
        }
        facts
    }

    /// The places of running containers in networks, as their states have them.
    fn places(&self) -> Facts {
        let mut facts = Facts::new();
        for (id, state) in &self.running {
            for endpoint in all(&state["endpoints"]) {
                let (v4, v6) = (text(&endpoint["address"]), text(&endpoint["address6"]));
                facts.insert(format!("{id} in {} {v4} {v6}", text(&endpoint["network"])));
            }
        }
        facts
    }

    /// The places that running containers are to have, each with the addresses that it has there.
    fn wished(&self) -> Facts {
        let mut facts = Facts::new();
        for (id, state) in &self.running {
            let config = &state["config"];
            let mut wishes: Vec<_> = all(&config["networks"]).map(|wish| text(&wish["name"])).collect();
            if wishes.is_empty() && config["unconnected"] != true {
                wishes.push("bridge".to_owned());
            }
            for name in wishes {
                let found = all(&state["endpoints"]).find(|endpoint| endpoint["network_name"] == *name);
                let endpoint = found.unwrap_or(&Value::Null);
                let (v4, v6) = (text(&endpoint["address"]), text(&endpoint["address6"]));
                let network = found.map_or(name, |endpoint| text(&endpoint["network"]));
                facts.insert(format!("{id} in {network} {v4} {v6}"));
            }
        }
        facts
    }

    /// Their places as interfaces.
    fn places_inside(&self) -> Facts {
        let mut facts = Facts::new();
        for (id, state) in &self.running {
            for endpoint in all(&state["endpoints"]) {
                for address in [text(&endpoint["address"]), text(&endpoint["address6"])] {
                    if !address.is_empty() {
                        facts.insert(format!("{id} {} {address}", text(&endpoint["interface"])));
                    }
                }
            }
        }
        facts
    }

    /// What the namespaces of running containers have, each once: a namespace of two containers would tell.
    fn inside(&self) -> Facts {
        let mut facts = Facts::new();
        for (id, state) in &self.running {
            let pid = state["process"]["pid"].to_string();
            for link in all(&parsed("nsenter", &["-t", &pid, "-n", "ip", "-j", "addr"])) {
                let name = text(&link["ifname"]);
                for it in all(&link["addr_info"]).filter(|_| name != "lo") {
                    facts.insert(format!("{id} {name} {}/{}", text(&it["local"]), it["prefixlen"]));
                }
            }
        }
        facts
    }

    /// The ports that containers have, without those of loopback: address and port of the host, and who it is.
    fn ports(&self) -> Facts {
        let mut facts = Facts::new();
        for state in self.running.values() {
            let endpoints: Vec<_> = all(&state["endpoints"]).collect();
            let Some(place) = endpoints.first() else { continue };
            for port in all(&state["ports"]) {
                let at: IpAddr = text(&port["address"]).parse().unwrap();
                let to = if at.is_ipv6() { &place["address6"] } else { &place["address"] };
                let to = text(to);
                if at.is_loopback() || to.is_empty() {
                    continue;
                }
                let to: IpAddr = to.split('/').next().unwrap().parse().unwrap();
                let to = std::net::SocketAddr::new(to, number(&port["container"]));
                facts.insert(format!("{} {} to {to}", text(&port["protocol"]), port["host"]));
            }
        }
        facts
    }

    fn bound(&self) -> Facts {
        let all_ports = self.running.values().flat_map(|state| all(&state["ports"]));
        let at = |port: &Value| -> std::net::SocketAddr {
            std::net::SocketAddr::new(text(&port["address"]).parse().unwrap(), number(&port["host"]))
        };
        all_ports.map(|port| format!("{} {}", text(&port["protocol"]), at(port))).collect()
    }

    /// What the monitors listen on.
    fn listeners(&self) -> Facts {
        let mut facts = Facts::new();
        let monitors = self.holders.iter().filter(|(_, name, _)| name == "_monitor");
        let own: BTreeSet<_> = monitors.flat_map(|(pid, ..)| open_files(pid)).collect();
        for (protocol, file) in [("tcp", "tcp"), ("tcp", "tcp6"), ("udp", "udp"), ("udp", "udp6")] {
            for line in fs::read_to_string(format!("/proc/net/{file}")).unwrap().lines().skip(1) {
                let fields: Vec<_> = line.split_whitespace().collect();
                let is_waiting = fields[3] == if protocol == "tcp" { "0A" } else { "07" };
                let socket = PathBuf::from(format!("socket:[{}]", fields[9]));
                if is_waiting && own.contains(&socket) {
                    facts.insert(format!("{protocol} {}", socket_address(fields[1])));
                }
            }
        }
        facts
    }

    /// The processes that look after something.
    fn processes(&self) -> Facts {
        let mut facts = Facts::new();
        for (pid, name, files) in &self.holders {
            let about = files.iter().filter_map(|file| {
                let of = file.parent()?.file_name()?.to_str()?.to_owned();
                let is_lock = matches!(file.file_name()?.to_str()?, "lock" | "resolver.lock");
                (is_lock && of.len() == 64).then_some(of)
            });
            let about: Facts = about.collect();
            let about = about.into_iter().collect::<Vec<_>>().join(" ");
            let line = format!("{name} {about}");
            // A second one is one too many.
            facts.insert(if facts.contains(&line) { format!("{line} again: {pid}") } else { line });
        }
        facts
    }

    fn wanted_processes(&self) -> Facts {
        let monitors = self.running.keys().map(|id| format!("_monitor {id}"));
        // A container asks the resolver of the first of its networks that have names.
        let asked = self.running.values().filter_map(|state| {
            let mut endpoints = all(&state["endpoints"]);
            endpoints.find(|endpoint| endpoint["network_name"] != "bridge")
        });
        let resolvers = asked.map(|endpoint| format!("_resolver {}", text(&endpoint["network"])));
        monitors.chain(resolvers).collect()
    }

    fn cgroups(&self) -> Facts {
        let top = Path::new("/sys/fs/cgroup");
        let roots = names(top).into_iter().map(|name| top.join(name)).chain([top.to_owned()]);
        let found = roots.flat_map(|root| names(&root.join("kiln")));
        found.filter(|name| self.ids.contains(name)).collect()
    }

    fn mounts(&self) -> Facts {
        let root = self.root.display().to_string();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|line| line.contains(&root)).map(str::to_owned).collect()
    }
}

impl Network {
    /// What has no record is no network.
    fn read(folder: &Path) -> Option<Self> {
        let record = json(&folder.join("network.json"))?;
        let mut network =
            Self { record, leases: Vec::new(), stale: Vec::new(), known: Vec::new(), ports: BTreeMap::new() };
        for name in names(&folder.join("addresses")) {
            // It may be given back at this moment.
            let Ok(file) = fs::File::open(folder.join("addresses").join(&name)) else { continue };
            let is_held = flock(&file, FlockOperation::NonBlockingLockShared).is_err();
            let Some(lease) = json(&folder.join("addresses").join(&name)) else { continue };
            assert_eq!(lease["address"], name, "the file is the address");
            let is_reserved = lease["fixed"] == true && Path::new(&text(&lease["home"])).exists();
            match is_held {
                true => network.leases.push(lease),
                false if is_reserved && lease["link"] == "" => {}
                false => network.stale.push(format!("{name} of {}", lease["owner"])),
            }
        }
        for name in names(&folder.join("endpoints")) {
            let known = json(&folder.join("endpoints").join(&name)).unwrap_or_default();
            network.known.push((name.trim_end_matches(".json").to_owned(), text(&known["v4"])));
        }
        for name in names(&folder.join("ports")) {
            let ports = json(&folder.join("ports").join(&name)).unwrap_or_default();
            network.ports.insert(name, all(&ports).cloned().collect());
        }
        Some(network)
    }

    fn id(&self) -> String {
        text(&self.record["id"])
    }

    fn bridge(&self) -> String {
        text(&self.record["bridge"])
    }

    fn is_default(&self) -> bool {
        self.record["name"] == "bridge"
    }

    fn subnet(&self) -> Option<ipnet::Ipv4Net> {
        text(&self.record["subnet"]["net"]).parse().ok()
    }

    /// The default bridge stays after its last container, until a prune.
    fn is_wanted(&self, bridges: &Facts) -> bool {
        !self.is_default() || !self.leases.is_empty() || bridges.contains(&self.bridge())
    }

    fn links(&self) -> Vec<String> {
        let bridge = self.bridge();
        let mut facts = vec![format!("bridge {bridge}")];
        let net = self.subnet().expect("a network has a subnet");
        facts.push(format!("{bridge} route {net}"));
        facts.push(format!("{bridge} {}/{}", text(&self.record["subnet"]["gateway"]), net.prefix_len()));
        if let Ok(net) = text(&self.record["subnet6"]["net"]).parse::<ipnet::Ipv6Net>() {
            facts.push(format!("{bridge} {}/{}", text(&self.record["subnet6"]["gateway"]), net.prefix_len()));
        }
        facts.extend(self.leases.iter().map(|lease| format!("port {} of {bridge}", text(&lease["link"]))));
        facts
    }

    fn elements(&self) -> Vec<String> {
        let bridge = self.bridge();
        let mut facts = vec![
            format!("bridges {bridge}"),
            format!("loops {bridge} . {bridge}"),
            format!("within {bridge} . {bridge} : accept"),
            format!("masked {bridge}"),
        ];
        for (subnet, digit) in [("subnet", 4), ("subnet6", 6)] {
            let gateway = text(&self.record[subnet]["gateway"]);
            if !gateway.is_empty() {
                facts.push(format!("own{digit} {bridge} . {gateway}"));
                facts.push(format!("gateways{digit} {gateway}"));
            }
        }
        for lease in &self.leases {
            let link = text(&lease["link"]);
            let mac: Vec<_> = all(&lease["mac"]).map(|byte| format!("{:02x}", number(byte))).collect();
            let mac = mac.join(":");
            facts.push(format!("ports {link}"));
            facts.push(format!("src4 {link} . {mac} . {}", text(&lease["address"])));
            let v6 = text(&lease["address6"]);
            if !v6.is_empty() {
                facts.push(format!("src6 {link} . {mac} . {v6}"));
                facts.push(format!("addr6 {link} . {v6}"));
            }
        }
        for port in self.ports.values().flatten() {
            let to: std::net::SocketAddr = text(&port["to"]).parse().unwrap();
            let digit = if to.is_ipv6() { 6 } else { 4 };
            let (protocol, host, inner, to) = (&port["protocol"], &port["port"], to.port(), to.ip());
            facts.push(format!("any{digit} {protocol} . {host} : {to} . {inner}"));
            facts.push(format!("open{digit} {to} . {protocol} . {inner}"));
            facts.push(format!("self{digit} {to} . {protocol} . {host}"));
        }
        facts
    }

    /// Who has an address here.
    fn members(&self) -> Vec<String> {
        let prefix =
            |subnet: &str| text(&self.record[subnet]["net"]).rsplit_once('/').map(|(_, it)| it.to_owned());
        let with = |address: &Value, subnet: &str| {
            let prefix = prefix(subnet).filter(|_| address.is_string());
            prefix.map_or_else(String::new, |prefix| format!("{}/{prefix}", text(address)))
        };
        let member = |lease: &Value| {
            let (v4, v6) = (with(&lease["address"], "subnet"), with(&lease["address6"], "subnet6"));
            format!("{} in {} {v4} {v6}", text(&lease["owner"]), self.id())
        };
        self.leases.iter().map(member).collect()
    }

    fn named(&self) -> Vec<String> {
        self.known.iter().map(|(id, address)| format!("{id} {address}")).collect()
    }

    /// Who has to be found by name: all but in the default network.
    fn nameable(&self) -> Vec<String> {
        let known = self.leases.iter().filter(|_| !self.is_default());
        known.map(|lease| format!("{} {}", text(&lease["owner"]), text(&lease["address"]))).collect()
    }

    fn published(&self) -> Vec<String> {
        let protocol = |port: &Value| if port["protocol"] == 6 { "tcp" } else { "udp" };
        let line = |port: &Value| format!("{} {} to {}", protocol(port), port["port"], text(&port["to"]));
        self.ports.values().flatten().map(line).collect()
    }
}

/// Who `network inspect` says is there.
fn shown(kiln: &Kiln, record: &Value) -> Vec<String> {
    let id = text(&record["id"]);
    // It may be removed meanwhile.
    let shown: Value = serde_json::from_str(&kiln.run(&["network", "inspect", &id]).out).unwrap_or_default();
    let Some(members) = shown[0]["Containers"].as_object() else { return Vec::new() };
    let line = |(owner, it): (&String, &Value)| {
        format!("{owner} in {id} {} {}", text(&it["IPv4Address"]), text(&it["IPv6Address"]))
    };
    members.iter().map(line).collect()
}

/// Processes that have a file of the store open, or its path on their command line.
fn holders(root: &Path) -> Vec<(String, String, Vec<PathBuf>)> {
    let mut found = Vec::new();
    let me = std::process::id().to_string();
    for pid in names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
        let files: Vec<_> = open_files(&pid).into_iter().filter(|file| file.starts_with(root)).collect();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if pid != me && (!files.is_empty() || line.contains(root.to_str().unwrap())) {
            let name = line.split_whitespace().nth(1).unwrap_or("ending").to_owned();
            found.push((pid, name, files));
        }
    }
    found
}

fn open_files(pid: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// `0100007F:1F90` and its longer sister, as the kernel writes them on a little-endian machine.
fn socket_address(text: &str) -> std::net::SocketAddr {
    let (address, port) = text.split_once(':').unwrap();
    let word =
        |digits: &[u8]| u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap().to_ne_bytes();
    let bytes: Vec<u8> = address.as_bytes().chunks(8).flat_map(word).collect();
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).unwrap())),
    };
    std::net::SocketAddr::new(address, u16::from_str_radix(port, 16).unwrap())
}

/// `"eth0"`, `{"concat": [...]}`, or a pair of them.
fn shown_element(element: &Value) -> String {
    let simple = |value: &Value| match value {
        Value::Object(map) if map.contains_key("concat") => {
            let parts =
                all(&value["concat"]).map(|part| part.as_str().map_or(part.to_string(), str::to_owned));
            parts.collect::<Vec<_>>().join(" . ")
        }
        Value::Object(map) => map.keys().next().unwrap().clone(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match element {
        Value::Array(pair) => pair.iter().map(simple).collect::<Vec<_>>().join(" : "),
        one => simple(one),
    }
}

fn printed(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What a program prints as JSON; nothing when what it is asked for is gone.
fn parsed(program: &str, words: &[&str]) -> Value {
    serde_json::from_str(&printed(program, words)).unwrap_or_default()
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn all(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap()).unwrap()
}
