//! Ports as EXPOSE writes them.

/// Reads `port`, `first-last`, each with `/tcp`, `/udp` or `/sctp`, into docker's spelling `80/tcp`.
///
/// An address or a host's port before it (`8080:80`) says nothing to an image and is dropped, as docker does.
/// The error is a sentence for the user. Source: docker's nat port specification.
pub fn parse_ports(text: &str) -> Result<Vec<String>, String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("invalid protocol `{protocol}` in port `{text}`"));
    }
    let range = range.rsplit_once(':').map_or(range, |(_, port)| port);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().ok();
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => {
            Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
        }
        _ => Err(format!("invalid containerPort: `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_spelled_as_docker_stores_them() {
        assert_eq!(parse_ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse_ports("53/UDP").unwrap(), ["53/udp"]);
        // As docker.io 20.10.24 with BuildKit takes them.
        assert_eq!(parse_ports("8080:80").unwrap(), ["80/tcp"]);
        assert_eq!(parse_ports("0.0.0.0:81:80/udp").unwrap(), ["80/udp"]);
        assert_eq!(parse_ports("8000-8002").unwrap(), ["8000/tcp", "8001/tcp", "8002/tcp"]);
        // As docker.io 28.5.2 does.
        assert_eq!(parse_ports("80/").unwrap(), ["80/tcp"]);
        assert_eq!(parse_ports("+80").unwrap(), ["80/tcp"]);
        for bad in ["", "x", "80/foo", "9-8", "70000", "1-"] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }
}
