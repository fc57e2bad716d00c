//! `kiln ps`

use crate::api::{ContainerInfo, ContainerState};
use crate::cli::error::Error;
use crate::cli::format::{self, Columns, Row};
use crate::cli::session::{Invocation, print};
use crate::cli::{exit, flags, text, time};

/// Columns of COMMAND, without its quotes.
const COMMAND_WIDTH: usize = 20;
/// Columns of each of MOUNTS.
const MOUNT_WIDTH: usize = 15;

/// Flags of docker that are still to come.
pub(crate) const NOT_YET: &[&str] = &["-s", "--size"];

/// `kiln ps`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Ps {
    /// Show also containers that don't run
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Show only what fits: id=, name=, status=, ancestor=, label=, exited=, network=, before=, since=
    #[arg(long, short, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Show the last N containers, also those that don't run
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) last: Option<i64>,
    /// Show the last container, also when it doesn't run
    #[arg(long, short)]
    pub(crate) latest: bool,
    /// Don't shorten
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show only ids
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

const COLUMNS: Columns = &[
    ("ID", "CONTAINER ID", true),
    ("Image", "IMAGE", true),
    ("Command", "COMMAND", true),
    ("RunningFor", "CREATED", true),
    ("Status", "STATUS", true),
    ("Ports", "PORTS", true),
    ("Names", "NAMES", true),
    ("CreatedAt", "CREATED AT", false),
    ("State", "STATE", false),
    ("Labels", "LABELS", false),
    ("Networks", "NETWORKS", false),
    ("Mounts", "MOUNTS", false),
    ("LocalVolumes", "LOCAL VOLUMES", false),
];

/// Lists containers, newest first.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Ps = flags::parse(invocation)?;
    let last = if flags.latest { Some(1) } else { flags.last.and_then(|last| usize::try_from(last).ok()) };
    let by_state =
        flags.filter.iter().any(|filter| filter.starts_with("status=") || filter.starts_with("exited="));
    let mut containers = invocation.session.engine()?.ps(true)?;
    containers.sort_by_key(|container| std::cmp::Reverse(container.created));
    let filter = Filter::parse(&flags.filter, &containers)?;
    if !flags.all && last.is_none() && !by_state {
        containers.retain(|container| container.state.is_alive());
    }
    containers.retain(|container| filter.keeps(container));
    containers.truncate(last.unwrap_or(usize::MAX));
    if flags.quiet && flags.format.is_none() {
        print(
            &containers
                .iter()
                .map(|container| id(container, flags.no_trunc).to_owned() + "\n")
                .collect::<String>(),
        )?;
        return Ok(exit::SUCCESS);
    }
    let now = time::now();
    let rows = containers.iter().map(|container| row(container, flags.no_trunc, now)).collect();
    format::print_rows(COLUMNS, rows, flags.format.as_deref())?;
    Ok(exit::SUCCESS)
}

fn id(container: &ContainerInfo, whole: bool) -> &str {
    if whole { &container.id } else { text::short_id(&container.id) }
}

fn row(container: &ContainerInfo, whole: bool, now: i64) -> Row {
    let command = command_line(&container.command);
    let command = if whole { command } else { text::ellipsis(&text::one_line(&command), COMMAND_WIDTH) };
    let labels: Vec<String> = container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    vec![
        ("ID", id(container, whole).into()),
        ("Image", container.image.clone().into()),
        ("Command", text::quote(&command).into()),
        ("RunningFor", time::ago(container.created, now).into()),
        ("CreatedAt", time::long(container.created / 1_000_000_000).into()),
        ("Status", status(container, now).into()),
        ("State", container.state.name().into()),
        ("Ports", "".into()),
        ("Names", container.name.clone().into()),
        ("Labels", labels.join(",").into()),
        ("Networks", container.network.into()),
        ("Mounts", mounts(&container.mounts, whole).into()),
        ("LocalVolumes", container.volumes.to_string().into()),
    ]
}

/// Docker's way: an argument with a blank stands in quotes, the program never does.
fn command_line(command: &[String]) -> String {
    let quoted = |(at, word): (usize, &String)| match at > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    command.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}

