//! `kiln logs`

use std::io::{self, BufWriter};

use crate::api::LogsRequest;
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::{exit, flags, time};

/// `kiln logs`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Logs {
    /// Show also the attributes of each line, which --log-opt chose
    #[arg(long)]
    details: bool,
    /// Go on with what comes
    #[arg(long, short)]
    follow: bool,
    /// Only lines since this time (2026-11-21T10:00:00Z) or this long ago (42m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Number of lines from the end, or `all`
    #[arg(long, short = 'n', value_name = "LINES", default_value = "all", hide_default_value = true)]
    tail: String,
    /// Show the time of each line
    #[arg(long, short)]
    timestamps: bool,
    /// Only lines before this time, or before this long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

/// Prints what a container's program has written, to the stream that it wrote to.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Logs = flags::parse(invocation)?;
    let now = time::now();
    let request = LogsRequest {
        container: flags.container.clone(),
        follow: flags.follow,
        timestamps: flags.timestamps,
        details: flags.details,
        tail: tail(&flags.tail)?,
        since: moment("--since", flags.since.as_deref(), now)?,
        // Docker's word for no end.
        until: moment("--until", flags.until.as_deref().filter(|text| *text != "0"), now)?,
    };
    let engine = invocation.session.engine()?;
    // Not a call to the kernel per line; the reader flushes before it waits.
    let (mut out, mut err) = (BufWriter::new(io::stdout()), BufWriter::new(io::stderr()));
    engine.logs(&request, &mut out, &mut err)?;
    Ok(exit::SUCCESS)
}

/// Reads a moment, in unix nanoseconds; an empty one is none.
pub(super) fn moment(flag: &str, text: Option<&str>, now: i64) -> Result<Option<i64>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    time::parse_moment(text, now).map(Some).ok_or_else(|| {
        Error::usage(format!("invalid time `{text}` for `{flag}`"))
            .hint("write it as `2026-11-21T10:00:00Z`, unix seconds, or `42m`")
    })
}

/// `all`, or a number; docker takes a negative one for all.
fn tail(text: &str) -> Result<Option<usize>, Error> {
    match text.parse::<i64>() {
        Ok(lines) => Ok(usize::try_from(lines).ok()),
        Err(_) if text == "all" => Ok(None),
        Err(_) => {
            Err(Error::usage(format!("invalid number of lines `{text}`")).hint("it may be a number or `all`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn tails_are_read() {
        for (text, expected) in [
            ("all", Some(None)),
            ("10", Some(Some(10))),
            ("0", Some(Some(0))),
            ("-1", Some(None)),
            ("x", None),
        ] {
            assert_eq!(tail(text).ok(), expected, "{text}");
        }
    }
}
