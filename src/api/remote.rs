//! Files that come from another machine: by http, or out of a git repository.
//!
//! Addresses are read as BuildKit reads them (its `dfgitutil` and `sshutil`), so that the same text means the
//! same thing. Nothing here asks the network.

use std::fmt;

/// Where remote files are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RemoteSource {
    /// One file.
    Http(HttpSource),
    /// A tree of files.
    Git(GitSource),
}

/// A file to be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpSource {
    /// Its address.
    pub url: String,
    /// What its content must be.
    pub checksum: Option<Checksum>,
}

/// A digest that a user wrote: `sha256:…`, `sha384:…` or `sha512:…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Checksum {
    /// Which function.
    pub algorithm: HashAlgorithm,
    /// Lower-case hexadecimal digits.
    pub hex: String,
}

/// A function of a [`Checksum`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    /// Returns its name, and how many digits its digests have.
    pub fn name(self) -> (&'static str, usize) {
        match self {
            Self::Sha256 => ("sha256", 64),
            Self::Sha384 => ("sha384", 96),
            Self::Sha512 => ("sha512", 128),
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name().0, self.hex)
    }
}

impl std::str::FromStr for Checksum {
    type Err = String;

    /// Reads `algorithm:hex`; the error says what is wrong.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, hex) = text
            .split_once(':')
            .ok_or_else(|| format!("invalid checksum `{text}`: write it as `sha256:<64 digits>`"))?;
        let all = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
        let algorithm = all.into_iter().find(|algorithm| algorithm.name().0 == name).ok_or_else(|| {
            format!("unsupported checksum algorithm `{name}`: use sha256, sha384 or sha512")
        })?;
        let digits = algorithm.name().1;
        if hex.len() != digits || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("invalid checksum `{text}`: {name} has {digits} hexadecimal digits"));
        }
        Ok(Self { algorithm, hex: hex.to_ascii_lowercase() })
    }
}

/// A tree of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GitSource {
    /// The repository, as `git clone` takes it.
    pub remote: String,
    /// Branch, tag or commit; `None` for the repository's own choice.
    pub reference: Option<String>,
    /// The folder inside it that is wanted; empty for all. Clean and relative.
    pub subdir: String,
    /// What the commit's name must begin with.
    pub checksum: Option<String>,
    /// Whether the folder `.git` comes too.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules come too.
    pub submodules: bool,
    /// Whether files have the commit's time; else that of the checkout.
    pub commit_time: bool,
    /// Whether the commit is fetched by its own name, not by that of a branch.
    pub fetch_by_commit: bool,
}

impl RemoteSource {
    /// Reads `text` as a remote source; `None` when it is a path or an image's name.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        if let Some(git) = GitSource::parse(text) {
            return Some(git.map(Self::Git));
        }
        let http = is_http(text);
        http.then(|| Ok(Self::Http(HttpSource { url: text.to_owned(), checksum: None })))
    }

    /// Returns the address as messages show it: without a password.
    pub fn shown(&self) -> String {
        match self {
            Self::Http(source) => without_password(&source.url),
            Self::Git(source) => source.shown(),
        }
    }
}

fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Returns `url` with `***` in the place of a password.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{host}{path}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

/// Returns `text` with `***` in the place of the passwords of its addresses.
pub fn without_passwords(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(without_password).collect()
}

impl HttpSource {
    /// Returns what a copy of the file is called: the last part of the address' path.
    ///
    /// `__unnamed__` when there is none, as in BuildKit.
    pub fn file_name(&self) -> String {
        const UNNAMED: &str = "__unnamed__";
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        let path = percent_decoded(path);
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        match name {
            "" | "." | ".." => UNNAMED.to_owned(),
            name if name.contains('\0') => UNNAMED.to_owned(),
            name => name.to_owned(),
        }
    }

    /// Returns `host` or `host:port` of the address.
    pub fn host(&self) -> &str {
        host_of(&self.url)
    }
}

/// Returns what stands between the scheme (and a user) and the path.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Decodes `%41`; what isn't an escape stays, and so does what would be no UTF-8.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let digits = escape.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

