//! What tutorials show, with the programs of Debian's packages in images that kiln built.
//!
//! They need a base, from `KILN_BASES`, and Debian's archive over the network.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use crate::ports::{free_port, own_address, says};
use crate::support::binary::Kiln;
use crate::support::needs_root;

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
}

#[test]
fn nginx_answers_on_a_published_port_from_the_host_and_from_another_container() {
    let name = "nginx_answers_on_a_published_port_from_the_host_and_from_another_container";
    let Some(shop) = shop(name) else { return };
    let page =
        "RUN echo 'welcome to kiln' > /var/www/html/index.html\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n";
    shop.image("nginx", "nginx curl", page);
    let kiln = &shop.kiln;
    let port = free_port();
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
