//! `kiln inspect` of a container.

mod host_config;
mod mounts;
mod network;
mod ports;

use std::path::Path;

use serde_json::{Map, Value, json};

pub(super) use self::network::network_names;
use crate::api::{ContainerState, Failure, Health, HealthCheck};
use crate::container::{Record, log_path};
use crate::image;
use crate::oci::signal_name;

use super::Engine;

/// How docker spells the time of something that never happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl Engine {
    /// Explains a container in docker's shape; `sized` measures it too.
    pub fn inspect_container(&self, container: &str, sized: bool) -> Result<Value, Failure> {
        let record = self.container(container)?;
        let folder = self.containers().folder(&record.id);
        let (program, arguments) = match record.config.args.split_first() {
            Some((program, arguments)) => (program.clone(), arguments.to_vec()),
            None => (String::new(), Vec::new()),
        };
        let mut shown = json!({
            "Id": record.id,
            "Created": time(Some(record.created)),
            "Path": program,
            "Args": arguments,
            "State": state(&record),
            "Image": record.image_id,
            "ResolvConfPath": existing(&folder, "resolv.conf"),
            "HostnamePath": existing(&folder, "hostname"),
            "HostsPath": existing(&folder, "hosts"),
            "LogPath": log_path(&folder, &record).unwrap_or_default(),
            "Name": format!("/{}", record.name),
            "RestartCount": record.state.restarts,
            "Driver": "overlay2",
            "Platform": "linux",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": Some(self.containers().execs(&record.id)).filter(|ids| !ids.is_empty()),
            "HostConfig": host_config::host_config(&record),
            "GraphDriver": { "Name": "overlay2", "Data": self.layers(&record, &folder) },
            "Mounts": mounts::mounts(&record.config),
            "Config": config(&record, &self.image_part(&record)),
            "NetworkSettings": network::settings(&record),
        });
        if !record.config.links.is_empty() {
            shown["HostConfig"]["Links"] = json!(self.links(&record));
        }
        if sized {
            let size = self.container_size(&record.id, &record.image_id)?;
            shown["SizeRw"] = json!(size.written);
            shown["SizeRootFs"] = json!(size.whole);
        }
        Ok(shown)
    }

    /// Its links as docker spells them: `/target:/container/alias`.
    fn links(&self, record: &Record) -> Vec<String> {
        let name = |id: &str| self.container(id).map_or_else(|_| id.to_owned(), |target| target.name);
        let link = |(id, alias): &(String, String)| format!("/{}:/{}/{alias}", name(id), record.name);
        record.config.links.iter().map(link).collect()
    }

    /// The folders of its filesystem.
    fn layers(&self, record: &Record, folder: &Path) -> Value {
        let lowers = self.store().map(|store| store.overlay(&record.chain, None).lowers).unwrap_or_default();
        let lowers: Vec<_> = lowers.iter().map(|lower| lower.display().to_string()).collect();
        json!({
            "LowerDir": lowers.join(":"),
            "UpperDir": folder.join("upper"),
            "WorkDir": folder.join("work"),
        })
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
    let mut shown = json!({
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
    });
    if let Some(told) = &state.health {
        shown["Health"] = health(told);
    }
    shown
}

fn health(health: &Health) -> Value {
    let probes = health.log.iter().map(|probe| {
        json!({
            "Start": time(Some(probe.start)),
            "End": time(Some(probe.end)),
            "ExitCode": probe.exit_code,
            "Output": probe.output,
        })
    });
    json!({
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": probes.collect::<Vec<_>>(),
    })
}

fn config(record: &Record, image: &Value) -> Value {
    let config = &record.config;
    let command = config.args.get(config.entrypoint.len()..).unwrap_or_default();
    let entrypoint = (!config.entrypoint.is_empty()).then_some(&config.entrypoint);
    let ports: Map<_, _> = config.exposed.iter().map(|port| (port.clone(), json!({}))).collect();
    let is_attached =
        |stream: &str| config.attach.is_empty() || config.attach.iter().any(|one| one == stream);
    let mut shown = json!({
        "Hostname": config.hostname,
        "Domainname": config.isolation.domainname.clone().unwrap_or_default(),
        "User": config.user,
        "AttachStdin": config.stdin_once,
        "AttachStdout": is_attached("stdout"),
        "AttachStderr": is_attached("stderr"),
        "Tty": config.tty,
        "OpenStdin": config.interactive,
        "StdinOnce": config.stdin_once,
        "Env": env(record),
        "Cmd": command,
        "Image": record.image,
        "Volumes": mounts::declared(config, &image["Volumes"]),
        "WorkingDir": config.cwd,
        "Entrypoint": entrypoint,
        "OnBuild": image["OnBuild"],
        "Labels": config.labels,
        "StopSignal": signal_name(config.stop_signal),
    });
    shown["ExposedPorts"] = if ports.is_empty() { Value::Null } else { ports.into() };
    if let Some(seconds) = config.stop_timeout {
        shown["StopTimeout"] = seconds.into();
    }
    if let Some(check) = &config.health {
        shown["Healthcheck"] = healthcheck(check);
    }
    shown
}

/// The environment without what every start adds by itself, which docker doesn't show.
fn env(record: &Record) -> Vec<&String> {
    let host = format!("HOSTNAME={}", record.config.hostname);
    let is_added = |line: &String| *line == host || (record.config.tty && line == "TERM=xterm");
    record.config.env.iter().filter(|line| !is_added(line)).collect()
}

fn healthcheck(check: &HealthCheck) -> Value {
    json!({
        "Test": check.test,
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    })
}

/// The path of a file of the container, if it has that one.
fn existing(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    if path.exists() { path.display().to_string() } else { String::new() }
}

pub(super) fn time(nanoseconds: Option<i64>) -> String {
    let time = nanoseconds.and_then(|time| jiff::Timestamp::from_nanosecond(time.into()).ok());
    time.map_or_else(|| NEVER.to_owned(), |time| format!("{time:.9}"))
}
