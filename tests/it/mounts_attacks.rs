//! Mounts that somebody tries to redirect: names that are exchanged all the time, and links that lead out.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::binary::{Kiln, Ran};
use crate::support::needs_root;

/// How often each attack is tried.
const ROUNDS: usize = 15;
const SECRET: &str = "the host's secret";

fn run(kiln: &Kiln, flag: [&str; 2], script: &str) -> Ran {
    kiln.run(&["run", "--rm", "--network", "none", flag[0], flag[1], "busybox", "sh", "-c", script])
}

/// Exchanges two names, over and over, while `work` is done.
fn while_exchanged(one: &Path, other: &Path, work: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn secret(kiln: &Kiln) -> std::path::PathBuf {
    let folder = kiln.scratch().join("secret");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("file"), SECRET).unwrap();
    folder
}

#[test]
fn a_subpath_that_becomes_a_link_leads_nowhere_else() {
    if !needs_root("a_subpath_that_becomes_a_link_leads_nowhere_else") {
        return;
    }
    let kiln = Kiln::busybox();
    let secret = secret(&kiln);
    kiln.ok(&["volume", "create", "data"]);
    let data = kiln.root().join("volumes/data/_data");
    std::fs::create_dir_all(data.join("part")).unwrap();
    std::fs::write(data.join("part/file"), "own\n").unwrap();
    symlink(&secret, data.join("link")).unwrap();
    let climbing = format!("../../../../../../../..{}", secret.display());
    symlink(&climbing, data.join("climbing")).unwrap();
    for name in ["link", "climbing", "/link", "part/../link", climbing.as_str(), "/proc/self/root"] {
        let ran = run(&kiln, ["--mount", &format!("src=data,dst=/x,volume-subpath={name}")], "cat /x/file");
        assert!(!ran.out.contains(SECRET) && ran.code != 0, "{name}: {ran}");
    }
    // A link within the volume is followed there, as if the volume were all there is.
    symlink("/part", data.join("inside")).unwrap();
    let inside = run(&kiln, ["--mount", "src=data,dst=/x,volume-subpath=inside"], "cat /x/file");
    assert_eq!(inside.ok().out, "own\n");
    while_exchanged(&data.join("part"), &data.join("link"), || {
        for _ in 0..ROUNDS {
            let ran = run(&kiln, ["--mount", "src=data,dst=/x,volume-subpath=part"], "cat /x/file");
            assert!(!ran.out.contains(SECRET), "{ran}");
            assert!(ran.out == "own\n" || ran.code != 0, "{ran}");
        }
    });
}

#[test]
fn a_source_that_changes_its_kind_is_one_thing_or_the_other() {
    if !needs_root("a_source_that_changes_its_kind_is_one_thing_or_the_other") {
        return;
    }
    let kiln = Kiln::busybox();
    let (folder, file) = (kiln.scratch().join("folder"), kiln.scratch().join("file"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("inner"), "").unwrap();
    std::fs::write(&file, "").unwrap();
    let bind = format!("{}:/x", folder.display());
    while_exchanged(&folder, &file, || {
        for _ in 0..ROUNDS {
            // What was opened is what is mounted: a folder with its file in it, or a file.
            let ran = run(&kiln, ["-v", &bind], "test -f /x || test -f /x/inner");
            assert_eq!(ran.code, 0, "{ran}");
        }
    });
}

#[test]
fn a_place_in_the_image_that_is_a_link_stays_inside() {
    if !needs_root("a_place_in_the_image_that_is_a_link_stays_inside") {
        return;
    }
    let kiln = Kiln::busybox();
    let outside = kiln.scratch().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let file = format!(
        "FROM busybox\nRUN ln -s {} /abs && ln -s ../../../../../.. /up && ln -s /proc/self /in && ln -s /proc /whole\n",
        outside.display()
    );
    let context = kiln.context(&[("Dockerfile", &file)]);
    kiln.build(&context, &["-t", "links", "--network", "none"]).ok();
    let mounted = |target: &str| {
        let bind = format!("data:{target}");
        kiln.run(&["run", "--rm", "--network", "none", "-v", &bind, "links", "true"])
    };
    mounted("/abs/made").ok();
    mounted("/up/made").ok();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!Path::new("/made").exists());
    for target in
        ["/in/attr", "/whole", "/whole/sys", "/proc", "/proc/self", "/sys/kernel", "/proc/self/attr"]
    {
        mounted(target).refused_with(&["inside `/proc` or `/sys`"]);
    }
    for target in ["/", "/..", "/x/../.."] {
        assert_ne!(mounted(target).code, 0, "{target}");
    }
}
