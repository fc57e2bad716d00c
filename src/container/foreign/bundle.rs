//! `config.json` for another runtime: what kiln's own would start, in the words of the runtime-spec.
//!
//! Limits aren't in it: the cgroup is made and limited by kiln, and the runtime joins it.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::container::spec::host_devices;
use crate::runtime::{
    At, Below, DeviceRule, ExecSpec, How, Mount, Net, Ns, Propagation, Rights, Rlimit, Spec, StartError,
    User, masked_paths, readonly_paths,
};

/// `/dev/shm` when no size is asked for.
const SHM_BYTES: u64 = 64 << 20;
/// Docker's, which kiln's own start sets too.
const NETWORK_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// What the file is written from.
pub(super) struct Bundle<'a> {
    pub(super) spec: &'a Spec,
    /// Its folder.
    pub(super) folder: &'a Path,
    pub(super) user: &'a User,
    /// Where the network namespace is found.
    pub(super) network: Option<String>,
    /// Below each hierarchy's top.
    pub(super) cgroup: &'a Path,
    /// `linux.seccomp`.
    pub(super) seccomp: &'a Value,
}

impl Bundle<'_> {
    /// Makes the content; private files come into the folder.
    pub(super) fn config(&self) -> Result<Value, StartError> {
        let spec = self.spec;
        let devices = self.devices()?;
        let open = spec.privileged || spec.unmasked;
        let paths = |paths: Vec<String>| if open { Vec::new() } else { paths };
        let process = Program {
            args: &spec.args,
            env: &spec.env,
            cwd: &spec.cwd,
            tty: spec.tty,
            user: self.user,
            rights: &spec.rights,
            rlimits: &spec.rlimits,
        };
        let mut process = process.json();
        process["oomScoreAdj"] = spec.oom_score_adj.unwrap_or(0).into();
        let mut config = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs", "readonly": spec.readonly_root},
            "process": process,
            "mounts": self.mounts()?,
            "linux": {
                "cgroupsPath": Path::new("/").join(self.cgroup),
                "namespaces": self.namespaces(),
                "resources": {"devices": device_rules(spec.privileged, &devices, &spec.limits.devices)},
                "devices": devices,
                "sysctl": self.sysctls(),
                "maskedPaths": paths(masked_paths()),
                "readonlyPaths": paths(readonly_paths()),
            },
        });
        if spec.namespaces.uts == Ns::Own {
            config["hostname"] = spec.hostname.as_str().into();
            if !spec.domainname.is_empty() {
                config["domainname"] = spec.domainname.as_str().into();
            }
        }
        if !self.seccomp.is_null() {
            config["linux"]["seccomp"] = self.seccomp.clone();
        }
        Ok(config)
    }

    fn namespaces(&self) -> Vec<Value> {
        let wanted = &self.spec.namespaces;
        let mut all = vec![json!({"type": "mount"})];
        let four =
            [("pid", &wanted.pid), ("ipc", &wanted.ipc), ("uts", &wanted.uts), ("cgroup", &wanted.cgroup)];
        for (kind, namespace) in four {
            match namespace {
                Ns::Own => all.push(json!({"type": kind})),
                Ns::Host => {}
                Ns::Of(target) => {
                    all.push(json!({"type": kind, "path": format!("/proc/{}/ns/{kind}", target.pid)}));
                }
            }
        }
        match (&self.network, self.spec.network) {
            (Some(path), _) => all.push(json!({"type": "network", "path": path})),
            (None, Net::Host) => {}
            (None, _) => all.push(json!({"type": "network"})),
        }
        all
    }

    fn sysctls(&self) -> Value {
        let own = NETWORK_SYSCTLS.iter().filter(|_| self.spec.network == Net::Namespace);
        let own = own.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        own.chain(self.spec.sysctls.iter().cloned()).map(|(name, value)| (name, Value::from(value))).collect()
    }

    fn mounts(&self) -> Result<Vec<Value>, StartError> {
        let spec = self.spec;
        let sys = if spec.privileged { "rw" } else { "ro" };
        let cgroups = if spec.privileged || spec.writable_cgroups { "rw" } else { "ro" };
        let mut all = vec![
            plain("proc", "/proc", &["nosuid", "noexec", "nodev"]),
            plain("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            plain(
                "devpts",
                "/dev/pts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            plain("sysfs", "/sys", &["nosuid", "noexec", "nodev", sys]),
            plain("cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", cgroups]),
            plain("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        ];
        let size = if spec.shm_bytes == 0 { SHM_BYTES } else { spec.shm_bytes };
        let shm = |source: String| bind(Path::new(&source), "/dev/shm", &["nosuid", "noexec", "nodev"]);
        match &spec.namespaces.ipc {
            _ if spec.namespaces.no_shm => {}
            Ns::Own => {
                let size = format!("size={size}");
                all.push(plain("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
            }
            Ns::Host => all.push(shm("/dev/shm".to_owned())),
            Ns::Of(target) => all.push(shm(format!("/proc/{}/root/dev/shm", target.pid))),
        }
        for (index, mount) in spec.mounts.iter().enumerate() {
            all.extend(self.mount(index, mount)?);
        }
        Ok(all)
    }

    fn mount(&self, index: usize, mount: &Mount) -> Result<Option<Value>, StartError> {
        Ok(Some(match mount {
            Mount::Bind { target, how: How { subpath: Some(part), .. }, .. } => {
                let text = format!(
                    "cannot mount `{part}` at `{target}`: another runtime is given whole sources only"
                );
                return Err(StartError::new("mount", text));
            }
            Mount::Bind { source, target, readonly, how } => {
                let mut words = vec!["nodev"];
                words.extend(readonly.then_some("ro"));
                words.extend((*readonly && how.below == Below::Same).then_some("rro"));
                let mut bound = bind(source, target, &words);
                bound["options"][0] = if how.below == Below::None { "bind" } else { "rbind" }.into();
                bound["options"][1] = match how.propagation {
                    Propagation::Private => "rprivate".into(),
                    Propagation::Slave => "rslave".into(),
                    Propagation::Shared => "rshared".into(),
                };
                bound
            }
            // A node of its own: see `devices`.
            Mount::Device { .. } => return Ok(None),
            Mount::Tmpfs { target, size, mode, exec, suid, readonly, options } => {
                let word = |flag: bool, yes: &str, no: &str| if flag { yes } else { no }.to_owned();
                let mut words = vec!["nodev".to_owned(), format!("mode={:o}", mode.unwrap_or(0o1777))];
                words.extend([word(*exec, "exec", "noexec"), word(*suid, "suid", "nosuid")]);
                words.push(word(*readonly, "ro", "rw"));
                words.extend(size.map(|size| format!("size={size}")));
                words.extend(options.iter().map(|(name, value)| format!("{name}={value}")));
                json!({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": words})
            }
            Mount::File { target, content, mode, readonly, .. } => {
                let file = self.folder.join(format!("file{index}"));
                let written = std::fs::write(&file, content.reveal())
                    .and_then(|()| std::fs::set_permissions(&file, PermissionsExt::from_mode(*mode)));
                written.at("mount", || format!("cannot write `{}`", file.display()))?;
                bind(&file, target, if *readonly { &["nodev", "ro"] } else { &["nodev"] })
            }
            Mount::Layers { target, .. } => {
                let text = format!("cannot mount `{target}`: another runtime can't be given layers");
                return Err(StartError::new("mount", text));
            }
        }))
    }

    /// The nodes beside the usual ones.
    fn devices(&self) -> Result<Vec<Value>, StartError> {
        let mut nodes: Vec<(PathBuf, String)> = Vec::new();
        if self.spec.privileged {
            nodes.extend(host_devices().into_iter().map(|path| (path.clone(), path.display().to_string())));
        }
        for mount in &self.spec.mounts {
            if let Mount::Device { source, target } = mount {
                nodes.retain(|(_, path)| path != target);
                nodes.push((source.clone(), target.clone()));
            }
        }
        let fail = |path: &Path| format!("cannot use the device `{}`", path.display());
        nodes.iter().map(|(path, target)| node(path, target).at("mount", || fail(path))).collect()
    }
}

/// A process of a container, for `config.json` and for an exec.
pub(super) struct Program<'a> {
    args: &'a [String],
    env: &'a [String],
    cwd: &'a str,
    tty: Option<(u16, u16)>,
    user: &'a User,
    rights: &'a Rights,
    rlimits: &'a [Rlimit],
}

impl<'a> Program<'a> {
    /// The further process that `spec` describes.
    pub(super) fn of_exec(spec: &'a ExecSpec, user: &'a User) -> Program<'a> {
        Program {
            args: &spec.args,
            env: &spec.env,
            cwd: &spec.cwd,
            tty: spec.tty,
            user,
            rights: &spec.rights,
            rlimits: &spec.rlimits,
        }
    }

    /// The spec's `process`.
    pub(super) fn json(&self) -> Value {
        // What this process lacks nobody can give.
        let own = rustix::thread::capabilities(None).map_or(u64::MAX, |own| own.permitted.bits());
        let names = self.rights.capabilities.only(own).names();
        let limit = |limit: &Rlimit| {
            let value = |number: Option<u64>| number.unwrap_or(u64::MAX);
            let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
            json!({"type": name, "soft": value(limit.soft), "hard": value(limit.hard)})
        };
        let mut process = json!({
            "terminal": self.tty.is_some(),
            "user": {"uid": self.user.uid, "gid": self.user.gid, "additionalGids": self.user.groups},
            "args": self.args,
            "env": self.env,
            "cwd": if self.cwd.is_empty() { "/" } else { self.cwd },
            "capabilities": {"bounding": names, "effective": names, "permitted": names},
            "rlimits": self.rlimits.iter().map(limit).collect::<Vec<_>>(),
            "noNewPrivileges": self.rights.no_new_privileges,
        });
        if let Some(profile) = &self.rights.apparmor {
            process["apparmorProfile"] = profile.as_str().into();
        }
        if let Some((rows, columns)) = self.tty {
            process["consoleSize"] = json!({"height": rows, "width": columns});
        }
        process
    }
}

fn plain(kind: &str, target: &str, options: &[&str]) -> Value {
    json!({"destination": target, "type": kind, "source": kind, "options": options})
}

fn bind(source: &Path, target: &str, options: &[&str]) -> Value {
    let options = [&["rbind", "rprivate"][..], options].concat();
    json!({"destination": target, "type": "bind", "source": source, "options": options})
}

fn node(path: &Path, target: &str) -> io::Result<Value> {
    let found = std::fs::metadata(path)?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Err(io::Error::other("it is no device")),
    };
    let number = found.rdev();
    Ok(json!({
        "path": target,
        "type": kind,
        "major": rustix::fs::major(number),
        "minor": rustix::fs::minor(number),
        "fileMode": found.mode() & 0o7777,
        "uid": found.uid(),
        "gid": found.gid(),
    }))
}

/// All or none, and then each that was asked for; the runtime adds the usual ones.
fn device_rules(all: bool, devices: &[Value], more: &[DeviceRule]) -> Vec<Value> {
    let rule = |device: &Value| {
        json!({
            "allow": true, "access": "rwm",
            "type": device["type"], "major": device["major"], "minor": device["minor"],
        })
    };
    // The spec's number for every one.
    let number = |number: Option<u32>| number.map_or(-1, i64::from);
    let mut rules = vec![json!({"allow": all, "access": "rwm"})];
    rules.extend(devices.iter().map(rule));
    let further = more.iter().filter(|rule| rule.kind != 'a' || rule.allow);
    rules.extend(further.map(|rule| {
        let kind = rule.kind.to_string();
        let (major, minor) = (number(rule.major), number(rule.minor));
        json!({"allow": rule.allow, "access": rule.access, "type": kind, "major": major, "minor": minor})
    }));
    rules
}
