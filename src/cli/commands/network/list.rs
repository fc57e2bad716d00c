//! `kiln network ls` and `kiln network inspect`

use crate::api::{LabelFilter, NetworkInfo};
use crate::cli::commands::filter;
use crate::cli::error::Error;
use crate::cli::format::{self, Columns, Row};
use crate::cli::session::{Invocation, print};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags, text, time};

/// Its place in the table.
pub(crate) const LIST: Entry = command!(Grouped, "network ls", "List networks", "[OPTIONS]", List, list);
/// Its place in the table.
pub(crate) const INSPECT: Entry = command!(
    Grouped,
    "network inspect",
    "Display detailed information on one or more networks",
    "[OPTIONS] NETWORK [NETWORK...]",
    Inspect,
    inspect,
    not_yet: &["--scope"]
);

/// `kiln network ls`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct List {
    /// Show only what fits: name=, id=, driver=, label=, dangling=, scope=, type=
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Don't shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(long, short)]
    quiet: bool,
}

/// `kiln network inspect`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Inspect {
    /// `json`, or a Go template
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
    /// Show more: there is no more
    #[arg(long, short)]
    verbose: bool,
    /// The networks
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

const COLUMNS: Columns = &[
    ("ID", "NETWORK ID", true),
    ("Name", "NAME", true),
    ("Driver", "DRIVER", true),
    ("Scope", "SCOPE", true),
    ("IPv6", "IPV6", false),
    ("Internal", "INTERNAL", false),
    ("Labels", "LABELS", false),
    ("CreatedAt", "CREATED AT", false),
];

/// `--format raw`
const RAW: &str = "\
network_id: {{.ID}}
name: {{.Name}}
driver: {{.Driver}}
scope: {{.Scope}}{{println}}";

fn list(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: List = flags::parse(invocation)?;
    let filter = Filter::parse(&flags.filter)?;
    let mut networks = invocation.session.engine()?.networks()?;
    networks.retain(|network| filter.keeps(network));
    networks.sort_by(|one, other| one.name.cmp(&other.name));
    if format::is_quiet(flags.quiet, flags.format.as_deref()) {
        let ids = networks.iter().map(|network| format!("{}\n", id(network, flags.no_trunc)));
        print(&ids.collect::<String>())?;
        return Ok(exit::SUCCESS);
    }
    let rows = networks.iter().map(|network| row(network, flags.no_trunc)).collect();
    let raw = if flags.quiet { "network_id: {{.ID}}" } else { RAW };
    format::print_rows(COLUMNS, rows, format::or_raw(flags.format.as_deref(), raw))?;
    Ok(exit::SUCCESS)
}

fn id(network: &NetworkInfo, whole: bool) -> &str {
    if whole { &network.id } else { text::short_id(&network.id) }
}

fn row(network: &NetworkInfo, whole: bool) -> Row {
    vec![
        ("ID", id(network, whole).into()),
        ("Name", network.name.as_str().into()),
        ("Driver", network.driver.into()),
        ("Scope", "local".into()),
        ("IPv6", network.ipv6.to_string().into()),
        ("Internal", network.internal.to_string().into()),
        ("Labels", filter::labels_column(&network.labels).into()),
        filter::labels_of_row(&network.labels),
        ("CreatedAt", time::long(network.created / 1_000_000_000).into()),
    ]
}

fn inspect(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Inspect = flags::parse(invocation)?;
    if let Some(text) = flags.format.as_deref().filter(|text| !matches!(*text, "" | "json")) {
        crate::cli::template::Template::parse(text)?;
    }
    let engine = invocation.session.engine()?;
    let mut found = Vec::new();
    let code = invocation.session.each(&flags.names, |name| {
        found.push(engine.inspect_network(name)?);
        Ok(())
    })?;
    format::print_objects(&found, flags.format.as_deref())?;
    Ok(if code == exit::SUCCESS { exit::SUCCESS } else { exit::FAILURE })
}

const KEYS: [&str; 7] = ["name", "id", "driver", "label", "dangling", "scope", "type"];

/// What `--filter` keeps: values of one key are joined by "or", keys by "and", labels by "and".
#[derive(Debug, Default)]
struct Filter {
    names: Vec<String>,
    ids: Vec<String>,
    drivers: Vec<String>,
    labels: LabelFilter,
    dangling: Option<bool>,
    custom: Option<bool>,
    scopes: Vec<String>,
}

impl Filter {
    fn parse(texts: &[String]) -> Result<Self, Error> {
        let mut filter = Self::default();
        for text in texts {
            let (key, value) = filter::pair(text)?;
            match key {
                "name" => filter.names.push(value.to_owned()),
                "id" => filter.ids.push(value.to_owned()),
                "driver" => filter.drivers.push(value.to_owned()),
                "label" => filter::add_label(&mut filter.labels, value),
                "dangling" => filter.dangling = Some(filter::boolean(key, value)?),
                "type" => filter.custom = Some(is_custom(value)?),
                "scope" => filter.scopes.push(value.to_owned()),
                _ => return Err(filter::unknown(key, &KEYS)),
            }
        }
        Ok(filter)
    }

    fn keeps(&self, network: &NetworkInfo) -> bool {
        let any =
            |wanted: &[String], fits: &dyn Fn(&String) -> bool| wanted.is_empty() || wanted.iter().any(fits);
        let is_dangling = !network.is_builtin && network.containers.is_empty();
        any(&self.names, &|wanted| network.name.contains(wanted.as_str()))
            && any(&self.ids, &|wanted| network.id.starts_with(wanted.as_str()))
            && any(&self.drivers, &|wanted| network.driver == wanted)
            && any(&self.scopes, &|wanted| wanted == "local")
            && self.dangling.is_none_or(|wanted| wanted == is_dangling)
            && self.custom.is_none_or(|wanted| wanted != network.is_builtin)
            && self.labels.has_all(&network.labels)
    }
}

fn is_custom(text: &str) -> Result<bool, Error> {
    match text {
        "custom" => Ok(true),
        "builtin" => Ok(false),
        _ => Err(Error::usage(format!("the filter `type` is `{text}`; it must be custom or builtin"))
            .hint("write it as `type=custom`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, is_builtin: bool) -> NetworkInfo {
        NetworkInfo {
            id: format!("{name}0123456789abcdef"),
            name: name.into(),
            driver: "bridge",
            created: 0,
            subnets: Vec::new(),
            internal: false,
            ipv6: false,
            attachable: false,
            is_builtin,
            labels: [("tier".to_owned(), name.to_owned())].into(),
            options: Default::default(),
            containers: Vec::new(),
        }
    }

    #[test]
    fn filters_keep_what_fits() {
        let all = [network("bridge", true), network("front", false), network("back", false)];
        for (filters, expected) in [
            (&[][..], &["bridge", "front", "back"][..]),
            (&["dangling=1"], &["front", "back"]),
            (&["dangling=false"], &["bridge"]),
            (&["type=builtin"], &["bridge"]),
            (&["type=custom", "name=f"], &["front"]),
            (&["label=tier", "id=back01"], &["back"]),
            (&["label=tier=front", "label=tier"], &["front"]),
            (&["driver=host"], &[]),
            (&["scope=local", "scope=swarm", "name=r"], &["bridge", "front"]),
        ] {
            let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
            let filter = Filter::parse(&filters).unwrap();
            let kept: Vec<_> =
                all.iter().filter(|one| filter.keeps(one)).map(|one| one.name.as_str()).collect();
            assert_eq!(kept, expected, "{filters:?}");
        }
        for bad in ["colour=red", "dangling=maybe", "type=mine", "name"] {
            assert!(Filter::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
