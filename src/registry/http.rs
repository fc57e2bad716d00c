//! HTTP clients, one per kind of connection.

use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use reqwest::Url;

use super::Tuning;
use super::error::{Error, Result};
use super::hosts::{Endpoint, Tls, is_loopback};

/// What makes connections different; requests with equal ones share a client and its connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    /// `None` for plain http, which never loads certificates.
    tls: Option<Tls>,
    dial_timeout: Option<Duration>,
    /// This machine is never asked through a proxy.
    loopback: bool,
    /// Whether a long body goes up, during which nothing comes back.
    upload: bool,
}

impl ClientKey {
    pub(super) fn new(endpoint: &Endpoint, url: &Url, upload: bool) -> Self {
        Self {
            tls: (url.scheme() == "https").then(|| endpoint.tls.clone()),
            dial_timeout: endpoint.dial_timeout,
            loopback: is_loopback(url),
            upload,
        }
    }

    /// Makes the client; `registry` is who it is for in messages.
    pub(super) fn build(&self, tuning: &Tuning, registry: &str) -> Result<reqwest::Client> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // An error means that somebody installed one before, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(self.dial_timeout.unwrap_or(tuning.connect))
            .http2_adaptive_window(true);
        if !self.upload {
            builder = builder.read_timeout(tuning.idle);
        }
        if self.loopback {
            builder = builder.no_proxy();
        }
        builder = match &self.tls {
            Some(tls) => with_tls(builder, tls)?,
            None => builder.tls_certs_only([]),
        };
        builder.build().map_err(|error| {
            let mut innermost: &dyn std::error::Error = &error;
            while let Some(source) = innermost.source() {
                innermost = source;
            }
            Error::Setup { registry: registry.to_owned(), reason: innermost.to_string() }
        })
    }
}

/// Returns a client for addresses like `url`, which no registry's settings are for.
pub(crate) fn plain_client(url: &Url, tuning: &Tuning) -> Result<reqwest::Client> {
    let key = ClientKey {
        tls: (url.scheme() == "https").then(Tls::default),
        dial_timeout: None,
        loopback: is_loopback(url),
        upload: false,
    };
    key.build(tuning, url.host_str().unwrap_or_default())
}

fn with_tls(mut builder: reqwest::ClientBuilder, tls: &Tls) -> Result<reqwest::ClientBuilder> {
    builder = builder.tls_danger_accept_invalid_certs(tls.skip_verify);
    // Added to the system's authorities, which are read from SSL_CERT_FILE or the usual places.
    builder = builder.tls_certs_merge(authorities(tls)?);
    if let Some((certificate, key)) = &tls.client {
        let mut pem = read_file(certificate)?;
        pem.extend(key.as_deref().map(read_file).transpose()?.unwrap_or_default());
        let identity = reqwest::Identity::from_pem(&pem).map_err(|error| not_pem(certificate, &error))?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

fn authorities(tls: &Tls) -> Result<Vec<reqwest::Certificate>> {
    let mut found = Vec::new();
    for path in &tls.ca {
        let bundle = reqwest::Certificate::from_pem_bundle(&read_file(path)?);
        found.extend(bundle.map_err(|error| not_pem(path, &error))?);
    }
    Ok(found)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::ReadConfig { path: path.to_owned(), source })
}

fn not_pem(path: &Path, error: &reqwest::Error) -> Error {
    Error::Config { path: path.to_owned(), reason: format!("it is no PEM certificate: {error}") }
}
