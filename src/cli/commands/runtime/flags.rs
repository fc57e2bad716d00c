//! The command line of `kiln runtime`, which is runc's.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ErrorKind;

use crate::bundle;
use crate::cli::error::Error;

/// `kiln runtime`
#[derive(Debug, Parser)]
#[command(
    name = "kiln runtime",
    no_binary_name = true,
    version,
    args_override_self = true,
    about = "Run bundles as an OCI runtime"
)]
pub(super) struct Runtime {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Flags that stand before the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Global {
    /// Folder of the containers' states
    #[arg(long, default_value = "/run/kiln/oci", value_name = "DIR")]
    pub(super) root: PathBuf,
    /// File that failures are written to
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// Form of that file
    #[arg(long, value_enum, default_value = "text")]
    pub(super) log_format: LogFormat,
    /// Not supported: cgroups are made by folders
    #[arg(long, hide = true)]
    pub(super) systemd_cgroup: bool,
    /// Changes nothing: all that there is to say is said
    #[arg(long, hide = true)]
    debug: bool,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// `time=… level=… msg=…`
    Text,
    /// A JSON object in each line.
    Json,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Create a container, which then waits for its start
    Create(Create),
    /// Create a container and start it
    Run {
        #[command(flatten)]
        create: Create,
        /// Return when its program runs
        #[arg(long, short)]
        detach: bool,
    },
    /// Start the program of a created container
    Start {
        /// The container
        id: String,
    },
    /// Show a container's state
    State {
        /// The container
        id: String,
    },
    /// Send a signal to a container's first process
    Kill {
        /// Send it to all its processes
        #[arg(long, short)]
        all: bool,
        /// The container
        id: String,
        /// The signal, by name or number
        #[arg(default_value = "SIGTERM")]
        signal: String,
    },
    /// Remove a container that has stopped
    Delete {
        /// Kill it first; fine when there is none
        #[arg(long, short)]
        force: bool,
        /// The container
        id: String,
    },
    /// List containers
    List {
        /// table or json
        #[arg(long, short, default_value = "table", value_parser = ["table", "json"])]
        format: String,
        /// Only their ids
        #[arg(long, short)]
        quiet: bool,
    },
    /// Freeze all processes of a container
    Pause {
        /// The container
        id: String,
    },
    /// Let a frozen container go on
    Resume {
        /// The container
        id: String,
    },
    /// Change the limits of a container
    Update {
        /// What changes, as linux.resources of config.json; - is standard input
        #[arg(long, short, value_name = "FILE")]
        resources: PathBuf,
        /// The container
        id: String,
    },
    /// List the processes of a container
    Ps {
        /// table or json
        #[arg(long, short, default_value = "table", value_parser = ["table", "json"])]
        format: String,
        /// The container
        id: String,
        /// What `ps` shall show
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a further process in a container
    Exec(Exec),
    /// Show what this runtime can
    Features,
    /// Write a config.json to begin with
    Spec {
        /// The folder to write it to
        #[arg(long, short, default_value = ".", value_name = "DIR")]
        bundle: PathBuf,
    },
}

/// What a process and its caller give to each other.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Handed {
    /// Write the process's pid to a file
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Send the terminal's master to a socket
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// Pass descriptors from 3 on to the program
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) preserve_fds: u32,
}

/// `create` and `run`
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// The bundle's folder
    #[arg(long, short, default_value = ".", value_name = "DIR")]
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    pub(super) handed: Handed,
    /// Not supported
    #[arg(long, hide = true)]
    pub(super) no_pivot: bool,
    /// Not supported
    #[arg(long, hide = true)]
    pub(super) no_new_keyring: bool,
    /// The container
    pub(super) id: String,
}

/// `exec`
#[derive(Debug, clap::Args)]
pub(super) struct Exec {
    /// The process, as config.json has it
    #[arg(long, short, value_name = "FILE")]
    pub(super) process: Option<PathBuf>,
    /// Return when it runs
    #[arg(long, short)]
    pub(super) detach: bool,
    #[command(flatten)]
    pub(super) handed: Handed,
    /// Give it a terminal
    #[arg(long, short)]
    pub(super) tty: bool,
    /// Set an environment variable
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(super) env: Vec<String>,
    /// Its working directory
    #[arg(long, value_name = "PATH")]
    pub(super) cwd: Option<String>,
    /// User and group, by their numbers
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Go into a frozen container
    #[arg(long)]
    pub(super) ignore_paused: bool,
    /// The container
    pub(super) id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) args: Vec<String>,
}

impl Exec {
    /// The numbers of `--user`.
    pub(super) fn user(&self) -> bundle::Result<Option<(u32, Option<u32>)>> {
        let Some(text) = &self.user else { return Ok(None) };
        let (uid, gid) = text.split_once(':').map_or((text.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        let number = |text: &str| text.parse::<u32>().ok();
        let bad =
            || bundle::Error::Refused(format!("invalid value `{text}` for `--user`: it must be UID[:GID]"));
        let gid = gid.map(|gid| number(gid).ok_or_else(bad)).transpose()?;
        Ok(Some((number(uid).ok_or_else(bad)?, gid)))
    }
}

/// Reads it.
pub(super) fn parse(arguments: &[OsString]) -> Result<Runtime, Error> {
    Runtime::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Error::Help(error.render().to_string()),
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Error::usage(line.replace('\'', "`")).hint("see `kiln runtime --help`")
        }
    })
}