impl GitSource {
    /// Reads an address of a git repository; `None` when `text` is something else.
    ///
    /// `git://`, `ssh://`, `user@host:path`, `http(s)://….git` and `github.com/…`, each with `#ref:subdir` or
    /// `?ref=…&subdir=…`.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let (before, fragment) = match text.split_once('#') {
            Some((before, fragment)) => (before, Some(fragment)),
            None => (text, None),
        };
        let (remote, query) = match before.split_once('?') {
            Some((remote, query)) => (remote, Some(query)),
            None => (before, None),
        };
        let remote = repository(remote)?;
        Some(Self::with(remote, fragment, query))
    }

    fn with(remote: String, fragment: Option<&str>, query: Option<&str>) -> Result<Self, String> {
        refuse_option(host_of(&remote), "host")?;
        let mut source = Self {
            remote,
            reference: None,
            subdir: String::new(),
            checksum: None,
            keep_git_dir: None,
            submodules: true,
            commit_time: false,
            fetch_by_commit: false,
        };
        if let Some(fragment) = fragment {
            let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
            source.reference = Some(reference).filter(|text| !text.is_empty()).map(str::to_owned);
            source.subdir = subdir.to_owned();
        }
        if let Some(query) = query {
            source.read_query(query)?;
        }
        source.subdir = clean_subdir(&source.subdir)?;
        if let Some(reference) = &source.reference {
            check_reference(reference)?;
        }
        Ok(source)
    }

    fn read_query(&mut self, query: &str) -> Result<(), String> {
        let mut seen: Vec<String> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (percent_decoded(name), percent_decoded(&value.replace('+', " ")));
            if seen.contains(&name) {
                return Err(format!("query `{name}` has several values"));
            }
            if value.is_empty() && !matches!(name.as_str(), "keep-git-dir" | "submodules" | "fetch-by-commit")
            {
                return Err(format!("query `{name}` has no value"));
            }
            self.set(&name, value)?;
            seen.push(name);
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "ref" => self.set_reference(value)?,
            "tag" => self.set_reference(format!("refs/tags/{value}"))?,
            "branch" => self.set_reference(format!("refs/heads/{value}"))?,
            "subdir" if self.subdir.is_empty() || self.subdir == value => self.subdir = value,
            "subdir" => return Err(format!("subdir conflicts: `{}` and `{value}`", self.subdir)),
            "checksum" | "commit" => self.checksum = Some(commit_prefix(&value)?),
            "keep-git-dir" => self.keep_git_dir = Some(switch(name, &value)?),
            "submodules" => self.submodules = switch(name, &value)?,
            "fetch-by-commit" => self.fetch_by_commit = switch(name, &value)?,
            "mtime" => match value.as_str() {
                "checkout" => self.commit_time = false,
                "commit" => self.commit_time = true,
                _ => {
                    return Err(format!("invalid value `{value}` for query `mtime`: use checkout or commit"));
                }
            },
            _ => return Err(format!("unexpected query `{name}`")),
        }
        Ok(())
    }

    fn set_reference(&mut self, value: String) -> Result<(), String> {
        match &self.reference {
            Some(other) if *other != value => Err(format!("ref conflicts: `{other}` and `{value}`")),
            _ => {
                self.reference = Some(value);
                Ok(())
            }
        }
    }

    /// Sets what the commit's name must begin with, as `ADD --checksum` does.
    pub fn expect_commit(&mut self, text: &str) -> Result<(), String> {
        let wanted = commit_prefix(text)?;
        match &self.checksum {
            Some(other) if *other != wanted => Err(format!("checksum conflicts: `{other}` and `{wanted}`")),
            _ => {
                self.checksum = Some(wanted);
                Ok(())
            }
        }
    }

    /// Returns the commit when the text alone names it: a full checksum, else a reference that is a full name.
    pub fn fixed_commit(&self) -> Option<&str> {
        let full = |text: &&str| is_commit(text);
        self.checksum.as_deref().filter(full).or_else(|| self.reference.as_deref().filter(full))
    }

    /// Returns `host` or `host:port`.
    pub fn host(&self) -> &str {
        match self.remote.contains("://") {
            true => host_of(&self.remote),
            false => {
                let after = self.remote.split_once('@').map_or(self.remote.as_str(), |(_, rest)| rest);
                after.split(':').next().unwrap_or_default()
            }
        }
    }

    /// Returns the address as messages show it: without a password.
    pub fn shown(&self) -> String {
        let mut text = without_password(&self.remote);
        if self.reference.is_some() || !self.subdir.is_empty() {
            text = format!("{text}#{}", self.reference.as_deref().unwrap_or_default());
        }
        if !self.subdir.is_empty() {
            text = format!("{text}:{}", self.subdir);
        }
        text
    }
}

