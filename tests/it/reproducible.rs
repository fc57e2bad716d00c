//! `--reproducible` and `SOURCE_DATE_EPOCH`: two users on two machines get the same image, byte by byte.

use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use kiln_cache::Digest;

use crate::support::binary::{Kiln, Ran, Step, run};
use crate::support::needs_root;
use crate::support::registry::FakeRegistry;

/// Everything that makes a layer, and steps that look at what a machine could leak.
const DOCKERFILE: &str = "\
FROM busybox AS build
WORKDIR /src/deep
COPY . .
RUN mkdir out && cat one two sub/three sub/sub/four > out/all && ln out/all out/link && ln -s all out/symlink && chmod 2750 out
RUN (hostname; id -u; id -g; umask; env; cat /etc/hosts; ls -a /src /src/deep /etc) > out/machine; touch -a one; sleep 1.1

FROM busybox
ARG SOURCE_DATE_EPOCH
LABEL a=b
COPY --from=build --chown=1000:50 /src/deep/out /out
COPY . /context
COPY --link two /linked/two
ADD packed.tar /unpacked
WORKDIR /w/x
RUN touch /new && mkdir -p /etc/conf.d && mv /context/one /context/moved && rm /etc/group && chmod 700 /context/sub
ENV C=d
USER user
CMD [\"true\"]
";

const FILES: [(&str, &str, u32); 5] = [
    ("Dockerfile", DOCKERFILE, 0o644),
    ("one", "1\n", 0o644),
    ("two", "2\n", 0o755),
    ("sub/three", "3\n", 0o644),
    ("sub/sub/four", "4\n", 0o644),
];

/// Seconds of some years.
const OF_2010: u64 = 1_262_304_000;
const OF_2020: u64 = 1_577_836_800;

/// A machine with its user, and a checkout on it.
struct Machine {
    kiln: Kiln,
    context: PathBuf,
    /// What stands before `kiln`.
    wrapper: &'static str,
    environment: &'static [(&'static str, &'static str)],
}

impl Machine {
    /// The first one is plain; on the second one all is different that may be.
    fn new(second: bool) -> Self {
        let kiln = Kiln::busybox();
        let context = kiln.scratch().join(if second { "somebody/else/s/longer path" } else { "src" });
        checkout(&context, second);
        let (wrapper, environment): (_, &[_]) = if second {
            (
                "cd / && umask 077 && exec unshare --uts sh -c 'hostname other.example && exec taskset -c 0 \"$@\"' kiln",
                &[
                    ("LC_ALL", "de_DE.UTF-8"),
                    ("LANG", "C"),
                    ("TZ", "Asia/Tokyo"),
                    ("HOME", "/nowhere"),
                    ("USER", "x"),
                ],
            )
        } else {
            ("umask 022 && exec", &[("LANG", "en_US.UTF-8"), ("HOME", "/root")])
        };
        Self { kiln, context, wrapper, environment }
    }

    fn run(&self, words: &[&str]) -> Ran {
        let kiln = self.kiln.command(&[]);
        let mut command = Command::new("sh");
        command.env_clear().envs(kiln.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
            .args(["-c", &format!("{} \"$@\"", self.wrapper), "sh"])
            .arg(env!("CARGO_BIN_EXE_kiln"))
            .args(words);
        run(command.envs(self.environment.iter().copied()).current_dir(self.kiln.scratch()))
    }

    fn build(&self, words: &[&str]) -> Ran {
        let context = self.context.to_str().unwrap();
        let fixed = ["build", "--progress", "plain", "--network", "none"];
        self.run(&[&fixed, words, &[context]].concat()).ok()
    }

    /// The bytes of an output.
    fn output(&self, words: &[&str], kind: &str) -> Vec<u8> {
        let file = self.kiln.scratch().join("output");
        self.build(&[words, &["-o", &format!("type={kind},dest={}", file.display())]].concat());
        fs::read(file).unwrap()
    }
}

/// The same files with other modes, owners, times and in another order.
fn checkout(folder: &Path, second: bool) {
    let mut archive = tar::Builder::new(Vec::new());
    for name in ["x", "y/z"] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        header.set_size(2);
        header.set_mtime(OF_2020 + 5);
        archive.append_data(&mut header, name, &b"p\n"[..]).unwrap();
    }
    let packed = String::from_utf8(archive.into_inner().unwrap()).unwrap();
    let mut files: Vec<(&str, &str, u32)> = FILES.to_vec();
    files.push(("packed.tar", &packed, 0o644));
    if second {
        files.reverse();
    }
    for (index, (name, content, mode)) in files.into_iter().enumerate() {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(if second { mode & 0o700 } else { mode })).unwrap();
        set_time(&path, if second { OF_2010 + index as u64 } else { OF_2020 });
    }
    symlink("two", folder.join("symlink")).unwrap();
    for name in ["sub/sub", "sub", "."] {
        let path = folder.join(name);
        fs::set_permissions(&path, Permissions::from_mode(if second { 0o700 } else { 0o755 })).unwrap();
        set_time(&path, if second { OF_2010 } else { OF_2020 });
    }
    for entry in walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|_| second) {
        if !entry.file_type().is_symlink() {
            chown(entry.path(), Some(1234), Some(4321)).unwrap();
        }
    }
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let times = FileTimes::new().set_modified(time).set_accessed(time);
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

