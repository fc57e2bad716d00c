//! `kiln ps --filter`.

use regex::Regex;

use super::filter;
use crate::api::{ContainerInfo, ContainerState, LabelFilter, PublishedPort};
use crate::cli::error::Error;

/// What `--filter` keeps: values of one key are joined by "or", keys by "and", labels by "and".
#[derive(Debug, Default)]
pub(super) struct Filter {
    ids: Vec<Regex>,
    names: Vec<Regex>,
    states: Vec<String>,
    images: Vec<String>,
    labels: LabelFilter,
    exited: Vec<i32>,
    health: Vec<String>,
    networks: Vec<String>,
    volumes: Vec<String>,
    published: Vec<Ports>,
    exposed: Vec<Ports>,
    before: Option<i64>,
    since: Option<i64>,
    /// `is-task=true`: swarm's, of which there are none.
    nothing: bool,
}

/// `80`, `80/udp`, `8000-8080/tcp`
#[derive(Debug)]
struct Ports {
    first: u16,
    last: u16,
    protocol: String,
}

const KEYS: [&str; 14] = [
    "id", "name", "status", "ancestor", "label", "exited", "health", "network", "volume", "publish",
    "expose", "before", "since", "is-task",
];
const STATES: [&str; 7] = ["created", "running", "exited", "paused", "restarting", "removing", "dead"];
const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

impl Filter {
    /// Reads the flags; `before` and `since` name one of `containers`.
    pub(super) fn parse(texts: &[String], containers: &[ContainerInfo]) -> Result<Self, Error> {
        let mut filter = Self::default();
        for text in texts {
            let (key, value) = filter::pair(text)?;
            match key {
                "id" => filter.ids.push(regex(key, value)?),
                "name" => filter.names.push(regex(key, value)?),
                "status" => filter.states.push(known(key, value, &STATES)?),
                "health" => filter.health.push(known(key, value, &HEALTH)?),
                "ancestor" => filter.images.push(value.to_owned()),
                "label" => filter::add_label(&mut filter.labels, value),
                "exited" => {
                    let bad =
                        || Error::usage(format!("the filter `exited` is `{value}`; it must be a number"));
                    filter.exited.push(value.parse().map_err(|_| bad())?);
                }
                "network" => filter.networks.push(value.to_owned()),
                "volume" => filter.volumes.push(value.to_owned()),
                "publish" => filter.published.push(Ports::parse(key, value)?),
                "expose" => filter.exposed.push(Ports::parse(key, value)?),
                "before" => filter.before = Some(created(value, containers)?),
                "since" => filter.since = Some(created(value, containers)?),
                "is-task" => filter.nothing |= filter::boolean(key, value)?,
                _ => return Err(filter::unknown(key, &KEYS)),
            }
        }
        Ok(filter)
    }

    /// Tells whether `container` fits.
    pub(super) fn keeps(&self, container: &ContainerInfo) -> bool {
        let exited =
            |code: &i32| container.state == ContainerState::Exited && container.exit_code == Some(*code);
        let health = container.health.map_or("none", crate::api::HealthStatus::name);
        !self.nothing
            && any(&self.ids, |wanted| wanted.is_match(&container.id))
            // The name has a slash in docker's own lists, and so in what people write.
            && any(&self.names, |wanted| {
                wanted.is_match(&container.name) || wanted.is_match(&format!("/{}", container.name))
            })
            && any(&self.networks, |wanted| container.networks.contains(wanted))
            && any(&self.states, |wanted| container.state.name() == wanted)
            && any(&self.health, |wanted| health == wanted)
            && any(&self.images, |wanted| image_fits(container, wanted))
            && any(&self.volumes, |wanted| {
                container.mounts.contains(wanted) || container.targets.contains(wanted)
            })
            && any(&self.published, |wanted| container.ports.iter().any(|port| wanted.has_published(port)))
            && any(&self.exposed, |wanted| container.exposed.iter().any(|port| wanted.has(port)))
            && any(&self.exited, exited)
            && self.labels.has_all(&container.labels)
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
    }
}

impl Ports {
    fn parse(key: &str, text: &str) -> Result<Self, Error> {
        let bad = || {
            Error::usage(format!("invalid port `{text}` in the filter `{key}`"))
                .hint("write it as `80`, `53/udp` or `8000-8080`")
        };
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
        match first <= last && ["tcp", "udp", "sctp"].contains(&protocol) {
            true => Ok(Self { first, last, protocol: protocol.to_owned() }),
            false => Err(bad()),
        }
    }