/// Tells whether `text` is a commit's full name.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn commit_prefix(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    match (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text),
        false => {
            Err(format!("invalid checksum `{text}`: a git source takes a commit, 7 digits of it or more"))
        }
    }
}

fn switch(name: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "" | "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(format!("invalid value `{value}` for query `{name}`: use true or false")),
    }
}

/// Returns the repository that `text` (without query and fragment) names.
fn repository(text: &str) -> Option<String> {
    if text.starts_with("github.com/") {
        return Some(format!("https://{text}"));
    }
    let lower = text.to_ascii_lowercase();
    match lower.split_once("://") {
        Some(("git" | "ssh", _)) => Some(text.to_owned()),
        Some(("http" | "https", rest)) => {
            let path = rest.split_once('/').map_or("", |(_, path)| path);
            path.ends_with(".git").then(|| text.to_owned())
        }
        Some(_) => None,
        None => is_scp(text).then(|| text.to_owned()),
    }
}

/// `user@host:path`, as scp writes it.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || more.contains(char))
    };
    word(user, "-_") && word(host, "-.") && !path.is_empty()
}

/// What git or ssh would read as an option is no name.
fn refuse_option(text: &str, what: &str) -> Result<(), String> {
    match text.starts_with('-') {
        true => Err(format!("a {what} can't begin with a dash: `{text}`")),
        false => Ok(()),
    }
}

/// Refuses what git refuses as a name (git-check-ref-format), and what it would read otherwise.
fn check_reference(text: &str) -> Result<(), String> {
    refuse_option(text, "git reference")?;
    let bad = |char: char| char.is_control() || " ~^:?*[\\".contains(char);
    match text.contains(bad) || text.contains("..") || text.contains("@{") || text.ends_with('/') {
        true => Err(format!("invalid git reference `{}`", text.escape_default())),
        false => Ok(()),
    }
}

