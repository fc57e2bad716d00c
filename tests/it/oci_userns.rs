//! kiln as an OCI runtime: bundles with user namespaces and with mounts whose ids are mapped. runc is the yardstick.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::oci::{Bundle, hook, is_alive, wait_until};
use crate::support::binary::run;
use crate::support::needs_root;

const FIRST: u32 = 100_000;

fn mapping() -> Value {
    json!([{"containerID": 0, "hostID": FIRST, "size": 65536}])
}

/// Gives a config a user namespace.
fn with_ids(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    config["linux"]["uidMappings"] = mapping();
    config["linux"]["gidMappings"] = mapping();
    config["root"]["readonly"] = false.into();
}

fn bind(config: &mut Value, source: &str, target: &str, options: &[&str]) -> usize {
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": target, "type": "bind", "source": source, "options": options}));
    mounts.len() - 1
}

/// A bundle whose root filesystem belongs to root inside, which finds its way there.
fn bundle(script: &str, change: impl FnOnce(&mut Value)) -> Bundle {
    let bundle = Bundle::new(script, |config| {
        with_ids(config);
        change(config);
    });
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let owner = format!("{FIRST}:{FIRST}");
    let rootfs = bundle.file("rootfs");
    assert!(Command::new("chown").args(["-hR", &owner]).arg(rootfs).status().unwrap().success());
    bundle
}

