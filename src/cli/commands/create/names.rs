//! Flags of `kiln create` and `run`: which names the container knows.

use crate::api::CreateRequest;
use crate::cli::commands::pairs;
use crate::cli::error::Error;

/// Which names the container knows.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Names {
    /// Add an entry to /etc/hosts (NAME:ADDRESS)
    #[arg(long, value_name = "HOST")]
    add_host: Vec<String>,
    /// Ask this name server
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Set an option of name look-ups (ndots:2)
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Look up short names in this domain (.: in none)
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Give a container a name here (CONTAINER[:ALIAS])
    #[arg(long, value_name = "CONTAINER")]
    link: Vec<String>,
}

impl Names {
    /// Puts them into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.add_hosts = self.add_host.iter().map(|text| host(text)).collect::<Result<_, _>>()?;
        request.dns = self.dns.iter().map(|text| server(text)).collect::<Result<_, _>>()?;
        request.dns_options =
            self.dns_option.iter().map(|text| word("--dns-option", text)).collect::<Result<_, _>>()?;
        request.dns_search =
            self.dns_search.iter().map(|text| word("--dns-search", text)).collect::<Result<_, _>>()?;
        request.links = self.link.iter().map(|text| link(text)).collect::<Result<_, _>>()?;
        Ok(())
    }
}

/// Reads `--link`; without an alias the container's name is one.
fn link(text: &str) -> Result<(String, String), Error> {
    let (container, alias) = text.split_once(':').unwrap_or((text, text));
    match container.is_empty() || alias.is_empty() {
        true => Err(Error::usage(format!("invalid value `{text}` for `--link`"))
            .hint("write it as `CONTAINER` or `CONTAINER:ALIAS`")),
        false => Ok((container.to_owned(), alias.to_owned())),
    }
}

/// Reads `--add-host`; `host-gateway` stands for the machine, by its address in the container's network.
fn host(text: &str) -> Result<(String, String), Error> {
    match text.split_once('=').or_else(|| text.split_once(':')) {
        Some((name, "host-gateway")) if !name.is_empty() && !name.contains(char::is_whitespace) => {
            Ok((name.to_owned(), "host-gateway".to_owned()))
        }
        _ => pairs::host(text),
    }
}

fn server(text: &str) -> Result<String, Error> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(Error::usage(format!("invalid value `{text}` for `--dns`: it must be an address"))
            .hint("write it as `9.9.9.9`")),
    }
}

/// Reads a word of `/etc/resolv.conf`.
fn word(flag: &str, text: &str) -> Result<String, Error> {
    match text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        true => Err(Error::usage(format!("invalid value `{text}` for `{flag}`"))
            .hint("it is one word, without spaces")),
        false => Ok(text.to_owned()),
    }
}
