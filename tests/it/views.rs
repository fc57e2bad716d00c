//! `kiln ps`, `inspect`, `port` and `prune` of containers.

use serde_json::Value;

use crate::support::binary::Kiln;
use crate::support::needs_root;

/// The names that `ps` lists with `filters`, in its order.
fn names(kiln: &Kiln, filters: &[&str]) -> String {
    let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
    let words: Vec<&str> = ["ps", "-a", "--format", "{{.Names}}"].into_iter().chain(filters).collect();
    kiln.ok(&words).lines().collect::<Vec<_>>().join(" ")
}

fn inspected(kiln: &Kiln, words: &[&str]) -> Value {
    let words: Vec<&str> = ["inspect"].into_iter().chain(words.iter().copied()).collect();
    let all: Value = serde_json::from_str(&kiln.ok(&words)).unwrap();
    all[0].clone()
}

#[test]
fn filters_choose_containers_as_dockers_do() {
    if !needs_root("filters_choose_containers_as_dockers_do") {
        return;
    }
    let kiln = Kiln::busybox();
    let run = |words: &[&str]| {
        let words: Vec<&str> = ["run", "--network", "none", "--name"].iter().chain(words).copied().collect();
        kiln.run(&words)
    };
    run(&["web-1", "-d", "-l", "tier=front", "-v", "data:/data", "busybox", "sleep", "1000"]).ok();
    assert_eq!(run(&["web-2", "busybox", "sh", "-c", "exit 3"]).code, 3);
    kiln.ok(&["create", "--name", "db", "-l", "tier=back", "busybox", "true"]);
    for (filters, expected) in [
        (&["name=web"][..], "web-2 web-1"),
        (&["name=^/web-[2-9]$"], "web-2"),
        (&["name=web-1|db"], "db web-1"),
        (&["status=running"], "web-1"),
        (&["status=created", "status=exited"], "db web-2"),
        (&["exited=3"], "web-2"),
        (&["exited=0"], ""),
        (&["label=tier"], "db web-1"),
        (&["label=tier=front"], "web-1"),
        (&["volume=data"], "web-1"),
        (&["volume=/data"], "web-1"),
        (&["health=none", "name=db"], "db"),
        (&["health=healthy"], ""),
        (&["network=none"], "web-2 web-1"),
        (&["ancestor=busybox"], "db web-2 web-1"),
        (&["ancestor=busybox:9"], ""),
        (&["before=db"], "web-2 web-1"),
        (&["since=web-2"], "db"),
        (&["publish=80"], ""),
        (&["is-task=true"], ""),
    ] {
        assert_eq!(names(&kiln, filters), expected, "{filters:?}");
    }
    kiln.run(&["ps", "--filter", "colour=red"]).fails_with(&["unknown filter `colour`"]);
    for bad in ["status=up", "health=fine", "name=(", "expose=x", "exited=x", "before=nobody"] {
        let word = bad.split('=').next_back().unwrap();
        kiln.run(&["ps", "--filter", bad]).fails_with(&[word]);
    }
    assert_eq!(kiln.ok(&["ps", "-n", "1", "--format", "{{.Names}} {{.State}}"]), "db created\n");
    assert_eq!(kiln.ok(&["ps", "-l", "--format", "{{.Status}}"]), "Created\n");
    let status = kiln.ok(&["ps", "-a", "-f", "name=web-2", "--format", "{{.Status}}"]);
    assert!(status.starts_with("Exited (3) ") && status.ends_with(" ago\n"), "{status}");
}

#[test]
fn sizes_are_what_a_container_wrote_and_stands_on() {
    if !needs_root("sizes_are_what_a_container_wrote_and_stands_on") {
        return;
    }
    let kiln = Kiln::busybox();
    let write = "dd if=/dev/zero of=/file bs=1000 count=5; ln /file /link";
    kiln.ok(&["run", "--network", "none", "--name", "box", "busybox", "sh", "-c", write]);
    let image: u64 = kiln.ok(&["image", "inspect", "-f", "{{.Size}}", "busybox"]).trim().parse().unwrap();
    let shown = kiln.ok(&["ps", "-a", "-s", "--format", "{{.Size}}"]);
    assert!(shown.starts_with("5kB (virtual "), "{shown}");
    let table = kiln.ok(&["ps", "-as"]);
    assert!(table.lines().next().unwrap().ends_with("NAMES     SIZE"), "{table}");
    let sized = inspected(&kiln, &["-s", "box"]);
    assert_eq!((sized["SizeRw"].as_u64(), sized["SizeRootFs"].as_u64()), (Some(5000), Some(5000 + image)));
    assert_eq!(inspected(&kiln, &["box"])["SizeRw"], Value::Null);
    assert_eq!(inspected(&kiln, &["--type", "container", "box"])["Name"], "/box");
}

