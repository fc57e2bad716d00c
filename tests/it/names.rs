//! What a container knows of itself and its neighbours: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`, links.

use std::path::Path;

use crate::support::binary::{Kiln, gone};
use crate::support::needs_root;

/// A store with busybox; its containers go with it.
struct Store {
    kiln: Kiln,
}

impl Store {
    fn new(name: &str) -> Option<Self> {
        needs_root(&format!("names::{name}")).then(|| Self { kiln: Kiln::busybox() })
    }

    /// Starts a container that sleeps.
    fn sleeper(&self, name: &str, flags: &[&str]) -> String {
        let words = [&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat();
        self.kiln.ok(&words).trim().to_owned()
    }

    /// What a script says in a running container.
    fn says(&self, container: &str, script: &str) -> String {
        self.kiln.ok(&["exec", container, "sh", "-c", script]).trim_end().to_owned()
    }

    fn inspect(&self, container: &str, format: &str) -> String {
        self.kiln.ok(&["inspect", "-f", format, container]).trim().to_owned()
    }

    fn address(&self, container: &str) -> String {
        self.inspect(container, "{{.NetworkSettings.IPAddress}}")
    }

    fn refused(&self, words: &[&str], parts: &[&str]) {
        let ran = self.kiln.run(words);
        assert_ne!(ran.code, 0, "{words:?}: {}", ran.out);
        for part in parts {
            assert!(ran.error.contains(part), "{words:?}: {part} is not in {}", ran.error);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let all = self.kiln.run(&["ps", "-aq"]).out;
        let words: Vec<&str> = ["rm", "-f"].into_iter().chain(all.split_whitespace()).collect();
        if words.len() > 2 {
            self.kiln.run(&words);
        }
    }
}

#[test]
fn the_files_of_a_container_are_in_its_folder_and_can_be_changed_while_it_runs() {
    let Some(store) = Store::new("the_files_of_a_container_are_in_its_folder") else { return };
    store.sleeper("box", &["-h", "me", "--domainname", "example.org", "--add-host", "far:10.1.2.3"]);
    let path = store.inspect("box", "{{.HostsPath}}");
    let hosts = std::fs::read_to_string(&path).unwrap();
    assert_eq!(store.says("box", "cat /etc/hosts"), hosts.trim_end());
    assert!(hosts.contains("10.1.2.3\tfar\n"), "{hosts}");
    assert!(hosts.ends_with(&format!("{}\tme.example.org me\n", store.address("box"))), "{hosts}");
    assert_eq!(store.says("box", "cat /etc/hostname; hostname"), "me\nme");
    store.says("box", "echo 10.9.9.9 mine >> /etc/hosts");
    assert!(std::fs::read_to_string(&path).unwrap().ends_with("10.9.9.9 mine\n"));
    assert!(Path::new(&store.inspect("box", "{{.ResolvConfPath}}")).exists());
    assert!(Path::new(&store.inspect("box", "{{.HostnamePath}}")).exists());
}

#[test]
fn containers_with_one_network_have_its_files_in_common() {
    let Some(store) = Store::new("containers_with_one_network_have_its_files_in_common") else { return };
    store.sleeper("one", &["-h", "me"]);
    store.sleeper("other", &["--network", "container:one"]);
    store.sleeper("third", &["--network", "container:other"]);
    store.says("one", "echo 10.9.9.9 late >> /etc/hosts");
    assert!(store.says("third", "cat /etc/hosts").ends_with("10.9.9.9 late"));
    assert_eq!(store.says("other", "cat /etc/hostname"), "me");
}

#[test]
fn a_link_is_a_name_that_follows_its_target() {
    let Some(store) = Store::new("a_link_is_a_name_that_follows_its_target") else { return };
    let id = store.sleeper("db", &[]);
    store.sleeper("web", &["--link", "db:store", "--link", "db"]);
    let line = |alias: &str| format!("{}\t{alias}", store.address("db"));
    let hosts = store.says("web", "cat /etc/hosts");
    assert!(hosts.contains(&line(&format!("store {} db\n", &id[..12]))), "{hosts}");
    assert!(hosts.contains(&line(&format!("db {}\n", &id[..12]))), "{hosts}");
    assert_eq!(store.says("web", "ping -c 1 -w 5 store >/dev/null && echo there"), "there");
    assert_eq!(store.inspect("web", "{{json .HostConfig.Links}}"), r#"["/db:/web/store","/db:/web/db"]"#);
    let before = store.address("db");
    store.kiln.ok(&["stop", "-t", "0", "db"]);
    store.sleeper("squatter", &[]);
    store.kiln.ok(&["start", "db"]);
    assert_ne!(store.address("db"), before);
    let hosts = store.says("web", "cat /etc/hosts");
    assert!(hosts.contains(&line("store ")) && !hosts.contains(&format!("{before}\t")), "{hosts}");
    assert_eq!(store.says("web", "ping -c 1 -w 5 store >/dev/null && echo there"), "there");
}

#[test]
fn a_link_sets_variables_on_the_default_bridge_alone() {
    let Some(store) = Store::new("a_link_sets_variables_on_the_default_bridge_alone") else { return };
    store.sleeper("db", &["--expose", "3306", "-e", "PASS=secret"]);
    store.sleeper("web", &["--link", "db:my-store", "-e", "MY_STORE_ENV_PASS=own"]);
    let address = store.address("db");
    let expected = format!(
        "MY_STORE_ENV_PASS=own\nMY_STORE_NAME=/web/my-store\nMY_STORE_PORT=tcp://{address}:3306\n\
         MY_STORE_PORT_3306_TCP=tcp://{address}:3306\nMY_STORE_PORT_3306_TCP_ADDR={address}\n\
         MY_STORE_PORT_3306_TCP_PORT=3306\nMY_STORE_PORT_3306_TCP_PROTO=tcp"
    );
    let ask = "tr '\\0' '\\n' < /proc/1/environ | grep ^MY_STORE | sort";
    assert_eq!(store.says("web", ask), expected, "the program");
    assert_eq!(store.says("web", "env | grep ^MY_STORE | sort"), expected, "a further one");
    store.kiln.ok(&["network", "create", "own"]);
    store.sleeper("there", &["--network", "own"]);
    store.sleeper("here", &["--network", "own", "--link", "there:store"]);
    assert_eq!(store.says("here", "env | grep -c ^STORE || true"), "0");
    assert!(!store.inspect("web", "{{json .Config.Env}}").contains("MY_STORE_PORT"));
}

#[test]
fn a_link_can_be_removed_and_needs_a_target_that_runs() {
    let Some(store) = Store::new("a_link_can_be_removed_and_needs_a_target_that_runs") else { return };
    store.refused(&["run", "--rm", "--link", "nobody", "busybox", "true"], &["no such container: nobody"]);
    store.sleeper("db", &[]);
    for network in ["none", "host", "container:db"] {
        let words = ["run", "--rm", "--network", network, "--link", "db", "busybox", "true"];
        store.refused(&words, &["conflicting options", "--link"]);
    }
    store.refused(&["run", "--rm", "--link", "db:a b", "busybox", "true"], &["invalid alias `a b`"]);
    store.refused(&["run", "--rm", "--link", ":x", "busybox", "true"], &["CONTAINER:ALIAS"]);
    store.sleeper("web", &["--link", "db:store"]);
    assert_eq!(store.kiln.ok(&["rm", "--link", "/web/store"]).trim(), "/web/store");
    assert!(!store.says("web", "cat /etc/hosts").contains("store"));
    assert_eq!(store.inspect("web", "{{json .HostConfig.Links}}"), "null");
    store.refused(&["rm", "--link", "web/store"], &["container web has no link `store`"]);
    store.refused(&["rm", "--link", "web"], &["CONTAINER/ALIAS"]);
    store.kiln.ok(&["create", "--name", "late", "--link", "db", "busybox", "true"]);
    store.kiln.ok(&["rm", "-f", "db"]);
    store.refused(&["start", "late"], &["cannot link `db`"]);
    gone("containers", || {
        store.kiln.run(&["rm", "-f", "web", "late"]);
        store.kiln.ok(&["ps", "-aq"]).lines().map(str::to_owned).collect()
    });
}
