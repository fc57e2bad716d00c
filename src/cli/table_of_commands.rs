//! Every command of kiln, and those that docker has and kiln hasn't yet.

use super::commands as c;
use super::error::Error;
use super::exit;
use super::session::Invocation;

/// Where a command stands in `kiln --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// What people type every day.
    Common,
    /// The rest.
    Other,
    /// Reached through a group only.
    Grouped,
}

/// One command.
pub(crate) struct Entry {
    /// `run`; with its group where only that has it: `image inspect`.
    pub(crate) name: &'static str,
    /// Where it stands in the help.
    pub(crate) section: Section,
    /// One line.
    pub(crate) about: &'static str,
    /// What follows the name in its usage line.
    pub(crate) arguments: &'static str,
    /// Adds its flags to a clap command.
    pub(crate) flags: fn(clap::Command) -> clap::Command,
    /// Flags that docker's command has and this one hasn't yet.
    pub(crate) not_yet: &'static [&'static str],
    /// Exit code of its own failures.
    pub(crate) own_code: i32,
    /// Does it.
    pub(crate) run: fn(&Invocation<'_>) -> Result<i32, Error>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A command that only holds others.
#[derive(Debug)]
pub(crate) struct Group {
    /// `image`
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) about: &'static str,
    /// The name below the group, and the entry that it means.
    pub(crate) verbs: &'static [(&'static str, &'static str)],
}

/// Builds an entry; the flags come from `$args`.
macro_rules! entry {
    ($section:ident, $name:literal, $about:literal, $arguments:literal, $args:ty, $run:path, not_yet: $not_yet:expr, code: $code:expr) => {
        Entry {
            name: $name,
            section: Section::$section,
            about: $about,
            arguments: $arguments,
            flags: <$args as clap::Args>::augment_args,
            not_yet: $not_yet,
            own_code: $code,
            run: $run,
        }
    };
    ($section:ident, $name:literal, $about:literal, $arguments:literal, $args:ty, $run:path, not_yet: $not_yet:expr) => {
        entry!($section, $name, $about, $arguments, $args, $run, not_yet: $not_yet, code: exit::FAILURE)
    };
    ($section:ident, $name:literal, $about:literal, $arguments:literal, $args:ty, $run:path) => {
        entry!($section, $name, $about, $arguments, $args, $run, not_yet: &[])
    };
}

