//! `kiln prune`, `kiln system prune`, and their parts: `image prune`, `container prune`

use std::io::{self, BufRead};

use super::logs::moment;
use super::{filter, rmi, volume};
use crate::api::{PruneFilter, PruneRequest};
use crate::cli::error::Error;
use crate::cli::session::{Invocation, print};
use crate::cli::{exit, flags, tell, text, time, units};

/// `kiln prune`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Prune {
    /// Remove also what has a name but no container that uses it, and all build cache
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    some: PruneSome,
}

/// `kiln system prune`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct PruneAll {
    #[command(flatten)]
    prune: Prune,
    /// Remove also anonymous volumes that no container has
    #[arg(long)]
    volumes: bool,
}

/// `kiln container prune`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct PruneSome {
    /// Remove only what fits: until=, label=, label!=
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Don't ask
    #[arg(long, short)]
    force: bool,
}

/// Containers, images and build cache.
pub(crate) fn everything(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let PruneAll { prune: flags, volumes } = flags::parse(invocation)?;
    let images = if flags.all { "all images that no container uses" } else { "all images without a name" };
    // Records of the cache have neither labels nor a name by which one would choose: `cache prune` has its own filters.
    let cache = flags.some.filter.is_empty();
    let request =
        PruneRequest { containers: true, images: true, cache, volumes, all: flags.all, ..Default::default() };
    let what = format!("  - all stopped containers\n  - {images}\n");
    let what = if volumes { what + "  - all anonymous volumes that no container has\n" } else { what };
    let what = if cache { what + "  - unused build cache\n" } else { what };
    prune(invocation, request, &what, &flags.some)
}

/// Images.
pub(crate) fn images(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Prune = flags::parse(invocation)?;
    let request = PruneRequest { images: true, all: flags.all, ..PruneRequest::default() };
    let what =
        if flags.all { "  - all images that no container uses\n" } else { "  - all images without a name\n" };
    prune(invocation, request, what, &flags.some)
}

/// Stopped containers.
pub(crate) fn containers(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: PruneSome = flags::parse(invocation)?;
    let request = PruneRequest { containers: true, ..PruneRequest::default() };
    prune(invocation, request, "  - all stopped containers\n", &flags)
}

fn prune(
    invocation: &Invocation<'_>,
    request: PruneRequest,
    what: &str,
    flags: &PruneSome,
) -> Result<i32, Error> {
    let request = PruneRequest { filter: read_filter(&flags.filter, time::now())?, ..request };
    let filters: String =
        flags.filter.iter().map(|filter| format!("  - only what fits `{filter}`\n")).collect();
    if !flags.force && !confirmed(&format!("{what}{filters}"))? {
        return Ok(exit::SUCCESS);
    }
    let report = invocation.session.engine()?.prune(&request)?;
    let mut out = String::new();
    if !report.containers.is_empty() {
        out += &format!("Deleted Containers:\n{}\n\n", report.containers.join("\n"));
    }
    out += &volume::prune::deleted(&report.volumes);
    if !report.images.is_empty() {
        out += &format!("Deleted Images:\n{}\n", rmi::lines(&report.images));
    }
    if report.records > 0 {
        out += &format!("Deleted build cache records: {}\n\n", report.records);
    }
    if !report.cache_mounts.is_empty() {
        let names: Vec<String> = report.cache_mounts.iter().map(|name| text::one_line(name)).collect();
        out += &format!("Deleted cache mounts:\n{}\n\n", names.join("\n"));
    }
    out += &format!("Total reclaimed space: {}\n", units::size(report.bytes, 4));
    print(&out)?;
    Ok(exit::SUCCESS)
}

/// Reads `--filter`.
pub(super) fn read_filter(texts: &[String], now: i64) -> Result<PruneFilter, Error> {
    let mut filter = PruneFilter::default();
    for text in texts {
        let (key, value) = filter::pair(text)?;
        match key {
            "until" => filter.until = moment("--filter until", Some(value), now)?,
            "label" => filter::add_label(&mut filter.labels, value),
            "label!" => filter::add_label(&mut filter.not_labels, value),
            _ => return Err(filter::unknown(key, &["until", "label", "label!"])),
        }
    }
    Ok(filter)
}

/// Asks the user; no answer is a no.
pub(super) fn confirmed(what: &str) -> Result<bool, Error> {
    tell(&format!("WARNING! This will remove:\n{what}\nAre you sure you want to continue? [y/N] "));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Error::usage(format!("cannot read the answer: {error}")).hint("use `--force`"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
