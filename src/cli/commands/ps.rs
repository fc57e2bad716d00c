//! `kiln ps`

use super::filter;
use super::ps_filter::Filter;
use super::ps_ports::ports;
use crate::api::{ContainerInfo, ContainerSize, ContainerState, HealthStatus};
use crate::cli::error::Error;
use crate::cli::format::{self, Columns, Row};
use crate::cli::session::{Invocation, print};
use crate::cli::{exit, failure, flags, tell, text, time, units};

/// Columns of COMMAND, without its quotes.
const COMMAND_WIDTH: usize = 20;
/// Columns of each of MOUNTS.
const MOUNT_WIDTH: usize = 15;

/// Flags of docker that are still to come.
pub(crate) const NOT_YET: &[&str] = &[];

/// `kiln ps`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Ps {
    /// Show also containers that don't run
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Show only what fits: id=, name=, status=, ancestor=, label=, exited=, health=, network=, volume=,
    /// publish=, expose=, before=, since=
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
    /// Show how much disk space each takes
    #[arg(long, short)]
    pub(crate) size: bool,
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
    ("Size", "SIZE", false),
];

/// The columns of `--size`.
const WITH_SIZE: Columns = &{
    let mut columns = [("", "", false); COLUMNS.len()];
    columns.copy_from_slice(COLUMNS);
    columns[COLUMNS.len() - 1].2 = true;
    columns
};

/// `--format raw`
const RAW: &str = "\
container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{.State}}
status: {{.Status}}
names: {{.Names}}
labels:{{- if .Labels}} {{.Labels}}{{end}}
ports:{{- if .Ports}} {{.Ports}}{{end}}{{println}}";

/// Lists containers, newest first.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Ps = flags::parse(invocation)?;
    let last = last(flags.last, flags.latest);
    let by_state =
        flags.filter.iter().any(|filter| filter.starts_with("status=") || filter.starts_with("exited="));
    let (mut containers, damaged) = invocation.session.engine()?.survey()?;
    // One that can't be read hides no other one; that it is there is told.
    for failure in &damaged {
        tell(&failure::render(failure, invocation.session.style));
    }
    let code = if damaged.is_empty() { exit::SUCCESS } else { exit::FAILURE };
    let filter = Filter::parse(&flags.filter, &containers)?;
    if !flags.all && last.is_none() && !by_state {
        containers.retain(|container| container.state.is_alive());
    }
    containers.retain(|container| filter.keeps(container));
    containers.truncate(last.unwrap_or(usize::MAX));
    if flags.quiet {
        if flags.format.is_some() {
            tell("warning: `--format` is ignored beside `--quiet`\n");
        }
        let key = if is_raw(&flags) { "container_id: " } else { "" };
        let line = |container: &ContainerInfo| format!("{key}{}\n", id(container, flags.no_trunc));
        print(&containers.iter().map(line).collect::<String>())?;
        return Ok(code);
    }
    // Measured only when it is shown.
    let shows_size = |format: &str| {
        format.trim() == "json" || [".Size", "json ."].iter().any(|part| format.contains(part))
    };
    let sized = flags.size || flags.format.as_deref().is_some_and(shows_size);
    let now = time::now();
    let mut rows = Vec::new();
    for container in &containers {
        let mut row = row(container, flags.no_trunc, now);
        let size = match sized {
            true => size(invocation.session.engine()?.container_size(&container.id, &container.image_id)?),
            false => "0B".to_owned(),
        };
        row.push(("Size", size.into()));
        rows.push(row);
    }
    let columns = if flags.size { WITH_SIZE } else { COLUMNS };
    let raw = if flags.size { [RAW, "size: {{.Size}}{{println}}"].concat() } else { RAW.to_owned() };
    format::print_rows(columns, rows, format::or_raw(flags.format.as_deref(), &raw))?;
    Ok(code)
}

/// How many are shown, whatever their state; `None` for all that run. Docker's rule: a number goes before
/// `--latest`, and one below 1 is none.
fn last(number: Option<i64>, latest: bool) -> Option<usize> {
    match number {
        None | Some(-1) if latest => Some(1),
        Some(number @ 1..) => usize::try_from(number).ok(),
        _ => None,
    }
}

fn is_raw(flags: &Ps) -> bool {
    flags.format.as_deref().map(str::trim) == Some("raw")
}

fn id(container: &ContainerInfo, whole: bool) -> &str {
    if whole { &container.id } else { text::short_id(&container.id) }
}

