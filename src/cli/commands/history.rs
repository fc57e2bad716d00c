//! `kiln history`

use crate::api::HistoryRow;
use crate::cli::error::Error;
use crate::cli::format::{self, Columns, Row};
use crate::cli::session::{Invocation, print};
use crate::cli::{exit, flags, text, time, units};

/// Columns of CREATED BY.
const CREATED_BY_WIDTH: usize = 45;

/// `kiln history`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct History {
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Print sizes and times for people
    #[arg(long, short = 'H', default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) human: bool,
    /// Don't shorten
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show only ids
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) image: String,
}

const COLUMNS: Columns = &[
    ("ID", "IMAGE", true),
    ("CreatedSince", "CREATED", true),
    ("CreatedBy", "CREATED BY", true),
    ("Size", "SIZE", true),
    ("Comment", "COMMENT", true),
    ("CreatedAt", "CREATED AT", false),
    ("Tags", "TAGS", false),
];

const EXACT: Columns = &[
    ("ID", "IMAGE", true),
    ("CreatedAt", "CREATED AT", true),
    ("CreatedBy", "CREATED BY", true),
    ("Size", "SIZE", true),
    ("Comment", "COMMENT", true),
    ("CreatedSince", "CREATED", false),
    ("Tags", "TAGS", false),
];

/// Shows what made an image, newest first.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: History = flags::parse(invocation)?;
    let rows = invocation.session.engine()?.history(&flags.image)?;
    if flags.quiet && flags.format.is_none() {
        print(&rows.iter().map(|row| id(row, flags.no_trunc).to_owned() + "\n").collect::<String>())?;
        return Ok(exit::SUCCESS);
    }
    let now = time::now();
    let columns = if flags.human { COLUMNS } else { EXACT };
    let rows = rows.iter().map(|entry| row(entry, &flags, now)).collect();
    format::print_rows(columns, rows, flags.format.as_deref())?;
    Ok(exit::SUCCESS)
}

fn id(row: &HistoryRow, whole: bool) -> &str {
    match &row.image {
        None => "<missing>",
        Some(id) if whole => id,
        Some(id) => text::short_id(id),
    }
}

fn row(entry: &HistoryRow, flags: &History, now: i64) -> Row {
    let created_by = text::one_line(&entry.created_by);
    let created_by = if flags.no_trunc { created_by } else { text::ellipsis(&created_by, CREATED_BY_WIDTH) };
    let size = if flags.human { units::size(entry.size, 3) } else { entry.size.to_string() };
    let nanoseconds = entry.created.unwrap_or_default().saturating_mul(1_000_000_000);
    vec![
        ("ID", id(entry, flags.no_trunc).into()),
        ("CreatedSince", time::ago(nanoseconds, now).into()),
        ("CreatedAt", entry.created.map(time::rfc3339).unwrap_or_default().into()),
        ("CreatedBy", created_by.into()),
        ("Size", size.into()),
        ("Comment", text::one_line(&entry.comment).into()),
        ("Tags", entry.tags.join(",").into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_shortened_unless_told_otherwise() {
        let entry = HistoryRow {
            image: None,
            created: Some(1_700_000_000),
            created_by: "RUN /bin/sh -c apt-get update &&\tapt-get install -y gcc # buildkit".into(),
            size: 5670,
            comment: "buildkit.dockerfile.v0".into(),
            tags: vec![],
        };
        let cells = |flags: &History| {
            let row = row(&entry, flags, 1_700_000_000_000_000_000 + 7200 * 1_000_000_000);
            row.into_iter()
                .map(|(_, value)| value.as_str().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        let human = cells(&History { human: true, ..History::default() });
        assert_eq!(human[..2], ["<missing>", "2 hours ago"]);
        assert_eq!(human[3..5], ["RUN /bin/sh -c apt-get update && apt-get ins…", "5.67kB"]);
        let exact = cells(&History { no_trunc: true, ..History::default() });
        assert_eq!(
            exact[2..5],
            [
                "2023-11-14T22:13:20Z",
                "RUN /bin/sh -c apt-get update && apt-get install -y gcc # buildkit",
                "5670"
            ]
        );
    }
}
