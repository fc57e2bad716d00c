//! Registries for tests: one in this process that can misbehave, and Debian's own.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kiln::oci::{Reference, media_type};
use kiln_cache::Digest;
use serde_json::json;

use super::server::Server;

/// A registry in this process, on a free loopback port; ends when dropped.
pub(crate) struct FakeRegistry {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `repository@digest` to content.
    blobs: HashMap<String, Vec<u8>>,
    /// `repository:tag` and `repository@digest` to media type and content.
    manifests: HashMap<String, (String, Vec<u8>)>,
    faults: Vec<(String, usize, Fault)>,
    seen: Vec<Seen>,
    tokens: bool,
    uploads: usize,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `GET`.
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
}

/// How an answer goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status with these headers and body instead.
    Status(u16, Vec<(&'static str, String)>, String),
    /// The connection ends after so many bytes of the body.
    Break(usize),
    /// The body ends after so many bytes, and looks complete.
    Truncate(usize),
    /// Another body of the same or another length, honestly announced.
    Replace(Vec<u8>),
    /// Another body without any announced length.
    ReplaceUnannounced(Vec<u8>),
    /// Another digest in the header.
    WrongDigest(String),
    /// The whole body with status 200, whatever range was asked for.
    NoRange,
    /// A redirect to this address.
    Redirect(String),
}

impl FakeRegistry {
    /// Starts an empty registry.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let server = Server::start({
            let shared = Arc::clone(&shared);
            move |stream| answer(stream, &shared)
        });
        Self { server, shared }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.server.host()
    }

    /// The reference of `name` in this registry.
    pub(crate) fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host()).parse().unwrap()
    }

    /// From now on only requests with a token for their repository are answered.
    pub(crate) fn require_tokens(&self) {
        self.state().tokens = true;
    }

    /// The next `times` requests whose `METHOD path` contains `part` go wrong like this.
    pub(crate) fn fault(&self, part: &str, times: usize, fault: Fault) {
        self.state().faults.push((part.to_owned(), times, fault));
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// How many requests so far have `part` in their `METHOD path`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| format!("{} {}", seen.method, seen.path).contains(part)).count()
    }

    /// Stores a blob.
    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.state().blobs.insert(format!("{repository}@{digest}"), bytes.to_vec());
        digest
    }

    /// Returns a stored blob.
    pub(crate) fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        self.state().blobs.get(&format!("{repository}@{digest}")).cloned()
    }

    /// Stores a manifest or index under its digest and `tag`.
    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut state = self.state();
        for key in [format!("{repository}:{tag}"), format!("{repository}@{digest}")] {
            state.manifests.insert(key, (kind.to_owned(), bytes.to_vec()));
        }
        digest
    }

    /// Returns a stored manifest by tag or digest.
    pub(crate) fn manifest(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        let state = self.state();
        ["@", ":"]
            .iter()
            .find_map(|joint| state.manifests.get(&format!("{repository}{joint}{name}")).cloned())
    }

    /// Stores an image of these layers, `(media type, blob)` and its config; returns its manifest's digest.
    pub(crate) fn put_image(
        &self,
        repository: &str,
        tag: &str,
        layers: &[(&str, &[u8])],
        config: &serde_json::Value,
    ) -> Digest {
        let config = config.to_string();
        let descriptor = |kind: &str, bytes: &[u8]| {
            let digest = self.put_blob(repository, bytes);
            json!({ "mediaType": kind, "digest": digest.to_string(), "size": bytes.len() })
        };
        let layers: Vec<_> = layers.iter().map(|(kind, bytes)| descriptor(kind, bytes)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor(media_type::OCI_CONFIG, config.as_bytes()),
            "layers": layers,
        });
        self.put_manifest(repository, tag, media_type::OCI_MANIFEST, manifest.to_string().as_bytes())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

/// An answer before faults spoil it.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({ "errors": [{ "code": code, "message": message }] });
        Self::new(status).header("Content-Type", "application/json").body(body.to_string())
    }
}

