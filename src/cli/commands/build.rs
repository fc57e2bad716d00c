//! `kiln build`

use std::path::{Path, PathBuf};

use super::{build_call, build_context, build_lend, build_named, build_output, cache, pairs};
use crate::api::{BuildRequest, ContextModes, OutputKind, Progress, PullPolicy};
use crate::cli::error::Error;
use crate::cli::exit;
use crate::cli::failure;
use crate::cli::flags;
use crate::cli::progress::{self, Shown};
use crate::cli::session::{Invocation, Session, print_line};
use crate::cli::settings::Environment;
use crate::oci::Platform;

/// Flags of `docker build` and `docker buildx build` that are still to come.
#[rustfmt::skip]
pub(crate) const NOT_YET: &[&str] = &[
    "--annotation", "--attest", "--builder", "--cache-from", "--cache-to",
    "--cgroup-parent", "--compress", "--cpu-period", "--cpu-quota", "-c", "--cpu-shares",
    "--cpuset-cpus", "--cpuset-mems", "--debug", "--disable-content-trust", "--isolation", "-m", "--memory",
    "--memory-swap", "--metadata-file", "--policy", "--provenance", "--push", "--resource",
    "--sbom", "--security-opt", "--squash", "--ulimit",
];

/// The most steps that may run at the same time: each has processes, pipes and a network.
const MAX_JOBS: usize = 512;

/// Last lines of a running step that a terminal shows.
const DEFAULT_LOG_LINES: usize = 6;

/// `kiln build`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Build {
    /// Add an entry to /etc/hosts of RUN steps (NAME:ADDRESS)
    #[arg(long, value_name = "HOST")]
    pub(crate) add_host: Vec<String>,
    /// Let RUN steps do more: network.host, security.insecure, device, device=NAME
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    /// Set a build argument (KEY=VALUE, or KEY to take the environment's)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) build_arg: Vec<String>,
    /// Files or an image that the Dockerfile may name: NAME=DIR, docker-image://IMAGE, oci-layout://DIR[:TAG], or an
    /// address
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_context: Vec<String>,
    /// Use no step's result that is older (such as 12h or 7d; 0 is as --no-cache)
    #[arg(long, value_name = "AGE")]
    pub(crate) cache_ttl: Option<String>,
    /// What to do: build, or only check, outline or targets[,format=json]
    #[arg(long, value_name = "METHOD")]
    pub(crate) call: Option<String>,
    /// Look for mistakes without building, as `--call=check`
    #[arg(long)]
    pub(crate) check: bool,
    /// Permission bits of local files: `asis`, or `git` for 644 and 755 whatever the umask of a checkout was
    #[arg(long, value_name = "MODES")]
    pub(crate) context_modes: Option<String>,
    /// Name of the Dockerfile (default: PATH/Dockerfile; `-` reads it from standard input; may be an address)
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Remove what failed steps leave; kiln never leaves anything
    #[arg(long, hide = true)]
    pub(crate) force_rm: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// How many steps may run at the same time (default: 8 per processor, since most steps wait)
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<String>,
    /// Set a label of the image (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Store the result as an image, as is the default
    #[arg(long)]
    pub(crate) load: bool,
    /// Network of RUN steps: bridge, none, host, or the name of one of your own
    #[arg(long, value_name = "MODE", default_value = "default", hide_default_value = true)]
    pub(crate) network: String,
    /// Run every step anew
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run every step of these stages anew (names or numbers, with commas between)
    #[arg(long, value_name = "STAGES", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Where the result goes: type=image|oci|docker|tar|local[,dest=PATH], a directory, or `-`
    #[arg(long, short, value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Platform of the result (OS/ARCH)
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// How progress is shown: auto, plain, tty or quiet
    #[arg(long, value_name = "KIND")]
    pub(crate) progress: Option<String>,
    /// Ask the registry for newer base images
    #[arg(long)]
    pub(crate) pull: bool,
    /// Show nothing but the image's id
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// The same image on every machine: the time is SOURCE_DATE_EPOCH, else 1970, for the image and in its layers;
    /// permission bits are git's unless --context-modes says otherwise
    #[arg(long)]
    pub(crate) reproducible: bool,
    /// Remove what steps leave; kiln never leaves anything
    #[arg(long, hide = true)]
    pub(crate) rm: bool,
    /// Lend a secret to RUN steps (id=NAME,src=FILE or id=NAME,env=VARIABLE)
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret: Vec<String>,
    /// Size of /dev/shm in RUN steps (such as 256m)
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// Lend an ssh agent or keys to RUN steps (default, or NAME=SOCKET, or NAME=KEY,KEY)
    #[arg(long, value_name = "AGENT")]
    pub(crate) ssh: Vec<String>,
    /// Name of the image, and optionally a tag (NAME[:TAG])
    #[arg(long, short, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Directory of the context, an address (git, or http of an archive), or `-` for an archive or a Dockerfile on
    /// standard input
    #[arg(value_name = "PATH")]
    pub(crate) path: Vec<String>,
}