/// The keys of docker 29's answer, except those that are left out when they are empty.
const HOST_CONFIG: &str = "Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove \
    VolumeDriver VolumesFrom ConsoleSize CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd \
    IpcMode Cgroup Links OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt UTSMode \
    UsernsMode ShmSize Runtime Isolation CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice \
    BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota \
    CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules DeviceRequests \
    MemoryReservation MemorySwap MemorySwappiness OomKillDisable PidsLimit Ulimits CpuCount CpuPercent \
    IOMaximumIOps IOMaximumBandwidth MaskedPaths ReadonlyPaths";

#[test]
fn inspect_shows_all_that_docker_shows() {
    if !needs_root("inspect_shows_all_that_docker_shows") {
        return;
    }
    let kiln = Kiln::busybox();
    let words = ["-m", "64m", "--cpus", "1.5", "--pids-limit", "50", "-v", "data:/data:ro", "-e", "A=1"];
    let words: Vec<&str> = ["run", "-d", "--name", "web"].into_iter().chain(words).collect();
    kiln.ok(&[&words[..], &["busybox", "sleep", "1000"]].concat());
    let shown = inspected(&kiln, &["web"]);
    let host = &shown["HostConfig"];
    for key in HOST_CONFIG.split_whitespace() {
        assert!(host.get(key).is_some(), "HostConfig.{key} is missing");
    }
    assert_eq!(
        (&host["Memory"], &host["NanoCpus"], &host["PidsLimit"]),
        (&(64_u64 << 20).into(), &1_500_000_000_u64.into(), &50.into())
    );
    assert_eq!(host["Binds"], serde_json::json!(["data:/data:ro"]));
    assert_eq!(
        (&host["RestartPolicy"]["Name"], &host["LogConfig"]["Type"]),
        (&"no".into(), &"json-file".into())
    );
    assert!(host["MaskedPaths"].as_array().unwrap().contains(&"/proc/kcore".into()));
    let state = &shown["State"];
    assert_eq!(
        (&state["Status"], &state["Running"], &state["Paused"]),
        (&"running".into(), &true.into(), &false.into())
    );
    assert!(state["Pid"].as_i64().unwrap() > 1 && state["FinishedAt"] == "0001-01-01T00:00:00Z");
    let network = &shown["NetworkSettings"]["Networks"]["bridge"];
    assert_eq!(network["IPAddress"], shown["NetworkSettings"]["IPAddress"]);
    for key in
        "IPAMConfig Links Aliases MacAddress DriverOpts NetworkID EndpointID Gateway IPPrefixLen DNSNames"
            .split_whitespace()
    {
        assert!(network.get(key).is_some(), "Networks.bridge.{key} is missing");
    }
    assert_eq!(shown["Config"]["Env"].as_array().unwrap().last(), Some(&"A=1".into()));
    assert_eq!(
        kiln.ok(&["inspect", "-f", "{{.State.Status}} {{.HostConfig.AutoRemove}}", "web"]),
        "running false\n"
    );
    kiln.ok(&["run", "-d", "--network", "none", "--name", "all", "--privileged", "busybox", "sleep", "1000"]);
    assert_eq!(inspected(&kiln, &["all"])["HostConfig"]["MaskedPaths"], Value::Null);
}

#[test]
fn a_container_without_published_ports_has_none_to_show() {
    if !needs_root("a_container_without_published_ports_has_none_to_show") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&["create", "--name", "web", "busybox", "true"]);
    assert_eq!(kiln.ok(&["port", "web"]), "");
    kiln.run(&["port", "web", "80"]).fails_with(&["no public port `80/tcp` published for `web`"]);
    kiln.run(&["container", "port", "nobody"]).fails_with(&["no such container: nobody"]);
    kiln.run(&["port", "web", "80/icmp"]).fails_with(&["80/icmp"]);
}