fn answer(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let host = stream.local_addr()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (seen, body) = read_request(&mut reader)?;
    let line = format!("{} {}", seen.method, seen.path);
    let mut state = shared.state.lock().unwrap();
    state.seen.push(seen.clone());
    let fault = state.faults.iter_mut().find(|(part, times, _)| *times > 0 && line.contains(part.as_str()));
    let fault = fault.map(|(_, times, fault)| {
        *times -= 1;
        fault.clone()
    });
    let mut seen = seen;
    if matches!(fault, Some(Fault::NoRange)) {
        seen.headers.remove("range");
    }
    let reply = reply(&mut state, &seen, body, host);
    drop(state);
    send(stream, &seen, reply, fault)
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<(Seen, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim().to_owned();
        headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|all: &mut String| *all += &format!(", {value}"))
            .or_insert(value);
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    Ok((Seen { method, path, headers }, body))
}

fn reply(state: &mut State, seen: &Seen, body: Vec<u8>, host: SocketAddr) -> Reply {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let query = read_query(query);
    if path == "/token" {
        let scope = query.get("scope").cloned().unwrap_or_default();
        return Reply::new(200)
            .body(json!({ "token": format!("for {scope}"), "expires_in": 300 }).to_string());
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return Reply::error(404, "UNKNOWN", "no such page") };
    let Some((repository, kind, name)) = split(rest) else { return Reply::new(200) };
    let push = !matches!(seen.method.as_str(), "GET" | "HEAD");
    if state.tokens {
        let action = if push { "pull,push" } else { "pull" };
        let scope = format!("repository:{repository}:{action}");
        let authorization = seen.headers.get("authorization").map(String::as_str).unwrap_or_default();
        if !authorization.starts_with(&format!("Bearer for repository:{repository}:pull"))
            || (push && !authorization.contains("push"))
        {
            let challenge = format!(r#"Bearer realm="http://{host}/token",service="fake",scope="{scope}""#);
            return Reply::error(401, "UNAUTHORIZED", "authentication required")
                .header("WWW-Authenticate", challenge);
        }
    }
    match (kind, push) {
        ("manifests", false) => get_manifest(state, repository, name),
        ("blobs", false) => get_blob(state, repository, name, seen.headers.get("range")),
        ("manifests", true) => {
            let digest = Digest::of(&body);
            let kind = seen.headers.get("content-type").cloned().unwrap_or_default();
            for key in [format!("{repository}:{name}"), format!("{repository}@{digest}")] {
                state.manifests.insert(key, (kind.clone(), body.clone()));
            }
            Reply::new(201).header("Docker-Content-Digest", digest)
        }
        _ => upload(state, repository, &seen.method, &query, body),
    }
}

/// Reads a query; values of one name are joined by blanks.
fn read_query(text: &str) -> HashMap<String, String> {
    let mut query: HashMap<String, String> = HashMap::new();
    for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = value.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        query.entry(name.to_owned()).and_modify(|all| *all += &format!(" {value}")).or_insert(value);
    }
    query
}

/// Splits `team/app/manifests/latest`.
fn split(rest: &str) -> Option<(&str, &str, &str)> {
    ["manifests", "blobs"].into_iter().find_map(|kind| {
        let (repository, name) = rest.split_once(&format!("/{kind}/"))?;
        Some((repository, kind, name))
    })
}

