//! Networks of the user's own, from the command line to the kernel.

use std::process::Command;

use crate::support::binary::{Kiln, run};
use crate::support::needs_root;

fn kiln(name: &str) -> Option<Kiln> {
    needs_root(name).then(Kiln::busybox)
}

/// Runs a command that has to succeed, and gives what it prints without the last newline.
fn ok(kiln: &Kiln, args: &[&str]) -> String {
    kiln.ok(args).trim_end().to_owned()
}

/// Runs a command that has to fail, and gives what it says.
fn refusal(kiln: &Kiln, args: &[&str]) -> String {
    let output = kiln.run(args);
    assert_ne!(output.code, 0, "{args:?}");
    output.error
}

/// Keeps a container running.
fn start(kiln: &Kiln, options: &[&str]) {
    ok(kiln, &[&["run", "-d"], options, &["busybox", "sleep", "1000"]].concat());
}

/// A subnet that no other test has: tests of one process go round in a range that nothing else here uses.
fn subnet() -> (String, impl Fn(u8) -> String) {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let second = 200 + u8::try_from(std::process::id() % 50).unwrap();
    (format!("10.{second}.{number}.0/24"), move |host| format!("10.{second}.{number}.{host}"))
}

fn inspected(kiln: &Kiln, container: &str, format: &str) -> String {
    ok(kiln, &["inspect", "-f", format, container])
}

#[test]
fn a_network_is_made_listed_looked_at_and_removed() {
    let Some(kiln) = kiln("a_network_is_made_listed_looked_at_and_removed") else { return };
    let (net, at) = subnet();
    let (gateway, aux) = (at(254), format!("router={}", at(9)));
    let args = ["network", "create", "--subnet", &net, "--gateway", &gateway, "--aux-address", &aux];
    let id = ok(&kiln, &[&args[..], &["--label", "stage=test", "-o", "mtu=1400", "front"]].concat());
    assert_eq!(id.len(), 64);
    let names = ok(&kiln, &["network", "ls", "--format", "{{.Name}}:{{.Driver}}"]);
    assert_eq!(names, "bridge:bridge\nfront:bridge\nhost:host\nnone:null");
    for (filter, expected) in [
        ("name=fro", "front"),
        ("label=stage=test", "front"),
        ("dangling=true", "front"),
        ("type=custom", "front"),
        ("driver=null", "none"),
        ("scope=swarm", ""),
    ] {
        assert_eq!(
            ok(&kiln, &["network", "ls", "-f", filter, "--format", "{{.Name}}"]),
            expected,
            "{filter}"
        );
    }
    assert_eq!(ok(&kiln, &["network", "ls", "-q", "--no-trunc", "-f", "name=front"]), id);
    let format = "{{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}} {{.Labels.stage}} {{.Options.mtu}}";
    let shown = ok(&kiln, &["network", "inspect", "-f", format, &id[..8]]);
    assert_eq!(shown, format!("{net} {gateway} test 1400"));
    assert_eq!(ok(&kiln, &["network", "rm", "front"]), "front");
    assert!(refusal(&kiln, &["network", "inspect", "front"]).contains("no such network: front"));
    assert!(refusal(&kiln, &["network", "rm", "bridge"]).contains("can't be removed"));
}