fn mounts(mounts: &[String], whole: bool) -> String {
    let short = |mount: &String| if whole { mount.clone() } else { text::ellipsis(mount, MOUNT_WIDTH) };
    mounts.iter().map(short).collect::<Vec<_>>().join(",")
}

/// Docker's words: `Up 5 minutes`, `Exited (0) 3 seconds ago`.
fn status(container: &ContainerInfo, now: i64) -> String {
    let ended = |word| {
        let code = container.exit_code.unwrap_or_default();
        match container.finished {
            Some(finished) => format!("{word} ({code}) {}", time::ago(finished, now)),
            None => format!("{word} ({code})"),
        }
    };
    let up = || {
        let since = now.saturating_sub(container.started.unwrap_or(now)).max(0).unsigned_abs();
        format!("Up {}", time::human(std::time::Duration::from_nanos(since)))
    };
    match container.state {
        ContainerState::Created => "Created".into(),
        ContainerState::Running => up(),
        ContainerState::Paused => up() + " (Paused)",
        ContainerState::Restarting => ended("Restarting"),
        ContainerState::Removing => "Removal In Progress".into(),
        ContainerState::Exited => ended("Exited"),
        ContainerState::Dead => "Dead".into(),
    }
}

/// What `--filter` keeps: values of one key are joined by "or", keys by "and", labels by "and".
#[derive(Debug, Default)]
struct Filter {
    ids: Vec<String>,
    names: Vec<String>,
    states: Vec<String>,
    images: Vec<String>,
    labels: Vec<(String, Option<String>)>,
    exited: Vec<i32>,
    before: Option<i64>,
    since: Option<i64>,
    networks: Vec<String>,
}

impl Filter {
    fn parse(texts: &[String], containers: &[ContainerInfo]) -> Result<Self, Error> {
        let mut filter = Self::default();
        for text in texts {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            match key {
                "id" => filter.ids.push(value.to_owned()),
                "name" => filter.names.push(value.to_owned()),
                "status" => filter.states.push(known_state(value)?.to_owned()),
                "ancestor" => filter.images.push(value.to_owned()),
                "label" => {
                    let (label, wanted) =
                        value.split_once('=').map_or((value, None), |(l, w)| (l, Some(w.to_owned())));
                    filter.labels.push((label.to_owned(), wanted));
                }
                "exited" => {
                    let bad =
                        || Error::usage(format!("the filter `exited` is `{value}`; it must be a number"));
                    filter.exited.push(value.parse().map_err(|_| bad())?);
                }
                "network" => filter.networks.push(value.to_owned()),
                "before" => filter.before = Some(created(value, containers)?),
                "since" => filter.since = Some(created(value, containers)?),
                "health" | "publish" | "expose" | "volume" | "isolation" | "is-task" => {
                    return Err(Error::usage(format!("the filter `{key}` is not supported yet")));
                }
                _ => {
                    return Err(Error::usage(format!("unknown filter `{key}`")).hint(
                        "it may be id, name, status, ancestor, label, exited, network, before or since",
                    ));
                }
            }
        }
        Ok(filter)
    }

    fn keeps(&self, container: &ContainerInfo) -> bool {
        let any = |wanted: &[String], fits: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|wanted| fits(wanted))
        };
        let exited =
            |code: &i32| container.state == ContainerState::Exited && container.exit_code == Some(*code);
        any(&self.ids, &|wanted| container.id.starts_with(wanted))
            && any(&self.names, &|wanted| name_fits(&container.name, wanted))
            && any(&self.networks, &|wanted| container.network == wanted)
            && any(&self.states, &|wanted| container.state.name() == wanted)
            && any(&self.images, &|wanted| image_fits(container, wanted))
            && self.labels.iter().all(|(label, wanted)| {
                container
                    .labels
                    .get(label)
                    .is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
            })
            && (self.exited.is_empty() || self.exited.iter().any(exited))
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
    }
}

