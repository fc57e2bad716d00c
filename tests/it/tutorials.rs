//! What tutorials show, with the programs of Debian's packages in images that kiln built.
//!
//! They need a base, from `KILN_BASES`, and Debian's archive over the network.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::ports::{free_port, own_address, says};
use crate::support::binary::Kiln;
use crate::support::needs_root;

/// How long servers may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// One store for all, with an image for each program; it goes with the last test.
pub(crate) struct Shop {
    pub(crate) kiln: Kiln,
    images: Mutex<Vec<String>>,
}

/// Opens the shop; `None` where it has nothing to work with, which is said.
pub(crate) fn shop(test: &str) -> Option<Arc<Shop>> {
    static SHOP: Mutex<Weak<Shop>> = Mutex::new(Weak::new());
    let bases = std::env::var_os("KILN_BASES").map_or_else(|| PathBuf::from("target/bases"), PathBuf::from);
    let base = bases.join("debian-bookworm.tar");
    if !needs_root(test) {
        return None;
    }
    if !base.exists() {
        println!("skipped {test}: needs {} (see testdata/prepare.sh)", base.display());
        return None;
    }
    let mut shop = SHOP.lock().unwrap();
    if let Some(open) = shop.upgrade() {
        return Some(open);
    }
    let kiln = Kiln::empty();
    kiln.ok(&["import", base.to_str().unwrap(), "debian:bookworm"]);
    let new = Arc::new(Shop { kiln, images: Mutex::default() });
    *shop = Arc::downgrade(&new);
    Some(new)
}

impl Shop {
    /// Builds an image with Debian packages, once.
    pub(crate) fn image(&self, name: &str, packages: &str, rest: &str) {
        let mut images = self.images.lock().unwrap();
        if images.iter().any(|known| known == name) {
            return;
        }
        let dockerfile = format!(
            "FROM debian:bookworm\nENV DEBIAN_FRONTEND=noninteractive\n\
             RUN apt-get -q update && apt-get -qy install --no-install-recommends {packages} && apt-get clean\n{rest}"
        );
        let context = self.kiln.context(&[("Dockerfile", &dockerfile)]);
        self.kiln.ok(&["build", "-t", name, context.to_str().unwrap()]);
        images.push(name.to_owned());
    }

    /// A MariaDB that has the database `todos`, and serves it to the user `app`.
    pub(crate) fn mariadb(&self) {
        let rest = "RUN install -d -o mysql /run/mysqld\nCOPY <<END /init.sql\n\
             CREATE DATABASE IF NOT EXISTS todos;\n\
             CREATE USER IF NOT EXISTS app@'%' IDENTIFIED BY 'secret';\n\
             GRANT ALL ON todos.* TO app@'%';\nEND\n\
             VOLUME /var/lib/mysql\nEXPOSE 3306\n\
             CMD [\"mariadbd\", \"--user=mysql\", \"--bind-address=*\", \"--init-file=/init.sql\"]\n";
        self.image("mariadb", "mariadb-server", rest);
    }

    /// Makes a network with the tutorial's subnet, `172.38.0.0/16` for 38; the next one that is free on this
    /// machine when another test, or somebody else, has it. Gives the number it has.
    pub(crate) fn network(&self, name: &str, tutorial: u8) -> u8 {
        let made = (tutorial..tutorial + 20).find(|second| {
            let subnet = format!("172.{second}.0.0/16");
            let made = self.kiln.run(&["network", "create", name, "--subnet", &subnet]);
            assert!(made.code == 0 || made.error.contains("overlaps"), "{made}");
            made.code == 0
        });
        made.expect("a subnet is free")
    }
}

/// The port that a tutorial names; another one when somebody on this machine has it.
pub(crate) fn port(tutorial: u16) -> u16 {
    if TcpListener::bind(("0.0.0.0", tutorial)).is_ok() {
        return tutorial;
    }
    let free = free_port();
    println!("port {tutorial} is taken here: {free} instead");
    free
}

/// Asks again and again until the answer is good.
pub(crate) fn wait_for(mut ask: impl FnMut() -> String, good: impl Fn(&str) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if good(&answer) {
            return;
        }
        assert!(Instant::now() < end, "the answer is still: {answer}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nginx_answers_on_a_published_port_from_the_host_and_from_another_container() {
    let name = "nginx_answers_on_a_published_port_from_the_host_and_from_another_container";
    let Some(shop) = shop(name) else { return };
    let page =
        "RUN echo 'welcome to kiln' > /var/www/html/index.html\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n";
    shop.image("nginx", "nginx curl", page);
    let kiln = &shop.kiln;
    let port = port(8800);
    kiln.ok(&["run", "-d", "--name", "web", "-p", &format!("{port}:80"), "nginx"]);
    for address in [Ipv4Addr::LOCALHOST, own_address()] {
        says(SocketAddr::from((address, port)), "welcome to kiln\n");
    }
    let gateway = kiln.ok(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "web"]);
    for address in [own_address().to_string().as_str(), gateway.trim()] {
        let url = format!("http://{address}:{port}/");
        let asked = kiln.ok(&["run", "--rm", "nginx", "curl", "-sS", "--max-time", "20", &url]);
        assert_eq!(asked, "welcome to kiln\n", "{url}");
    }
    let inside = kiln.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
    let asked = kiln.ok(&["run", "--rm", "nginx", "curl", "-sS", &format!("http://{}/", inside.trim())]);
    assert_eq!(asked, "welcome to kiln\n");
    kiln.ok(&["rm", "-f", "web"]);
}
