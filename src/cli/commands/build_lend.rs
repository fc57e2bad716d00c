//! What a user lends RUN steps: `--secret`, `--ssh` and `--allow`.
//!
//! Secrets are read here, once, into memory: no file of kiln's own ever has them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use crate::api::{Allow, Secret, SshAgent, SshSource};
use crate::cli::error::Error;
use crate::cli::settings::Environment;
use crate::cli::units;
use crate::redacted::Redacted;

/// A longer secret is refused, as in BuildKit.
const SECRET_BYTES: u64 = 500 * 1024;
/// A longer private key isn't one.
const KEY_BYTES: u64 = 100 * 1024;

/// Reads every `--secret`; the last of an id wins.
pub(crate) fn secrets(texts: &[String], environment: &Environment) -> Result<Vec<Secret>, Error> {
    let mut secrets: Vec<Secret> = Vec::new();
    for text in texts {
        let secret = secret(text, environment)?;
        secrets.retain(|known| known.id != secret.id);
        secrets.push(secret);
    }
    Ok(secrets)
}

/// `id=ID[,src=FILE|,env=VARIABLE][,type=file|env]`; with an id alone, a variable or else a file of that name.
fn secret(text: &str, environment: &Environment) -> Result<Secret, Error> {
    let usage = "write it as `--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`";
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in fields(text) {
        let Some((key, value)) = field.split_once('=') else {
            return Err(
                Error::usage(format!("invalid `--secret`: `{field}` is no key=value pair")).hint(usage)
            );
        };
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value.to_owned()),
            "src" | "source" => file = Some(value.to_owned()),
            "env" => variable = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
            "type" => return Err(Error::usage(format!("unsupported secret type `{value}`")).hint(usage)),
            _ => return Err(Error::usage(format!("unexpected key `{key}` in `--secret`")).hint(usage)),
        }
    }
    let id = id
        .filter(|id| !id.is_empty())
        .ok_or_else(|| Error::usage("`--secret` needs an `id=`").hint(usage))?;
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = file.take();
    }
    if file.is_none() && variable.is_none() {
        match environment.get(&id) {
            Some(_) => variable = Some(id.clone()),
            None => file = Some(id.clone()),
        }
    }
    let value = match (variable, file) {
        // As in docker, a variable that isn't set is an empty secret.
        (Some(variable), _) => Redacted::new(environment.get(&variable).unwrap_or_default()),
        (None, file) => read(&format!("secret `{id}`"), &file.unwrap_or_default(), SECRET_BYTES)?,
    };
    if value.reveal().len() as u64 > SECRET_BYTES {
        return Err(too_large(&format!("secret `{id}`"), SECRET_BYTES));
    }
    Ok(Secret { id, value })
}

/// Reads every `--ssh`: `ID[=SOCKET|KEY[,KEY…]]`; without a value the agent of `SSH_AUTH_SOCK`.
pub(crate) fn agents(texts: &[String], environment: &Environment) -> Result<Vec<SshAgent>, Error> {
    let mut agents: Vec<SshAgent> = Vec::new();
    for text in texts {
        let (id, value) = text.split_once('=').unwrap_or((text, ""));
        let id = if id.is_empty() { "default" } else { id };
        if agents.iter().any(|known| known.id == id) {
            return Err(Error::usage(format!("`--ssh {id}` is given twice")));
        }
        let paths: Vec<&str> = value.split(',').filter(|path| !path.is_empty()).collect();
        let source = if paths.is_empty() { own_agent(id, environment)? } else { agent(id, &paths)? };
        agents.push(SshAgent { id: id.to_owned(), source });
    }
    Ok(agents)
}

fn own_agent(id: &str, environment: &Environment) -> Result<SshSource, Error> {
    let socket = environment.filled("SSH_AUTH_SOCK").ok_or_else(|| {
        Error::usage(format!("`--ssh {id}` needs an ssh agent, and SSH_AUTH_SOCK isn't set"))
            .hint(format!("start one (`eval $(ssh-agent)`, `ssh-add`), or name a key: `--ssh {id}=FILE`"))
    })?;
    agent(id, &[socket])
}

fn agent(id: &str, paths: &[&str]) -> Result<SshSource, Error> {
    let is_socket = |path: &str| std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if let [socket] = paths
        && is_socket(socket)
    {
        let path = std::path::absolute(socket).unwrap_or_else(|_| PathBuf::from(socket));
        return Ok(SshSource::Socket(path));
    }
    let mut keys = Vec::with_capacity(paths.len());
    for path in paths {
        if is_socket(path) {
            return Err(Error::usage(format!("`--ssh {id}` takes one socket, or keys")));
        }
        let key = read("ssh key", path, KEY_BYTES)?;
        check_key(path, &key)?;
        keys.push(key);
    }
    Ok(SshSource::Keys(keys))
}

/// What an unencrypted key of OpenSSH's own form begins with: `openssh-key-v1`, cipher `none`.
const PLAIN_OPENSSH: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";

/// Refuses what no agent would take, or would ask a passphrase for.
fn check_key(path: &str, key: &Redacted) -> Result<(), Error> {
    let text = String::from_utf8_lossy(key.reveal());
    if !text.contains("PRIVATE KEY-----") {
        return Err(Error::usage(format!("`{path}` is neither a socket nor a private key")));
    }
    let body = text.lines().find(|line| !line.starts_with("-----")).unwrap_or_default();
    let is_encrypted = match text.contains("BEGIN OPENSSH PRIVATE KEY") {
        true => !body.starts_with(PLAIN_OPENSSH),
        false => text.contains("ENCRYPTED"),
    };
    if is_encrypted {
        return Err(Error::usage(format!("the ssh key `{path}` has a passphrase"))
            .hint("give it to an agent (`ssh-add`), and the agent to the build: `--ssh default`"));
    }
    Ok(())
}