#[test]
fn bad_wishes_for_a_network_are_named() {
    let Some(kiln) = kiln("bad_wishes_for_a_network_are_named") else { return };
    let (net, at) = subnet();
    ok(&kiln, &["network", "create", "--subnet", &net, "one"]);
    let half = format!("{}/25", at(128));
    let (outside, _) = subnet();
    let other = outside.replace(".0/24", ".1");
    let networks = kiln::network::Networks::new(&kiln.root().join("networks"));
    let bridge = networks.bridge();
    for (args, told) in [
        (&["--subnet", &half, "x"][..], format!("subnet {half} overlaps network one ({net})")),
        (
            &["--subnet", &outside, "--gateway", &at(1), "x"],
            format!("the gateway {} is not in the subnet {outside}", at(1)),
        ),
        (
            &["--subnet", &outside, "--ip-range", &half, "x"],
            format!("the range {half} is not in the subnet {outside}"),
        ),
        (
            &["--subnet", &outside, "--aux-address", "a=1.2.3.4", "x"],
            "the address 1.2.3.4 of a is not in".to_owned(),
        ),
        (&["--subnet", &outside.replace("/24", "/31"), "x"], "has no room".to_owned()),
        (&["--subnet", &outside.replace("/24", "/32"), "x"], "has no room".to_owned()),
        (&["--subnet", &format!("{other}/24"), "x"], format!("it should be {outside}")),
        (&["--subnet", &half, "x"], "hint: choose another subnet, or none".to_owned()),
        (&["--subnet", &outside, "--gateway", &at(1), "x"], format!("hint: choose one in {outside}")),
        (&["--opt", &format!("name={bridge}"), "x"], format!("`{bridge}` is the bridge of network bridge")),
        (&["one"], "hint: choose another name".to_owned()),
        (&["--gateway", "1.2.3.4", "x"], "needs a --subnet".to_owned()),
        (&["--opt", "colour=red", "x"], "unknown network option `colour`".to_owned()),
        (&["--opt", "icc=perhaps", "x"], "it must be true or false".to_owned()),
        (&["--opt", "mtu=1", "x"], "it must be a number from 68 to 65535".to_owned()),
        (&["--driver", "overlay", "x"], "no networks of the driver `overlay`".to_owned()),
        (&["one"], "a network with the name one exists already".to_owned()),
        (&["host"], "a network with the name host exists already".to_owned()),
        (&["a/b"], "invalid network name `a/b`".to_owned()),
    ] {
        let text = refusal(&kiln, &[&["network", "create"], args].concat());
        assert!(text.contains(&told) && text.contains("hint: "), "{args:?}: {text}");
    }
    // The way to the machine's own network is a route of the host.
    let routes =
        std::process::Command::new("ip").args(["-4", "route", "show", "scope", "link"]).output().unwrap();
    let routes = String::from_utf8(routes.stdout).unwrap();
    if let Some(route) = routes.split_whitespace().next() {
        let text = refusal(&kiln, &["network", "create", "--subnet", route, "x"]);
        assert!(text.contains("overlaps the host's route") || text.contains("overlaps network"), "{text}");
    }
    assert!(
        refusal(&kiln, &["run", "--network", "nothing", "busybox", "true"])
            .contains("no such network: nothing")
    );
    let text = refusal(&kiln, &["run", "--ip", "172.17.0.9", "busybox", "true"]);
    assert!(text.contains("networks of your own only"), "{text}");
    let text = refusal(&kiln, &["run", "--network", "one", "--ip", "1.2.3.4", "busybox", "true"]);
    assert!(
        text.contains(&format!("the address 1.2.3.4 is not in the subnet {net} of network one")),
        "{text}"
    );
    let text = refusal(&kiln, &["run", "--network", "one", "--ip", &at(1), "busybox", "true"]);
    assert!(
        text.contains("is the gateway of network one") && text.contains("hint: choose another"),
        "{text}"
    );
    for bad in ["a b", "", "a..b"] {
        let words = ["create", "--network", "one", "--network-alias", bad, "busybox", "true"];
        let text = refusal(&kiln, &words);
        assert!(text.contains(&format!("invalid alias `{bad}`")) && text.contains("hint: "), "{text}");
    }
}

