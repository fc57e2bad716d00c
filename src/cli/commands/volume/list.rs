//! `kiln volume ls`

use crate::api::{LabelFilter, VolumeInfo};
use crate::cli::commands::filter;
use crate::cli::error::Error;
use crate::cli::format::{self, Columns, Row};
use crate::cli::session::{Invocation, print};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const ENTRY: Entry =
    command!(Grouped, "volume ls", "List volumes", "[OPTIONS]", List, run, not_yet: &["--cluster"]);

/// `kiln volume ls`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct List {
    /// Show only what fits: dangling=, driver=, label=, name=
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show only names
    #[arg(long, short)]
    quiet: bool,
}

const COLUMNS: Columns = &[
    ("Driver", "DRIVER", true),
    ("Name", "VOLUME NAME", true),
    ("Scope", "SCOPE", false),
    ("Mountpoint", "MOUNTPOINT", false),
    ("Labels", "LABELS", false),
    ("Links", "LINKS", false),
    ("Size", "SIZE", false),
    ("Status", "STATUS", false),
    ("Availability", "AVAILABILITY", false),
    ("Group", "GROUP", false),
];

/// `--format raw`
const RAW: &str = "\
name: {{.Name}}
driver: {{.Driver}}{{println}}";

/// Lists volumes.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: List = flags::parse(invocation)?;
    let filter = Filter::parse(&flags.filter)?;
    let mut volumes = invocation.session.engine()?.volumes()?;
    volumes.retain(|volume| filter.keeps(volume));
    if format::is_quiet(flags.quiet, flags.format.as_deref()) {
        print(&volumes.iter().map(|volume| format!("{}\n", volume.name)).collect::<String>())?;
        return Ok(exit::SUCCESS);
    }
    let raw = if flags.quiet { "name: {{.Name}}" } else { RAW };
    let rows = volumes.iter().map(row).collect();
    format::print_rows(COLUMNS, rows, format::or_raw(flags.format.as_deref(), raw))?;
    Ok(exit::SUCCESS)
}

fn row(volume: &VolumeInfo) -> Row {
    vec![
        ("Driver", "local".into()),
        ("Name", volume.name.clone().into()),
        ("Scope", "local".into()),
        ("Mountpoint", volume.mountpoint.display().to_string().into()),
        ("Labels", filter::labels_column(&volume.labels).into()),
        filter::labels_of_row(&volume.labels),
        ("Links", "N/A".into()),
        ("Size", "N/A".into()),
        ("Status", "N/A".into()),
        ("Availability", "N/A".into()),
        ("Group", "N/A".into()),
    ]
}

/// What `--filter` keeps: values of one key are joined by "or", keys by "and", labels by "and".
#[derive(Debug, Default)]
struct Filter {
    dangling: Option<bool>,
    drivers: Vec<String>,
    labels: LabelFilter,
    names: Vec<String>,
}

impl Filter {
    fn parse(texts: &[String]) -> Result<Self, Error> {
        let mut filter = Self::default();
        for text in texts {
            let (key, value) = filter::pair(text)?;
            match key {
                "dangling" => filter.dangling = Some(filter::boolean(key, value)?),
                "driver" => filter.drivers.push(value.to_owned()),
                "name" => filter.names.push(value.to_owned()),
                "label" => filter::add_label(&mut filter.labels, value),
                _ => return Err(filter::unknown(key, &["dangling", "driver", "label", "name"])),
            }
        }
        Ok(filter)
    }

    fn keeps(&self, volume: &VolumeInfo) -> bool {
        self.dangling.is_none_or(|wanted| wanted == volume.users.is_empty())
            && (self.drivers.is_empty() || self.drivers.iter().any(|driver| driver == "local"))
            && (self.names.is_empty() || self.names.iter().any(|name| volume.name.contains(name)))
            && self.labels.has_all(&volume.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, users: &[&str]) -> VolumeInfo {
        VolumeInfo {
            name: name.into(),
            created: 0,
            labels: [("tier".to_owned(), "db".to_owned())].into(),
            options: Default::default(),
            mountpoint: "/".into(),
            anonymous: false,
            readonly: false,
            users: users.iter().map(|&user| user.to_owned()).collect(),
        }
    }

    #[test]
    fn filters_keep_what_fits() {
        let all = [volume("data", &["web"]), volume("old-data", &[]), volume("cache", &[])];
        for (filters, expected) in [
            (&[][..], &["data", "old-data", "cache"][..]),
            (&["dangling=true"], &["old-data", "cache"]),
            (&["dangling=0"], &["data"]),
            (&["name=data"], &["data", "old-data"]),
            (&["name=old", "name=cache"], &["old-data", "cache"]),
            (&["name=data", "dangling=true", "label=tier=db"], &["old-data"]),
            (&["label=tier", "label=other"], &[]),
            (&["driver=local", "name=cache"], &["cache"]),
            (&["driver=nfs"], &[]),
        ] {
            let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
            let filter = Filter::parse(&filters).unwrap();
            let kept: Vec<_> =
                all.iter().filter(|volume| filter.keeps(volume)).map(|volume| volume.name.as_str()).collect();
            assert_eq!(kept, expected, "{filters:?}");
        }
        assert!(Filter::parse(&["colour=red".into()]).is_err());
        assert!(Filter::parse(&["dangling=maybe".into()]).is_err());
        assert!(Filter::parse(&["dangling".into()]).is_err());
    }
}
