//! `kiln create`, and the flags that it shares with `kiln run`.

mod base;
mod health;
mod isolation;
mod limits;
mod logging;
mod mounts;
mod names;
mod network;
mod ports;

pub(super) use base::from_files;
pub(super) use health::policy as restart_policy;
pub(super) use limits::Changeable;
pub(super) use network::mac;

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::pairs;
use crate::api::{CreateRequest, Failure, FailureKind, NetworkMode};
use crate::cli::error::Error;
use crate::cli::progress::Shown;
use crate::cli::session::{Invocation, print_line};
use crate::cli::settings::Environment;
use crate::cli::{exit, flags, tell};
use crate::engine::Engine;

/// Flags of docker that are still to come.
pub(crate) const NOT_YET: &[&[&str]] =
    &[base::NOT_YET, health::NOT_YET, isolation::NOT_YET, limits::NOT_YET, mounts::NOT_YET, network::NOT_YET];

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
    #[command(flatten)]
    base: base::Base,
    #[command(flatten)]
    life: health::Life,
    #[command(flatten)]
    isolation: isolation::Isolation,
    #[command(flatten)]
    limits: limits::Limits,
    #[command(flatten)]
    logging: logging::Logging,
    #[command(flatten)]
    mounts: mounts::Mounts,
    #[command(flatten)]
    names: names::Names,
    #[command(flatten)]
    network: network::Network,
    #[command(flatten)]
    ports: ports::Ports,
}

impl Options {
    /// The file that gets the container's id.
    pub(super) fn cidfile(&self) -> Option<&Path> {
        self.base.cidfile.as_deref()
    }

    /// Whether the pull stays unseen.
    pub(super) fn quiet(&self) -> bool {
        self.base.quiet
    }
}

/// Makes a container and prints its id.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let create: Create = flags::parse(invocation)?;
    let session = invocation.session;
    let request = request(&create.options, &create.rest, &session.environment, &invocation.name)?;
    let mut id_file = create.options.cidfile().map(IdFile::make).transpose()?;
    let engine = session.root_engine()?;
    tell_of_firewalls(&request, engine);
    let shown = Shown::transfers(create.options.quiet());
    let result = engine.create(&request, &shown.events);
    shown.finish();
    let id = result?;
    if let Some(file) = &mut id_file {
        file.write(&id)?;
    }
    print_line(&id)?;
    Ok(exit::SUCCESS)
}

/// Reads the flags and the words after them.
pub(crate) fn request(
    options: &Options,
    rest: &[String],
    environment: &Environment,
    name: &str,
) -> Result<CreateRequest, Error> {
    let [image, command @ ..] = rest else {
        return Err(Error::usage("missing <IMAGE>")
            .hint(format!("usage: kiln {name} [OPTIONS] IMAGE [COMMAND] [ARG...]"))
            .hint(format!("see `kiln {name} --help`"))
            .code(exit::FAILURE));
    };
    pairs::reference_or_id(image)?;
    let mut request =
        CreateRequest { image: image.clone(), command: command.to_vec(), ..CreateRequest::default() };
    options.base.fill(&mut request, environment)?;
    options.life.fill(&mut request)?;
    options.isolation.fill(&mut request, environment)?;
    options.limits.fill(&mut request)?;
    options.logging.fill(&mut request)?;
    options.mounts.fill(&mut request)?;
    options.names.fill(&mut request)?;
    options.network.fill(&mut request)?;
    options.ports.fill(&mut request)?;
    Ok(request)
}

/// Says when a packet filter of the machine stands between other machines and the ports that are to be published.
pub(super) fn tell_of_firewalls(request: &CreateRequest, engine: &Engine) {
    let publishes =
        request.network == NetworkMode::Bridge && (request.publish_all || !request.ports.is_empty());
    for chain in if publishes { engine.closed_to_ports() } else { Vec::new() } {
        tell(&format!(
            "note: `{chain}` drops what other machines send to published ports; accept it there, \
             or write `firewall = \"open\"` below `[publish]` in config.toml\n"
        ));
    }
}

/// The file of `--cidfile`; gone again when no id was written to it.
#[derive(Debug)]
pub(super) struct IdFile<'a> {
    path: &'a Path,
    file: File,
    is_written: bool,
}

impl<'a> IdFile<'a> {
    /// Makes the file; an id of another container must not be overwritten.
    pub(super) fn make(path: &'a Path) -> Result<Self, Error> {
        let file = File::create_new(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                Error::usage(format!("the id file `{}` already exists", path.display()))
                    .hint("remove it, or name another one")
            }
            _ => Error::usage(format!("cannot write `{}`: {error}", path.display())),
        })?;
        Ok(Self { path, file, is_written: false })
    }

    /// Writes the id.
    pub(super) fn write(&mut self, id: &str) -> Result<(), Failure> {
        self.file.write_all(id.as_bytes()).map_err(|error| {
            Failure::new(FailureKind::System, format!("cannot write `{}`: {error}", self.path.display()))
        })?;
        self.is_written = true;
        Ok(())
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{NetworkMode, PullPolicy};

    #[test]
    fn a_request_takes_the_image_and_then_the_program() {
        let mut options = Options::default();
        options.base.env = vec!["A=1".into(), "HOME".into(), "NONE".into()];
        options.base.pull = "never".into();
        options.network.network = vec!["none".into()];
        options.limits.changeable.pids_limit = Some(-1);
        let environment = Environment::from([("HOME", "/root")]);
        let rest = ["busybox".to_owned(), "sh".to_owned(), "-c".to_owned()];
        let request = request(&options, &rest, &environment, "run").unwrap();
        assert_eq!(
            (request.image.as_str(), request.command),
            ("busybox", vec!["sh".to_owned(), "-c".to_owned()])
        );
        assert_eq!(request.env, ["A=1", "HOME=/root"]);
        assert_eq!(
            (request.network, request.pull, request.resources.pids_limit),
            (NetworkMode::None, PullPolicy::Never, None)
        );
        assert!(super::request(&options, &[], &environment, "run").is_err());
        options.base.workdir = Some("x".into());
        assert!(super::request(&options, &rest, &environment, "run").is_err());
    }
}
