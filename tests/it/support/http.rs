//! A web server for tests: each test says what it answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::server::Server;

/// A server on a free loopback port; ends when dropped.
pub(crate) struct WebServer {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Vec<Asked>>,
    answer: Box<dyn Fn(&Asked) -> Reply + Send + Sync>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// `GET`.
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    /// What came after them.
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// A header's value, empty without it.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    announced: Option<u64>,
}

impl Reply {
    /// This status without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: None, announced: None }
    }

    /// A good answer.
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    /// With this body.
    pub(crate) fn with_body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// With a header.
    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// The connection ends after so many bytes of the body.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    /// Announces another length than it has.
    pub(crate) fn announce(mut self, bytes: u64) -> Self {
        self.announced = Some(bytes);
        self
    }

    /// Answers as a good file server does: ETag, `If-None-Match`, ranges.
    pub(crate) fn file(asked: &Asked, body: &[u8], etag: &str) -> Self {
        if asked.header("if-none-match") == etag {
            return Self::status(304).header("ETag", etag);
        }
        let start = asked.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
        match start.and_then(|start| start.parse::<usize>().ok()).filter(|_| asked.header("if-range") == etag)
        {
            Some(start) => Self { body: body[start..].to_vec(), ..Self::status(206) }
                .header("Content-Range", format!("bytes {start}-{}/{}", body.len() - 1, body.len())),
            None => Self::ok(body).header("ETag", etag),
        }
    }
}

impl WebServer {
    /// Starts one that answers with `answer`.
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { seen: Mutex::default(), answer: Box::new(answer) });
        let server = Server::start({
            let shared = Arc::clone(&shared);
            move |stream| talk(stream, &shared)
        });
        Self { server, shared }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.server.host()
    }

    /// `http://127.0.0.1:PORT` and `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.shared.seen.lock().unwrap().clone()
    }
}

fn talk(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let asked = read_request(&mut BufReader::new(stream.try_clone()?))?;
    shared.seen.lock().unwrap().push(asked.clone());
    send(stream, &asked, (shared.answer)(&asked))
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        read_chunks(reader, &mut body)?;
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut body)?;
    Ok(Asked { method, path, headers, body })
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
        reader.by_ref().take(size).read_to_end(body)?;
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn send(mut stream: TcpStream, asked: &Asked, reply: Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n", reply.announced.unwrap_or(reply.body.len() as u64));
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if asked.method == "HEAD" || reply.status == 304 {
        return Ok(());
    }
    stream.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())])?;
    stream.flush()
}
