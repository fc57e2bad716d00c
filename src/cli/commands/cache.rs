//! `kiln cache du`, `kiln cache ls`, `kiln cache prune`, under docker's names as well

use std::time::Duration;

use serde_json::Value;

use super::cache_filter;
use super::prune::confirmed;
use crate::api::{CacheEntry, CachePruneReport, CachePruneRequest, CachePruned, CacheReason};
use crate::cli::error::Error;
use crate::cli::format::{self, Columns, Row};
use crate::cli::session::{Invocation, print};
use crate::cli::text::{ellipsis, one_line};
use crate::cli::{exit, flags, table, time, units};

/// Columns of a description that a list shows.
const DESCRIPTION_COLUMNS: usize = 60;

/// What a description of a cache mount begins with.
const CACHE_MOUNT: &str = "cache mount ";

/// `kiln cache du`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Du {
    /// Show only what fits: type, until, unused-for, id, description, parents (= == != ~=), inuse, shared, private,
    /// mutable, immutable; all that are given have to fit, `id=` and `~=` mean a part of the text
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show all that is known of each
    #[arg(long)]
    verbose: bool,
}

/// `kiln cache ls`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct List {
    /// Show only what fits; see `kiln cache du --help`
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Don't shorten descriptions
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(long, short)]
    quiet: bool,
}

/// `kiln cache prune`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Prune {
    /// Remove also the records of what images have, and what kiln keeps for itself
    #[arg(long, short)]
    all: bool,
    /// Tell what would go, and why; remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove only what fits; see `kiln cache du --help`
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Don't ask
    #[arg(long, short)]
    force: bool,
    /// Bytes that may stay in any case, such as 2gb; what was used last stays
    #[arg(long, alias = "keep-storage", value_name = "BYTES")]
    reserved_space: Option<String>,
    /// The most bytes that may stay
    #[arg(long, value_name = "BYTES")]
    max_used_space: Option<String>,
    /// Bytes of the disk that should be free
    #[arg(long, value_name = "BYTES")]
    min_free_space: Option<String>,
    /// Show all that is known of each
    #[arg(long)]
    verbose: bool,
}

const DU_COLUMNS: Columns = &[
    ("ID", "ID", true),
    ("Reclaimable", "RECLAIMABLE", true),
    ("Size", "SIZE", true),
    ("LastUsedAt", "LAST ACCESSED", true),
    ("Parents", "PARENTS", false),
    ("CreatedAt", "CREATED AT", false),
    ("Mutable", "MUTABLE", false),
    ("Shared", "SHARED", false),
    ("InUse", "IN USE", false),
    ("Description", "DESCRIPTION", false),
    ("UsageCount", "USAGE COUNT", false),
    ("Type", "TYPE", false),
];

const LIST_COLUMNS: Columns = &[
    ("ID", "ID", true),
    ("Type", "TYPE", true),
    ("Size", "SIZE", true),
    ("Reclaimable", "RECLAIMABLE", true),
    ("LastUsedAt", "LAST ACCESSED", true),
    ("Description", "DESCRIPTION", true),
    ("Parents", "PARENTS", false),
    ("CreatedAt", "CREATED AT", false),
    ("Mutable", "MUTABLE", false),
    ("Shared", "SHARED", false),
    ("InUse", "IN USE", false),
    ("UsageCount", "USAGE COUNT", false),
];

/// Tells what takes how much.
pub(crate) fn du(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Du = flags::parse(invocation)?;
    let filter = cache_filter::parse(&flags.filter)?;
    let entries = invocation.session.engine()?.cache_entries(&filter)?;
    let now = time::now();
    if let Some(format) = flags.format.as_deref().filter(|format| *format != "table") {
        let rows = entries.iter().map(|entry| row(entry, now)).collect();
        format::print_rows(DU_COLUMNS, rows, Some(format))?;
        return Ok(exit::SUCCESS);
    }
    let listed = match flags.verbose {
        true => entries.iter().map(|entry| block(entry, now)).collect(),
        false => short_table(entries.iter(), now),
    };
    print(&(listed + &summary(&entries)))?;
    Ok(exit::SUCCESS)
}

