//! The distribution client: names to digests, digests to bytes, and bytes to a registry.
//!
//! It speaks the distribution protocol and nothing else: it knows no store, no layers and no unpacking.
//!
//! 1. [`Client`] turns a reference's registry into endpoints: the mirrors of `hosts.toml`, then the
//!    registry itself (`hosts`). Each verb asks them in order until one answers.
//! 2. `transport` sends one request (`call`) to one endpoint: connections (`http`), anonymous tokens
//!    (`auth`), redirects without leaking credentials, retries with back-off; `reply` reads answers.
//! 3. `manifest` resolves and verifies manifests; `blob` streams blobs and goes on after a break;
//!    `push` writes.
//!
//! Connections for other downloads (`crate::fetch`) are set up here too, so that TLS and proxies have one place.
//!
//! Everything that a registry says is untrusted: manifests are bounded and checked against their
//! digest here; a blob's length is held to its descriptor here and its digest is the caller's to check,
//! who hashes it anyway while storing it.
//!
//! Sources: OCI distribution-spec 1.1; distribution, docs/spec/auth; containerd, docs/hosts.md.

mod auth;
mod blob;
mod call;
mod error;
mod hosts;
mod http;
mod manifest;
mod push;
mod reply;
mod transport;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use blob::BlobStream;
pub(crate) use error::unreachable;
pub use error::{Cause, Error, Result, Unreachable};
pub(crate) use http::plain_client;
pub use manifest::{Head, Resolved};
pub use push::Progress;

use hosts::{Capabilities, Endpoint};
use transport::Transport;

use crate::oci::Reference;

/// How patient a client is.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// How long a connection may take, TLS included.
    pub connect: Duration,
    /// How long a registry may say nothing.
    pub idle: Duration,
    /// How often a request is tried again after 429, 5xx or a broken connection; also how often in a
    /// row a blob's download is taken up again without getting any further.
    pub retries: u32,
    /// The wait before the first retry; it doubles from there.
    pub first_delay: Duration,
    /// The longest wait, `Retry-After` included; a registry that asks for more is not waited for.
    pub max_delay: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            retries: 5,
            first_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(60),
        }
    }
}

/// A client of every registry.
///
/// Cheap to make and to clone: configuration is read, and TLS set up, when a registry is first asked.
/// Clones share connections and tokens. Needs a tokio runtime when used, not when made.
#[derive(Debug, Clone)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folders: Vec<PathBuf>,
    endpoints: Mutex<HashMap<String, Arc<[Endpoint]>>>,
    transport: Transport,
}

impl Client {
    /// Returns a client that finds `HOST/hosts.toml` files in `folders`, first match wins.
    pub fn new(folders: &[PathBuf]) -> Self {
        Self::with_tuning(folders, Tuning::default())
    }

    /// Returns a client with another patience than the default.
    pub fn with_tuning(folders: &[PathBuf], tuning: Tuning) -> Self {
        Self(Arc::new(Shared {
            folders: folders.to_vec(),
            endpoints: Mutex::default(),
            transport: Transport::new(tuning),
        }))
    }

    /// Returns the endpoints that may do `action` for `reference`'s registry; at least one.
    fn endpoints(
        &self,
        reference: &Reference,
        action: &'static str,
        may: fn(&Capabilities) -> bool,
    ) -> Result<Vec<Endpoint>> {
        let registry = &reference.registry;
        let mut known = self.0.endpoints.lock().expect("nothing panics while it holds the endpoints");
        let all = match known.get(registry) {
            Some(all) => Arc::clone(all),
            None => {
                // A few short files, read once: not worth a way through another thread.
                let all: Arc<[Endpoint]> = hosts::endpoints(registry, &self.0.folders)?.into();
                known.insert(registry.clone(), Arc::clone(&all));
                all
            }
        };
        let able: Vec<_> = all.iter().filter(|endpoint| may(&endpoint.can)).cloned().collect();
        if able.is_empty() {
            return Err(Error::NoHost { registry: registry.clone(), action });
        }
        Ok(able)
    }
}

/// Collects the failures of endpoints that were tried before the last one.
#[derive(Debug, Default)]
struct Tried(Vec<Error>);

impl Tried {
    fn add(&mut self, error: Error) {
        tracing::debug!(%error, "host failed, asking the next one");
        self.0.push(error);
    }

    /// Returns the failure of all: the last host's own words, with the mirrors' before.
    fn into_error(mut self) -> Error {
        let last = self.0.pop().expect("every list of endpoints has at least one");
        if self.0.is_empty() {
            return last;
        }
        let mirrors = self.0.iter().map(error::with_cause).collect();
        Error::EveryHost { last: Box::new(last), mirrors }
    }
}
