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
    pub(crate) not_yet: &'static [&'static [&'static str]],
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
macro_rules! command {
    ($section:ident, $name:literal, $about:literal, $arguments:literal, $args:ty, $run:path, not_yet_in: $not_yet:expr, code: $code:expr) => {
        $crate::cli::table_of_commands::Entry {
            name: $name,
            section: $crate::cli::table_of_commands::Section::$section,
            about: $about,
            arguments: $arguments,
            flags: <$args as clap::Args>::augment_args,
            not_yet: $not_yet,
            own_code: $code,
            run: $run,
        }
    };
    ($section:ident, $name:literal, $about:literal, $arguments:literal, $args:ty, $run:path, not_yet: $not_yet:expr, code: $code:expr) => {
        command!($section, $name, $about, $arguments, $args, $run, not_yet_in: &[$not_yet], code: $code)
    };
    ($section:ident, $name:literal, $about:literal, $arguments:literal, $args:ty, $run:path, not_yet: $not_yet:expr) => {
        command!($section, $name, $about, $arguments, $args, $run,
            not_yet_in: &[$not_yet], code: $crate::cli::exit::FAILURE)
    };
    ($section:ident, $name:literal, $about:literal, $arguments:literal, $args:ty, $run:path) => {
        command!($section, $name, $about, $arguments, $args, $run, not_yet: &[])
    };
}

pub(crate) use command;

/// The commands, in the order of the help.
#[rustfmt::skip]
pub(crate) static COMMANDS: &[Entry] = &[
    command!(Common, "run", "Create and run a new container from an image", "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        c::run::Run, c::run::run, not_yet_in: c::create::NOT_YET, code: exit::OWN_FAILURE),
    command!(Common, "exec", "Execute a command in a running container", "[OPTIONS] CONTAINER COMMAND [ARG...]",
        c::exec::Exec, c::exec::run, not_yet: c::exec::NOT_YET),
    command!(Common, "ps", "List containers", "[OPTIONS]",
        c::ps::Ps, c::ps::run, not_yet: c::ps::NOT_YET),
    command!(Common, "build", "Build an image from a Dockerfile", "[OPTIONS] PATH | -",
        c::build::Build, c::build::run, not_yet: c::build::NOT_YET),
    command!(Common, "pull", "Download an image from a registry", "[OPTIONS] NAME[:TAG|@DIGEST]",
        c::pull::Pull, c::pull::run, not_yet: &["-a", "--all-tags", "--disable-content-trust"]),
    command!(Common, "push", "Upload an image to a registry", "[OPTIONS] NAME[:TAG]",
        c::push::Push, c::push::run, not_yet: &["-a", "--all-tags", "--platform", "--disable-content-trust"]),
    command!(Common, "images", "List images", "[OPTIONS] [REPOSITORY[:TAG]]",
        c::images::Images, c::images::run, not_yet: &["--tree"]),
    command!(Common, "history", "Show the history of an image", "[OPTIONS] IMAGE",
        c::history::History, c::history::run, not_yet: &["--platform"]),
    command!(Common, "version", "Show the version", "[OPTIONS]", c::version::Version, c::version::run),
    c::attach::ENTRY,
    c::commit::ENTRY,
    c::cp::ENTRY,
    command!(Other, "create", "Create a new container", "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        c::create::Create, c::create::run, not_yet_in: c::create::NOT_YET, code: exit::OWN_FAILURE),
    c::debug::ENTRY,
    c::diff::ENTRY,
    c::events::ENTRY,
    c::export::ENTRY,
    command!(Other, "fmt", "Bring Dockerfiles into their canonical form", "[OPTIONS] [FILE|-...]", c::fmt::Fmt, c::fmt::run),
    command!(Other, "import", "Import the contents from a tarball to create a filesystem image",
        "[OPTIONS] FILE|- [REPOSITORY[:TAG]]", c::import::Import, c::import::run, not_yet: &["--platform"]),
    command!(Other, "inspect", "Return low-level information on images and containers",
        "[OPTIONS] NAME|ID [NAME|ID...]", c::inspect::Inspect, c::inspect::run),
    command!(Other, "kill", "Kill one or more running containers", "[OPTIONS] CONTAINER [CONTAINER...]",
        c::kill::Kill, c::kill::run),
    command!(Other, "lint", "Look for mistakes in a Dockerfile without building it", "[OPTIONS] [PATH|FILE|-...]",
        c::lint::Lint, c::lint::run),
    command!(Other, "load", "Load an image from a tar archive or standard input", "[OPTIONS]",
        c::load::Load, c::load::run, not_yet: &["--platform"]),
    command!(Other, "logs", "Fetch the logs of a container", "[OPTIONS] CONTAINER",
        c::logs::Logs, c::logs::run),
    c::mount::ENTRY,
    c::pause::ENTRY,
    c::port::ENTRY,
    command!(Other, "prune", "Remove stopped containers, unused images and build cache", "[OPTIONS]",
        c::prune::PruneAll, c::prune::everything),
    c::rename::ENTRY,
    c::restart::ENTRY,
    command!(Other, "rm", "Remove one or more containers", "[OPTIONS] CONTAINER [CONTAINER...]",
        c::rm::Rm, c::rm::run),
    command!(Other, "rmi", "Remove one or more images", "[OPTIONS] IMAGE [IMAGE...]",
        c::rmi::Rmi, c::rmi::run, not_yet: &["--no-prune", "--platform"]),
    c::runtime::ENTRY,
    command!(Other, "save", "Save one or more images to a tar archive (to standard output by default)",
        "[OPTIONS] IMAGE [IMAGE...]", c::save::Save, c::save::run, not_yet: &["--platform"]),
    command!(Other, "start", "Start one or more stopped containers", "[OPTIONS] CONTAINER [CONTAINER...]",
        c::start::Start, c::start::run, not_yet: c::start::NOT_YET),
    c::stats::ENTRY,
    command!(Other, "stop", "Stop one or more running containers", "[OPTIONS] CONTAINER [CONTAINER...]",
        c::stop::Stop, c::stop::run),
    command!(Other, "tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", c::tag::Tag, c::tag::run),
    c::top::ENTRY,
    c::unmount::ENTRY,
    c::unpause::ENTRY,
    c::update::ENTRY,
    command!(Other, "wait", "Block until one or more containers stop, then print their exit codes",
        "CONTAINER [CONTAINER...]", c::wait::Wait, c::wait::run),
    command!(Other, "why", "Show which steps of the last build ran, and why", "[OPTIONS] [PATH]", c::why::Why, c::why::run),
    command!(Grouped, "image inspect", "Display detailed information on one or more images",
        "[OPTIONS] IMAGE [IMAGE...]", c::inspect::InspectOne, c::inspect::image, not_yet: &["--platform"]),
    command!(Grouped, "container inspect", "Display detailed information on one or more containers",
        "[OPTIONS] CONTAINER [CONTAINER...]", c::inspect::InspectContainer, c::inspect::container),
    command!(Grouped, "image prune", "Remove unused images", "[OPTIONS]",
        c::prune::Prune, c::prune::images),
    command!(Grouped, "container prune", "Remove all stopped containers", "[OPTIONS]",
        c::prune::PruneSome, c::prune::containers),
    command!(Grouped, "cache du", "Show what the build cache takes", "[OPTIONS]", c::cache::Du, c::cache::du,
        not_yet: &["--builder", "--timeout"]),
    command!(Grouped, "cache ls", "List what is in the build cache", "[OPTIONS]", c::cache::List, c::cache::list),
    command!(Grouped, "cache prune", "Remove build cache", "[OPTIONS]", c::cache::Prune, c::cache::prune,
        not_yet: &["--builder", "--timeout"]),
    command!(Grouped, "system check", "Verify all that the store holds, and look for what was left on the machine",
        "[OPTIONS]", c::system_check::SystemCheck, c::system_check::run),
    c::system_restore::ENTRY,
    c::network::CONNECT,
    c::network::CREATE,
    c::network::DISCONNECT,
    c::network::INSPECT,
    c::network::LIST,
    c::network::PRUNE,
    c::network::REMOVE,
    c::volume::copy::CLONE,
    c::volume::copy::SNAPSHOT,
    c::volume::create::ENTRY,
    c::volume::export::ENTRY,
    c::volume::import::ENTRY,
    c::volume::inspect::ENTRY,
    c::volume::list::ENTRY,
    c::volume::prune::ENTRY,
    c::volume::remove::ENTRY,
    c::volume::rename::ENTRY,
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
        ("attach", "attach"), ("commit", "commit"), ("cp", "cp"), ("create", "create"), ("diff", "diff"),
        ("exec", "exec"), ("export", "export"), ("inspect", "container inspect"), ("kill", "kill"), ("logs", "logs"),
        ("ls", "ps"), ("list", "ps"), ("mount", "mount"), ("pause", "pause"), ("port", "port"), ("ps", "ps"),
        ("prune", "container prune"), ("rename", "rename"), ("restart", "restart"), ("rm", "rm"), ("remove", "rm"),
        ("run", "run"), ("start", "start"), ("stats", "stats"), ("stop", "stop"), ("top", "top"),
        ("unmount", "unmount"), ("unpause", "unpause"), ("update", "update"), ("wait", "wait"),
    ] },
    Group { name: "image", about: "Manage images", verbs: &[
        ("build", "build"), ("history", "history"), ("import", "import"), ("inspect", "image inspect"),
        ("load", "load"), ("ls", "images"), ("list", "images"), ("mount", "mount"), ("prune", "image prune"),
        ("pull", "pull"), ("push", "push"), ("rm", "rmi"), ("remove", "rmi"), ("save", "save"), ("tag", "tag"),
        ("unmount", "unmount"),
    ] },
    Group { name: "network", about: "Manage networks", verbs: &[
        ("connect", "network connect"), ("create", "network create"), ("disconnect", "network disconnect"),
        ("inspect", "network inspect"), ("ls", "network ls"), ("list", "network ls"), ("prune", "network prune"),
        ("rm", "network rm"), ("remove", "network rm"),
    ] },
    Group { name: "system", about: "Manage kiln", verbs: &[
        ("check", "system check"), ("events", "events"), ("prune", "prune"), ("restore", "system restore"),
    ] },
    Group { name: "volume", about: "Manage volumes", verbs: &[
        ("clone", "volume clone"), ("create", "volume create"), ("export", "volume export"),
        ("import", "volume import"), ("inspect", "volume inspect"), ("ls", "volume ls"), ("list", "volume ls"),
        ("prune", "volume prune"), ("rename", "volume rename"), ("rm", "volume rm"), ("remove", "volume rm"),
        ("snapshot", "volume snapshot"),
    ] },
];

/// Commands of docker that kiln hasn't yet: refused by name.
pub(crate) static NOT_YET: &[&str] = &[
    "bake",
    "checkpoint",
    "compose",
    "config",
    "context",
    "info",
    "login",
    "logout",
    "manifest",
    "node",
    "plugin",
    "search",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
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
                let refused = entry.not_yet.iter().any(|flags| flags.contains(&long.as_str()));
                assert!(!refused, "{} has {long}", entry.name);
            }
        }
    }
}