/// The times in a tar.
fn times(tar: &[u8]) -> Vec<(String, u64)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.path().unwrap().display().to_string(), entry.header().mtime().unwrap()))
        .collect()
}

#[test]
fn two_users_on_two_machines_get_the_same_image() {
    if !needs_root("two_users_on_two_machines_get_the_same_image") {
        return;
    }
    let (one, other) = (Machine::new(false), Machine::new(true));
    let words = ["--reproducible", "-t", "same"];
    let id = one.build(&words).id();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(other.build(&words).id(), id);
    let inspected: serde_json::Value =
        serde_json::from_str(&one.kiln.ok(&["image", "inspect", "same"])).unwrap();
    assert_eq!(inspected[0]["Created"], "1970-01-01T00:00:00Z");
    // All that leaves the store, packed and unpacked.
    for kind in ["oci", "docker", "tar"] {
        let (first, second) = (one.output(&words, kind), other.output(&words, kind));
        assert!(first == second, "{kind}: {} {}", Digest::of(first), Digest::of(second));
    }
    let digest = |machine: &Machine| {
        let registry = FakeRegistry::start();
        let name = format!("{}/same:1", registry.host());
        machine.run(&["tag", "same", &name]).ok();
        let pushed = machine.run(&["push", "-q", &name]).ok();
        let digests = machine.run(&["image", "inspect", "-f", "{{json .RepoDigests}}", "same"]).ok().out;
        assert!(digests.contains("@sha256:"), "{digests} {pushed}");
        digests.split_once('@').unwrap().1[..71].to_owned()
    };
    assert_eq!(digest(&one), digest(&other));
    assert_eq!(one.kiln.run(&["system", "check"]).ok().code, 0);
    // Cached, it is the same again.
    let again = one.build(&words);
    assert_eq!((again.id(), again.ended(Step::Done)), (id, vec![]), "{again}");
}

#[test]
fn the_time_of_the_source_is_in_no_key_and_in_every_layer() {
    if !needs_root("the_time_of_the_source_is_in_no_key_and_in_every_layer") {
        return;
    }
    let (one, other) = (Machine::new(false), Machine::new(true));
    let plain = one.build(&["--context-modes", "git", "-t", "plain"]).id();
    let words = |epoch: &'static str| ["--reproducible", "-t", "same", "--build-arg", epoch];
    let early = words("SOURCE_DATE_EPOCH=1000000000");
    let built = one.build(&early);
    assert_ne!(built.id(), plain);
    assert_eq!(other.build(&early).id(), built.id());
    // Of the steps, only one that can read the time runs again, and what follows it.
    let ended = built.ended(Step::Cached);
    assert!(ended.iter().any(|step| step.starts_with("COPY . .")), "{built}");
    let (first, second) = (one.output(&early, "tar"), other.output(&early, "tar"));
    assert!(first == second);
    for (name, time) in times(&first) {
        assert!(time <= 1_000_000_000, "{name}: {time}");
        let is_copied = ["out/all", "context/two", "linked/two", "unpacked/x", "w/x/", "new"];
        if is_copied.contains(&name.as_str()) {
            assert_eq!(time, 1_000_000_000, "{name}");
        }
    }
    assert_ne!(one.build(&words("SOURCE_DATE_EPOCH=1000000001")).id(), built.id());
    assert_eq!(one.build(&early).id(), built.id());
    assert_eq!(one.build(&["--context-modes", "git", "-t", "plain"]).id(), plain, "times of files are kept");
}