#[test]
fn prune_takes_what_its_filters_name() {
    if !needs_root("prune_takes_what_its_filters_name") {
        return;
    }
    let kiln = Kiln::busybox();
    for (name, label) in [("web", "tier=front"), ("db", "tier=back"), ("keep", "keep=yes")] {
        let write = "dd if=/dev/zero of=/file bs=1000 count=5";
        kiln.ok(&["run", "--network", "none", "--name", name, "-l", label, "busybox", "sh", "-c", write]);
    }
    let prune = |filters: &[&str]| {
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        let words: Vec<&str> = ["container", "prune", "-f"].into_iter().chain(filters).collect();
        kiln.ok(&words)
    };
    assert_eq!(prune(&["until=1h"]), "Total reclaimed space: 0B\n");
    let pruned = prune(&["label=tier=back", "label!=keep"]);
    assert!(pruned.starts_with("Deleted Containers:\n") && pruned.ends_with("space: 5kB\n"), "{pruned}");
    assert_eq!(names(&kiln, &[]), "keep web");
    prune(&["label!=keep=yes", "until=0s"]);
    assert_eq!(names(&kiln, &[]), "keep");
    kiln.run(&["container", "prune", "-f", "--filter", "colour=red"])
        .fails_with(&["unknown filter `colour`"]);
    kiln.run(&["container", "prune", "-f", "--filter", "until=soon"]).fails_with(&["until", "soon"]);
    kiln.ok(&["image", "prune", "-af", "--filter", "label=none"]);
    kiln.ok(&["image", "prune", "-af", "--filter", "until=2000-01-01"]);
    kiln.ok(&["prune", "-af", "--filter", "label=none"]);
    assert_eq!(kiln.ok(&["images", "-q"]).lines().count(), 1);
    kiln.ok(&["rm", "keep"]);
    kiln.ok(&["image", "prune", "-af", "--filter", "until=0s"]);
    assert_eq!(kiln.ok(&["images", "-q"]), "");
}

/// What docker 20.10 does with the same words.
#[test]
fn empty_and_repeated_flags_and_a_names_slash_mean_what_they_mean_in_docker() {
    if !needs_root("empty_and_repeated_flags_and_a_names_slash_mean_what_they_mean_in_docker") {
        return;
    }
    let kiln = Kiln::busybox();
    let look = "hostname; df -P /dev/shm | grep -c ' 65536 .* 65536 '; ulimit -n; echo $TERM";
    let flags = ["-h", "", "--shm-size", "0", "--ulimit", "nofile=50:60", "--ulimit", "nofile=70:80"];
    let words: Vec<&str> = ["run", "--name", "/web", "-l", "com.example.my-tier=front", "-e", "TERM=dumb"]
        .into_iter()
        .chain(flags)
        .chain(["--network", "none", "busybox", "sh", "-c", look])
        .collect();
    let out = kiln.ok(&words);
    let id = kiln.ok(&["ps", "-aq"]);
    assert_eq!(out, format!("{}1\n70\ndumb\n", id));
    // What `inspect` prints may be typed.
    assert_eq!(
        kiln.ok(&["inspect", "-f", "{{.Name}} {{.Config.Env}} {{.Config.Entrypoint}}", "/web"]),
        "/web [PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb] []\n"
    );
    kiln.ok(&["rename", "/web", "/shop"]);
    let format = "table {{.Names}}\\t{{.Label \"com.example.my-tier\"}}";
    assert_eq!(kiln.ok(&["ps", "-a", "--format", format]), "NAMES     my tier\nshop      front\n");
    let taken = kiln.run(&["create", "--name", "/shop", "busybox", "true"]);
    assert!(taken.code == 125 && taken.error.contains("`shop` is already in use"), "{taken}");
    assert_eq!(kiln.ok(&["rm", "/shop"]), "/shop\n");
}