#[test]
fn odd_wishes_for_a_network_are_named_with_a_way_out() {
    let Some(kiln) = kiln("odd_wishes_for_a_network_are_named_with_a_way_out") else { return };
    let (net, at) = subnet();
    let [first, gateway, two, last] = [0, 1, 2, 255].map(&at);
    let aux = |name: &str, at: &str| format!("{name}={at}");
    for (args, told) in [
        (&[""][..], "invalid network name ``".to_owned()),
        (&["--driver", "macvlan", "x"], "no networks of the driver `macvlan`".to_owned()),
        (&["--driver", "null", "x"], "one network of the driver `null`".to_owned()),
        (
            &["--subnet", "0.0.0.0/0", "x"],
            "no container can have an address of the subnet 0.0.0.0/0".to_owned(),
        ),
        (&["--subnet", "224.0.1.0/24", "x"], "those are groups".to_owned()),
        (&["--subnet", "127.9.0.0/16", "x"], "each machine's own".to_owned()),
        (&["--subnet", "255.255.255.0/24", "x"], "that mean no machine".to_owned()),
        (&["--subnet", "ff05::/64", "x"], "those are groups".to_owned()),
        (&["--subnet", "fe80:0:0:9::/64", "x"], "each link has those already".to_owned()),
        (&["--subnet", "::ffff:10.9.0.0/120", "x"], "those are IPv4 addresses".to_owned()),
        (&["--subnet", "fd09::/127", "x"], "has no room".to_owned()),
        (&["--subnet", "fd09::/64", "--gateway", "fd09::", "x"], "can't be the first address".to_owned()),
        (&["--subnet", "fd09::/64", "--gateway", "10.9.0.1", "x"], "10.9.0.1 needs a --subnet".to_owned()),
        (&["--subnet", &net, "--gateway", &first, "x"], "can't be the first or last address".to_owned()),
        (&["--subnet", &net, "--gateway", &last, "x"], "can't be the first or last address".to_owned()),
        (
            &["--subnet", &net, "--aux-address", &aux("a", &gateway), "x"],
            format!("the address {gateway} of a is the gateway's"),
        ),
        (
            &["--subnet", &net, "--aux-address", &aux("a", &two), "--aux-address", &aux("b", &two), "x"],
            format!("the address {two} of b is another one's too"),
        ),
        (&["--opt", "name=..", "x"], "`..` can't be the name of a bridge".to_owned()),
        (&["--opt", "name=a%d", "x"], "`a%d` can't be the name of a bridge".to_owned()),
        (&["--opt", "name=lo", "x"], "the host has a link `lo` already".to_owned()),
        (
            &["--subnet", &net, "--aux-address", &aux("a", &two), "--aux-address", &aux("a", &last), "x"],
            "the aux address a is given twice".to_owned(),
        ),
    ] {
        let text = refusal(&kiln, &[&["network", "create"], args].concat());
        assert!(text.contains(&told) && text.contains("hint: "), "{args:?}: {text}");
    }
}

#[test]
fn an_address_that_was_asked_for_is_kept_for_its_container_and_refused_to_others() {
    let name = "an_address_that_was_asked_for_is_kept_for_its_container_and_refused_to_others";
    let Some(kiln) = kiln(name) else { return };
    let (net, at) = subnet();
    ok(&kiln, &["network", "create", "--subnet", &net, "one"]);
    let mac = "02:42:01:02:03:04";
    start(&kiln, &["--name", "db", "--network", "one", "--ip", &at(13), "--mac-address", mac]);
    let format = "{{.NetworkSettings.Networks.one.IPAddress}} {{.NetworkSettings.Networks.one.MacAddress}}";
    assert_eq!(inspected(&kiln, "db", format), format!("{} {mac}", at(13)));
    let link = ok(&kiln, &["exec", "db", "busybox", "ip", "addr", "show", "eth0"]);
    assert!(link.contains(&at(13)) && link.contains(mac), "{link}");
    let text = refusal(&kiln, &["run", "--rm", "--network", "one", "--ip", &at(13), "busybox", "true"]);
    assert!(text.contains(&format!("the address {} of network one is in use by db", at(13))), "{text}");
    let text = refusal(&kiln, &["network", "rm", "one"]);
    assert!(text.contains("network one is in use by db"), "{text}");
    ok(&kiln, &["stop", "-t", "0", "db"]);
    let text = refusal(&kiln, &["run", "--rm", "--network", "one", "--ip", &at(13), "busybox", "true"]);
    assert!(text.contains("is in use"), "{text}");
    ok(&kiln, &["start", "db"]);
    assert_eq!(inspected(&kiln, "db", "{{.NetworkSettings.Networks.one.IPAddress}}"), at(13));
    ok(&kiln, &["rm", "-f", "db"]);
    ok(&kiln, &["run", "--rm", "--network", "one", "--ip", &at(13), "busybox", "true"]);
    ok(&kiln, &["network", "rm", "one"]);
}