fn row(container: &ContainerInfo, whole: bool, now: i64) -> Row {
    let command = command_line(&container.command);
    let command = if whole { command } else { text::ellipsis(&text::one_line(&command), COMMAND_WIDTH) };
    vec![
        ("ID", id(container, whole).into()),
        ("Image", container.image.clone().into()),
        ("Command", text::quote(&command).into()),
        ("RunningFor", time::ago(container.created, now).into()),
        ("CreatedAt", time::long(container.created / 1_000_000_000).into()),
        ("Status", status(container, now).into()),
        ("State", container.state.name().into()),
        ("Ports", ports(container).into()),
        ("Names", container.name.clone().into()),
        ("Labels", filter::labels_column(&container.labels).into()),
        filter::labels_of_row(&container.labels),
        ("Networks", container.networks.join(",").into()),
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

/// `12B (virtual 4.43MB)`
fn size(size: ContainerSize) -> String {
    format!("{} (virtual {})", units::size(size.written, 3), units::size(size.whole, 3))
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
    let health = |health: Option<HealthStatus>| match health {
        None => "",
        Some(HealthStatus::Starting) => " (health: starting)",
        Some(HealthStatus::Healthy) => " (healthy)",
        Some(HealthStatus::Unhealthy) => " (unhealthy)",
    };
    let up = || {
        let since = now.saturating_sub(container.started.unwrap_or(now)).max(0).unsigned_abs();
        format!("Up {}", time::human(std::time::Duration::from_nanos(since)))
    };
    match container.state {
        ContainerState::Created => "Created".into(),
        ContainerState::Running => up() + health(container.health),
        ContainerState::Paused => up() + " (Paused)",
        ContainerState::Restarting => ended("Restarting"),
        ContainerState::Removing => "Removal In Progress".into(),
        ContainerState::Exited => ended("Exited"),
        ContainerState::Dead => "Dead".into(),
    }
}

#[cfg(test)]
pub(super) mod tests {
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
            networks: vec!["bridge".into()],
            mounts: vec!["data".into(), "/a/long/host/path".into()],
            targets: vec!["/data".into(), "/host".into()],
            volumes: 1,
            health: None,
            exposed: vec!["80/tcp".into()],
            ports: Vec::new(),
            folder: "/x".into(),
        }
    }

    pub(in crate::cli::commands) fn all() -> [ContainerInfo; 3] {
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
    fn a_number_goes_before_the_latest_and_none_is_all_that_run() {
        for (number, latest, expected) in [
            (None, false, None),
            (None, true, Some(1)),
            (Some(3), true, Some(3)),
            (Some(-1), true, Some(1)),
            (Some(0), true, None),
            (Some(0), false, None),
            (Some(-5), false, None),
            (Some(2), false, Some(2)),
        ] {
            assert_eq!(last(number, latest), expected, "{number:?} {latest}");
        }
    }

    // Docker's, recorded.
    #[test]
    fn raw_lines_have_dockers_keys() {
        let [labelled, other, _] = all();
        let other = ContainerInfo { labels: std::collections::BTreeMap::new(), ..other };
        let rows = [labelled, other].map(|container| row(&container, false, NOW)).to_vec();
        let text = format::rows_text(COLUMNS, rows, format::or_raw(Some("raw"), RAW)).unwrap();
        let expected = "\
container_id: web000000000
image: busybox
command: \"sh -c 'echo \\\"a very…\"
created_at: 2023-11-14 22:08:20 +0000 UTC
state: running
status: Up 5 minutes
names: web
labels: a=1
ports: 80/tcp

container_id: web-old00000
";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("\nlabels:\nports:"), "{text}");
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
    fn states_have_dockers_words() {
        let [running, exited, _] = all();
        let words = |state, health| status(&ContainerInfo { state, health, ..running.clone() }, NOW);
        assert_eq!(words(ContainerState::Running, Some(HealthStatus::Healthy)), "Up 5 minutes (healthy)");
        assert_eq!(
            words(ContainerState::Running, Some(HealthStatus::Starting)),
            "Up 5 minutes (health: starting)"
        );
        assert_eq!(words(ContainerState::Paused, None), "Up 5 minutes (Paused)");
        assert_eq!(words(ContainerState::Removing, None), "Removal In Progress");
        assert_eq!(words(ContainerState::Dead, None), "Dead");
        let restarting = ContainerInfo { state: ContainerState::Restarting, ..exited };
        assert_eq!(status(&restarting, NOW), "Restarting (3) 3 seconds ago");
    }
}
