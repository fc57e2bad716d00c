//! `config.toml`: what holds for every command of this machine.
//!
//! ```toml
//! [publish]
//! address = "127.0.0.1"    # where `-p 8800:80` is reached; without it everywhere
//! firewall = "respect"     # or "open": what other programs' filters drop is let through to published ports
//! ```

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;

use super::error::Error;
use crate::api::PublishPolicy;

/// Its name in the folder of the configuration.
const NAME: &str = "config.toml";

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    publish: Publish,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Publish {
    address: Option<IpAddr>,
    firewall: Firewall,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Firewall {
    #[default]
    Respect,
    Open,
}

/// Reads the file in `folder`, if there is one.
pub(super) fn publish_policy(folder: &Path) -> Result<PublishPolicy, Error> {
    let path = folder.join(NAME);
    let bad = |why: String| Error::usage(format!("cannot read `{}`: {why}", path.display()));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(PublishPolicy::default());
        }
        Err(error) => return Err(bad(error.to_string())),
    };
    let File { publish } = parse(&text).map_err(bad)?;
    Ok(PublishPolicy { address: publish.address, opens_firewall: publish.firewall == Firewall::Open })
}

/// Says where a mistake is.
fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("line {}: {}", before.matches('\n').count() + 1, error.message())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(publish_policy(folder.path()).unwrap(), PublishPolicy::default());
        std::fs::write(folder.path().join(NAME), "[publish]\naddress = \"::1\"\nfirewall = \"open\"\n")
            .unwrap();
        let expected = PublishPolicy { address: "::1".parse().ok(), opens_firewall: true };
        assert_eq!(publish_policy(folder.path()).unwrap(), expected);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, expected) in [
            ("[publish]\nadress = \"::1\"\n", "line 2: unknown field `adress`"),
            ("\n[publsh]\n", "line 2: unknown field `publsh`"),
            ("[publish]\n\naddress = \"here\"\n", "line 3: invalid IP address"),
            (
                "[publish]\nfirewall = \"close\"\n",
                "line 2: unknown variant `close`, expected `respect` or `open`",
            ),
            ("publish", "line 1: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
