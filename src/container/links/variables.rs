//! The variables of `--link`, by which programs found their neighbours before those had names.
//!
//! They are docker's: the target's lowest port, every port that it exposes, runs of three and more once as a whole, its
//! name, and its own environment.

use std::net::Ipv4Addr;

use crate::container::create::set;

/// From so many on, ports that follow one another are told as a whole too.
const LEAST_RUN: usize = 3;
/// What of a target's environment is its own business.
const PRIVATE: [&str; 4] = ["HOME", "PATH", "HOSTNAME", "TERM"];

/// The other end of a link.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) alias: &'a str,
    /// `/container/alias`.
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    /// `80/tcp`.
    pub(super) exposed: &'a [String],
    /// `NAME=value`.
    pub(super) env: &'a [String],
}

impl Target<'_> {
    /// Gives `NAME=value` lines, each name once.
    pub(super) fn variables(&self) -> Vec<String> {
        let alias = self.alias.to_uppercase().replace('-', "_");
        let mut ports: Vec<(u16, &str)> = self.exposed.iter().filter_map(|text| port(text)).collect();
        ports.sort_by_key(|(number, protocol)| (*number, *protocol != "tcp"));
        let mut lines = Vec::new();
        if let Some(first) = ports.first() {
            lines.push(format!("{alias}_PORT={}", self.place(*first)));
        }
        let mut rest = &ports[..];
        while let Some((first, protocol)) = rest.first() {
            let follows = |(step, (number, _)): &(usize, &(u16, &str))| {
                usize::from(*number) <= usize::from(*first) + step
            };
            let run = rest.iter().enumerate().take_while(follows).count();
            if run >= LEAST_RUN {
                lines.extend(self.run(&alias, (*first, protocol), rest[run - 1]));
            }
            rest = &rest[if run >= LEAST_RUN { run } else { 1 }..];
        }
        for (number, protocol) in &ports {
            let name = format!("{alias}_PORT_{number}_{}", protocol.to_uppercase());
            lines.push(format!("{name}={}", self.place((*number, protocol))));
            lines.push(format!("{name}_ADDR={}", self.address));
            lines.push(format!("{name}_PORT={number}"));
            lines.push(format!("{name}_PROTO={protocol}"));
        }
        lines.push(format!("{alias}_NAME={}", self.name));
        let is_private = |line: &&String| PRIVATE.iter().any(|name| line.split('=').next() == Some(name));
        let own = self.env.iter().filter(|line| line.contains('=') && !is_private(line));
        lines.extend(own.map(|line| format!("{alias}_ENV_{line}")));
        let mut once = Vec::new();
        lines.iter().for_each(|line| set(&mut once, line));
        once
    }

    fn run(&self, alias: &str, first: (u16, &str), last: (u16, &str)) -> [String; 6] {
        let name = |protocol: &str| format!("{alias}_PORT_{}_{}", first.0, protocol.to_uppercase());
        let (begin, end) = (name(first.1), name(last.1));
        [
            format!("{begin}_START={}", self.place(first)),
            format!("{begin}_ADDR={}", self.address),
            format!("{begin}_PROTO={}", first.1),
            format!("{begin}_PORT_START={}", first.0),
            format!("{end}_END={}", self.place(last)),
            format!("{end}_PORT_END={}", last.0),
        ]
    }

    fn place(&self, (number, protocol): (u16, &str)) -> String {
        format!("{protocol}://{}:{number}", self.address)
    }
}

fn port(text: &str) -> Option<(u16, &str)> {
    let (number, protocol) = text.split_once('/')?;
    Some((number.parse().ok()?, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What docker 20.10.24 gave for `--expose 3306 -p 80 -p 53/udp --expose 7000-7002 -e DB_PASS=secret`.
    const RECORDED: &str = "\
        MY_DB.X_PORT=udp://172.17.0.2:53\n\
        MY_DB.X_PORT_7000_TCP_START=tcp://172.17.0.2:7000\n\
        MY_DB.X_PORT_7000_TCP_ADDR=172.17.0.2\n\
        MY_DB.X_PORT_7000_TCP_PROTO=tcp\n\
        MY_DB.X_PORT_7000_TCP_PORT_START=7000\n\
        MY_DB.X_PORT_7000_TCP_END=tcp://172.17.0.2:7002\n\
        MY_DB.X_PORT_7000_TCP_PORT_END=7002\n\
        MY_DB.X_PORT_53_UDP=udp://172.17.0.2:53\n\
        MY_DB.X_PORT_53_UDP_ADDR=172.17.0.2\n\
        MY_DB.X_PORT_53_UDP_PORT=53\n\
        MY_DB.X_PORT_53_UDP_PROTO=udp\n\
        MY_DB.X_PORT_80_TCP=tcp://172.17.0.2:80\n\
        MY_DB.X_PORT_80_TCP_ADDR=172.17.0.2\n\
        MY_DB.X_PORT_80_TCP_PORT=80\n\
        MY_DB.X_PORT_80_TCP_PROTO=tcp\n\
        MY_DB.X_PORT_3306_TCP=tcp://172.17.0.2:3306\n\
        MY_DB.X_PORT_3306_TCP_ADDR=172.17.0.2\n\
        MY_DB.X_PORT_3306_TCP_PORT=3306\n\
        MY_DB.X_PORT_3306_TCP_PROTO=tcp\n\
        MY_DB.X_PORT_7000_TCP=tcp://172.17.0.2:7000\n\
        MY_DB.X_PORT_7000_TCP_PORT=7000\n\
        MY_DB.X_PORT_7001_TCP=tcp://172.17.0.2:7001\n\
        MY_DB.X_PORT_7001_TCP_ADDR=172.17.0.2\n\
        MY_DB.X_PORT_7001_TCP_PORT=7001\n\
        MY_DB.X_PORT_7001_TCP_PROTO=tcp\n\
        MY_DB.X_PORT_7002_TCP=tcp://172.17.0.2:7002\n\
        MY_DB.X_PORT_7002_TCP_ADDR=172.17.0.2\n\
        MY_DB.X_PORT_7002_TCP_PORT=7002\n\
        MY_DB.X_PORT_7002_TCP_PROTO=tcp\n\
        MY_DB.X_NAME=/web/my-db.x\n\
        MY_DB.X_ENV_DB_PASS=secret\n\
        MY_DB.X_ENV_X=a b";

    #[test]
    fn variables_of_a_link_are_those_of_the_peer() {
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let exposed = list(&["3306/tcp", "53/udp", "7000/tcp", "7001/tcp", "7002/tcp", "80/tcp"]);
        let env = list(&["PATH=/bin", "HOSTNAME=db", "TERM=xterm", "HOME=/", "DB_PASS=secret", "X=a b"]);
        let target = Target {
            alias: "my-db.x",
            name: "/web/my-db.x".into(),
            address: Ipv4Addr::new(172, 17, 0, 2),
            exposed: &exposed,
            env: &env,
        };
        assert_eq!(target.variables().join("\n"), RECORDED);
        let none = Target { exposed: &[], env: &[], ..target };
        assert_eq!(none.variables(), ["MY_DB.X_NAME=/web/my-db.x"]);
    }
}