/// A relative path that stays inside, without empty parts; `..` is a mistake.
fn clean_subdir(text: &str) -> Result<String, String> {
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("the subdirectory `{text}` leads out of the repository")),
            ".git" => return Err(format!("the subdirectory `{text}` is git's own")),
            part if part.contains('\0') => return Err("a subdirectory can't have a NUL byte".to_owned()),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(text: &str) -> GitSource {
        GitSource::parse(text).unwrap_or_else(|| panic!("{text} is no git address")).unwrap()
    }

    /// The forms of BuildKit's `TestParseGitRef` (util/gitutil, dfgitutil).
    #[test]
    fn git_addresses_are_told_from_paths_and_files() {
        for (text, remote) in [
            ("https://example.com/foo.git", "https://example.com/foo.git"),
            ("https://example.com/foo.git#deadbeef", "https://example.com/foo.git"),
            ("https://example.com/foo.git?ref=main", "https://example.com/foo.git"),
            ("git://host.xz/path", "git://host.xz/path"),
            (
                "ssh://root@subdomain.example.hostname:2222/foo",
                "ssh://root@subdomain.example.hostname:2222/foo",
            ),
            ("git@github.com:moby/buildkit", "git@github.com:moby/buildkit"),
            ("github.com/moby/buildkit#main", "https://github.com/moby/buildkit"),
        ] {
            assert_eq!(git(text).remote, remote);
        }
        for text in [
            "https://example.com/foo",
            "https://example.com/foo.git/file",
            "https://example.com/x?y=foo.git",
            "/srv/foo.git",
            "./github.com/foo",
            "foo.git",
            "file:///srv/foo.git",
            "ext::sh",
            "a@b",
            "@b:c",
        ] {
            assert_eq!(GitSource::parse(text), None, "{text}");
        }
    }

    #[test]
    fn fragment_and_query_say_the_same() {
        let by_fragment = git("https://x/y.git#v1:a//b/./");
        let by_query = git("https://x/y.git?ref=v1&subdir=a%2Fb");
        assert_eq!(by_fragment, by_query);
        assert_eq!(by_fragment.shown(), "https://x/y.git#v1:a/b");
        assert_eq!(git("https://x/y.git?tag=v1").reference.unwrap(), "refs/tags/v1");
        assert_eq!(git("https://x/y.git?branch=b").reference.unwrap(), "refs/heads/b");
        let all = git("https://x/y.git?keep-git-dir=1&submodules=false&mtime=commit&commit=ABCDEF1");
        assert_eq!((all.keep_git_dir, all.submodules, all.commit_time), (Some(true), false, true));
        assert_eq!(all.checksum.as_deref(), Some("abcdef1"));
        let fixed = "0123456789012345678901234567890123456789";
        assert_eq!(git(&format!("https://x/y.git#{fixed}")).fixed_commit(), Some(fixed));
    }

    #[test]
    fn wrong_and_hostile_addresses_say_what_is_wrong() {
        for (text, message) in [
            ("https://x/y.git?foo=1", "unexpected query `foo`"),
            ("https://x/y.git?ref=", "query `ref` has no value"),
            ("https://x/y.git?ref=a&ref=b", "query `ref` has several values"),
            ("https://x/y.git?tag=a#b", "ref conflicts: `b` and `refs/tags/a`"),
            ("https://x/y.git?mtime=now", "invalid value `now` for query `mtime`: use checkout or commit"),
            ("https://x/y.git#:../z", "the subdirectory `../z` leads out of the repository"),
            ("https://x/y.git#:.git/hooks", "the subdirectory `.git/hooks` is git's own"),
            ("https://x/y.git#--upload-pack=x", "a git reference can't begin with a dash: `--upload-pack=x`"),
            ("https://x/y.git#a..b", "invalid git reference `a..b`"),
            ("https://x/y.git?ref=a%00b", "invalid git reference `a\\u{0}b`"),
            ("ssh://-oProxyCommand=x/y", "a host can't begin with a dash: `-oProxyCommand=x`"),
            (
                "https://x/y.git?commit=xyz",
                "invalid checksum `xyz`: a git source takes a commit, 7 digits of it or more",
            ),
        ] {
            assert_eq!(GitSource::parse(text).unwrap().unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn a_download_is_named_after_its_address() {
        for (url, name) in [
            ("https://x/a/b.tar.gz", "b.tar.gz"),
            ("https://x/a/", "a"),
            ("https://x/a%20b?c=/d#/e", "a b"),
            ("https://x", "__unnamed__"),
            ("https://x/", "__unnamed__"),
            ("https://x/?q", "__unnamed__"),
            ("https://x/..", "__unnamed__"),
            ("https://x/a%2F..%2f..", "__unnamed__"),
            ("https://x/a%00", "__unnamed__"),
            ("https://x/100%", "100%"),
        ] {
            assert_eq!(HttpSource { url: url.into(), checksum: None }.file_name(), name, "{url}");
        }
    }

    #[test]
    fn passwords_are_not_shown_and_hosts_are_found() {
        assert_eq!(without_password("https://u:p:q@h:1/x@y"), "https://u:***@h:1/x@y");
        assert_eq!(without_password("https://h/x:y@z"), "https://h/x:y@z");
        let text = "ADD [\"https://u:p@h/x\", \"http://v:q@h\"]\n/d";
        assert_eq!(without_passwords(text), "ADD [\"https://u:***@h/x\", \"http://v:***@h\"]\n/d");
        assert_eq!(HttpSource { url: "https://u:p@h:1/x".into(), checksum: None }.host(), "h:1");
        assert_eq!(git("git@github.com:a/b").host(), "github.com");
        assert_eq!(git("ssh://git@h:22/b").host(), "h:22");
    }

    #[test]
    fn checksums_name_their_function() {
        let hex = "0A".repeat(32);
        assert_eq!(format!("sha256:{hex}").parse::<Checksum>().unwrap().hex, "0a".repeat(32));
        assert!(format!("sha512:{}", "0".repeat(128)).parse::<Checksum>().is_ok());
        for (text, message) in [
            ("abc", "invalid checksum `abc`: write it as `sha256:<64 digits>`"),
            ("md5:00", "unsupported checksum algorithm `md5`: use sha256, sha384 or sha512"),
            ("sha256:00", "invalid checksum `sha256:00`: sha256 has 64 hexadecimal digits"),
        ] {
            assert_eq!(text.parse::<Checksum>().unwrap_err(), message);
        }
    }
}
