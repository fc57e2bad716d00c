//! Git repositories for tests, served by git's own http backend on loopback.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::http::{Asked, Reply, WebServer};

/// A repository that tests change.
pub(crate) struct Repository {
    folder: TempDir,
}

impl Repository {
    /// One with a commit of these files on the branch `main`; a content that starts with `-> ` is a symlink.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap() };
        repository.git(&["init", "-q", "-b", "main"]);
        repository.commit(files);
        repository
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes files, commits all, and gives the commit's name.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => symlink(target, &path).unwrap(),
                None => std::fs::write(&path, content).unwrap(),
            }
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "change"]);
        self.head()
    }

    /// The name of the current commit.
    pub(crate) fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in it, away from the tester's configuration.
    pub(crate) fn git(&self, words: &[&str]) -> String {
        let mut command = Command::new("git");
        command
            .current_dir(self.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        command.args(["-c", "user.name=tester", "-c", "user.email=tester@example.org"]);
        command.args(["-c", "protocol.file.allow=always"]).args(words);
        command.env("GIT_AUTHOR_DATE", "@1700000000 +0000").env("GIT_COMMITTER_DATE", "@1700000000 +0000");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// Serves `repositories` as `/<name>.git`, over the protocol that git calls smart.
pub(crate) fn serve(repositories: &[(&str, &Repository)]) -> WebServer {
    serve_with(repositories, |_| None)
}

/// The same; `first` may answer instead.
pub(crate) fn serve_with(
    repositories: &[(&str, &Repository)],
    first: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
) -> WebServer {
    let names: Vec<(String, PathBuf)> = repositories
        .iter()
        .map(|(name, repository)| (format!("/{name}.git"), repository.path().join(".git")))
        .collect();
    WebServer::start(move |asked| {
        if let Some(reply) = first(asked) {
            return reply;
        }
        let found = names.iter().find(|(name, _)| asked.path.starts_with(name.as_str()));
        match found {
            Some((name, folder)) => backend(asked, folder, &asked.path[name.len()..]),
            None => Reply::status(404),
        }
    })
}

/// Runs `git http-backend` as a web server does (RFC 3875).
fn backend(asked: &Asked, folder: &Path, path: &str) -> Reply {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut command = Command::new("git");
    command.arg("http-backend").env("GIT_HTTP_EXPORT_ALL", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("PATH_TRANSLATED", format!("{}{path}", folder.display())).env("PATH_INFO", path);
    command.env("REQUEST_METHOD", &asked.method).env("QUERY_STRING", query);
    for (variable, header) in [
        ("CONTENT_TYPE", "content-type"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("HTTP_GIT_PROTOCOL", "git-protocol"),
    ] {
        command.env(variable, asked.header(header));
    }
    command.env("GIT_PROTOCOL", asked.header("git-protocol"));
    command.env("CONTENT_LENGTH", asked.body.len().to_string());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = asked.body.clone();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    let end = output.stdout.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let mut status = 200;
    let mut headers = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "Status" => status = value[..3].parse().unwrap(),
            _ => headers.push((name.to_owned(), value.to_owned())),
        }
    }
    let reply = Reply::status(status).with_body(&output.stdout[end + 4..]);
    headers.into_iter().fold(reply, |reply, (name, value)| reply.header(&name, value))
}
