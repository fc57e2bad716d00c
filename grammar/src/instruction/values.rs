//! Values that can be judged before expansion: ports and signals without `$`.

use super::Scope;
use crate::ast::Word;
use crate::diagnostic::{Diagnostic, quote};
use crate::instruction::COMMENT_HINT;

/// The names of signals, without `SIG`.
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

impl Scope<'_, '_> {
    /// Reports a port that can't be one.
    pub(super) fn check_port(&mut self, word: &Word) {
        if word.text.contains('$') {
            return;
        }
        let text = crate::word::unquote(&word.text, self.escape);
        let Err(why) = port(&text) else { return };
        let hint = match text.starts_with('#') {
            true => COMMENT_HINT,
            false => "write a port or a range, and a protocol if it isn't tcp: 80, 53/udp, 8000-8010",
        };
        self.report(Diagnostic::error("port", word.span, why).hint(hint));
    }

    /// Reports a name that is no signal.
    pub(super) fn check_signal(&mut self, word: &Word) {
        let text = crate::word::unquote(&word.text, self.escape);
        if word.text.contains('$') || signal(&text) {
            return;
        }
        let message = format!("invalid signal: {}", quote(&text));
        let upper = text.to_ascii_uppercase();
        let near = crate::suggest::closest(upper.strip_prefix("SIG").unwrap_or(&upper), SIGNALS);
        let hint = near.map(|name| format!("did you mean SIG{name}?"));
        self.report(Diagnostic::error("signal", word.span, message).maybe_hint(hint));
    }
}

/// Checks `[[address:]host port:]port[-port][/protocol]`, as EXPOSE takes it.
fn port(text: &str) -> Result<(), String> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    // Docker takes a `/` without a protocol for tcp, and a port with a sign.
    if !["", "tcp", "udp", "sctp"].iter().any(|known| protocol.eq_ignore_ascii_case(known)) {
        return Err(format!("invalid proto: {}", quote(protocol)));
    }
    let (outside, inside) =
        rest.rsplit_once(':').map_or((None, rest), |(outside, port)| (Some(outside), port));
    let ports = range(inside).ok_or_else(|| format!("invalid containerPort: {}", quote(inside)))?;
    let Some(outside) = outside else { return Ok(()) };
    let (address, host) = outside.rsplit_once(':').unwrap_or(("", outside));
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {}", quote(address)));
    }
    if host.is_empty() {
        return Ok(());
    }
    let hosts = range(host).ok_or_else(|| format!("invalid hostPort: {}", quote(host)))?;
    let same = hosts.1 - hosts.0 == ports.1 - ports.0;
    if same || ports.0 == ports.1 {
        return Ok(());
    }
    Err(format!(
        "invalid ranges specified for container and host Ports: {} and {}",
        quote(inside),
        quote(host)
    ))
}

/// `port` or `first-last`.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse().ok();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// True for any number but 0, as docker takes it, a name with or without `SIG`, and the real-time signals that docker names (`RTMIN+3`).
fn signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number =
        |offset: &str, most: u32| offset.parse::<u32>().is_ok_and(|number| (1..=most).contains(&number));
    let real_time = matches!(name, "RTMIN" | "RTMAX")
        || name.strip_prefix("RTMIN+").is_some_and(|offset| number(offset, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|offset| number(offset, 14));
    real_time || SIGNALS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_signals_are_judged() {
        for text in [
            "80",
            "80/tcp",
            "80/",
            "+80",
            "53/UDP",
            "8000-8010/sctp",
            "127.0.0.1:80:80",
            "[::1]:80:80",
            "0",
            "8080:80",
            "127.0.0.1::80",
            "80-90:80",
            "1-2:3-4",
        ] {
            assert!(port(text).is_ok(), "{text}");
        }
        for text in ["", "abc", "80/icmp", "65536", "90-80", "80-", "#", "x:80", "1.2.3:80:80", "1-3:1-2"] {
            assert!(port(text).is_err(), "{text}");
        }
        for text in [
            "15",
            "-1",
            "100",
            "TERM",
            "SIGTERM",
            "sigusr1",
            "SIGRTMIN+15",
            "RTMAX-14",
            "SIGRTMAX",
            "SIGXFSZ",
        ] {
            assert!(signal(text), "{text}");
        }
        for text in ["", "0", "99999999999", "XX", "SIG", "RTMIN*3", "RTMIN+16", "RTMIN-1", "RTMAX-15"] {
            assert!(!signal(text), "{text}");
        }
    }
}