#[test]
fn exposed_ports_and_annotations_are_shown() {
    if !needs_root("exposed_ports_and_annotations_are_shown") {
        return;
    }
    let kiln = Kiln::busybox();
    let flags = ["--expose", "80", "--expose", "53/udp", "--annotation", "org.example=x=y"];
    let words: Vec<&str> =
        ["run", "-d", "--network", "none", "--name", "web"].into_iter().chain(flags).collect();
    kiln.ok(&[&words[..], &["busybox", "sleep", "1000"]].concat());
    assert_eq!(kiln.ok(&["ps", "--format", "{{.Ports}}"]), "53/udp, 80/tcp\n");
    assert_eq!(names(&kiln, &["expose=50-60/udp"]), "web");
    assert_eq!(names(&kiln, &["expose=53"]), "");
    let shown = inspected(&kiln, &["web"]);
    assert_eq!(shown["HostConfig"]["Annotations"]["org.example"], "x=y");
    assert_eq!(shown["Config"]["ExposedPorts"]["80/tcp"], serde_json::json!({}));
    for (flag, bad) in [
        ("--expose", "80/icmp"),
        ("--annotation", "alone"),
        ("--dns", "nobody"),
        ("--dns-search", "two words"),
        ("--platform", "a/b/c/d"),
        ("--attach", "stdlog"),
        ("--stop-signal", "HELP"),
    ] {
        let ran = kiln.run(&["create", flag, bad, "busybox", "true"]);
        assert!(ran.code == 125 && ran.error.contains(flag) && ran.error.contains(bad), "{ran}");
    }
}

#[test]
fn names_are_looked_up_where_the_flags_say() {
    if !needs_root("names_are_looked_up_where_the_flags_say") {
        return;
    }
    let kiln = Kiln::busybox();
    let flags = ["--dns", "9.9.9.9", "--dns-search", "example.org", "--dns-option", "ndots:2"];
    let words: Vec<&str> = ["run", "--rm"].into_iter().chain(flags).collect();
    let shown = kiln.ok(&[&words[..], &["busybox", "cat", "/etc/resolv.conf"]].concat());
    assert_eq!(shown, "nameserver 9.9.9.9\nsearch example.org\noptions ndots:2\n");
    let hosts = ["run", "--rm", "--add-host", "machine:host-gateway", "busybox", "cat", "/etc/hosts"];
    let hosts = kiln.ok(&hosts);
    let line = hosts.lines().find(|line| line.ends_with("\tmachine")).unwrap();
    assert!(line.split('\t').next().unwrap().parse::<std::net::Ipv4Addr>().is_ok(), "{hosts}");
}

#[test]
fn a_run_takes_part_in_the_named_streams_only() {
    if !needs_root("a_run_takes_part_in_the_named_streams_only") {
        return;
    }
    let kiln = Kiln::busybox();
    let words = ["run", "--network", "none", "--name", "web", "-a", "stderr"];
    let ran = kiln.run(&[&words[..], &["busybox", "sh", "-c", "echo out; echo err >&2; exit 4"]].concat());
    assert_eq!((ran.code, ran.out.as_str(), ran.error.as_str()), (4, "", "err\n"));
    let shown = inspected(&kiln, &["web"]);
    let config = &shown["Config"];
    assert_eq!((&config["AttachStdout"], &config["AttachStderr"]), (&false.into(), &true.into()));
    assert_eq!(kiln.ok(&["logs", "web"]), "out\n", "the log has both");
    let both = kiln.run(&["run", "-d", "-a", "stdout", "busybox", "true"]);
    assert!(both.code == 125 && both.error.contains("--attach"), "{both}");
    let other = if cfg!(target_arch = "x86_64") { "linux/arm64" } else { "linux/amd64" };
    let other = kiln.run(&["run", "--pull", "never", "--platform", other, "busybox", "true"]);
    assert!(other.code == 125 && other.error.contains("another platform"), "{other}");
}

#[test]
fn a_damaged_container_hides_no_other_one() {
    if !needs_root("a_damaged_container_hides_no_other_one") {
        return;
    }
    let kiln = Kiln::busybox();
    let id = kiln.ok(&["create", "--name", "bad", "busybox", "true"]);
    kiln.ok(&["create", "--name", "good", "busybox", "true"]);
    let config = kiln.root().join("containers").join(id.trim()).join("config.json");
    let whole = std::fs::read(&config).unwrap();
    std::fs::write(&config, &whole[..20]).unwrap();
    let listed = kiln.run(&["ps", "-a", "--format", "{{.Names}}"]);
    assert_eq!((listed.code, listed.out.as_str()), (1, "good\n"));
    assert!(listed.error.contains(id.trim()), "{listed}");
    std::fs::write(&config, whole).unwrap();
    assert_eq!(names(&kiln, &[]), "good bad");
}