#[test]
fn a_container_in_two_networks_reaches_both_and_others_only_their_own() {
    let Some(kiln) = kiln("a_container_in_two_networks_reaches_both_and_others_only_their_own") else {
        return;
    };
    ok(&kiln, &["network", "create", "front"]);
    ok(&kiln, &["network", "create", "back"]);
    start(&kiln, &["--name", "web", "--network", "front", "--network", "name=back,alias=other"]);
    start(&kiln, &["--name", "db", "--network", "back"]);
    start(&kiln, &["--name", "client", "--network", "front"]);
    let address = |container: &str, network: &str| {
        inspected(&kiln, container, &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"))
    };
    let pings = |from: &str, to: &str| {
        kiln.run(&["exec", from, "busybox", "ping", "-c", "1", "-W", "2", to]).code == 0
    };
    assert!(pings("web", &address("db", "back")) && pings("web", &address("client", "front")));
    assert!(pings("client", &address("web", "front")));
    assert!(!pings("client", &address("db", "back")), "networks don't reach each other");
    let gateway = inspected(&kiln, "db", "{{.NetworkSettings.Networks.back.Gateway}}");
    assert!(pings("db", &gateway) && !pings("client", &gateway), "another network's gateway is closed");
    let members = ok(&kiln, &["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "back"]);
    assert!(members.contains("web") && members.contains("db") && !members.contains("client"), "{members}");
    assert_eq!(ok(&kiln, &["ps", "--format", "{{.Networks}}", "-f", "name=web"]), "back,front");
    assert_eq!(
        ok(&kiln, &["ps", "--format", "{{.Names}}", "-f", "network=front", "-f", "name=client"]),
        "client"
    );
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    let Some(kiln) = kiln("a_running_container_is_connected_and_disconnected") else { return };
    let (net, at) = subnet();
    ok(&kiln, &["network", "create", "--subnet", &net, "one"]);
    start(&kiln, &["--name", "box"]);
    start(&kiln, &["--name", "db", "--network", "one", "--ip", &at(20)]);
    let pings = |to: &str| kiln.run(&["exec", "box", "busybox", "ping", "-c", "1", "-W", "2", to]).code == 0;
    assert!(!pings(&at(20)));
    ok(&kiln, &["network", "connect", "--ip", &at(30), "--alias", "b", "one", "box"]);
    assert!(ok(&kiln, &["exec", "box", "busybox", "ip", "addr", "show", "eth1"]).contains(&at(30)));
    assert!(pings(&at(20)));
    let routes = || ok(&kiln, &["exec", "box", "busybox", "ip", "route"]);
    assert!(routes().contains("default via") && routes().contains("dev eth0"), "{}", routes());
    let text = refusal(&kiln, &["network", "connect", "one", "box"]);
    assert!(text.contains("container box is connected to network one already"), "{text}");
    assert!(text.contains("`kiln network disconnect one box`"), "{text}");
    let text = refusal(&kiln, &["network", "connect", "host", "box"]);
    assert!(text.contains("the network `host` from its creation on") && text.contains("hint: "), "{text}");
    ok(&kiln, &["network", "disconnect", "bridge", "box"]);
    assert!(!kiln.run(&["exec", "box", "busybox", "ip", "link", "show", "eth0"]).error.is_empty());
    assert!(routes().contains(&format!("default via {}", at(1))), "{}", routes());
    ok(&kiln, &["restart", "-t", "0", "box"]);
    assert!(pings(&at(20)), "a restart keeps it");
    ok(&kiln, &["network", "disconnect", "one", "box"]);
    assert!(!pings(&at(20)));
    let text = refusal(&kiln, &["network", "disconnect", "one", "box"]);
    assert!(text.contains("container box is not connected to network one"), "{text}");
    assert!(text.contains("`kiln inspect box` shows its networks"), "{text}");
    ok(&kiln, &["stop", "-t", "0", "box"]);
    ok(&kiln, &["network", "connect", "one", "box"]);
    ok(&kiln, &["start", "box"]);
    assert!(pings(&at(20)), "a stopped one is connected at its start");
    start(&kiln, &["--name", "alone", "--network", "none"]);
    let text = refusal(&kiln, &["network", "connect", "one", "alone"]);
    assert!(text.contains("container alone has the network `none`"), "{text}");
}

#[test]
fn a_container_can_be_taken_out_of_a_network_that_is_gone_or_was_made_again() {
    let name = "a_container_can_be_taken_out_of_a_network_that_is_gone_or_was_made_again";
    let Some(kiln) = kiln(name) else { return };
    let (net, at) = subnet();
    ok(&kiln, &["network", "create", "--subnet", &net, "one"]);
    ok(&kiln, &["create", "--name", "box", "--network", "one", "--ip", &at(9), "busybox", "sleep", "1000"]);
    ok(&kiln, &["network", "rm", "one"]);
    let text = refusal(&kiln, &["start", "box"]);
    assert!(text.contains("network one is gone") && text.contains("`kiln network disconnect one "), "{text}");
    let (other, _) = subnet();
    ok(&kiln, &["network", "create", "--subnet", &other, "one"]);
    let text = refusal(&kiln, &["start", "box"]);
    assert!(text.contains(&format!("the address {} is not in the subnet {other}", at(9))), "{text}");
    assert!(
        refusal(&kiln, &["network", "connect", "one", "box"]).contains("connected to network one already")
    );
    ok(&kiln, &["network", "disconnect", "one", "box"]);
    ok(&kiln, &["network", "connect", "one", "box"]);
    ok(&kiln, &["network", "rm", "one"]);
    ok(&kiln, &["network", "disconnect", "one", "box"]);
    ok(&kiln, &["start", "box"]);
    assert_eq!(inspected(&kiln, "box", "{{json .NetworkSettings.Networks}}"), "{}");
    let text = refusal(&kiln, &["network", "disconnect", "one", "box"]);
    assert!(text.contains("no such network: one"), "{text}");
}

#[test]
fn an_internal_network_has_no_way_out_and_icc_false_none_to_each_other() {
    let Some(kiln) = kiln("an_internal_network_has_no_way_out_and_icc_false_none_to_each_other") else {
        return;
    };
    ok(&kiln, &["network", "create", "--internal", "closed"]);
    start(&kiln, &["--name", "in", "--network", "closed"]);
    start(&kiln, &["--name", "other", "--network", "closed"]);
    assert!(!ok(&kiln, &["exec", "in", "busybox", "ip", "route"]).contains("default"));
    let address = |container: &str, network: &str| {
        inspected(&kiln, container, &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"))
    };
    let pings = |from: &str, to: &str| {
        kiln.run(&["exec", from, "busybox", "ping", "-c", "1", "-W", "2", to]).code == 0
    };
    assert!(pings("in", &address("other", "closed")));
    // The second network has the first one's addresses, and the kernel still knows their connection.
    let (_, at) = subnet();
    // Larger than the subnets of the other tests, and past them.
    let wide = format!("{}.240.0/20", at(0).split('.').take(2).collect::<Vec<_>>().join("."));
    for icc in [true, false] {
        let option = format!("com.docker.network.bridge.enable_icc={icc}");
        ok(&kiln, &["network", "create", "--subnet", &wide, "-o", &option, "net"]);
        start(&kiln, &["--name", "left", "--network", "net"]);
        start(&kiln, &["--name", "right", "--network", "net"]);
        assert_eq!(pings("left", &address("right", "net")), icc);
        ok(&kiln, &["rm", "-f", "left", "right"]);
        ok(&kiln, &["network", "rm", "net"]);
    }
}

#[test]
fn ipv6_addresses_come_beside_the_others() {
    let Some(kiln) = kiln("ipv6_addresses_come_beside_the_others") else { return };
    ok(&kiln, &["network", "create", "--ipv6", "six"]);
    start(&kiln, &["--name", "one", "--network", "six"]);
    start(&kiln, &["--name", "two", "--network", "six"]);
    let address = |name| inspected(&kiln, name, "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}");
    let gateway = inspected(&kiln, "one", "{{.NetworkSettings.Networks.six.IPv6Gateway}}");
    for to in [address("two"), gateway] {
        let ping = kiln.run(&["exec", "one", "busybox", "ping", "-6", "-c", "1", "-W", "3", &to]);
        assert_eq!(ping.code, 0, "{to}: {}", ping.error);
    }
}

#[test]
fn unused_networks_are_pruned_by_their_labels() {
    let Some(kiln) = kiln("unused_networks_are_pruned_by_their_labels") else { return };
    ok(&kiln, &["network", "create", "--label", "old", "gone"]);
    ok(&kiln, &["network", "create", "kept"]);
    ok(&kiln, &["network", "create", "--label", "old", "used"]);
    ok(&kiln, &["create", "--name", "box", "--network", "used", "busybox", "true"]);
    let pruned = ok(&kiln, &["network", "prune", "-f", "--filter", "label=old"]);
    assert_eq!(pruned, "Deleted Networks:\ngone");
    let names = ok(&kiln, &["network", "ls", "-f", "type=custom", "--format", "{{.Name}}"]);
    assert_eq!(names, "kept\nused");
    let events = ok(
        &kiln,
        &["events", "--since", "1h", "--until", "0s", "--filter", "type=network", "--format", "{{.Action}}"],
    );
    assert_eq!(events, "create\ncreate\ncreate\ndestroy");
}

#[test]
fn a_container_cannot_speak_for_another_one() {
    let Some(kiln) = kiln("a_container_cannot_speak_for_another_one") else { return };
    let (net, at) = subnet();
    ok(&kiln, &["network", "create", "--subnet", &net, "one"]);
    start(&kiln, &["--name", "victim", "--network", "one", "--ip", &at(10)]);
    start(&kiln, &["--name", "client", "--network", "one", "--ip", &at(11)]);
    start(&kiln, &["--name", "thief", "--network", "one", "--ip", &at(12), "--cap-add", "NET_ADMIN"]);
    let runs = |container: &str, script: &str| kiln.run(&["exec", container, "sh", "-c", script]).code == 0;
    let neighbour = || ok(&kiln, &["exec", "client", "busybox", "ip", "neigh", "show", &at(10)]);
    let pings = format!("busybox ping -c 1 -W 2 {}", at(10));
    assert!(runs("client", &pings));
    let known = neighbour();
    // Its own address passes, with another one it is heard by nobody.
    assert!(runs("thief", &format!("busybox ping -c 1 -W 2 {}", at(11))));
    assert!(runs("thief", &format!("busybox ip addr add {}/24 dev eth0", at(10))));
    assert!(!runs("thief", &format!("busybox ping -c 1 -W 2 -I {} {}", at(10), at(11))), "a stolen source");
    let _ = runs("thief", &format!("busybox arping -U -c 3 -I eth0 -s {} {}", at(10), at(11)));
    let mac =
        |line: &str| line.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).map(str::to_owned);
    assert_eq!(mac(&neighbour()), mac(&known), "the neighbour is who it was");
    assert!(runs("client", &pings));
    // Another MAC is no one's either.
    let mac = "busybox ip link set eth0 down; busybox ip link set eth0 address 02:00:00:00:00:99; busybox ip link set eth0 up";
    assert!(runs("thief", mac));
    assert!(!runs("thief", &format!("busybox ping -c 1 -W 2 {}", at(11))), "a stolen MAC");
    // What listens on the machine's loopback is not reached from a bridge.
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet").unwrap();
    assert_eq!(setting.trim(), "0");
}

/// What the kernel has of a store's networks: addresses in the guards' set of the store's table.
fn guarded(kiln: &Kiln) -> String {
    let table = kiln::network::Networks::new(&kiln.root().join("networks")).table().to_owned();
    let words = ["list", "set", "bridge", &table, "src4"];
    let list = std::process::Command::new("nft").args(words).output().unwrap();
    String::from_utf8(list.stdout).unwrap()
}

#[test]
fn a_killed_monitor_leaves_nothing_past_the_next_command() {
    let Some(kiln) = kiln("a_killed_monitor_leaves_nothing_past_the_next_command") else { return };
    let (net, at) = subnet();
    ok(&kiln, &["network", "create", "--subnet", &net, "one"]);
    start(&kiln, &["--name", "box", "--network", "one"]);
    let address = inspected(&kiln, "box", "{{.NetworkSettings.Networks.one.IPAddress}}");
    assert_eq!(address, at(2));
    assert!(guarded(&kiln).contains(&address), "{}", guarded(&kiln));
    let program: i32 = inspected(&kiln, "box", "{{.State.Pid}}").parse().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{program}/status")).unwrap();
    let monitor = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    std::process::Command::new("kill").args(["-9", &monitor]).status().unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        ok(&kiln, &["network", "ls"]);
        ok(&kiln, &["ps", "-a"]);
        let members = ok(&kiln, &["network", "inspect", "-f", "{{len .Containers}}", "one"]);
        if members == "0" && !guarded(&kiln).contains(&address) {
            break;
        }
        assert!(std::time::Instant::now() < end, "{members} {}", guarded(&kiln));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    ok(&kiln, &["rm", "box"]);
    ok(&kiln, &["network", "rm", "one"]);
}

#[test]
fn steps_of_a_build_reach_a_container_by_its_name() {
    let Some(kiln) = kiln("steps_of_a_build_reach_a_container_by_its_name") else { return };
    ok(&kiln, &["network", "create", "services"]);
    let server = "echo hello > /tmp/index.html; exec busybox httpd -f -p 80 -h /tmp";
    let words = [
        "run",
        "-d",
        "--name",
        "db",
        "--network",
        "name=services,alias=store",
        "busybox",
        "sh",
        "-c",
        server,
    ];
    ok(&kiln, &words);
    let context = tempfile::tempdir().unwrap();
    let step = "RUN for i in 1 2 3 4 5 6 7 8 9; do busybox wget -q -O /got http://store/ && break; sleep 1; done; \\\n  grep hello /got && busybox ping -c 1 -W 5 db\n";
    std::fs::write(context.path().join("Dockerfile"), format!("FROM busybox\n{step}")).unwrap();
    let path = context.path().to_str().unwrap();
    kiln.run(&["build", "--network", "services", path]).ok();
    let text = refusal(&kiln, &["build", "--network", "nothing", path]);
    assert!(text.contains("no such network: nothing"), "{text}");
}

#[test]
fn tools_find_the_bridge_the_endpoint_and_the_namespace_of_a_container() {
    let Some(kiln) = kiln("tools_find_the_bridge_the_endpoint_and_the_namespace_of_a_container") else {
        return;
    };
    start(&kiln, &["--name", "box"]);
    let endpoint = inspected(&kiln, "box", "{{.NetworkSettings.Networks.bridge.EndpointID}}");
    assert_eq!(endpoint.len(), 64);
    assert_eq!(inspected(&kiln, "box", "{{.NetworkSettings.EndpointID}}"), endpoint);
    let format = "{{range .Containers}}{{.EndpointID}}{{end}}";
    assert_eq!(ok(&kiln, &["network", "inspect", "-f", format, "bridge"]), endpoint);
    let format = "{{index .Options \"com.docker.network.bridge.name\"}}";
    let bridge = ok(&kiln, &["network", "inspect", "-f", format, "bridge"]);
    assert!(std::path::Path::new("/sys/class/net").join(&bridge).exists(), "{bridge}");
    let namespace = inspected(&kiln, "box", "{{.NetworkSettings.SandboxKey}}");
    let enter = [&format!("--net={namespace}"), "busybox", "ip", "addr", "show", "eth0"];
    let looked = std::process::Command::new("nsenter").args(enter).output();
    let links = String::from_utf8(looked.unwrap().stdout).unwrap();
    assert!(links.contains(&inspected(&kiln, "box", "{{.NetworkSettings.IPAddress}}")), "{links}");
    ok(&kiln, &["stop", "-t", "0", "box"]);
    let gone = "{{.NetworkSettings.SandboxKey}}{{.NetworkSettings.EndpointID}}";
    assert_eq!(inspected(&kiln, "box", gone), "");
}

#[test]
fn neighbours_are_not_paced_unless_a_congestion_control_is_chosen() {
    let name = "neighbours_are_not_paced_unless_a_congestion_control_is_chosen";
    let Some(kiln) = kiln(name) else { return };
    // A kernel without it keeps its own routes.
    let choices = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    let has_cubic = choices.contains("cubic");
    let (net, at) = subnet();
    ok(&kiln, &["network", "create", "--subnet", &net, "--ipv6", "front"]);
    start(&kiln, &["--name", "box", "--network", "front"]);
    let chosen = "net.ipv4.tcp_congestion_control=reno";
    start(&kiln, &["--name", "own", "--network", "front", "--sysctl", chosen]);
    let routes = |container: Option<&str>, family: &str| {
        let namespace = match container {
            Some(container) => inspected(&kiln, container, "{{.NetworkSettings.SandboxKey}}"),
            None => "/proc/self/ns/net".to_owned(),
        };
        let enter = [&format!("--net={namespace}"), "ip", family, "route"];
        let output = Command::new("nsenter").args(enter).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let connected = |routes: &str, start: &str| {
        routes.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect::<Vec<_>>()
    };
    for (container, family, start) in
        [(Some("box"), "-4", net.as_str()), (Some("box"), "-6", "fd"), (None, "-4", net.as_str())]
    {
        let routes = routes(container, family);
        let [route] = &connected(&routes, start)[..] else { panic!("{routes}") };
        assert_eq!(route.contains("congctl cubic"), has_cubic, "{route}");
        assert!(route.contains("proto kernel"), "{route}");
        assert!(
            !routes.lines().any(|line| line.starts_with("default") && line.contains("congctl")),
            "{routes}"
        );
    }
    assert!(routes(None, "-4").contains(&format!("src {}", at(1))));
    assert!(!routes(Some("own"), "-4").contains("congctl"));
    assert!(!routes(Some("own"), "-6").contains("congctl"));
}

#[test]
fn a_container_whose_network_fails_at_the_last_moment_keeps_the_reason_and_no_address() {
    let name = "a_container_whose_network_fails_at_the_last_moment_keeps_the_reason_and_no_address";
    let Some(kiln) = kiln(name) else { return };
    let (net, at) = subnet();
    let (bridge, peer) = (format!("kb{:x}", std::process::id()), format!("kp{:x}", std::process::id()));
    let option = format!("com.docker.network.bridge.name={bridge}");
    ok(&kiln, &["network", "create", "--subnet", &net, "-o", &option, "front"]);
    let machine = |args: &[&str]| run(Command::new("ip").args(args)).ok();
    // In the bridge's place there is now a link that has no ports.
    machine(&["link", "del", &bridge]);
    machine(&["link", "add", &bridge, "type", "veth", "peer", "name", &peer]);
    machine(&["link", "set", &bridge, "up"]);
    let address = at(7);
    let wanted = ["--network", "front", "--ip", &address];
    let told = format!("cannot add a veth pair for bridge `{bridge}`");
    for options in [&["run", "--name", "kept"][..], &["run", "-d", "--rm"], &["run", "--rm"]] {
        let refused = kiln.run(&[options, &wanted, &["busybox", "echo", "it runs"]].concat());
        assert_eq!(refused.code, 125, "{refused}");
        assert!(refused.error.contains(&told) && !refused.out.contains("it runs"), "{refused}");
        // It would be reserved for the one that is kept.
        kiln.run(&["rm", "kept"]);
    }
    let refused = kiln.run(&[&["run", "--name", "kept"][..], &wanted, &["busybox", "true"]].concat());
    assert!(refused.error.contains(&told), "{refused}");
    let state = inspected(&kiln, "kept", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}");
    assert!(state.starts_with(&format!("created 125 {told}: ")), "{state}");
    machine(&["link", "del", &bridge]);
    assert_eq!(ok(&kiln, &["start", "kept"]), "kept");
    assert_eq!(ok(&kiln, &["wait", "kept"]), "0");
}