/// Lists what there is.
pub(crate) fn list(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: List = flags::parse(invocation)?;
    let filter = cache_filter::parse(&flags.filter)?;
    let entries = invocation.session.engine()?.cache_entries(&filter)?;
    if flags.quiet && flags.format.is_none() {
        print(&entries.iter().map(|entry| format!("{}\n", entry.id)).collect::<String>())?;
        return Ok(exit::SUCCESS);
    }
    let (now, whole) = (time::now(), flags.no_trunc || flags.format.is_some());
    let rows = entries.iter().map(|entry| {
        let mut row = row(entry, now);
        for (_, value) in row.iter_mut().filter(|(name, _)| *name == "Description" && !whole) {
            *value = ellipsis(&one_line(&entry.description), DESCRIPTION_COLUMNS).into();
        }
        row
    });
    format::print_rows(LIST_COLUMNS, rows.collect(), flags.format.as_deref())?;
    Ok(exit::SUCCESS)
}

/// Removes what is asked for.
pub(crate) fn prune(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Prune = flags::parse(invocation)?;
    let bytes = |flag: &str, text: &Option<String>| match text {
        None => Ok(0),
        Some(text) => units::parse_size(text).ok_or_else(|| {
            Error::usage(format!("invalid value `{text}` for `{flag}`")).hint("such as 512m or 10gb")
        }),
    };
    let request = CachePruneRequest {
        filter: cache_filter::parse(&flags.filter)?,
        all: flags.all,
        reserved: bytes("--reserved-space", &flags.reserved_space)?,
        max_used: bytes("--max-used-space", &flags.max_used_space)?,
        min_free: bytes("--min-free-space", &flags.min_free_space)?,
        dry_run: flags.dry_run,
    };
    let what = match (flags.all, flags.filter.is_empty()) {
        (true, true) => "  - all build cache\n",
        (false, true) => "  - build cache that no image needs\n",
        (_, false) => "  - build cache that fits the filter\n",
    };
    if !flags.dry_run && !flags.force && !confirmed(what)? {
        return Ok(exit::SUCCESS);
    }
    let report = invocation.session.engine()?.prune_cache(&request)?;
    let now = time::now();
    let text = match (flags.dry_run, flags.verbose) {
        (true, _) => planned(&report, &flags.filter, now),
        (false, true) => {
            let blocks: String = report.pruned.iter().map(|one| block(&one.entry, now)).collect();
            format!("{blocks}Total reclaimed space: {}\n", units::size(report.bytes, 4))
        }
        (false, false) => deleted(&report),
    };
    print(&text)?;
    Ok(exit::SUCCESS)
}

/// docker's words, with the names of cache mounts, which say more than their ids.
fn deleted(report: &CachePruneReport) -> String {
    let (mut objects, mut mounts) = (String::new(), Vec::new());
    for one in &report.pruned {
        match one.entry.description.strip_prefix(CACHE_MOUNT).filter(|_| one.entry.mutable) {
            Some(name) => mounts.push(one_line(name) + "\n"),
            None => objects += &format!("{}\n", one.entry.id),
        }
    }
    mounts.sort();
    let part = |title: &str, lines: String| match lines.is_empty() {
        true => String::new(),
        false => format!("{title}:\n{lines}\n"),
    };
    part("Deleted build cache objects", objects)
        + &part("Deleted cache mounts", mounts.concat())
        + &format!("Total reclaimed space: {}\n", units::size(report.bytes, 4))
}

fn planned(report: &CachePruneReport, filters: &[String], now: i64) -> String {
    let mut rows = vec![["ID", "TYPE", "FREES", "REASON", "DESCRIPTION"].map(str::to_owned).to_vec()];
    rows.extend(report.pruned.iter().map(|one| {
        vec![
            one.entry.id.clone(),
            one.entry.kind.to_owned(),
            units::size(one.freed, 4),
            reason(one, filters, now),
            ellipsis(&one_line(&one.entry.description), DESCRIPTION_COLUMNS),
        ]
    }));
    format!("{}Would reclaim: {}\n", table::layout(&rows), units::size(report.bytes, 4))
}