fn get_manifest(state: &State, repository: &str, name: &str) -> Reply {
    let joint = if name.starts_with("sha256:") { '@' } else { ':' };
    match state.manifests.get(&format!("{repository}{joint}{name}")) {
        Some((kind, bytes)) => Reply::new(200)
            .header("Content-Type", kind)
            .header("Docker-Content-Digest", Digest::of(bytes))
            .body(bytes.clone()),
        None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

fn get_blob(state: &State, repository: &str, name: &str, range: Option<&String>) -> Reply {
    let Some(bytes) = state.blobs.get(&format!("{repository}@{name}")) else {
        return Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let start =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match start {
        Some(start) if start >= bytes.len() => Reply::new(416),
        Some(start) => Reply::new(206)
            .header("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(&bytes[start..]),
        None => Reply::new(200).body(bytes.clone()),
    }
}

fn upload(
    state: &mut State,
    repository: &str,
    method: &str,
    query: &HashMap<String, String>,
    body: Vec<u8>,
) -> Reply {
    match (method, query.get("mount"), query.get("from"), query.get("digest")) {
        ("POST", Some(digest), Some(from), _) if state.blobs.contains_key(&format!("{from}@{digest}")) => {
            let bytes = state.blobs[&format!("{from}@{digest}")].clone();
            state.blobs.insert(format!("{repository}@{digest}"), bytes);
            Reply::new(201)
        }
        ("POST", ..) => {
            state.uploads += 1;
            let session = state.uploads;
            Reply::new(202).header("Location", format!("/v2/{repository}/blobs/uploads/{session}?state=x"))
        }
        ("PUT", _, _, Some(digest)) if *digest == Digest::of(&body).to_string() => {
            state.blobs.insert(format!("{repository}@{digest}"), body);
            Reply::new(201)
        }
        ("PUT", ..) => Reply::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content"),
        ("DELETE", ..) => Reply::new(204),
        _ => Reply::error(405, "UNSUPPORTED", "the operation is unsupported"),
    }
}

fn send(mut stream: TcpStream, seen: &Seen, mut reply: Reply, fault: Option<Fault>) -> std::io::Result<()> {
    let mut cut = None;
    let mut announced = true;
    match fault {
        Some(Fault::Status(status, headers, body)) => {
            reply = Reply { status, headers, body: body.into_bytes() };
        }
        Some(Fault::Break(bytes)) => cut = Some(bytes),
        Some(Fault::Truncate(bytes)) => reply.body.truncate(bytes),
        Some(Fault::Replace(body)) => reply.body = body,
        Some(Fault::ReplaceUnannounced(body)) => {
            reply.body = body;
            announced = false;
        }
        Some(Fault::WrongDigest(digest)) => {
            reply.headers.retain(|(name, _)| *name != "Docker-Content-Digest");
            reply.headers.push(("Docker-Content-Digest", digest));
        }
        Some(Fault::Redirect(to)) => reply = Reply::new(307).header("Location", to),
        Some(Fault::NoRange) | None => {}
    }
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if announced {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if seen.method != "HEAD" {
        let end = cut.unwrap_or(reply.body.len()).min(reply.body.len());
        stream.write_all(&reply.body[..end])?;
    }
    stream.flush()
}

/// Debian's `docker-registry`, with its content in a temporary folder; killed when dropped.
pub(crate) struct DebianRegistry {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl DebianRegistry {
    /// Starts one on a free port; prints that `test` is skipped where the package isn't installed.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::start_with(test, "")
    }

    /// The same with TLS by the certificate and key of these PEM files.
    pub(crate) fn start_tls(test: &str, certificate: &Path, key: &Path) -> Option<Self> {
        let files = format!("certificate: {}, key: {}", certificate.display(), key.display());
        Self::start_with(test, &format!("  tls: {{{files}}}\n"))
    }

    fn start_with(test: &str, http: &str) -> Option<Self> {
        let installed = std::env::split_paths(&std::env::var_os("PATH")?)
            .chain(["/usr/bin".into()])
            .any(|folder| folder.join("docker-registry").is_file());
        if !installed {
            let strict = std::env::var_os("KILN_TEST_NO_SKIP").is_some();
            assert!(!strict, "{test} needs the package docker-registry");
            println!("skipped {test}: needs the package docker-registry");
            return None;
        }
        // Between finding a port and using it, somebody else may take it.
        let started = (0..5).find_map(|_| Self::try_start(http));
        assert!(started.is_some(), "{test}: docker-registry doesn't start");
        started
    }

    fn try_start(http: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.path().join("config.yml");
        std::fs::write(&config, registry_config(folder.path(), port, http)).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut registry = Self { child, port, _folder: folder };
        let patience = Instant::now() + Duration::from_secs(30);
        while Instant::now() < patience && registry.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The reference of `name` in this registry.
    pub(crate) fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host()).parse().unwrap()
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn registry_config(folder: &Path, port: u16, http: &str) -> String {
    format!(
        "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
         http:\n  addr: 127.0.0.1:{port}\n{http}",
        folder.join("data").display()
    )
}