fn known_state(text: &str) -> Result<&str, Error> {
    const STATES: [&str; 7] = ["created", "running", "exited", "paused", "restarting", "removing", "dead"];
    if !STATES.contains(&text) {
        return Err(
            Error::usage(format!("unknown status `{text}`")).hint(format!("it may be {}", STATES.join(", ")))
        );
    }
    Ok(text)
}

/// A part of the name; `^` and `$` bind it to the ends, as people use docker's regular expression.
fn name_fits(name: &str, wanted: &str) -> bool {
    let wanted = wanted.replace("^/", "^");
    match (wanted.strip_prefix('^'), wanted.strip_suffix('$')) {
        (Some(rest), Some(_)) => name == rest.trim_end_matches('$'),
        (Some(start), None) => name.starts_with(start),
        (None, Some(end)) => name.ends_with(end),
        (None, None) => name.contains(&wanted),
    }
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
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_000;
    const MINUTE: i64 = 60 * 1_000_000_000;

    fn container(name: &str, state: ContainerState, minutes_old: i64) -> ContainerInfo {
        ContainerInfo {
            id: format!("{name:0<64}"),
            name: name.into(),
            image: "busybox".into(),
            image_id: "sha256:abcdef".into(),
            command: vec!["sh".into(), "-c".into(), "echo \"a very long line\"".into()],
            created: NOW - minutes_old * MINUTE,
            state,
            started: Some(NOW - minutes_old * MINUTE),
            finished: (state == ContainerState::Exited).then_some(NOW - 3_000_000_000),
            exit_code: (state == ContainerState::Exited).then_some(3),
            pid: None,
            labels: [("a".to_owned(), "1".to_owned())].into(),
            network: "bridge",
            mounts: vec!["data".into(), "/a/long/host/path".into()],
            volumes: 1,
            folder: "/x".into(),
        }
    }

    fn all() -> [ContainerInfo; 3] {
        [
            container("web", ContainerState::Running, 5),
            container("web-old", ContainerState::Exited, 60),
            container("new", ContainerState::Created, 120),
        ]
    }

    #[test]
    fn rows_have_dockers_words() {
        let texts = all().map(|container| {
            let row = row(&container, false, NOW);
            let get = |key| {
                row.iter().find(|cell| cell.0 == key).and_then(|cell| cell.1.as_str()).map(str::to_owned)
            };
            (get("Status").unwrap_or_default(), get("Command").unwrap_or_default())
        });
        assert_eq!(texts[0].0, "Up 5 minutes");
        assert_eq!(texts[1].0, "Exited (3) 3 seconds ago");
        assert_eq!(texts[2].0, "Created");
        assert_eq!(texts[0].1, "\"sh -c 'echo \\\"a very…\"");
    }

    #[test]
    fn mounts_and_networks_are_fields() {
        let row = row(&all()[0], false, NOW);
        let get = |key| row.iter().find(|cell| cell.0 == key).map(|cell| cell.1.clone());
        assert_eq!(get("Mounts"), Some("data,/a/long/host/p…".into()));
        assert_eq!(get("LocalVolumes"), Some("1".into()));
        assert_eq!(get("Networks"), Some("bridge".into()));
    }

    #[test]
    fn filters_keep_what_fits() {
        for (filters, expected) in [
            (&["name=web"][..], &["web", "web-old"][..]),
            (&["name=^web$"], &["web"]),
            (&["name=^/web$"], &["web"]),
            (&["status=exited", "status=created"], &["web-old", "new"]),
            (&["exited=3"], &["web-old"]),
            (&["exited=0"], &[]),
            (&["ancestor=busybox:latest", "status=running"], &["web"]),
            (&["ancestor=debian"], &[]),
            (&["label=a=1", "label=a"], &["web", "web-old", "new"]),
            (&["before=web"], &["web-old", "new"]),
            (&["since=web-old"], &["web"]),
            (&["id=new"], &["new"]),
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
        for bad in ["colour=red", "status=up", "exited=x", "health=healthy", "before=nothing"] {
            assert!(Filter::parse(&[bad.to_owned()], &all()).is_err(), "{bad}");
        }
    }
}