fn reason(one: &CachePruned, filters: &[String], now: i64) -> String {
    match one.reason {
        CacheReason::Asked if filters.is_empty() => "no image, build or container needs it".to_owned(),
        CacheReason::Asked => format!("matches {}", one_line(&filters.join(", "))),
        CacheReason::Unused(span) => format!("unused for {}", time::human(span)),
        CacheReason::OverQuota => {
            format!("over the quota: least recently used, {}", time::ago(one.entry.used * NANOSECONDS, now))
        }
        CacheReason::DiskFull => {
            format!(
                "too little free room: least recently used, {}",
                time::ago(one.entry.used * NANOSECONDS, now)
            )
        }
        CacheReason::ParentGoes => "its parent goes".to_owned(),
        CacheReason::Unreached => "nothing leads to it any more".to_owned(),
    }
}

/// Nanoseconds of a second.
const NANOSECONDS: i64 = 1_000_000_000;

/// buildx's table: a star marks what steps write to, and sizes that images share.
fn short_table<'a>(entries: impl Iterator<Item = &'a CacheEntry>, now: i64) -> String {
    let mut rows = vec![["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"].map(str::to_owned).to_vec()];
    let star = |text: String, starred| if starred { text + "*" } else { text };
    rows.extend(entries.map(|entry| {
        vec![
            star(entry.id.clone(), entry.mutable),
            entry.reclaimable.to_string(),
            star(units::size(entry.bytes, 4), entry.shared),
            time::ago(entry.used * NANOSECONDS, now),
        ]
    }));
    table::layout(&rows)
}

/// buildx's block of one thing.
fn block(entry: &CacheEntry, now: i64) -> String {
    let mut lines = vec![("ID", entry.id.clone())];
    if !entry.parents.is_empty() {
        lines.push(("Parent", entry.parents.join(",")));
    }
    lines.extend([
        ("Created at", time::long(entry.created)),
        ("Mutable", entry.mutable.to_string()),
        ("Reclaimable", entry.reclaimable.to_string()),
        ("Shared", entry.shared.to_string()),
        ("Size", units::size(entry.bytes, 4)),
    ]);
    if !entry.description.is_empty() {
        lines.push(("Description", one_line(&entry.description)));
    }
    lines.extend([
        ("Usage count", entry.uses.to_string()),
        ("Last used", time::ago(entry.used * NANOSECONDS, now)),
        ("Type", entry.kind.to_owned()),
    ]);
    pairs(&lines) + "\n"
}

/// What it all comes to.
fn summary(entries: &[CacheEntry]) -> String {
    let sum = |counts: fn(&CacheEntry) -> bool| {
        let bytes = entries.iter().filter(|entry| counts(entry)).map(|entry| entry.bytes).sum();
        units::size(bytes, 4)
    };
    let mut lines = Vec::new();
    if entries.iter().any(|entry| entry.shared) {
        lines.push(("Shared", sum(|entry| entry.shared)));
        lines.push(("Private", sum(|entry| !entry.shared)));
    }
    lines.push(("Reclaimable", sum(|entry| entry.reclaimable)));
    lines.push(("Total", sum(|_| true)));
    pairs(&lines)
}

fn pairs(lines: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> =
        lines.iter().map(|(name, value)| vec![format!("{name}:"), value.clone()]).collect();
    table::layout(&rows)
}

fn row(entry: &CacheEntry, now: i64) -> Row {
    vec![
        ("ID", entry.id.clone().into()),
        ("Type", entry.kind.into()),
        ("Size", units::size(entry.bytes, 4).into()),
        ("Reclaimable", entry.reclaimable.into()),
        ("LastUsedAt", time::ago(entry.used * NANOSECONDS, now).into()),
        ("Description", one_line(&entry.description).into()),
        ("Parents", Value::from(entry.parents.clone())),
        ("CreatedAt", time::long(entry.created).into()),
        ("Mutable", entry.mutable.into()),
        ("Shared", entry.shared.into()),
        ("InUse", entry.in_use.into()),
        ("UsageCount", entry.uses.into()),
    ]
}

/// Reads a span of `KILN_CACHE_UNUSED_FOR` and `--cache-ttl`.
pub(crate) fn span(name: &str, text: &str) -> Result<Duration, Error> {
    time::parse_age(text)
        .ok_or_else(|| Error::usage(format!("{name} is `{text}`; it must be a time, such as 12h or 7d")))
}