/// The commands, in the order of the help.
#[rustfmt::skip]
pub(crate) static COMMANDS: &[Entry] = &[
    entry!(Common, "run", "Create and run a new container from an image", "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        c::run::Run, c::run::run, not_yet: c::create::NOT_YET, code: exit::OWN_FAILURE),
    entry!(Common, "exec", "Execute a command in a running container", "[OPTIONS] CONTAINER COMMAND [ARG...]",
        c::exec::Exec, c::exec::run, not_yet: &["--detach-keys"], code: exit::OWN_FAILURE),
    entry!(Common, "ps", "List containers", "[OPTIONS]",
        c::ps::Ps, c::ps::run, not_yet: &["-s", "--size"]),
    entry!(Common, "build", "Build an image from a Dockerfile", "[OPTIONS] PATH | -",
        c::build::Build, c::build::run, not_yet: c::build::NOT_YET),
    entry!(Common, "pull", "Download an image from a registry", "[OPTIONS] NAME[:TAG|@DIGEST]",
        c::pull::Pull, c::pull::run, not_yet: &["-a", "--all-tags", "--disable-content-trust"]),
    entry!(Common, "push", "Upload an image to a registry", "[OPTIONS] NAME[:TAG]",
        c::push::Push, c::push::run, not_yet: &["-a", "--all-tags", "--platform", "--disable-content-trust"]),
    entry!(Common, "images", "List images", "[OPTIONS] [REPOSITORY[:TAG]]",
        c::images::Images, c::images::run, not_yet: &["--tree"]),
    entry!(Common, "history", "Show the history of an image", "[OPTIONS] IMAGE",
        c::history::History, c::history::run, not_yet: &["--platform"]),
    entry!(Common, "version", "Show the version", "[OPTIONS]", c::version::Version, c::version::run),
    entry!(Other, "create", "Create a new container", "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        c::create::Create, c::create::run, not_yet: c::create::NOT_YET, code: exit::OWN_FAILURE),
    entry!(Other, "fmt", "Bring Dockerfiles into their canonical form", "[OPTIONS] [FILE|-...]", c::fmt::Fmt, c::fmt::run),
    entry!(Other, "import", "Import the contents from a tarball to create a filesystem image",
        "[OPTIONS] FILE|- [REPOSITORY[:TAG]]", c::import::Import, c::import::run, not_yet: &["--platform"]),
    entry!(Other, "inspect", "Return low-level information on images and containers",
        "[OPTIONS] NAME|ID [NAME|ID...]", c::inspect::Inspect, c::inspect::run, not_yet: &["-s", "--size"]),
    entry!(Other, "kill", "Kill one or more running containers", "[OPTIONS] CONTAINER [CONTAINER...]",
        c::kill::Kill, c::kill::run),
    entry!(Other, "lint", "Look for mistakes in a Dockerfile without building it", "[OPTIONS] [PATH|FILE|-...]",
        c::lint::Lint, c::lint::run),
    entry!(Other, "load", "Load an image from a tar archive or standard input", "[OPTIONS]",
        c::load::Load, c::load::run, not_yet: &["--platform"]),
    entry!(Other, "logs", "Fetch the logs of a container", "[OPTIONS] CONTAINER",
        c::logs::Logs, c::logs::run, not_yet: &["--details"]),
    entry!(Other, "prune", "Remove stopped containers, unused images and build cache", "[OPTIONS]",
        c::prune::Prune, c::prune::everything, not_yet: &["--filter", "--volumes"]),
    entry!(Other, "rm", "Remove one or more containers", "[OPTIONS] CONTAINER [CONTAINER...]",
        c::rm::Rm, c::rm::run, not_yet: &["-l", "--link"]),
    entry!(Other, "rmi", "Remove one or more images", "[OPTIONS] IMAGE [IMAGE...]",
        c::rmi::Rmi, c::rmi::run, not_yet: &["--no-prune", "--platform"]),
    entry!(Other, "save", "Save one or more images to a tar archive (to standard output by default)",
        "[OPTIONS] IMAGE [IMAGE...]", c::save::Save, c::save::run, not_yet: &["--platform"]),
    entry!(Other, "start", "Start one or more stopped containers", "[OPTIONS] CONTAINER [CONTAINER...]",
        c::start::Start, c::start::run, not_yet: &["--checkpoint", "--checkpoint-dir", "--detach-keys"]),
    entry!(Other, "stop", "Stop one or more running containers", "[OPTIONS] CONTAINER [CONTAINER...]",
        c::stop::Stop, c::stop::run),
    entry!(Other, "tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", c::tag::Tag, c::tag::run),
    entry!(Other, "wait", "Block until one or more containers stop, then print their exit codes",
        "CONTAINER [CONTAINER...]", c::wait::Wait, c::wait::run),
    entry!(Other, "why", "Show which steps of the last build ran, and why", "[OPTIONS] [PATH]", c::why::Why, c::why::run),
    entry!(Grouped, "image inspect", "Display detailed information on one or more images",
        "[OPTIONS] IMAGE [IMAGE...]", c::inspect::InspectOne, c::inspect::image, not_yet: &["--platform"]),
    entry!(Grouped, "container inspect", "Display detailed information on one or more containers",
        "[OPTIONS] CONTAINER [CONTAINER...]", c::inspect::InspectOne, c::inspect::container,
        not_yet: &["-s", "--size"]),
    entry!(Grouped, "image prune", "Remove unused images", "[OPTIONS]",
        c::prune::Prune, c::prune::images, not_yet: &["--filter"]),
    entry!(Grouped, "container prune", "Remove all stopped containers", "[OPTIONS]",
        c::prune::PruneSome, c::prune::containers, not_yet: &["--filter"]),
    entry!(Grouped, "cache du", "Show what the build cache takes", "[OPTIONS]", c::cache::Du, c::cache::du,
        not_yet: &["--builder", "--timeout"]),
    entry!(Grouped, "cache ls", "List what is in the build cache", "[OPTIONS]", c::cache::List, c::cache::list),
    entry!(Grouped, "cache prune", "Remove build cache", "[OPTIONS]", c::cache::Prune, c::cache::prune,
        not_yet: &["--builder", "--timeout"]),
    entry!(Grouped, "system check", "Verify all that the store holds, and look for what was left on the machine",
        "[OPTIONS]", c::system_check::SystemCheck, c::system_check::run),
];

/// The groups, as docker has them.
#[rustfmt::skip]
pub(crate) static GROUPS: &[Group] = &[
    Group { name: "builder", about: "Manage builds", verbs: &[
        ("build", "build"), ("du", "cache du"), ("prune", "cache prune"),
    ] },
    Group { name: "buildx", about: "Manage builds", verbs: &[
        ("build", "build"), ("du", "cache du"), ("prune", "cache prune"),
    ] },
    Group { name: "cache", about: "Manage the build cache", verbs: &[
        ("du", "cache du"), ("ls", "cache ls"), ("list", "cache ls"), ("prune", "cache prune"),
    ] },
    Group { name: "container", about: "Manage containers", verbs: &[
        ("create", "create"), ("exec", "exec"), ("inspect", "container inspect"), ("kill", "kill"), ("logs", "logs"),
        ("ls", "ps"), ("list", "ps"), ("ps", "ps"), ("prune", "container prune"), ("rm", "rm"), ("remove", "rm"),
        ("run", "run"), ("start", "start"), ("stop", "stop"), ("wait", "wait"),
    ] },
    Group { name: "image", about: "Manage images", verbs: &[
        ("build", "build"), ("history", "history"), ("import", "import"), ("inspect", "image inspect"),
        ("load", "load"), ("ls", "images"), ("list", "images"), ("prune", "image prune"), ("pull", "pull"),
        ("push", "push"), ("rm", "rmi"), ("remove", "rmi"), ("save", "save"), ("tag", "tag"),
    ] },
    Group { name: "system", about: "Manage kiln", verbs: &[("check", "system check"), ("prune", "prune")] },
];

/// Commands of docker that kiln hasn't yet: refused by name.
pub(crate) static NOT_YET: &[&str] = &[
    "attach",
    "bake",
    "checkpoint",
    "commit",
    "compose",
    "config",
    "context",
    "cp",
    "diff",
    "events",
    "export",
    "info",
    "login",
    "logout",
    "manifest",
    "network",
    "node",
    "pause",
    "plugin",
    "port",
    "rename",
    "restart",
    "search",
    "secret",
    "service",
    "stack",
    "stats",
    "swarm",
    "top",
    "trust",
    "unpause",
    "update",
    "volume",
];

/// Returns the entry `name`.
pub(crate) fn entry(name: &str) -> Option<&'static Entry> {
    COMMANDS.iter().find(|entry| entry.name == name)
}

/// Returns the group `name`.
pub(crate) fn group(name: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_name_commands_that_exist() {
        for group in GROUPS {
            for (verb, name) in group.verbs {
                assert!(entry(name).is_some(), "{} {verb} means {name}", group.name);
            }
        }
    }

    #[test]
    fn flags_are_well_formed_and_not_refused_at_once() {
        for entry in COMMANDS {
            let command = (entry.flags)(clap::Command::new("test").disable_help_flag(true));
            command.clone().debug_assert();
            for argument in command.get_arguments() {
                let long = argument.get_long().map(|long| format!("--{long}")).unwrap_or_default();
                assert!(!entry.not_yet.contains(&long.as_str()), "{} has {long}", entry.name);
            }
        }
    }
}