/// Builds an image and prints its id.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let build: Build = flags::parse(invocation)?;
    let session = invocation.session;
    let environment = &session.environment;
    let progress = match build.quiet {
        true => Progress::Quiet,
        false => progress::chosen(build.progress.as_deref(), environment)?,
    };
    let call = build_call::parse(&build)?;
    // Keeps the spooled context of standard input alive until the build is over.
    let (request, _spooled) = request(&build, environment)?;
    if let Some(call) = call {
        return build_call::run(session, &request, call);
    }
    let engine = session.root_engine()?;
    let shown = Shown::steps(progress, session.style, log_lines(environment))?;
    let result = engine.build(&request, &shown.events);
    let has_logs = shown.has_logs();
    shown.finish();
    let outcome = result.map_err(|mut failure| {
        if !has_logs {
            failure::tell_log(&mut failure);
        }
        failure
    })?;
    if let Some(id) = &outcome.image {
        if let Some(path) = &build.iidfile {
            write_id(path, id)?;
        }
        if !request
            .outputs
            .iter()
            .any(|output| output.destination.is_none() && output.kind != OutputKind::Image)
        {
            print_line(id)?;
        }
    } else if let Some(path) = &build.iidfile {
        let message = format!("cannot write `{}`: this output makes no image and so no id", path.display());
        return Err(Error::usage(message));
    }
    told(session, &outcome.tags, progress);
    Ok(exit::SUCCESS)
}

/// Says the names that the image now has, as docker's last line does.
fn told(session: &Session, tags: &[String], progress: Progress) {
    if progress != Progress::Quiet {
        for tag in tags {
            crate::cli::tell(&format!("{}\n", session.style.blue(&format!("named {tag}"))));
        }
    }
}

/// Reads the flags; also the file that standard input was spooled to, to be kept as long as the request.
pub(super) fn request(
    build: &Build,
    environment: &Environment,
) -> Result<(BuildRequest, Option<std::fs::File>), Error> {
    let mut build_args = Vec::new();
    for text in &build.build_arg {
        build_args.extend(pairs::variable(text, environment)?);
    }
    let platform = match build.platform.as_deref() {
        None => Platform::host(),
        Some(text) if text.contains(',') => {
            return Err(Error::usage("several platforms in one build are not supported yet"));
        }
        Some(text) => {
            text.parse().map_err(|error| Error::usage(format!("invalid platform `{text}`: {error}")))?
        }
    };
    let tags = build.tag.iter().map(|name| pairs::new_name(name)).collect::<Result<_, _>>()?;
    let labels = build.label.iter().map(|text| pairs::label(text)).collect::<Result<_, _>>()?;
    let add_hosts = build.add_host.iter().map(|text| pairs::host(text)).collect::<Result<_, _>>()?;
    let network = pairs::network(&build.network).unwrap_or_default();
    let join = pairs::network(&build.network).is_err().then(|| build.network.clone());
    let outputs = build_output::parse_all(&build.output, build.load)?;
    let found = build_context::find(&build.path, build.file.as_deref())?;
    let request = BuildRequest {
        context: found.context,
        dockerfile: found.dockerfile,
        tags,
        build_args,
        labels,
        target: build.target.clone().filter(|target| !target.is_empty()),
        platform,
        no_cache: build.no_cache,
        jobs: jobs(build, environment)?,
        no_cache_filter: build.no_cache_filter.iter().map(|stage| stage.trim().to_owned()).collect(),
        cache_ttl: build.cache_ttl.as_deref().map(|text| cache::span("--cache-ttl", text)).transpose()?,
        pull: if build.pull { PullPolicy::Always } else { PullPolicy::Missing },
        network,
        join,
        outputs,
        add_hosts,
        secrets: build_lend::secrets(&build.secret, environment)?,
        ssh: build_lend::agents(&build.ssh, environment)?,
        allow: build_lend::allowed(&build.allow)?,
        shm_bytes: build.shm_size.as_deref().map(build_lend::shm_bytes).transpose()?,
        named_contexts: build_named::parse_all(&build.build_context)?,
        reproducible: build.reproducible,
        context_modes: modes(build, environment)?,
    };
    Ok((request, found.spooled))
}

/// `--context-modes`, else `KILN_CONTEXT_MODES`, else as `--reproducible` needs it.
fn modes(build: &Build, environment: &Environment) -> Result<ContextModes, Error> {
    let (name, text) = match (&build.context_modes, environment.filled("KILN_CONTEXT_MODES")) {
        (Some(text), _) => ("--context-modes", text.as_str()),
        (None, Some(text)) => ("KILN_CONTEXT_MODES", text),
        (None, None) if build.reproducible => return Ok(ContextModes::Git),
        (None, None) => return Ok(ContextModes::AsIs),
    };
    match text {
        "asis" => Ok(ContextModes::AsIs),
        "git" => Ok(ContextModes::Git),
        _ => Err(Error::usage(format!("invalid value `{text}` of {name}")).hint("use asis or git")),
    }
}

/// `--jobs`, else `KILN_JOBS`; 0 when neither says anything.
fn jobs(build: &Build, environment: &Environment) -> Result<usize, Error> {
    let (name, text) = match (&build.jobs, environment.filled("KILN_JOBS")) {
        (Some(text), _) => ("--jobs", text.as_str()),
        (None, Some(text)) => ("KILN_JOBS", text),
        (None, None) => return Ok(0),
    };
    match text.parse() {
        Ok(jobs @ 1..=MAX_JOBS) => Ok(jobs),
        _ => Err(Error::usage(format!("invalid value `{text}` of {name}"))
            .hint(format!("use a number from 1 to {MAX_JOBS}"))),
    }
}

fn log_lines(environment: &Environment) -> usize {
    let set = environment.filled("BUILDKIT_TTY_LOG_LINES").and_then(|lines| lines.parse().ok());
    set.unwrap_or(DEFAULT_LOG_LINES).min(100)
}

/// Writes the id so that a reader never sees half of it.
fn write_id(path: &Path, id: &str) -> Result<(), Error> {
    let bad = |error| Error::usage(format!("cannot write the image's id to `{}`: {error}", path.display()));
    if path.exists() && !path.is_file() {
        // A device or a pipe can't be replaced by a rename.
        return std::fs::write(path, id).map_err(bad);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    std::fs::write(&beside, id).and_then(|()| std::fs::rename(&beside, path)).map_err(bad)
}
