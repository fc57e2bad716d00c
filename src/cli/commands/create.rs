//! `kiln create`, and the flags that it shares with `kiln run`.

use std::path::{Path, PathBuf};

use super::pairs;
use crate::api::{CreateRequest, NetworkMode, PullPolicy, VolumeRequest};
use crate::cli::error::Error;
use crate::cli::progress::Shown;
use crate::cli::session::{Invocation, print_line};
use crate::cli::settings::Environment;
use crate::cli::{exit, flags, units};

/// Flags of `docker run` that are still to come.
#[rustfmt::skip]
pub(crate) const NOT_YET: &[&str] = &[
    "--annotation", "-a", "--attach", "--blkio-weight", "--blkio-weight-device", "--cap-add", "--cap-drop",
    "--cgroup-parent", "--cgroupns", "--cpu-count", "--cpu-percent", "--cpu-period", "--cpu-quota",
    "--cpu-rt-period", "--cpu-rt-runtime", "-c", "--cpu-shares", "--cpuset-cpus", "--cpuset-mems", "--detach-keys",
    "--device", "--device-cgroup-rule", "--device-read-bps", "--device-read-iops", "--device-write-bps",
    "--device-write-iops", "--disable-content-trust", "--dns", "--dns-opt", "--dns-option", "--dns-search",
    "--domainname", "--expose", "--gpus", "--group-add", "--health-cmd", "--health-interval", "--health-retries",
    "--health-start-interval", "--health-start-period", "--health-timeout", "--init", "--io-maxbandwidth",
    "--io-maxiops", "--ip", "--ip6", "--ipc", "--isolation", "--kernel-memory", "--link", "--link-local-ip",
    "--log-driver", "--log-opt", "--mac-address", "--memory-reservation", "--memory-swap", "--memory-swappiness",
    "--mount", "--net-alias", "--network-alias", "--no-healthcheck", "--oom-kill-disable", "--oom-score-adj",
    "--pid", "--platform", "-p", "--publish", "-P", "--publish-all", "--restart", "--runtime", "--security-opt",
    "--shm-size", "--sig-proxy", "--stop-timeout", "--storage-opt", "--sysctl", "--tmpfs", "--ulimit",
    "--use-api-socket", "--userns", "--uts", "--volume-driver", "--volumes-from",
];

/// Docker's least memory limit: less starts nothing.
const MIN_MEMORY_BYTES: u64 = 6 << 20;

/// `kiln create`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) options: Options,
    /// The image, and the program with its arguments
    #[arg(value_name = "IMAGE", trailing_var_arg = true)]
    pub(crate) rest: Vec<String>,
}

/// What `create` and `run` share.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Add an entry to /etc/hosts (NAME:ADDRESS)
    #[arg(long, value_name = "HOST")]
    pub(crate) add_host: Vec<String>,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Number of CPUs
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<String>,
    /// Run this instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Set an environment variable (KEY=VALUE, or KEY to take the caller's)
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Host name of the container
    #[arg(long, short = 'h', value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Keep standard input open
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// Set a label (KEY=VALUE)
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Memory limit (512m, 2g)
    #[arg(long, short, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Network: bridge, none or host
    #[arg(
        long,
        visible_alias = "net",
        value_name = "MODE",
        default_value = "bridge",
        hide_default_value = true
    )]
    pub(crate) network: String,
    /// Limit of processes (-1: none)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pids_limit: Option<i64>,
    /// Give the container every privilege
    #[arg(long)]
    pub(crate) privileged: bool,
    /// When to pull the image: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing", hide_default_value = true)]
    pub(crate) pull: String,
    /// Don't show the pull
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Make the root filesystem read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Remove the container when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Give the program a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// User and group (NAME|UID[:GROUP|GID])
    #[arg(long, short, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Mount a host path or a volume ([SOURCE:]TARGET[:ro])
    #[arg(long, short, value_name = "VOLUME")]
    pub(crate) volume: Vec<String>,
    /// Working directory of the program
    #[arg(long, short, value_name = "PATH")]
    pub(crate) workdir: Option<String>,
}

/// Makes a container and prints its id.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let create: Create = flags::parse(invocation)?;
    let session = invocation.session;
    let request = request(&create.options, &create.rest, &session.environment, &invocation.name)?;
    refuse_known_id(create.options.cidfile.as_deref())?;
    let engine = session.root_engine()?;
    let shown = Shown::transfers(create.options.quiet);
    let result = engine.create(&request, &shown.events);
    shown.finish();
    let id = result?;
    write_id(create.options.cidfile.as_deref(), &id)?;
    print_line(&id)?;
    Ok(exit::SUCCESS)
}