/// Reads every `--allow`.
pub(crate) fn allowed(texts: &[String]) -> Result<Allow, Error> {
    let mut allow = Allow::default();
    for text in texts.iter().flat_map(|text| fields(text)) {
        match text.as_str() {
            "network.host" => allow.network_host = true,
            "security.insecure" => allow.security_insecure = true,
            "device" => allow.all_devices = true,
            other => match other.strip_prefix("device=") {
                Some(name) => allow.devices.push(name.to_owned()),
                None => {
                    return Err(Error::usage(format!("unknown entitlement `{other}`"))
                        .hint("it may be network.host, security.insecure, device or device=NAME"));
                }
            },
        }
    }
    Ok(allow)
}

/// Reads `--shm-size`.
pub(crate) fn shm_bytes(text: &str) -> Result<u64, Error> {
    let size = units::parse_size(text).filter(|bytes| *bytes > 0);
    size.ok_or_else(|| {
        Error::usage(format!("invalid `--shm-size {text}`")).hint("write it as `256m` or `1g`")
    })
}

/// Reads a file, a pipe too, of at most `limit` bytes.
fn read(what: &str, path: &str, limit: u64) -> Result<Redacted, Error> {
    let failed = |error| Error::usage(format!("cannot read the {what} from `{path}`: {error}"));
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(what, limit));
    }
    Ok(Redacted::new(bytes))
}

fn too_large(what: &str, limit: u64) -> Error {
    Error::usage(format!("the {what} is larger than {} kB", limit / 1024))
}

/// The fields of a line of CSV: a quoted one may have commas, and `""` is a quote in it.
fn fields(text: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        match result {
            Err(Error::Failure(failure)) => failure.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_comes_from_a_file_or_a_variable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a,b");
        std::fs::write(&file, "from file").unwrap();
        let path = file.to_str().unwrap();
        let environment = Environment::from([("TOKEN", "from variable")]);
        for (text, id, value) in [
            (format!("id=x,\"src={path}\""), "x", "from file"),
            (format!("\"source={path}\",id=x,type=file"), "x", "from file"),
            ("id=x,env=TOKEN".into(), "x", "from variable"),
            ("type=env,id=x,src=TOKEN".into(), "x", "from variable"),
            ("id=TOKEN".into(), "TOKEN", "from variable"),
            ("id=x,env=UNSET".into(), "x", ""),
        ] {
            let secret = secret(&text, &environment).unwrap();
            assert_eq!((secret.id.as_str(), secret.value.reveal()), (id, value.as_bytes()), "{text}");
        }
        for (text, expected) in [
            ("src=x", "`--secret` needs an `id=`"),
            ("id=x,foo=1", "unexpected key `foo` in `--secret`"),
            ("id", "invalid `--secret`: `id` is no key=value pair"),
            ("id=x,type=vault", "unsupported secret type `vault`"),
            (
                "id=x,src=/none",
                "cannot read the secret `x` from `/none`: No such file or directory (os error 2)",
            ),
            ("id=x,src=/dev/zero", "the secret `x` is larger than 500 kB"),
        ] {
            assert_eq!(message(secret(text, &environment)), expected);
        }
        let shown = format!("{:?}", secret("id=TOKEN", &environment).unwrap());
        assert!(!shown.contains("from variable"), "{shown}");
    }

    #[test]
    fn an_agent_is_a_socket_or_keys_without_a_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let socket = path("socket");
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let of =
            |text: &str| agents(&[text.to_owned()], &Environment::from([("SSH_AUTH_SOCK", socket.as_str())]));
        let found = of("default").unwrap().remove(0);
        assert_eq!((found.id.as_str(), found.source), ("default", SshSource::Socket(socket.clone().into())));
        assert_eq!(of(&format!("other={socket}")).unwrap()[0].id, "other");
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        write("plain", &format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{PLAIN_OPENSSH}AAAA\n"));
        write("locked", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHI\n");
        write("pem", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n");
        assert!(
            matches!(&of(&format!("k={}", path("plain"))).unwrap()[0].source, SshSource::Keys(keys) if keys.len() == 1)
        );
        for name in ["locked", "pem"] {
            assert!(message(of(&format!("k={}", path(name)))).ends_with("has a passphrase"));
        }
        assert!(message(of(&format!("k={socket},{}", path("plain")))).contains("one socket, or keys"));
        assert!(message(of("k=/etc/passwd")).contains("neither a socket nor a private key"));
        assert!(
            message(agents(&["default".into()], &Environment::default())).contains("SSH_AUTH_SOCK isn't set")
        );
    }

    #[test]
    fn entitlements_are_buildxs() {
        let texts = ["network.host,security.insecure", "device=a.b/c=d"].map(str::to_owned);
        let allow = allowed(&texts).unwrap();
        assert!(allow.network_host && allow.security_insecure && !allow.all_devices);
        assert_eq!(allow.devices, ["a.b/c=d"]);
        assert_eq!(message(allowed(&["fs=*".into()])), "unknown entitlement `fs=*`");
    }
}
