//! A request to a registry, as data that can be sent again.

use std::sync::atomic::AtomicU64;

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Body, Method, Url};

use super::auth::Grant;
use super::error::{Error, Result};
use super::hosts::Endpoint;
use crate::oci::Reference;

/// Whether content is read or written; decides on scopes and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pull,
    Push,
}

impl Action {
    fn scope(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

/// A request, kept so that it can be sent again.
pub(super) struct Call<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) reference: &'a Reference,
    pub(super) action: Action,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Makes the body anew for each attempt.
    pub(super) body: Option<&'a (dyn Fn() -> Result<Body> + Send + Sync)>,
    /// Counts what of the body is on its way; an upload that moves is never too slow.
    pub(super) moved: Option<&'a AtomicU64>,
    /// A repository that must be readable too, to mount a blob from it.
    pub(super) from: Option<&'a str>,
    /// Whether a retry is safe and useful.
    pub(super) retry: bool,
}

impl<'a> Call<'a> {
    /// Returns a call of `path` below the repository: `manifests/latest`.
    pub(super) fn new(
        endpoint: &'a Endpoint,
        reference: &'a Reference,
        action: Action,
        method: Method,
        path: &str,
    ) -> Self {
        let mut url = endpoint.base.clone();
        url.set_path(&format!("{}/{}/{path}", endpoint.base.path(), reference.repository));
        if let Some(registry) = &endpoint.mirrors {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        Self {
            endpoint,
            reference,
            action,
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            moved: None,
            from: None,
            retry: true,
        }
    }

    /// Adds a header whose value is known to be plain text.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let value =
            value.parse().map_err(|_| self.protocol(format!("`{value}` can't be sent in a header")))?;
        self.headers.append(name, value);
        Ok(self)
    }

    pub(super) fn protocol(&self, reason: impl Into<String>) -> Error {
        Error::Protocol {
            registry: self.endpoint.label.clone(),
            reference: self.reference.familiar(),
            reason: reason.into(),
        }
    }

    /// Returns what a token for this call must allow.
    pub(super) fn grant(&self) -> Grant {
        let own = format!("repository:{}:{}", self.reference.repository, self.action.scope());
        let from = self.from.map(|repository| format!("repository:{repository}:pull"));
        Grant { base: self.endpoint.base.to_string(), scopes: std::iter::once(own).chain(from).collect() }
    }
}
