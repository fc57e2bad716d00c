//! Flags of `kiln create` and `run`: ports.

use crate::api::CreateRequest;
use crate::cli::error::Error;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "-p", "--publish",
    "-P", "--publish-all",
];

/// Ports.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Ports {
    /// Name a port that the program listens on (80, 53/udp, 8000-8010)
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
}

impl Ports {
    /// Puts them into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        for text in &self.expose {
            request.expose.extend(exposed(text)?);
        }
        Ok(())
    }
}

/// Reads `--expose`: `80`, `53/udp`, `8000-8010/tcp`; gives every port with its protocol.
fn exposed(text: &str) -> Result<Vec<String>, Error> {
    let bad = || {
        Error::usage(format!("invalid value `{text}` for `--expose`"))
            .hint("write it as `80`, `53/udp` or `8000-8010`")
    };
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    if first == 0 || first > last || !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_exposed_one_by_one() {
        assert_eq!(exposed("80").unwrap(), ["80/tcp"]);
        assert_eq!(exposed("8000-8002/udp").unwrap(), ["8000/udp", "8001/udp", "8002/udp"]);
        for bad in ["", "0", "9-8", "80/icmp", "x", "70000"] {
            assert!(exposed(bad).is_err(), "{bad}");
        }
    }
}
