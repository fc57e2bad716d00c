//! Many commands on networks and containers at once, from four processes at any time; then the kernel's state is held
//! against kiln's records.
//!
//! `KILN_STRESS_SEED` repeats the same choices (though not the same interleaving).

use crate::support::binary::Kiln;
use crate::support::{ledger, needs_root};

/// Commands in all, and how many processes give them at a time.
const COMMANDS: usize = 500;
const HANDS: u64 = 4;
/// Names that they fight for.
const NAMES: u64 = 4;
const SEED: u64 = 0x6b69_6c6e;

/// Numbers that look random and are the same for a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// What a command may be refused for when others work at the same names; anything else is wrong.
const NO_SUCH: &str = "no such ";
const TAKEN: &str = "is already in use by container";
const EXISTS: &str = "exists already";
const IN_USE: &str = "is in use by";
const ALREADY: &str = "already";
const NOT_CONNECTED: &str = "is not connected to network";
const GONE: &str = "is gone";
const RUNNING: &str = "container is running";

/// One command of a hand, and what may stand in its way.
fn command(dice: &mut Dice) -> (Vec<String>, &'static [&'static str]) {
    let network = format!("net{}", dice.roll(NAMES));
    let container = format!("box{}", dice.roll(2 * NAMES));
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    let run = format!("run -d --name {container} --network {network}");
    match dice.roll(20) {
        0 | 1 => (words(&format!("network create {network}")), &[EXISTS]),
        2 => (words(&format!("network create --ipv6 {network}")), &[EXISTS]),
        3..=5 => (words(&format!("{run} busybox sleep 1000")), &[NO_SUCH, TAKEN, GONE]),
        6 | 7 => (words(&format!("{run} -p 80 busybox sleep 1000")), &[NO_SUCH, TAKEN, GONE]),
        8 => (words(&format!("run -d --name {container} busybox sleep 1000")), &[NO_SUCH, TAKEN]),
        9 => (words(&format!("run --rm --network {network} busybox true")), &[NO_SUCH, GONE]),
        10 => (words(&format!("restart -t 0 {container}")), &[NO_SUCH, GONE, RUNNING]),
        11 => (words(&format!("stop -t 0 {container}")), &[NO_SUCH]),
        12 => (words(&format!("network connect {network} {container}")), &[NO_SUCH, ALREADY, GONE]),
        13 => (words(&format!("network disconnect {network} {container}")), &[NO_SUCH, NOT_CONNECTED]),
        14 => (words(&format!("network disconnect bridge {container}")), &[NO_SUCH, NOT_CONNECTED]),
        15..=17 => (words(&format!("rm -f {container}")), &[NO_SUCH]),
        _ => (words(&format!("network rm {network}")), &[NO_SUCH, IN_USE]),
    }
}

fn one_hand(kiln: &Kiln, seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for number in 0..COMMANDS / usize::try_from(HANDS).unwrap() {
        let (words, fine) = command(&mut dice);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = kiln.run(&words);
        let is_fine = ran.code == 0 || fine.iter().any(|word| ran.error.contains(word));
        assert!(is_fine, "seed {seed}, command {number}: {words:?}\n{ran}");
    }
}

#[test]
fn after_many_commands_at_once_the_kernel_has_what_the_records_say() {
    if !needs_root("after_many_commands_at_once_the_kernel_has_what_the_records_say") {
        return;
    }
    let kiln = Kiln::busybox();
    let seed = std::env::var("KILN_STRESS_SEED").map_or(SEED, |text| text.parse().unwrap());
    println!("KILN_STRESS_SEED={seed}");
    std::thread::scope(|scope| {
        for hand in 0..HANDS {
            let kiln = &kiln;
            scope.spawn(move || one_hand(kiln, seed + hand));
        }
    });
    ledger::assert_agrees(&kiln, &format!("after the commands of seed {seed}"));
    // Nobody has ended here: what is there now can be used.
    let running = kiln.ok(&["ps", "-q"]);
    for id in running.lines() {
        kiln.ok(&["exec", id, "true"]);
    }
    for id in kiln.ok(&["ps", "-aq"]).lines() {
        kiln.ok(&["rm", "-f", id]);
    }
    kiln.ok(&["network", "prune", "-f"]);
    kiln.ok(&["prune", "-f"]);
    ledger::assert_empty(&kiln, &format!("after removing all that seed {seed} left"));
}
