//! `kiln inspect` of a container.

use serde_json::{Value, json};

use crate::api::{ContainerState, Failure, NetworkMode};
use crate::container::{MountPoint, Record, log_path};
use crate::oci::signal_name;

use super::Engine;
use crate::image;

/// How docker spells the time of something that never happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl Engine {
    /// Explains a container in docker's shape.
    pub fn inspect_container(&self, container: &str) -> Result<Value, Failure> {
        let record = self.container(container)?;
        let folder = self.containers().folder(&record.id);
        let (program, arguments) = match record.config.args.split_first() {
            Some((program, arguments)) => (program.clone(), arguments.to_vec()),
            None => (String::new(), Vec::new()),
        };
        Ok(json!({
            "Id": record.id,
            "Created": time(Some(record.created)),
            "Path": program,
            "Args": arguments,
            "State": state(&record),
            "Image": record.image_id,
            "ResolvConfPath": "",
            "HostnamePath": "",
            "HostsPath": "",
            "LogPath": log_path(&folder, &record.id),
            "Name": format!("/{}", record.name),
            "RestartCount": 0,
            "Driver": "overlay2",
            "Platform": "linux",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": null,
            "HostConfig": host_config(&record),
            "GraphDriver": {
                "Name": "overlay2",
                "Data": { "UpperDir": folder.join("upper"), "WorkDir": folder.join("work") },
            },
            "Mounts": record.config.mounts.iter().map(mount).collect::<Vec<_>>(),
            "Config": config(&record, &self.image_part(&record)),
            "NetworkSettings": network(&record),
        }))
    }

    /// What a container takes over from its image unchanged, and has no record of; nothing when the image is gone.
    fn image_part(&self, record: &Record) -> Value {
        let part = || {
            let store = self.store().ok()?;
            let image = store.image(&record.image_id.parse().ok()?).ok()??;
            Some(image::inspect(store, &image).ok()?["Config"].take())
        };
        part().unwrap_or_default()
    }
}

fn state(record: &Record) -> Value {
    let state = &record.state;
    json!({
        "Status": state.status,
        "Running": state.status.is_alive(),
        "Paused": state.status == ContainerState::Paused,
        "Restarting": state.status == ContainerState::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.status == ContainerState::Dead,
        "Pid": state.process.as_ref().map_or(0, |process| process.pid),
        "ExitCode": state.exit_code.unwrap_or(0),
        "Error": state.error,
        "StartedAt": time(state.started),
        "FinishedAt": time(state.finished),
    })
}

fn host_config(record: &Record) -> Value {
    let config = &record.config;
    let bind = |mount: &MountPoint| {
        let source = mount.volume.clone().unwrap_or_else(|| mount.source.display().to_string());
        let mode = if mount.readonly { ":ro" } else { "" };
        format!("{source}:{}{mode}", mount.target)
    };
    let binds: Vec<_> = config.mounts.iter().filter(|mount| !mount.anonymous).map(bind).collect();
    let hosts: Vec<_> = config.add_hosts.iter().map(|(name, at)| format!("{name}:{at}")).collect();
    json!({
        "Binds": binds,
        "LogConfig": { "Type": "json-file", "Config": { "max-size": "10m", "max-file": "3" } },
        "NetworkMode": network_name(config.network),
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "AutoRemove": config.remove,
        "ExtraHosts": hosts,
        "Privileged": config.privileged,
        "ReadonlyRootfs": config.readonly,
        "Memory": config.resources.memory.unwrap_or(0),
        "NanoCpus": config.resources.cpus_millis.unwrap_or(0) * 1_000_000,
        "PidsLimit": config.resources.pids_limit,
        "CapAdd": null,
        "CapDrop": null,
        "CgroupParent": "",
        "CpuShares": 0,
        "Devices": [],
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "Init": false,
        "IpcMode": "private",
        "Links": null,
        "MemorySwap": 0,
        "OomKillDisable": false,
        "PidMode": "",
        "PortBindings": {},
        "PublishAllPorts": false,
        "SecurityOpt": null,
        "ShmSize": 64 << 20,
        "UTSMode": "",
        "Ulimits": [],
        "VolumesFrom": null,
    })
}

fn config(record: &Record, image: &Value) -> Value {
    let config = &record.config;
    let command = config.args.get(config.entrypoint.len()..).unwrap_or_default();
    let entrypoint = (!config.entrypoint.is_empty()).then_some(&config.entrypoint);
    json!({
        "Hostname": config.hostname,
        "Domainname": "",
        "User": config.user,
        "AttachStdin": config.interactive,
        "AttachStdout": true,
        "AttachStderr": true,
        "Tty": config.tty,
        "OpenStdin": config.interactive,
        "StdinOnce": config.interactive,
        "Env": config.env,
        "Cmd": command,
        "Image": record.image,
        "WorkingDir": config.cwd,
        "Entrypoint": entrypoint,
        "ExposedPorts": image["ExposedPorts"],
        "Volumes": image["Volumes"],
        "OnBuild": image["OnBuild"],
        "Labels": config.labels,
        "StopSignal": signal_name(config.stop_signal),
    })
}

fn mount(mount: &MountPoint) -> Value {
    let mode = if mount.readonly { "ro" } else { "" };
    match &mount.volume {
        Some(name) => json!({
            "Type": "volume",
            "Name": name,
            "Source": mount.source,
            "Destination": mount.target,
            "Driver": "local",
            "Mode": mode,
            "RW": !mount.readonly,
            "Propagation": "",
        }),
        None => json!({
            "Type": "bind",
            "Source": mount.source,
            "Destination": mount.target,
            "Mode": mode,
            "RW": !mount.readonly,
            "Propagation": "rprivate",
        }),
    }
}

fn network(record: &Record) -> Value {
    let place = record.state.address.as_ref();
    let (address, prefix) = place.and_then(|place| place.address.split_once('/')).unwrap_or(("", "0"));
    let prefix: u8 = prefix.parse().unwrap_or(0);
    let endpoint = json!({
        "IPAddress": address,
        "IPPrefixLen": prefix,
        "Gateway": place.map_or("", |place| &place.gateway),
        "MacAddress": place.map_or("", |place| &place.mac),
    });
    let mut settings = endpoint.clone();
    settings["Bridge"] = json!(place.map_or("", |place| &place.bridge));
    settings["Ports"] = json!({});
    settings["Networks"] = json!({ network_name(record.config.network): endpoint });
    settings
}

/// Docker's name of a network.
pub(super) fn network_name(network: NetworkMode) -> &'static str {
    match network {
        NetworkMode::Bridge => "bridge",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
    }
}

fn time(nanoseconds: Option<i64>) -> String {
    let time = nanoseconds.and_then(|time| jiff::Timestamp::from_nanosecond(time.into()).ok());
    time.map_or_else(|| NEVER.to_owned(), |time| format!("{time:.9}"))
}
