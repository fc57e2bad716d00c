//! `kiln system check` finds what somebody did to the networks behind kiln's back, and puts it right.

use std::process::Command;

use kiln::network::Networks;

use crate::ports::{SERVER, addresses, own_address, says_hello, start};
use crate::support::binary::{Kiln, run};
use crate::support::needs_root;

/// Runs a program of the machine.
fn machine(line: &str) {
    let words: Vec<_> = line.split(' ').collect();
    run(Command::new(words[0]).args(&words[1..])).ok();
}

/// A check finds this, and it is gone after a repair.
fn assert_found_and_mended(kiln: &Kiln, words: &str) {
    let found = kiln.run(&["system", "check", "--quick"]);
    assert!(found.out.contains(words), "`{words}` is missing in:\n{found}");
    kiln.run(&["system", "check", "--quick", "--repair"]);
    let again = kiln.run(&["system", "check", "--quick"]);
    assert!(again.is_clean(), "{again}");
}

#[test]
fn what_was_flushed_deleted_or_added_is_found_and_put_right() {
    if !needs_root("what_was_flushed_deleted_or_added_is_found_and_put_right") {
        return;
    }
    let kiln = Kiln::busybox();
    start(&kiln, &["--name", "web", "-p", "80"], SERVER);
    let at = (own_address(), addresses(&kiln, "web", "80")[0].port()).into();
    says_hello(at);
    let clean = kiln.run(&["system", "check", "--quick"]);
    assert!(clean.is_clean(), "{clean}");
    let networks = Networks::new(&kiln.root().join("networks"));
    let bridge = networks.bridge();
    // A stray link of the test's own, whose name no other test uses.
    let stray = format!("kv{:08x}", std::process::id());

    machine(&format!("nft delete table inet {bridge}"));
    assert_found_and_mended(&kiln, "lacks what networks need");
    says_hello(at);

    machine(&format!("ip link delete {bridge}"));
    assert_found_and_mended(&kiln, &format!("bridge {bridge}: is missing"));
    says_hello(at);

    machine(&format!("ip link add {stray} type veth peer name {stray}p"));
    machine(&format!("ip link set {stray} master {bridge}"));
    assert_found_and_mended(&kiln, &format!("link {stray}: belongs to nobody"));

    machine(&format!("nft add element inet {bridge} any4 {{ tcp . 9 : 192.0.2.9 . 9 }}"));
    assert_found_and_mended(&kiln, "has elements of nobody");
    says_hello(at);
    kiln.ok(&["rm", "-f", "web"]);
}
