//! Names to manifests, checked.

use bytes::Bytes;
use kiln_cache::Digest;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use reqwest::{Method, Response};
use serde::Deserialize;

use super::call::{Action, Call};
use super::error::{Error, Result};
use super::hosts::Endpoint;
use super::reply::{read_bounded, refusal, shown};
use super::{Client, Tried};
use crate::oci::{Reference, media_type};

/// What the distribution spec lets every registry refuse to store.
const MANIFEST_MAX_BYTES: usize = 4 << 20;
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What a name stands for right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// The manifest's media type, if the registry told it.
    pub media_type: Option<String>,
    /// The manifest's length, if the registry told it.
    pub size: Option<u64>,
}

/// A manifest or index as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// One of the manifest and index types of `oci::media_type`.
    pub media_type: String,
    /// The document, to be kept as it is.
    pub bytes: Bytes,
}

impl Client {
    /// Asks what `reference` stands for, without fetching it; `None` if no host can tell without.
    ///
    /// Registries with a rate limit don't count this.
    pub async fn head(&self, reference: &Reference) -> Result<Option<Head>> {
        let mut tried = Tried::default();
        for endpoint in self.manifest_endpoints(reference)? {
            match self.head_at(&endpoint, reference).await {
                Ok(head) => return Ok(head),
                Err(error) => tried.add(error),
            }
        }
        Err(tried.into_error())
    }

    /// Fetches the manifest or index that `reference` names.
    ///
    /// A digest in `reference` wins over its tag. The bytes are verified against the digest that was
    /// asked for, or that the registry announced.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        if let Some(digest) = reference.digest {
            return self.fetch(reference, digest).await;
        }
        let mut tried = Tried::default();
        for endpoint in self.manifest_endpoints(reference)? {
            let result = match self.head_at(&endpoint, reference).await {
                // Asked by digest, a cache in between can't answer with another version, and any
                // mirror will do.
                Ok(Some(head)) => self.fetch(reference, head.digest).await,
                Ok(None) => self.get(&endpoint, reference, reference).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(resolved) => return Ok(resolved),
                Err(error) => tried.add(error),
            }
        }
        Err(tried.into_error())
    }

    /// Fetches the manifest of `reference`'s repository with this digest, verified.
    pub async fn manifest(&self, reference: &Reference, digest: Digest) -> Result<Resolved> {
        self.fetch(&reference.with_digest(digest), digest).await
    }

    /// Fetches by digest from any host; `shown` is what the user asked for.
    async fn fetch(&self, shown: &Reference, digest: Digest) -> Result<Resolved> {
        let wanted = shown.with_digest(digest);
        let mut tried = Tried::default();
        for endpoint in self.manifest_endpoints(&wanted)? {
            match self.get(&endpoint, &wanted, shown).await {
                Ok(resolved) => return Ok(resolved),
                Err(error) => tried.add(error),
            }
        }
        Err(tried.into_error())
    }

    fn manifest_endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        match reference.digest {
            Some(_) => self.endpoints(reference, "pull", |can| can.pull),
            None => self.endpoints(reference, "resolve", |can| can.resolve),
        }
    }

    async fn head_at(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Option<Head>> {
        let call = manifest_call(endpoint, reference, reference, Method::HEAD)?;
        let response = self.0.transport.send(&call).await?;
        let status = response.status();
        if status.as_u16() == 404 {
            // The answer to HEAD has no words, so they are ours.
            return Err(Error::ManifestUnknown {
                reference: reference.familiar(),
                registry: endpoint.label.clone(),
                message: "manifest unknown".to_owned(),
            });
        }
        if matches!(status.as_u16(), 400 | 405 | 501) {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(refusal(&call, response).await);
        }
        let Some(digest) = announced(&call, &response)? else { return Ok(None) };
        if let Some(expected) = reference.digest.filter(|expected| *expected != digest) {
            return Err(mismatch(&call, expected, digest));
        }
        let size = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Some(Head { digest, media_type: content_type(&response), size }))
    }

    /// Fetches `wanted`; `shown` is what the user asked for.
    async fn get(&self, endpoint: &Endpoint, wanted: &Reference, shown: &Reference) -> Result<Resolved> {
        let call = manifest_call(endpoint, wanted, shown, Method::GET)?;
        let response = self.0.transport.send(&call).await?;
        let status = response.status();
        if !status.is_success() {
            let error = refusal(&call, response).await;
            return Err(match error {
                Error::Status { registry, reference, message, .. } if status.as_u16() == 404 => {
                    Error::ManifestUnknown { reference, registry, message }
                }
                other => other,
            });
        }
        let declared = content_type(&response);
        let announced = announced(&call, &response)?;
        let bytes =
            read_bounded(response, MANIFEST_MAX_BYTES).await.map_err(|error| error.into_error(&call))?;
        let digest = Digest::of(&bytes);
        for expected in [wanted.digest, announced].into_iter().flatten() {
            if expected != digest {
                return Err(mismatch(&call, expected, digest));
            }
        }
        let media_type = kind(declared.as_deref(), &bytes, &call)?;
        Ok(Resolved { digest, media_type, bytes })
    }
}

