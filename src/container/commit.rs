//! A container becomes an image: its writable layer, and its configuration beside the image's.

use kiln_cache::{Image, Lease, Store};

use super::error::Result;
use super::record::Record;
use super::{Containers, health};
use crate::api::HealthRequest;
use crate::image::{self, Commit, layer};
use crate::oci::{Empty, Healthcheck, HistoryEntry, ImageConfig, RunConfig};
use crate::runtime;
use crate::sys::signals;

/// What the new image is told besides what the container is.
#[derive(Debug)]
pub struct NewImage {
    /// How containers of it run: [`run_config`], changed as asked.
    pub config: RunConfig,
    /// Who made it.
    pub author: Option<String>,
    /// The comment of the history's new line.
    pub message: Option<String>,
    /// When it was made.
    pub created: jiff::Timestamp,
}

impl Containers {
    /// Makes an image of a container. `base` is the configuration of the container's image.
    ///
    /// What changes while the files are read is in the image or isn't, file by file.
    pub fn commit(
        &self,
        store: &Store,
        lease: &Lease,
        record: &Record,
        base: ImageConfig,
        new: NewImage,
    ) -> Result<image::Result<Image>> {
        let left_out = self.layer(store, record)?.made_by_the_runtime()?;
        let created = new.created.to_string();
        let line = HistoryEntry {
            created: Some(created.clone()),
            created_by: Some(record.config.args.join(" ")),
            author: new.author.clone(),
            comment: new.message,
            empty_layer: false,
        };
        let commit = Commit {
            chain: &record.chain,
            config: ImageConfig {
                created: Some(created),
                author: new.author.or(base.author),
                config: new.config,
                ..base
            },
            line,
            created: new.created.as_second(),
        };
        let upper = self.folder(&record.id).join("upper");
        Ok(image::commit(store, lease, commit, |out| {
            layer::tar_live(&upper, &|path| left_out.contains(path), out)
        }))
    }
}

/// Returns how containers of a committed image run: as the container was asked to, in what only the image knows as
/// the image says.
pub fn run_config(record: &Record, image: RunConfig) -> RunConfig {
    let config = &record.config;
    let command = config.args.get(config.entrypoint.len()..).unwrap_or_default().to_vec();
    let some = |words: Vec<String>| (!words.is_empty()).then_some(words);
    let image_signal = image.stop_signal.as_deref().and_then(signals::parse).unwrap_or(libc::SIGTERM);
    let stop_signal = match image_signal == config.stop_signal {
        true => image.stop_signal.clone(),
        false => Some(config.stop_signal.to_string()),
    };
    let mut new = RunConfig {
        user: config.user.clone(),
        env: env(record, &image),
        entrypoint: some(config.entrypoint.clone()),
        cmd: some(command),
        working_dir: config.cwd.clone(),
        labels: config.labels.clone(),
        healthcheck: healthcheck(record, &image),
        stop_signal,
        ..image
    };
    let anonymous = config.mounts.iter().filter(|mount| mount.anonymous);
    new.volumes.extend(anonymous.map(|mount| (mount.target.clone(), Empty {})));
    new.exposed_ports.extend(config.exposed.iter().map(|port| (port.clone(), Empty {})));
    new
}

/// The container's health check, in the image's words where it is the image's.
fn healthcheck(record: &Record, image: &RunConfig) -> Option<Healthcheck> {
    if health::check(image.healthcheck.as_ref(), &HealthRequest::default()) == record.config.health {
        return image.healthcheck.clone();
    }
    Some(match &record.config.health {
        None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
        Some(check) => Healthcheck {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries.into(),
        },
    })
}

/// The container's environment without what every start adds by itself.
fn env(record: &Record, image: &RunConfig) -> Vec<String> {
    let config = &record.config;
    let mut added = vec![format!("HOSTNAME={}", config.hostname), format!("PATH={}", runtime::DEFAULT_PATH)];
    if config.tty {
        added.push("TERM=xterm".to_owned());
    }
    added.retain(|line| !image.env.contains(line));
    config.env.iter().filter(|line| !added.contains(line)).cloned().collect()
}