/// Reads the flags and the words after them.
pub(super) fn request(
    options: &Options,
    rest: &[String],
    environment: &Environment,
    name: &str,
) -> Result<CreateRequest, Error> {
    let [image, command @ ..] = rest else {
        return Err(Error::usage("missing <IMAGE>")
            .hint(format!("usage: kiln {name} [OPTIONS] IMAGE [COMMAND] [ARG...]"))
            .hint(format!("see `kiln {name} --help`")));
    };
    pairs::reference_or_id(image)?;
    let mut env = Vec::new();
    for text in from_files(&options.env_file, pairs::env_lines)?.iter().chain(&options.env) {
        env.extend(pairs::variable(text, environment)?.map(|(key, value)| format!("{key}={value}")));
    }
    let labels = from_files(&options.label_file, pairs::lines)?;
    let labels =
        labels.iter().chain(&options.label).map(|text| pairs::label(text)).collect::<Result<_, _>>()?;
    Ok(CreateRequest {
        image: image.clone(),
        pull: pull(&options.pull)?,
        command: command.to_vec(),
        entrypoint: options.entrypoint.clone(),
        env,
        workdir: options.workdir.as_deref().map(|path| absolute("--workdir", path)).transpose()?,
        user: options.user.clone(),
        name: options.name.clone().filter(|name| !name.is_empty()),
        hostname: options.hostname.clone(),
        labels,
        volumes: options.volume.iter().map(|text| volume(text)).collect::<Result<_, _>>()?,
        network: network(&options.network)?,
        add_hosts: options.add_host.iter().map(|text| pairs::host(text)).collect::<Result<_, _>>()?,
        tty: options.tty,
        interactive: options.interactive,
        remove: options.rm,
        privileged: options.privileged,
        readonly: options.read_only,
        stop_signal: options.stop_signal.clone(),
        memory: options.memory.as_deref().map(memory).transpose()?.flatten(),
        cpus_millis: options.cpus.as_deref().map(cpus).transpose()?.flatten(),
        // 0 and -1 both mean no limit.
        pids_limit: options.pids_limit.filter(|&limit| limit > 0),
    })
}

/// Reads all lines of all `files`.
pub(super) fn from_files(
    files: &[PathBuf],
    read: fn(&Path) -> Result<Vec<String>, Error>,
) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for file in files {
        lines.extend(read(file)?);
    }
    Ok(lines)
}

fn network(text: &str) -> Result<NetworkMode, Error> {
    if text.starts_with("container:") {
        return Err(Error::usage("`--network container:…` is not supported yet"));
    }
    pairs::network(text)
}

fn pull(text: &str) -> Result<PullPolicy, Error> {
    match text {
        "missing" => Ok(PullPolicy::Missing),
        "always" => Ok(PullPolicy::Always),
        "never" => Ok(PullPolicy::Never),
        other => Err(Error::usage(format!("invalid value `{other}` for `--pull`"))
            .hint("it may be missing, always or never")),
    }
}

/// Reads `--memory`; 0 is no limit.
fn memory(text: &str) -> Result<Option<u64>, Error> {
    let bytes = units::parse_size(text).ok_or_else(|| Error::usage(format!("invalid memory limit `{text}`")));
    let bytes = bytes.map_err(|error| error.hint("write it as `512m` or `2g`"))?;
    if bytes == 0 {
        return Ok(None);
    }
    if bytes < MIN_MEMORY_BYTES {
        return Err(Error::usage(format!("the memory limit `{text}` is too small: the least is 6m")));
    }
    Ok(Some(bytes))
}

/// Reads `--cpus`, in thousandths; 0 is no limit.
fn cpus(text: &str) -> Result<Option<u64>, Error> {
    let known = |number: &f64| *number == 0.0 || (*number >= 0.001 && *number < 1e6);
    let number = text.parse::<f64>().ok().filter(known);
    let number = number.ok_or_else(|| Error::usage(format!("invalid number of CPUs `{text}`")))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    let thousandths = (number * 1000.0).round() as u64;
    Ok((thousandths > 0).then_some(thousandths))
}

fn absolute(flag: &str, path: &str) -> Result<String, Error> {
    if !path.starts_with('/') {
        return Err(Error::usage(format!("`{flag} {path}` must be an absolute path")));
    }
    Ok(path.to_owned())
}

