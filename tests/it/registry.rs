//! The registry client against registries that behave and that don't.

use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use kiln::oci::{Descriptor, ImageManifest, Reference, media_type};
use kiln::registry::{Client, Error, Progress, Tuning, Unreachable};
use kiln_cache::Digest;
use serde_json::json;

use crate::support::registry::{DebianRegistry, FakeRegistry, Fault};

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A client that doesn't make tests wait.
fn client_with(folders: &[PathBuf]) -> Client {
    let tuning = Tuning {
        connect: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        retries: 3,
        first_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(1500),
    };
    Client::with_tuning(folders, tuning)
}

fn client() -> Client {
    client_with(&[])
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    sized(&Digest::of(bytes), bytes.len())
}

fn sized(digest: &Digest, size: usize) -> Descriptor {
    let text = json!({ "mediaType": media_type::OCI_LAYER, "digest": digest.to_string(), "size": size });
    serde_json::from_value(text).unwrap()
}

async fn fetch(client: &Client, reference: &Reference, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let mut stream = client.blob(reference, descriptor).await?;
    let mut all = Vec::new();
    while let Some(chunk) = stream.try_next().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Content that is long enough to come in several pieces.
fn content() -> Vec<u8> {
    (0..300_000_u32).map(|number| (number * 7 % 251) as u8).collect()
}

fn app(registry: &FakeRegistry) -> Digest {
    registry.put_image("app", "1", &[(media_type::OCI_LAYER, b"layer")], &json!({ "os": "linux" }))
}

fn hosts_file(root: &Path, registry: &str, text: &str) {
    let folder = root.join(registry);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
}

#[test]
fn a_tag_is_resolved_and_its_content_fetched() {
    let registry = FakeRegistry::start();
    let digest = app(&registry);
    let reference = registry.reference("app:1");
    let client = client();
    let resolved = run(client.resolve(&reference)).unwrap();
    assert_eq!((resolved.digest, resolved.media_type.as_str()), (digest, media_type::OCI_MANIFEST));
    let head = run(client.head(&reference)).unwrap().unwrap();
    assert_eq!((head.digest, head.size), (digest, Some(resolved.bytes.len() as u64)));
    let manifest: ImageManifest = serde_json::from_slice(&resolved.bytes).unwrap();
    assert_eq!(run(fetch(&client, &reference, &manifest.layers()[0])).unwrap(), b"layer");
    let accept = &registry.seen()[0].headers["accept"];
    for kind in [media_type::OCI_INDEX, media_type::DOCKER_INDEX, media_type::DOCKER_MANIFEST] {
        assert!(accept.contains(kind), "{accept}");
    }
}

#[test]
fn an_empty_blob_needs_no_request() {
    let registry = FakeRegistry::start();
    assert_eq!(run(fetch(&client(), &registry.reference("app"), &descriptor(b""))).unwrap(), b"");
    assert_eq!(registry.seen().len(), 0);
}

#[test]
fn one_token_serves_all_requests_of_a_repository() {
    let registry = FakeRegistry::start();
    let digest = app(&registry);
    registry.require_tokens();
    let client = client();
    let reference = registry.reference("app:1");
    run(async {
        assert_eq!(client.resolve(&reference).await.unwrap().digest, digest);
        assert_eq!(fetch(&client, &reference, &descriptor(b"layer")).await.unwrap(), b"layer");
    });
    assert_eq!(registry.count("/token"), 1);
    assert!(registry.seen().iter().any(|seen| seen.path.contains("scope=repository%3Aapp%3Apull&")
        || seen.path.ends_with("scope=repository%3Aapp%3Apull")));
}

#[test]
fn a_password_prompt_is_refused_by_name() {
    let registry = FakeRegistry::start();
    let basic = Fault::Status(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".into())], String::new());
    registry.fault("manifests", 1, basic);
    let error = run(client().resolve(&registry.reference("app"))).unwrap_err();
    assert!(matches!(error, Error::LoginRequired { .. }), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn what_needs_a_login_says_so_as_docker_does() {
    let registry = FakeRegistry::start();
    let denied =
        json!({ "errors": [{ "code": "DENIED", "message": "requested access to the resource is denied" }] });
    registry.fault("manifests", 1, Fault::Status(403, vec![], denied.to_string()));
    let reference = Reference { digest: Some(Digest::of("x")), ..registry.reference("app") };
    let error = run(client().resolve(&reference)).unwrap_err();
    let expected = format!(
        "pull access denied for {}/app, repository does not exist or may require login: \
         denied: requested access to the resource is denied",
        registry.host()
    );
    assert_eq!(error.to_string(), expected);
    assert!(error.is_not_found());
}

#[test]
fn a_missing_tag_names_the_image() {
    let registry = FakeRegistry::start();
    let error = run(client().resolve(&registry.reference("app:nope"))).unwrap_err();
    let expected = format!("manifest for {}/app:nope not found: manifest unknown", registry.host());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_busy_registry_is_asked_again() {
    let registry = FakeRegistry::start();
    let digest = app(&registry);
    let busy = Fault::Status(429, vec![("Retry-After", "0".into())], String::new());
    registry.fault("HEAD", 1, busy);
    registry.fault("GET", 1, Fault::Status(503, vec![], String::new()));
    assert_eq!(run(client().resolve(&registry.reference("app:1"))).unwrap().digest, digest);
    assert_eq!((registry.count("HEAD"), registry.count("GET")), (2, 2));
}

#[test]
fn a_registry_that_asks_for_too_long_a_wait_is_not_waited_for() {
    let registry = FakeRegistry::start();
    let limit = json!({ "errors": [{ "code": "TOOMANYREQUESTS", "message": "pull rate limit" }] });
    let busy = Fault::Status(429, vec![("Retry-After", "86400".into())], limit.to_string());
    registry.fault("GET", 9, busy);
    let reference = Reference { digest: Some(Digest::of("x")), ..registry.reference("app") };
    let error = run(client().resolve(&reference)).unwrap_err();
    assert!(error.to_string().ends_with("toomanyrequests: pull rate limit"), "{error}");
    assert!(error.to_string().contains("429 Too Many Requests"), "{error}");
    assert_eq!(registry.count("GET"), 1);
}

#[test]
fn a_registry_that_stays_broken_is_given_up() {
    let registry = FakeRegistry::start();
    registry.fault("HEAD", 100, Fault::Status(500, vec![], String::new()));
    let error = run(client().resolve(&registry.reference("app:1"))).unwrap_err();
    assert!(matches!(error, Error::Status { .. }), "{error}");
    assert_eq!(registry.count("HEAD"), 4);
}

#[test]
fn a_broken_blob_goes_on_where_it_stopped() {
    let registry = FakeRegistry::start();
    let bytes = content();
    registry.put_blob("app", &bytes);
    registry.fault("/blobs/", 2, Fault::Break(100_000));
    let got = run(fetch(&client(), &registry.reference("app"), &descriptor(&bytes))).unwrap();
    assert!(got == bytes);
    let ranges: Vec<_> =
        registry.seen().iter().filter_map(|seen| seen.headers.get("range").cloned()).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=200000-"]);
}

#[test]
fn a_broken_blob_is_read_again_from_a_server_without_ranges() {
    let registry = FakeRegistry::start();
    let bytes = content();
    registry.put_blob("app", &bytes);
    registry.fault("/blobs/", 1, Fault::Break(99_999));
    registry.fault("/blobs/", 1, Fault::NoRange);
    let got = run(fetch(&client(), &registry.reference("app"), &descriptor(&bytes))).unwrap();
    assert!(got == bytes);
}

#[test]
fn a_truncated_blob_is_an_error() {
    let registry = FakeRegistry::start();
    let bytes = content();
    registry.put_blob("app", &bytes);
    let reference = registry.reference("app");
    registry.fault("/blobs/", 1, Fault::Truncate(1000));
    let error = run(fetch(&client(), &reference, &descriptor(&bytes))).map(|got| got.len()).unwrap_err();
    assert!(matches!(error, Error::SizeMismatch { actual: 1000, .. }), "{error}");
    assert!(error.is_corrupt());
    // The same without an announced length: the rest doesn't exist anywhere.
    registry.fault("/blobs/", 1, Fault::ReplaceUnannounced(bytes[..1000].to_vec()));
    registry.fault("/blobs/", 1, Fault::Status(416, vec![], String::new()));
    let error = run(fetch(&client(), &reference, &descriptor(&bytes))).map(|got| got.len()).unwrap_err();
    assert!(matches!(error, Error::SizeMismatch { actual: 1000, .. }), "{error}");
}

#[test]
fn a_blob_never_gives_more_than_its_size() {
    let registry = FakeRegistry::start();
    let reference = registry.reference("app");
    registry.put_blob("app", b"12345");
    let digest = Digest::of("12345");
    for fault in [
        Fault::Replace(vec![b'x'; 6]),
        Fault::ReplaceUnannounced(vec![b'x'; 6]),
        Fault::ReplaceUnannounced(content()),
    ] {
        registry.fault("/blobs/", 1, fault);
        let error = run(fetch(&client(), &reference, &sized(&digest, 5))).map(|got| got.len()).unwrap_err();
        assert!(matches!(error, Error::SizeMismatch { expected: 5, .. }), "{error}");
    }
}

#[test]
fn wrong_bytes_of_the_right_length_reach_the_caller_who_hashes() {
    let registry = FakeRegistry::start();
    registry.put_blob("app", b"12345");
    registry.fault("/blobs/", 1, Fault::Replace(b"54321".to_vec()));
    let got = run(fetch(&client(), &registry.reference("app"), &descriptor(b"12345"))).unwrap();
    assert_ne!(Digest::of(got), Digest::of("12345"));
}

#[test]
fn a_missing_blob_is_named() {
    let registry = FakeRegistry::start();
    let error = run(fetch(&client(), &registry.reference("app"), &descriptor(b"x"))).unwrap_err();
    assert!(matches!(error, Error::BlobUnknown { .. }), "{error}");
}

#[test]
fn a_manifest_that_isnt_what_its_digest_says_is_refused() {
    let registry = FakeRegistry::start();
    let digest = app(&registry);
    let other = json!({ "schemaVersion": 2, "config": {}, "layers": [] }).to_string();
    for reference in [registry.reference("app:1"), registry.reference("app").with_digest(digest)] {
        registry.fault("GET", 1, Fault::Replace(other.clone().into_bytes()));
        let error = run(client().resolve(&reference)).unwrap_err();
        assert!(matches!(&error, Error::DigestMismatch { expected, .. } if *expected == digest), "{error}");
        assert!(error.is_corrupt());
    }
    registry.fault("GET", 1, Fault::WrongDigest(Digest::of("lie").to_string()));
    let error = run(client().resolve(&registry.reference("app").with_digest(digest))).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    registry.fault("GET", 1, Fault::WrongDigest("nonsense".into()));
    let error = run(client().resolve(&registry.reference("app").with_digest(digest))).unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[test]
fn an_endless_manifest_is_refused() {
    let registry = FakeRegistry::start();
    let digest = app(&registry);
    for fault in [Fault::Replace(vec![b' '; 5 << 20]), Fault::ReplaceUnannounced(vec![b' '; 5 << 20])] {
        registry.fault("GET", 1, fault);
        let error = run(client().resolve(&registry.reference("app").with_digest(digest))).unwrap_err();
        assert!(error.to_string().contains("more than 4194304 bytes"), "{error}");
    }
}

#[test]
fn schema_1_is_refused_by_name() {
    let registry = FakeRegistry::start();
    let schema1 = json!({ "schemaVersion": 1, "fsLayers": [] }).to_string();
    registry.put_manifest("old", "1", media_type::DOCKER_SCHEMA1_SIGNED, schema1.as_bytes());
    let error = run(client().resolve(&registry.reference("old:1"))).unwrap_err();
    assert!(matches!(error, Error::Schema1 { .. }), "{error}");
}

#[test]
fn a_redirect_to_another_host_takes_no_token_along() {
    let (registry, storage) = (FakeRegistry::start(), FakeRegistry::start());
    registry.put_blob("app", b"layer");
    storage.put_blob("app", b"layer");
    registry.require_tokens();
    let digest = Digest::of("layer");
    let elsewhere = format!("http://{}/v2/app/blobs/{digest}?signature=secret", storage.host());
    let client = client();
    // The first answer is the registry's 401.
    registry.fault(
        "/blobs/",
        1,
        Fault::Status(
            401,
            vec![("WWW-Authenticate", format!(r#"Bearer realm="http://{}/token""#, registry.host()))],
            String::new(),
        ),
    );
    registry.fault("/blobs/", 1, Fault::Redirect(elsewhere));
    let got = run(fetch(&client, &registry.reference("app"), &descriptor(b"layer"))).unwrap();
    assert_eq!(got, b"layer");
    assert!(registry.seen().iter().any(|seen| seen.headers.contains_key("authorization")));
    assert_eq!(storage.seen().len(), 1);
    assert!(!storage.seen()[0].headers.contains_key("authorization"));
}

#[test]
fn redirects_end() {
    let registry = FakeRegistry::start();
    registry.fault("/blobs/", 100, Fault::Redirect("/v2/app/blobs/again".into()));
    let error = run(fetch(&client(), &registry.reference("app"), &descriptor(b"x"))).unwrap_err();
    assert!(error.to_string().contains("redirects without end"), "{error}");
    assert!(registry.seen().len() <= 11);
    let registry = FakeRegistry::start();
    registry.fault("/blobs/", 1, Fault::Redirect("file:///etc/passwd".into()));
    let error = run(fetch(&client(), &registry.reference("app"), &descriptor(b"x"))).unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[test]
fn a_registry_that_is_down_refuses_the_connection() {
    let registry = FakeRegistry::start();
    let reference = registry.reference("app");
    let host = registry.host();
    drop(registry);
    let error = run(client().resolve(&reference)).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { reason: Unreachable::Refused, .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("cannot reach registry `{host}`: connection refused"));
    assert!(error.hint().is_some());
}

#[test]
fn a_registry_that_speaks_no_tls_fails_as_tls() {
    let registry = FakeRegistry::start();
    let folder = tempfile::tempdir().unwrap();
    hosts_file(
        folder.path(),
        &registry.host(),
        &format!("server = \"https://{}\"\nskip_verify = true", registry.host()),
    );
    let client = client_with(&[folder.path().to_owned()]);
    let error = run(client.resolve(&registry.reference("app"))).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { reason: Unreachable::Tls, .. }), "{error:?}");
}

#[test]
fn a_silent_registry_times_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/app", listener.local_addr().unwrap()).parse().unwrap();
    let tuning = Tuning { idle: Duration::from_millis(100), retries: 0, ..Tuning::default() };
    let error = run(Client::with_tuning(&[], tuning).resolve(&reference)).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { reason: Unreachable::Timeout, .. }), "{error:?}");
}

#[test]
fn mirrors_are_asked_in_order_and_the_registry_last() {
    let (mirror, upstream, down) = (FakeRegistry::start(), FakeRegistry::start(), FakeRegistry::start());
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n[host.\"http://{}\".header]\nx-mirror = \"yes\"\n",
        upstream.host(),
        down.host(),
        mirror.host(),
        mirror.host(),
    );
    drop(down);
    hosts_file(folder.path(), "docker.io", &text);
    let client = client_with(&[folder.path().to_owned()]);
    let config = json!({});
    let in_mirror = mirror.put_image("library/debian", "1", &[(media_type::OCI_LAYER, b"a")], &config);
    let upstream_only = upstream.put_image("library/debian", "2", &[(media_type::OCI_LAYER, b"b")], &config);
    run(async {
        let resolved = client.resolve(&"debian:1".parse().unwrap()).await.unwrap();
        assert_eq!(resolved.digest, in_mirror);
        assert_eq!(upstream.seen().len(), 0);
        assert!(
            mirror
                .seen()
                .iter()
                .all(|seen| seen.path.ends_with("?ns=docker.io") && seen.headers["x-mirror"] == "yes")
        );

        let debian: Reference = "debian:2".parse().unwrap();
        assert_eq!(client.resolve(&debian).await.unwrap().digest, upstream_only);
        assert_eq!(fetch(&client, &debian, &descriptor(b"b")).await.unwrap(), b"b");
        assert!(
            upstream
                .seen()
                .iter()
                .all(|seen| !seen.path.contains("ns=") && !seen.headers.contains_key("x-mirror"))
        );

        let error = client.resolve(&"debian:3".parse().unwrap()).await.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(
            error.to_string().starts_with("manifest for debian:3 not found: manifest unknown (before that: "),
            "{error}"
        );
        assert!(error.to_string().contains("connection refused"), "{error}");
    });
}

#[test]
fn a_blob_that_a_mirror_breaks_off_goes_on_at_the_registry() {
    let (mirror, upstream) = (FakeRegistry::start(), FakeRegistry::start());
    let folder = tempfile::tempdir().unwrap();
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", upstream.host(), mirror.host());
    hosts_file(folder.path(), "docker.io", &text);
    let bytes = content();
    mirror.put_blob("library/debian", &bytes);
    upstream.put_blob("library/debian", &bytes);
    mirror.fault("/blobs/", 1, Fault::Break(70_000));
    mirror.fault("/blobs/", 100, Fault::Break(0));
    let client = client_with(&[folder.path().to_owned()]);
    let got = run(fetch(&client, &"debian".parse().unwrap(), &descriptor(&bytes))).unwrap();
    assert!(got == bytes);
    assert_eq!(upstream.seen()[0].headers["range"], "bytes=70000-");
}

#[test]
fn a_mirror_that_only_has_content_is_asked_by_digest() {
    let (mirror, upstream) = (FakeRegistry::start(), FakeRegistry::start());
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        upstream.host(),
        mirror.host()
    );
    hosts_file(folder.path(), "docker.io", &text);
    let layers: [(&str, &[u8]); 1] = [(media_type::OCI_LAYER, b"a")];
    let digest = upstream.put_image("library/debian", "1", &layers, &json!({}));
    mirror.put_image("library/debian", "1", &layers, &json!({}));
    let client = client_with(&[folder.path().to_owned()]);
    assert_eq!(run(client.resolve(&"debian:1".parse().unwrap())).unwrap().digest, digest);
    assert_eq!((upstream.count("HEAD"), upstream.count("GET")), (1, 0));
    assert_eq!((mirror.count("HEAD"), mirror.count("GET")), (0, 1));
    // A mirror with wrong bytes costs a request, not the pull.
    mirror.fault("GET", 1, Fault::Replace(b"{}".to_vec()));
    assert_eq!(run(client.resolve(&"debian:1".parse().unwrap())).unwrap().digest, digest);
    assert_eq!(upstream.count("GET"), 1);
}

fn push_file(client: &Client, reference: &Reference, bytes: &[u8]) -> Result<u64, Error> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let progress: Progress = Arc::new({
        let sent = Arc::clone(&sent);
        move |bytes| sent.store(bytes, Ordering::Relaxed)
    });
    let open = || std::fs::File::open(file.path());
    run(client.push_blob(reference, &Digest::of(bytes), bytes.len() as u64, &open, &progress))?;
    Ok(sent.load(Ordering::Relaxed))
}

#[test]
fn blobs_are_pushed_mounted_and_found() {
    let registry = FakeRegistry::start();
    registry.require_tokens();
    let client = client();
    let (app, copy) = (registry.reference("team/app:1"), registry.reference("team/copy:1"));
    let bytes = content();
    let digest = Digest::of(&bytes);
    assert!(!run(client.blob_exists(&app, &digest)).unwrap());
    assert!(!run(client.mount_blob(&app, &digest, "team/other")).unwrap());
    assert_eq!(registry.count("DELETE"), 1);
    assert_eq!(push_file(&client, &app, &bytes).unwrap(), bytes.len() as u64);
    assert!(run(client.blob_exists(&app, &digest)).unwrap());
    assert!(run(client.mount_blob(&copy, &digest, "team/app")).unwrap());
    assert!(registry.blob("team/copy", &digest).unwrap() == bytes);
    run(client.push_manifest(&app, media_type::OCI_MANIFEST, Bytes::from("{}"))).unwrap();
    assert_eq!(
        registry.manifest("team/app", "1").unwrap(),
        (media_type::OCI_MANIFEST.to_owned(), b"{}".to_vec())
    );
    let put = registry.seen().into_iter().find(|seen| seen.method == "PUT").unwrap();
    assert_eq!(put.headers["content-length"], bytes.len().to_string());
    assert!(put.path.contains("state=x&digest="), "{}", put.path);
}

#[test]
fn a_broken_upload_starts_anew() {
    let registry = FakeRegistry::start();
    registry.fault("PUT", 1, Fault::Status(502, vec![], String::new()));
    let bytes = content();
    push_file(&client(), &registry.reference("app"), &bytes).unwrap();
    assert_eq!((registry.count("POST"), registry.count("PUT")), (2, 2));
    assert!(registry.blob("app", &Digest::of(&bytes)).unwrap() == bytes);
}

#[test]
fn a_push_that_is_refused_says_so() {
    let registry = FakeRegistry::start();
    let denied = json!({ "errors": [{ "code": "DENIED", "message": "no" }] }).to_string();
    registry.fault("POST", 9, Fault::Status(403, vec![], denied));
    let error = push_file(&client(), &registry.reference("app"), b"x").unwrap_err();
    assert!(error.to_string().starts_with("push access denied for "), "{error}");
    assert_eq!(registry.count("POST"), 1);
}

#[test]
fn a_manifest_that_the_registry_changes_is_noticed() {
    let registry = FakeRegistry::start();
    registry.fault("PUT", 1, Fault::WrongDigest(Digest::of("other").to_string()));
    let push = client();
    let error =
        run(push.push_manifest(&registry.reference("app:1"), media_type::OCI_MANIFEST, Bytes::from("{}")));
    assert!(matches!(error, Err(Error::DigestMismatch { .. })), "{error:?}");
}

#[test]
fn a_small_image_goes_to_debians_registry_and_comes_back() {
    let Some(registry) = DebianRegistry::start("a_small_image_goes_to_debians_registry_and_comes_back")
    else {
        return;
    };
    let client = client();
    let reference = registry.reference("team/app:1");
    let (config, layer) = (br#"{"os":"linux","architecture":"amd64"}"#.as_slice(), content());
    for blob in [config, &layer] {
        assert!(!run(client.blob_exists(&reference, &Digest::of(blob))).unwrap());
        push_file(&client, &reference, blob).unwrap();
        assert!(run(client.blob_exists(&reference, &Digest::of(blob))).unwrap());
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": { "mediaType": media_type::OCI_CONFIG, "digest": Digest::of(config).to_string(), "size": config.len() },
        "layers": [{ "mediaType": media_type::OCI_LAYER, "digest": Digest::of(&layer).to_string(), "size": layer.len() }],
    })
    .to_string();
    let digest =
        run(client.push_manifest(&reference, media_type::OCI_MANIFEST, Bytes::from(manifest.clone())))
            .unwrap();
    assert_eq!(digest, Digest::of(&manifest));

    let resolved = run(client.resolve(&reference)).unwrap();
    assert_eq!((resolved.digest, &resolved.bytes[..]), (digest, manifest.as_bytes()));
    assert!(run(fetch(&client, &reference, &descriptor(&layer))).unwrap() == layer);
    let copy = registry.reference("team/copy:1");
    assert!(run(client.mount_blob(&copy, &Digest::of(&layer), "team/app")).unwrap());
    let error = run(client.resolve(&registry.reference("team/app:2"))).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("manifest unknown"), "{error}");
}

/// A certificate for 127.0.0.1 and its key; `None` where openssl isn't installed.
fn certificate(folder: &Path, authority: bool) -> Option<(PathBuf, PathBuf)> {
    let (key, certificate) = (folder.join("key.pem"), folder.join("ca.pem"));
    let basic = format!("basicConstraints=critical,CA:{}", if authority { "TRUE" } else { "FALSE" });
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=kiln \
                 -addext subjectAltName=IP:127.0.0.1 -addext";
    let status = std::process::Command::new("openssl")
        .args(words.split_whitespace())
        .args([&basic, "-keyout"])
        .args([key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
        .stderr(std::process::Stdio::null())
        .status();
    status.is_ok_and(|status| status.success()).then_some((certificate, key))
}

#[test]
fn a_registry_with_its_own_authority_is_trusted_when_told_so() {
    let test = "a_registry_with_its_own_authority_is_trusted_when_told_so";
    let folder = tempfile::tempdir().unwrap();
    let Some((ca, key)) = certificate(folder.path(), false) else {
        assert!(std::env::var_os("KILN_TEST_NO_SKIP").is_none(), "{test} needs openssl");
        return println!("skipped {test}: needs openssl");
    };
    let Some(registry) = DebianRegistry::start_tls(test, &ca, &key) else { return };
    let reference = registry.reference("app:1");
    let resolve = |settings: &str| {
        let root = tempfile::tempdir().unwrap();
        let text = format!("server = \"https://{}\"\n{settings}", registry.host());
        hosts_file(root.path(), &registry.host(), &text);
        run(client_with(&[root.path().to_owned()]).resolve(&reference)).unwrap_err()
    };
    let untrusted = resolve("");
    assert!(matches!(untrusted, Error::Unreachable { reason: Unreachable::Tls, .. }), "{untrusted:?}");
    assert!(untrusted.hint().unwrap().contains("hosts.toml"));
    for settings in [format!("ca = \"{}\"", ca.display()), "skip_verify = true".to_owned()] {
        let error = resolve(&settings);
        assert!(matches!(error, Error::ManifestUnknown { .. }), "{error:?}");
    }
    let missing = resolve("ca = \"missing.pem\"");
    assert!(matches!(missing, Error::ReadConfig { .. }), "{missing:?}");
    let wrong = resolve(&format!("ca = \"{}\"", key.display()));
    assert!(!wrong.is_not_found(), "{wrong:?}");
    // Plain http to a port that speaks TLS: the error tells what to write.
    let plain = Reference { digest: Some(Digest::of("x")), ..reference.clone() };
    let error = run(client().resolve(&plain)).unwrap_err();
    assert!(error.to_string().contains("it speaks https where http was expected"), "{error}");
}

#[test]
fn an_upload_that_stands_still_times_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/app:1", listener.local_addr().unwrap()).parse().unwrap();
    let tuning = Tuning { idle: Duration::from_millis(30), retries: 0, ..Tuning::default() };
    let push = Client::with_tuning(&[], tuning);
    let error = run(push.push_manifest(&reference, media_type::OCI_MANIFEST, Bytes::from("{}"))).unwrap_err();
    assert!(matches!(error, Error::Unreachable { reason: Unreachable::Timeout, .. }), "{error:?}");
}

#[test]
fn a_token_server_that_is_busy_is_asked_again() {
    let registry = FakeRegistry::start();
    let digest = app(&registry);
    registry.require_tokens();
    registry.fault("/token", 1, Fault::Status(503, vec![], String::new()));
    assert_eq!(run(client().resolve(&registry.reference("app:1"))).unwrap().digest, digest);
    assert_eq!(registry.count("/token"), 2);
}

#[test]
fn a_token_server_that_redirects_is_followed() {
    let registry = FakeRegistry::start();
    let digest = app(&registry);
    registry.require_tokens();
    registry.fault("/token", 1, Fault::Redirect("/token?scope=repository%3Aapp%3Apull".into()));
    assert_eq!(run(client().resolve(&registry.reference("app:1"))).unwrap().digest, digest);
    registry.fault("/token", 99, Fault::Redirect("/token".into()));
    let error = run(client().resolve(&registry.reference("app:1"))).unwrap_err();
    assert!(error.to_string().contains("redirects without end"), "{error}");
}

#[test]
fn a_lost_session_is_opened_anew() {
    let registry = FakeRegistry::start();
    let lost =
        json!({ "errors": [{ "code": "BLOB_UPLOAD_UNKNOWN", "message": "unknown upload" }] }).to_string();
    registry.fault("PUT", 1, Fault::Status(404, vec![], lost));
    push_file(&client(), &registry.reference("app"), b"x").unwrap();
    assert_eq!(registry.count("POST"), 2);
}

#[test]
fn an_authority_used_as_a_servers_certificate_is_explained() {
    let test = "an_authority_used_as_a_servers_certificate_is_explained";
    let folder = tempfile::tempdir().unwrap();
    let Some((ca, key)) = certificate(folder.path(), true) else {
        return println!("skipped {test}: needs openssl");
    };
    let Some(registry) = DebianRegistry::start_tls(test, &ca, &key) else { return };
    let text = format!("server = \"https://{}\"\nca = \"{}\"", registry.host(), ca.display());
    hosts_file(folder.path(), &registry.host(), &text);
    let error =
        run(client_with(&[folder.path().to_owned()]).resolve(&registry.reference("app:1"))).unwrap_err();
    assert!(error.hint().unwrap().contains("CA:FALSE"), "{error:?}");
}