#[test]
fn root_inside_is_what_it_is_with_runc() {
    if !needs_root("root_inside_is_what_it_is_with_runc") {
        return;
    }
    let script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; ulimit -n; cat /proc/self/oom_score_adj;
        hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; stat -c '%u:%g' / /dev /dev/shm /dev/pts /dev/null /proc/self/ /sys;
        cat /given/in; stat -c '%u' /given/in; touch /made && stat -c '%u' /made; echo x > /dev/null && echo null;
        mount -t tmpfs x /tmp && echo mounted; mknod /node c 1 3 || echo no node; echo 1 > /proc/sys/kernel/panic || echo no panic;
        ls /sys/firmware | wc -l; grep CapEff /proc/self/status; chown 5:6 /made && stat -c '%u:%g' /made; echo fine > /dev/stdout";
    let bundle = bundle(script, |config| {
        let rights = json!(["CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_MKNOD"]);
        config["process"]["capabilities"] =
            json!({"bounding": rights, "effective": rights, "permitted": rights});
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 12, "hard": 12}]);
        config["process"]["oomScoreAdj"] = 77.into();
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "99"});
        config["hostname"] = "inside".into();
        bind(config, "closed/given", "/given", &["rbind", "ro"]);
    });
    // Root inside finds no way to the source by itself.
    fs::create_dir_all(bundle.file("closed/given")).unwrap();
    fs::write(bundle.file("closed/given/in"), "in\n").unwrap();
    fs::set_permissions(bundle.file("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let ran = bundle.run(&["run", "c"]).ok();
    let start =
        "0\n0\n         0     100000      65536\n         0     100000      65536\n12\n77\ninside\n99\n";
    let owners = "0:0\n0:0\n0:0\n0:0\n65534:65534\n0:0\n65534:65534\n";
    let rest = "in\n65534\n0\nnull\nmounted\nno node\nno panic\n0\nCapEff:\t0000000008200001\n5:6\nfine\n";
    assert_eq!(ran.out, format!("{start}{owners}{rest}"), "{ran}");
    let made = fs::metadata(bundle.file("rootfs/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (FIRST + 5, FIRST + 6));
    if !Path::new("/usr/sbin/runc").exists() && !Path::new("/usr/bin/runc").exists() {
        return;
    }
    fs::remove_file(bundle.file("rootfs/made")).unwrap();
    let mut runc = Command::new("runc");
    runc.arg("--root").arg(bundle.file("runc")).arg("run").arg("--bundle").arg(bundle.path());
    let name = bundle.path().file_name().unwrap().to_string_lossy().replace('.', "");
    assert_eq!(run(runc.arg(format!("kiln{name}")).stdin(Stdio::null())).ok().out, ran.out);
}

#[test]
fn a_container_with_ids_of_its_own_goes_the_whole_way() {
    if !needs_root("a_container_with_ids_of_its_own_goes_the_whole_way") {
        return;
    }
    let bundle = bundle("readlink /proc/self/ns/user; exec sleep 1000", |_| {});
    let mut config: Value = serde_json::from_slice(&fs::read(bundle.file("config.json")).unwrap()).unwrap();
    let folder = bundle.path().to_owned();
    config["hooks"] = json!({});
    for name in ["prestart", "createRuntime", "poststart", "poststop"] {
        config["hooks"][name] = hook(&folder, name);
    }
    fs::write(bundle.file("config.json"), config.to_string()).unwrap();
    bundle.create(&[]).ok();
    assert_eq!(bundle.status(), "created");
    let pid = bundle.state()["pid"].as_i64().unwrap();
    bundle.ok(&["start", "c"]);
    bundle.until_output("user:");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{FIRST}\t{FIRST}\t")), "{status}");
    let namespace = fs::read_to_string(bundle.file("out")).unwrap();
    assert_ne!(fs::read_link("/proc/self/ns/user").unwrap().to_string_lossy(), namespace.trim());
    // A further process is in the same one, whoever it is.
    let script = "readlink /proc/self/ns/user; id -u; id -g; ulimit -n; echo fine > /dev/stdout";
    assert_eq!(
        bundle.ok(&["exec", "--user", "7:8", "c", "sh", "-c", script]),
        format!("{namespace}7\n8\n1024\nfine\n")
    );
    assert_eq!(bundle.run(&["exec", "c", "sh", "-c", "exit 9"]).code, 9);
    let refused = bundle.run(&["exec", "--user", "70000", "c", "true"]);
    assert!(refused.code == 255 && refused.error.contains("unmapped user 70000"), "{refused}");
    // Another container may share it, and what belongs to it.
    let of = |kind: &str, name: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")});
    let script = "readlink /proc/self/ns/user; id -u; readlink /proc/self/ns/net; exec sleep 1000";
    let second = self::bundle(script, |config| {
        let kinds = ["mount", "ipc", "uts", "cgroup"].map(|kind| json!({"type": kind}));
        let mut all = vec![of("user", "user"), of("network", "net"), of("pid", "pid")];
        all.extend(kinds);
        config["linux"]["namespaces"] = all.into();
        config["linux"].as_object_mut().unwrap().retain(|name, _| !name.ends_with("Mappings"));
    });
    second.create(&[]).ok();
    second.ok(&["start", "c"]);
    let net = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    second.until_output(&format!("{namespace}0\n{}\n", net.display()));
    assert_eq!(second.ok(&["exec", "c", "id", "-u"]), "0\n");
    second.ok(&["delete", "--force", "c"]);
    bundle.ok(&["pause", "c"]);
    assert_eq!(bundle.status(), "paused");
    bundle.ok(&["resume", "c"]);
    bundle.ok(&["kill", "c", "KILL"]);
    bundle.until("stopped");
    bundle.ok(&["delete", "c"]);
    wait_until("the end", || !is_alive(pid));
    let order = fs::read_to_string(bundle.file("order")).unwrap();
    assert_eq!(order, "prestart\ncreateRuntime\npoststart\npoststop\n");
    assert!(!bundle.file("states/c").exists());
}

#[test]
fn mounts_show_the_ids_that_are_asked_for() {
    if !needs_root("mounts_show_the_ids_that_are_asked_for") {
        return;
    }
    let folder = |bundle: &Bundle| {
        fs::create_dir(bundle.file("data")).unwrap();
        fs::write(bundle.file("data/old"), "x").unwrap();
        fs::set_permissions(bundle.file("data"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    // By the container's own map, by one of the mount, and not at all.
    let script = "stat -c '%u:%g' /mapped/old /other/old /plain/old; touch /mapped/new && stat -c %u /mapped/new; touch /plain/no || echo no";
    let bundle = bundle(script, |config| {
        bind(config, "data", "/mapped", &["rbind", "ridmap"]);
        let other = bind(config, "data", "/other", &["bind", "idmap"]);
        let shifted = json!([{"containerID": 0, "hostID": FIRST + 7, "size": 100}]);
        config["mounts"][other]["uidMappings"] = shifted.clone();
        config["mounts"][other]["gidMappings"] = shifted;
        bind(config, "data", "/plain", &["rbind"]);
    });
    folder(&bundle);
    assert_eq!(bundle.run(&["run", "c"]).ok().out, "0:0\n7:7\n65534:65534\n0\nno\n");
    assert_eq!(fs::metadata(bundle.file("data/new")).unwrap().uid(), 0);
    // A container of the machine's own ids can have them too.
    let bundle = Bundle::new("stat -c '%u:%g' /mapped/old", |config| {
        let index = bind(config, "data", "/mapped", &["bind", "idmap"]);
        config["mounts"][index]["uidMappings"] = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
        config["mounts"][index]["gidMappings"] = json!([{"containerID": 0, "hostID": 6000, "size": 10}]);
    });
    folder(&bundle);
    assert_eq!(bundle.run(&["run", "c"]).ok().out, "5000:6000\n");
    // Not every filesystem can.
    let bundle = self::bundle("true", |config| {
        bind(config, "/proc", "/mapped", &["bind", "idmap"]);
    });
    bundle.create(&[]).fails_with(&["`/proc`", "MUST have an idmapping applied"]);
    assert!(!bundle.file("states/c").exists());
}

#[test]
fn maps_that_cannot_be_are_refused_by_name() {
    if !needs_root("maps_that_cannot_be_are_refused_by_name") {
        return;
    }
    let range = |inside: u32, outside: u32, size: u32| json!({"containerID": inside, "hostID": outside, "size": size});
    let bundle = bundle("true", |_| {});
    let whole: Value = serde_json::from_slice(&fs::read(bundle.file("config.json")).unwrap()).unwrap();
    let refused = |words: &[&str], change: &dyn Fn(&mut Value)| {
        let mut config = whole.clone();
        change(&mut config);
        fs::write(bundle.file("config.json"), config.to_string()).unwrap();
        bundle.create(&[]).fails_with(words);
        assert!(!bundle.file("states/c").exists());
    };
    let uids = |list: Value| move |config: &mut Value| config["linux"]["uidMappings"] = list.clone();
    refused(&["no uid mappings found"], &uids(json!([])));
    refused(&["no gid mappings found"], &|config| config["linux"]["gidMappings"] = json!([]));
    refused(&["no mapping found for uid 0"], &uids(json!([range(1, FIRST, 10)])));
    refused(&["uidMappings", "overlap"], &uids(json!([range(0, FIRST, 10), range(9, 200_000, 10)])));
    refused(&["uidMappings", "overlap"], &uids(json!([range(0, FIRST, 10), range(10, FIRST + 9, 10)])));
    refused(&["a range of 0 ids"], &uids(json!([range(0, FIRST, 0)])));
    refused(&["uidMappings", "without a user namespace"], &|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().pop();
    });
    refused(&["uid to unmapped user 70000"], &|config| config["process"]["user"]["uid"] = 70_000.into());
    refused(&["cannot set the groups"], &|config| {
        config["process"]["user"]["additionalGids"] = json!([70_000]);
    });
    refused(&["enter the user namespace"], &|config| {
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.last_mut().unwrap()["path"] = "/proc/self/ns/user".into();
    });
    refused(&["MUST be specified along with `gidMappings`"], &|config| {
        let index = bind(config, "/", "/x", &["bind", "idmap"]);
        config["mounts"][index]["uidMappings"] = mapping();
    });
    refused(&["no bind mount"], &|config| config["mounts"][1]["options"] = json!(["idmap"]));
    refused(&["no user namespace to map ids by"], &|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().pop();
        config["linux"].as_object_mut().unwrap().retain(|name, _| !name.ends_with("Mappings"));
        bind(config, "/", "/x", &["bind", "idmap"]);
    });
    // As with runc: root inside has no right over what is the machine's.
    refused(&["sysfs", "operation not permitted"], &|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network");
    });
    refused(&["/nope", "no such file"], &|config| {
        bind(config, "/nope", "/x", &["rbind"]);
    });
}