/// Reads `[SOURCE:]TARGET[:OPTIONS]`.
fn volume(text: &str) -> Result<VolumeRequest, Error> {
    let bad = |why: &str| {
        Error::usage(format!("invalid volume `{text}`: {why}"))
            .hint("write it as `/host/path:/path`, `name:/path` or `/path`")
    };
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match fields[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(bad("too many colons")),
    };
    if !target.starts_with('/') {
        return Err(bad("the path in the container must be absolute"));
    }
    if target.trim_end_matches('/').is_empty() {
        return Err(bad("it can't be the root directory"));
    }
    let mut readonly = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => readonly = true,
            "rw" => readonly = false,
            other => {
                return Err(Error::usage(format!(
                    "the volume option `{other}` in `{text}` is not supported yet"
                )));
            }
        }
    }
    Ok(VolumeRequest { source: source.map(host_path).transpose()?, target: target.to_owned(), readonly })
}

/// A relative path is one from the working directory; a word without a slash is a volume's name.
fn host_path(source: &str) -> Result<String, Error> {
    if source.is_empty() {
        return Err(Error::usage("a volume's source is empty"));
    }
    if !(source == "." || source == ".." || source.starts_with("./") || source.starts_with("../")) {
        return Ok(source.to_owned());
    }
    let path = std::path::absolute(source)
        .map_err(|error| Error::usage(format!("cannot use `{source}`: {error}")))?;
    let path = path.to_str().map(str::to_owned);
    path.ok_or_else(|| Error::usage(format!("the path of `{source}` is not UTF-8")))
}

/// An id of another container must not be overwritten.
pub(super) fn refuse_known_id(path: Option<&Path>) -> Result<(), Error> {
    match path {
        Some(path) if path.exists() => {
            Err(Error::usage(format!("the id file `{}` already exists", path.display()))
                .hint("remove it, or name another one"))
        }
        _ => Ok(()),
    }
}

/// Writes `--cidfile`.
pub(super) fn write_id(path: Option<&Path>, id: &str) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, id)
        .map_err(|error| Error::usage(format!("cannot write `{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read() {
        let bind = |text| volume(text).ok().map(|volume| (volume.source, volume.target, volume.readonly));
        assert_eq!(bind("/data"), Some((None, "/data".into(), false)));
        assert_eq!(bind("name:/data"), Some((Some("name".into()), "/data".into(), false)));
        assert_eq!(bind("/host:/data:ro"), Some((Some("/host".into()), "/data".into(), true)));
        let here = std::env::current_dir().unwrap().join("x");
        assert_eq!(bind("./x:/data"), Some((here.to_str().map(str::to_owned), "/data".into(), false)));
        for text in ["", "data", "/a:b", "/a:/", "/a:/b:zz", "/a:/b:ro:x", ":/b"] {
            assert_eq!(bind(text), None, "{text}");
        }
    }

    #[test]
    fn limits_are_read() {
        assert_eq!(memory("512m").ok(), Some(Some(512 << 20)));
        assert_eq!(memory("0").ok(), Some(None));
        assert!(memory("1m").is_err() && memory("x").is_err());
        assert_eq!(cpus("1.5").ok(), Some(Some(1500)));
        assert_eq!(cpus("0").ok(), Some(None));
        assert!(cpus("0.0001").is_err() && cpus("-1").is_err() && cpus("x").is_err() && cpus("nan").is_err());
    }

    #[test]
    fn a_request_takes_the_image_and_then_the_program() {
        let options = Options {
            env: vec!["A=1".into(), "HOME".into(), "NONE".into()],
            network: "none".into(),
            pull: "never".into(),
            pids_limit: Some(-1),
            ..Options::default()
        };
        let environment = Environment::from([("HOME", "/root")]);
        let rest = ["busybox".to_owned(), "sh".to_owned(), "-c".to_owned()];
        let request = request(&options, &rest, &environment, "run").unwrap();
        assert_eq!(
            (request.image.as_str(), request.command),
            ("busybox", vec!["sh".to_owned(), "-c".to_owned()])
        );
        assert_eq!(request.env, ["A=1", "HOME=/root"]);
        assert_eq!(
            (request.network, request.pull, request.pids_limit),
            (NetworkMode::None, PullPolicy::Never, None)
        );
        assert!(super::request(&options, &[], &environment, "run").is_err());
        let relative = Options { workdir: Some("x".into()), ..options };
        assert!(super::request(&relative, &rest, &environment, "run").is_err());
    }
}
