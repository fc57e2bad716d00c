//! Which secret goes to which host.
//!
//! Names are BuildKit's: `HTTP_AUTH_TOKEN_<host>` and `HTTP_AUTH_HEADER_<host>` for downloads,
//! `GIT_AUTH_TOKEN.<host>` and `GIT_AUTH_HEADER.<host>` for repositories, the latter two also without a host. A
//! host may be written with its port.

use std::path::PathBuf;

use crate::api::{Failure, FailureKind, GitSource, HttpSource};
use crate::build::solve::OpError;
use crate::fetch::GitAccess;
use crate::redacted::Redacted;

/// What the user lends a build for other machines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    /// Secrets by their ids.
    pub(crate) secrets: Vec<(String, Redacted)>,
    /// The socket of the ssh agent `default`.
    pub(crate) agent: Option<PathBuf>,
    /// The user's file of known ssh hosts.
    pub(crate) known_hosts: Option<PathBuf>,
    /// Variables that helper programs get: `PATH`, proxies.
    pub(crate) environment: Vec<(String, String)>,
}

impl Credentials {
    fn secret(&self, id: &str) -> Option<(String, &Redacted)> {
        self.secrets.iter().find(|(name, _)| name == id).map(|(name, value)| (name.clone(), value))
    }

    /// The header for a download.
    pub(super) fn http(&self, source: &HttpSource) -> Result<Option<Redacted>, OpError> {
        for host in spellings(source.host()) {
            if let Some((id, value)) = self.secret(&format!("HTTP_AUTH_HEADER_{host}")) {
                return header(&id, b"", value).map(Some);
            }
            if let Some((id, value)) = self.secret(&format!("HTTP_AUTH_TOKEN_{host}")) {
                return header(&id, b"Bearer ", value).map(Some);
            }
        }
        Ok(None)
    }

    /// What git may use for a repository.
    pub(super) fn git(&self, source: &GitSource) -> Result<GitAccess, OpError> {
        Ok(GitAccess {
            environment: self.environment.clone(),
            authorization: self.git_header(source)?,
            agent: self.agent.clone(),
            known_hosts: self.known_hosts.clone(),
        })
    }

    fn git_header(&self, source: &GitSource) -> Result<Option<Redacted>, OpError> {
        if !source.remote.starts_with("http://") && !source.remote.starts_with("https://") {
            return Ok(None);
        }
        let mut endings: Vec<String> =
            spellings(source.host()).into_iter().map(|host| format!(".{host}")).collect();
        // A token that names no host isn't sent where everybody on the way can read it.
        if source.remote.starts_with("https://") || is_this_machine(source.host()) {
            endings.push(String::new());
        }
        for ending in endings {
            if let Some((id, value)) = self.secret(&format!("GIT_AUTH_HEADER{ending}")) {
                return header(&id, b"", value).map(Some);
            }
            if let Some((id, value)) = self.secret(&format!("GIT_AUTH_TOKEN{ending}")) {
                let token = header(&id, b"x-access-token:", value)?;
                return Ok(Some(Redacted::new(format!("basic {}", base64(token.reveal())))));
            }
        }
        Ok(None)
    }
}

/// `host:port`, then `host`.
fn spellings(host: &str) -> Vec<&str> {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => host,
    };
    if bare == host { vec![host] } else { vec![host, bare] }
}

fn is_this_machine(host: &str) -> bool {
    spellings(host).into_iter().any(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// The value of a header: a file's last newline isn't of the token, and one inside would begin another header.
fn header(id: &str, before: &[u8], value: &Redacted) -> Result<Redacted, OpError> {
    let bytes = value.reveal().trim_ascii();
    if bytes.is_empty() || bytes.iter().any(u8::is_ascii_control) {
        let message =
            format!("the secret `{id}` can't be sent in a header: it is empty or has several lines");
        return Err(Box::new(Failure::new(FailureKind::Invalid, message)));
    }
    Ok(Redacted::new([before, bytes].concat()))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            let shown = digit <= chunk.len();
            text.push(if shown { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(secrets: &[(&str, &str)]) -> Credentials {
        let secrets = secrets.iter().map(|(id, value)| ((*id).to_owned(), Redacted::new(*value))).collect();
        Credentials { secrets, ..Credentials::default() }
    }

    fn http(secrets: &[(&str, &str)], url: &str) -> Option<String> {
        let source = HttpSource { url: url.to_owned(), checksum: None };
        let header = credentials(secrets).http(&source).unwrap()?;
        Some(String::from_utf8(header.reveal().to_vec()).unwrap())
    }

    fn git(secrets: &[(&str, &str)], url: &str) -> Option<String> {
        let source = GitSource::parse(url).unwrap().unwrap();
        let header = credentials(secrets).git(&source).unwrap().authorization?;
        Some(String::from_utf8(header.reveal().to_vec()).unwrap())
    }

    #[test]
    fn a_secret_goes_to_its_own_host_alone() {
        let secrets = [("HTTP_AUTH_TOKEN_h.test", "one\n"), ("HTTP_AUTH_HEADER_g.test:81", "Basic abc")];
        assert_eq!(http(&secrets, "https://h.test/x").as_deref(), Some("Bearer one"));
        assert_eq!(http(&secrets, "https://h.test:8443/x").as_deref(), Some("Bearer one"));
        assert_eq!(http(&secrets, "https://g.test:81/x").as_deref(), Some("Basic abc"));
        for url in
            ["https://g.test/x", "https://h.test.evil/x", "https://h.test@evil/x", "https://evil/h.test"]
        {
            assert_eq!(http(&secrets, url), None, "{url}");
        }
    }

    #[test]
    fn a_git_token_without_a_host_needs_tls() {
        let secrets = [("GIT_AUTH_TOKEN", "t"), ("GIT_AUTH_HEADER.h.test", "raw")];
        let basic = format!("basic {}", base64(b"x-access-token:t"));
        assert_eq!(basic, "basic eC1hY2Nlc3MtdG9rZW46dA==");
        assert_eq!(git(&secrets, "https://x.test/a.git"), Some(basic.clone()));
        assert_eq!(git(&secrets, "http://127.0.0.1:80/a.git"), Some(basic));
        assert_eq!(git(&secrets, "http://x.test/a.git"), None);
        assert_eq!(git(&secrets, "http://h.test/a.git").as_deref(), Some("raw"));
        assert_eq!(git(&secrets, "git@h.test:a.git"), None);
    }

    #[test]
    fn a_secret_of_several_lines_is_no_header() {
        let source = HttpSource { url: "https://h/x".into(), checksum: None };
        let failure = credentials(&[("HTTP_AUTH_TOKEN_h", "a\r\nX: y")]).http(&source).unwrap_err();
        assert!(failure.message.contains("`HTTP_AUTH_TOKEN_h`") && !failure.message.contains("X: y"));
    }
}
