//! The `kiln` command with a store of its own.

use std::path::Path;
use std::process::{Command, Output};

use kiln::network::Networks;
use kiln_cache::{NewImage, Snapshot, SnapshotId, Store};

/// A store in a scratch folder, whose containers and network are taken away at the end.
pub(crate) struct Kiln {
    pub(crate) root: tempfile::TempDir,
}

impl Kiln {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    /// A command with this store.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.arg("--root").arg(self.root.path()).args(args);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(std::process::Stdio::null()).output().unwrap()
    }

    /// Runs a command that has to succeed, and gives its output without the last newline.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Puts an image `busybox` into the store: Debian's static busybox and links to it, with `config`'s defaults.
    pub(crate) fn add_busybox(&self, config: &str) -> bool {
        let Some(busybox) =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists())
        else {
            assert!(std::env::var_os("KILN_TEST_NO_SKIP").is_none(), "busybox-static is not installed");
            println!("skipped: busybox-static is not installed");
            return false;
        };
        let store = Store::open(self.root.path()).unwrap();
        let lease = store.lease();
        let staged = store.stage(&lease).unwrap();
        let fs = staged.fs();
        for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "data/sub"] {
            std::fs::create_dir_all(fs.join(folder)).unwrap();
        }
        std::fs::copy(busybox, fs.join("bin/busybox")).unwrap();
        let applets = Command::new(busybox).arg("--list").output().unwrap().stdout;
        for applet in String::from_utf8(applets).unwrap().lines().filter(|applet| *applet != "busybox") {
            let _ = std::os::unix::fs::symlink("busybox", fs.join("bin").join(applet));
        }
        std::fs::write(fs.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n")
            .unwrap();
        std::fs::write(fs.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
        std::fs::write(fs.join("data/sub/file"), "from the image\n").unwrap();
        std::fs::write(fs.join("bin/not-executable"), "x").unwrap();
        let layer = staged.commit(Snapshot::default()).unwrap();
        self.add_image(&store, "busybox", layer, config);
        true
    }

    fn add_image(&self, store: &Store, name: &str, layer: SnapshotId, config: &str) {
        let lease = store.lease();
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        let id = store.put_blob(text.as_bytes(), &lease).unwrap();
        store.put_image(&NewImage { id, manifest: None, chain: vec![layer], size: 0, created: 0 }).unwrap();
        store.tag(&format!("docker.io/library/{name}:latest"), &id).unwrap();
    }
}

impl Drop for Kiln {
    fn drop(&mut self) {
        let ids = self.run(&["ps", "-aq"]).stdout;
        for id in String::from_utf8_lossy(&ids).lines() {
            self.run(&["rm", "-f", "-v", id]);
        }
        let _ = Networks::new(&self.root.path().join("networks")).remove();
    }
}