    /// Tells whether one of them is published, or published as: docker's documentation has the container's port, its
    /// daemon the machine's.
    fn has_published(&self, port: &PublishedPort) -> bool {
        let protocol = port.port.split_once('/').map_or("tcp", |(_, protocol)| protocol);
        let host = port.address.rsplit_once(':').map_or("", |(_, host)| host);
        self.has(&port.port) || self.has(&format!("{host}/{protocol}"))
    }

    /// Tells whether `80/tcp` is one of them.
    fn has(&self, port: &str) -> bool {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let in_range = |number: u16| (self.first..=self.last).contains(&number);
        protocol == self.protocol && number.parse().is_ok_and(in_range)
    }
}

/// Nothing wanted is everything.
fn any<T>(wanted: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}

fn regex(key: &str, text: &str) -> Result<Regex, Error> {
    Regex::new(text)
        .map_err(|_| Error::usage(format!("the filter `{key}` is `{text}`, no regular expression")))
}

fn known(key: &str, text: &str, words: &[&str]) -> Result<String, Error> {
    if !words.contains(&text) {
        return Err(
            Error::usage(format!("unknown {key} `{text}`")).hint(format!("it may be {}", words.join(", ")))
        );
    }
    Ok(text.to_owned())
}

fn image_fits(container: &ContainerInfo, wanted: &str) -> bool {
    let id = container.image_id.strip_prefix("sha256:").unwrap_or(&container.image_id);
    let same = |name: &str| container.image == name;
    same(wanted)
        || same(&format!("{wanted}:latest"))
        || wanted.strip_suffix(":latest").is_some_and(same)
        || (wanted.len() >= 4 && (id.starts_with(wanted) || container.image_id.starts_with(wanted)))
}

fn created(name: &str, containers: &[ContainerInfo]) -> Result<i64, Error> {
    let found = containers.iter().find(|container| container.name == name || container.id.starts_with(name));
    found
        .map(|container| container.created)
        .ok_or_else(|| Error::usage(format!("no such container: `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::super::ps::tests::all;
    use super::*;

    #[test]
    fn filters_keep_what_fits() {
        for (filters, expected) in [
            (&["name=web"][..], &["web", "web-old"][..]),
            (&["name=^web$"], &["web"]),
            (&["name=^/web$"], &["web"]),
            (&["name=/new"], &["new"]),
            (&["name=^(/web|new)$"], &["web", "new"]),
            (&["status=exited", "status=created"], &["web-old", "new"]),
            (&["exited=3"], &["web-old"]),
            (&["exited=0"], &[]),
            (&["ancestor=busybox:latest", "status=running"], &["web"]),
            (&["ancestor=debian"], &[]),
            (&["label=a=1", "label=a"], &["web", "web-old", "new"]),
            (&["before=web"], &["web-old", "new"]),
            (&["since=web-old"], &["web"]),
            (&["id=new"], &["new"]),
            (&["name=^web-o.d$"], &["web-old"]),
            (&["name=^(new|web)$"], &["web", "new"]),
            (&["health=none", "name=new"], &["new"]),
            (&["health=healthy"], &[]),
            (&["volume=data", "name=new"], &["new"]),
            (&["volume=/host", "volume=x", "name=new"], &["new"]),
            (&["volume=nothing"], &[]),
            (&["expose=80", "name=new"], &["new"]),
            (&["expose=70-90/tcp", "name=new"], &["new"]),
            (&["expose=80/udp"], &[]),
            (&["publish=80"], &[]),
            (&["is-task=true"], &[]),
            (&["is-task=1"], &[]),
            (&["is-task=false", "name=new"], &["new"]),
            (&["network=host"], &[]),
            (&["network=bridge", "network=host", "name=new"], &["new"]),
        ] {
            let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
            let filter = Filter::parse(&filters, &all()).unwrap();
            let kept: Vec<String> = all()
                .iter()
                .filter(|container| filter.keeps(container))
                .map(|one| one.name.clone())
                .collect();
            assert_eq!(kept, expected, "{filters:?}");
        }
        for bad in [
            "colour=red",
            "status=up",
            "exited=x",
            "health=fine",
            "before=nothing",
            "expose=x",
            "name=(",
            "name",
        ] {
            assert!(Filter::parse(&[bad.to_owned()], &all()).is_err(), "{bad}");
        }
    }
}