fn manifest_call<'a>(
    endpoint: &'a Endpoint,
    wanted: &Reference,
    shown: &'a Reference,
    method: Method,
) -> Result<Call<'a>> {
    let path = format!("manifests/{}", wanted.identifier());
    // In one line, because some registries read only the first.
    let accepted = [
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_INDEX,
        media_type::DOCKER_MANIFEST,
    ];
    Call::new(endpoint, shown, Action::Pull, method, &path).header(ACCEPT, &accepted.join(", "))
}

/// Returns the digest that the answer's header names.
fn announced(call: &Call<'_>, response: &Response) -> Result<Option<Digest>> {
    let Some(value) = response.headers().get(CONTENT_DIGEST) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    // A registry that works with another algorithm is told apart by its content alone.
    if text.starts_with("sha512:") {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| call.protocol(format!("its header names no digest: `{text}`")))
}

fn content_type(response: &Response) -> Option<String> {
    let value = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_owned())
}

fn mismatch(call: &Call<'_>, expected: Digest, actual: Digest) -> Error {
    Error::DigestMismatch {
        registry: call.endpoint.label.clone(),
        reference: call.reference.familiar(),
        expected,
        actual,
    }
}

/// The members that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Returns what the document is, and refuses what is no image or could be read in two ways.
///
/// The header and the document's own `mediaType` must agree, and a document with both `manifests`
/// and `layers` is neither: else two tools could see two images under one digest (CVE-2021-41190).
fn kind(declared: Option<&str>, bytes: &[u8], call: &Call<'_>) -> Result<String> {
    let shape: Shape = serde_json::from_slice(bytes)
        .map_err(|error| call.protocol(format!("its manifest is no JSON object: {error}")))?;
    let known = |kind: &&str| media_type::is_index(kind) || media_type::is_manifest(kind);
    let own = shape.media_type.as_deref();
    if [declared, own].into_iter().flatten().any(media_type::is_schema1)
        || shape.schema_version == Some(1)
        || shape.fs_layers.is_some()
    {
        return Err(Error::Schema1 { reference: call.reference.familiar() });
    }
    let sniffed = match (shape.manifests.is_some(), shape.layers.is_some() || shape.config.is_some()) {
        (true, true) => return Err(call.protocol("its manifest is both an image and an index")),
        (true, false) => Some(media_type::OCI_INDEX),
        (false, true) => Some(media_type::OCI_MANIFEST),
        (false, false) => None,
    };
    let declared_known = declared.filter(known);
    if let (Some(header), Some(own)) = (declared_known, own)
        && header != own
    {
        return Err(call.protocol(format!("it calls `{}` a `{header}`", shown(own))));
    }
    let named = own.or(declared_known);
    match (named.filter(known), sniffed) {
        (Some(named), Some(sniffed)) if media_type::is_index(named) == media_type::is_index(sniffed) => {
            Ok(named.to_owned())
        }
        (Some(named), _) => Err(call.protocol(format!("its `{named}` has other content"))),
        (None, Some(sniffed)) if named.is_none() => Ok(sniffed.to_owned()),
        (None, _) => Err(Error::NotAnImage {
            reference: call.reference.familiar(),
            media_type: shown(named.or(declared).unwrap_or("unknown")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(declared: Option<&str>, document: &str) -> Result<String> {
        let reference: Reference = "localhost:1/app".parse().unwrap();
        let endpoints = super::super::hosts::endpoints("localhost:1", &[]).unwrap();
        let call = Call::new(&endpoints[0], &reference, Action::Pull, Method::GET, "manifests/latest");
        kind(declared, document.as_bytes(), &call)
    }

    #[test]
    fn a_document_says_what_it_is() {
        let image = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(kind_of(None, image).unwrap(), media_type::OCI_MANIFEST);
        assert_eq!(kind_of(Some("application/json"), index).unwrap(), media_type::OCI_INDEX);
        assert_eq!(kind_of(Some(media_type::DOCKER_MANIFEST), image).unwrap(), media_type::DOCKER_MANIFEST);
        let own = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media_type::DOCKER_INDEX);
        assert_eq!(kind_of(None, &own).unwrap(), media_type::DOCKER_INDEX);
    }

    #[test]
    fn documents_that_could_be_read_in_two_ways_are_refused() {
        let both = r#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#;
        assert!(matches!(kind_of(None, both), Err(Error::Protocol { .. })));
        let image = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        assert!(matches!(kind_of(Some(media_type::OCI_INDEX), image), Err(Error::Protocol { .. })));
        let own = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
        assert!(matches!(kind_of(Some(media_type::DOCKER_INDEX), &own), Err(Error::Protocol { .. })));
    }

    #[test]
    fn a_strangers_words_cant_paint_the_terminal() {
        let other = r#"{"mediaType":"a\u001b[2Jb","config":{}}"#;
        assert_eq!(
            kind_of(None, other).unwrap_err().to_string(),
            "localhost:1/app:latest is not an image but `a [2Jb`"
        );
    }

    #[test]
    fn schema_1_and_other_documents_are_refused_by_name() {
        let schema1 = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(kind_of(None, schema1), Err(Error::Schema1 { .. })));
        assert!(matches!(kind_of(Some(media_type::DOCKER_SCHEMA1_SIGNED), "{}"), Err(Error::Schema1 { .. })));
        let other = r#"{"mediaType":"application/x","config":{}}"#;
        assert!(matches!(kind_of(None, other), Err(Error::NotAnImage { .. })));
        assert!(matches!(kind_of(None, "[]"), Err(Error::Protocol { .. })));
    }
}
