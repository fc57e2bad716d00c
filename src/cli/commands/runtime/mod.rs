//! `kiln runtime`: kiln as an OCI runtime, called by other engines as they call runc.

mod flags;
mod foreground;
mod text;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use self::flags::{Create, Exec, Global, LogFormat, Runtime, Verb};
use crate::bundle::{
    self, Bundles, CreateOptions, ExecOptions, Exit, Process, Resources, State, Status, sealed_program,
};
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, Section};
use crate::cli::{exit, tell};
use crate::sys::signals;

/// Its place in the table.
pub(crate) const ENTRY: Entry = Entry {
    name: "runtime",
    section: Section::Other,
    about: "Run bundles as an OCI runtime, for other engines",
    arguments: "[OPTIONS] COMMAND [ARG...]",
    flags: <Global as clap::Args>::augment_args,
    not_yet: &[],
    own_code: exit::FAILURE,
    run,
};

/// The door of a copy of this program that a container can't write to.
pub(crate) const DOOR: &str = "_runtime";
/// What runc ends with when a process could not be started in a container.
const EXEC_FAILURE: i32 = 255;
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    call(&invocation.arguments, false)
}

/// Does what `arguments` say, in a process that `is_sealed`: run from a file that nobody can write.
pub(crate) fn call(arguments: &[OsString], is_sealed: bool) -> Result<i32, Error> {
    let Runtime { global, verb } = flags::parse(arguments)?;
    let starts = matches!(verb, Verb::Create(_) | Verb::Run { .. } | Verb::Exec(_));
    let result = if starts && !is_sealed {
        Err(bundle::Error::System { what: "cannot run the runtime".into(), source: again(arguments) })
    } else {
        perform(&global, verb)
    };
    let failure = match result {
        Ok(code) => return Ok(code),
        Err(failure) => failure,
    };
    log(&global, "error", &failure.to_string());
    let error = Error::usage(failure.to_string());
    match failure.hint() {
        Some(hint) => Err(error.hint(hint)),
        None => Err(error),
    }
}

/// Becomes the copy; returns only why not.
fn again(arguments: &[OsString]) -> io::Error {
    match sealed_program() {
        Ok(program) => Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0("kiln")
            .arg(DOOR)
            .args(arguments)
            .exec(),
        Err(error) => error,
    }
}

fn perform(global: &Global, verb: Verb) -> bundle::Result<i32> {
    if global.systemd_cgroup {
        return refuse("`--systemd-cgroup` is not supported: use the cgroupfs manager");
    }
    let bundles = Bundles::new(global.root.clone());
    let mut warn = |text: String| {
        log(global, "warning", &text);
        tell(&format!("warning: {text}\n"));
    };
    match verb {
        Verb::Create(create) => drop(bundles.create(&create.id, &options(&create)?, &mut warn)?),
        Verb::Run { create, detach } => return self::run_bundle(&bundles, &create, detach, &mut warn),
        Verb::Start { id } => bundles.start(&id, &mut warn)?,
        Verb::State { id } => print(&text::json(&bundles.state(&id)?))?,
        Verb::Kill { id, signal, all } => {
            let number = signals::parse(&signal);
            let number =
                number.ok_or_else(|| bundle::Error::Refused(format!("unknown signal {signal:?}")))?;
            bundles.kill(&id, number, all)?;
        }
        Verb::Delete { id, force } => bundles.delete(&id, force, &mut warn)?,
        Verb::List { format, quiet } => print(&text::list(&bundles.list()?, &format, quiet))?,
        Verb::Pause { id } => bundles.freeze(&id, true)?,
        Verb::Resume { id } => bundles.freeze(&id, false)?,
        Verb::Update { id, resources } => bundles.update(&id, &read_resources(&resources)?)?,
        Verb::Ps { id, format, arguments } => {
            let pids = bundles.processes(&id)?;
            print(&if format == "json" { text::json(&pids) } else { text::processes(&pids, &arguments)? })?;
        }
        Verb::Exec(exec) => return Ok(run_in(global, &bundles, &exec)),
        Verb::Features => print(&text::json(&text::features()))?,
        Verb::Spec { bundle } => write_spec(&bundle)?,
    }
    Ok(exit::SUCCESS)
}

fn refuse<T>(text: &str) -> bundle::Result<T> {
    Err(bundle::Error::Refused(text.to_owned()))
}

fn options(create: &Create) -> bundle::Result<CreateOptions> {
    if create.no_pivot {
        return refuse("`--no-pivot` is not supported: a root that can be left is none");
    }
    if create.no_new_keyring {
        return refuse("`--no-new-keyring` is not supported");
    }
    Ok(CreateOptions {
        bundle: create.bundle.clone(),
        pid_file: create.handed.pid_file.clone(),
        console_socket: create.handed.console_socket.clone(),
        keeps_terminal: false,
        preserve_fds: create.handed.preserve_fds,
    })
}

/// Creates, starts and, unless it is left alone, waits and removes.
fn run_bundle(
    bundles: &Bundles,
    create: &Create,
    detach: bool,
    warn: &mut dyn FnMut(String),
) -> bundle::Result<i32> {
    let id = &create.id;
    let options = CreateOptions { keeps_terminal: !detach, ..options(create)? };
    let terminal = bundles.create(id, &options, warn)?;
    terminal.iter().for_each(foreground::fit);
    let started = bundles.pidfd(id).and_then(|pidfd| {
        // A signal that comes as soon as the program runs is the program's already.
        let signals = if detach { None } else { Some(foreground::take_signals()?) };
        bundles.start(id, warn).map(|()| (pidfd, signals))
    });
    let (pidfd, signals) = match started {
        Ok((_, None)) => return Ok(exit::SUCCESS),
        Ok((pidfd, Some(signals))) => (pidfd, signals),
        Err(error) => {
            // The first failure is the one to tell.
            let _ = bundles.delete(id, true, warn);
            return Err(error);
        }
    };
    let ended = foreground::attend(&pidfd, terminal.as_ref(), signals).and_then(|()| bundles.wait(id));
    bundles.delete(id, true, warn)?;
    ended.map(Exit::code)
}

/// `exec`: its failures have a code of their own.
fn run_in(global: &Global, bundles: &Bundles, exec: &Exec) -> i32 {
    match exec_process(bundles, exec) {
        Ok(code) => code,
        Err(error) => {
            let text = format!("exec failed: {error}");
            log(global, "error", &text);
            tell(&format!("error: {text}\n"));
            EXEC_FAILURE
        }
    }
}

fn exec_process(bundles: &Bundles, exec: &Exec) -> bundle::Result<i32> {
    let process = match &exec.process {
        Some(file) => Process::of_file(file)?,
        None => {
            let like = bundles.process(&exec.id)?;
            let process = like.like(exec.args.clone(), exec.env.clone(), exec.cwd.clone(), exec.tty);
            match exec.user()? {
                Some((uid, gid)) => process.as_user(uid, gid),
                None => process,
            }
        }
    };
    let options = ExecOptions {
        detach: exec.detach,
        pid_file: exec.handed.pid_file.clone(),
        console_socket: exec.handed.console_socket.clone(),
        keeps_terminal: !exec.detach,
        preserve_fds: exec.handed.preserve_fds,
        ignore_paused: exec.ignore_paused,
    };
    let further = bundles.exec(&exec.id, &process, &options)?;
    if exec.detach {
        return Ok(exit::SUCCESS);
    }
    foreground::attend(&further.pidfd, further.terminal.as_ref(), foreground::take_signals()?)?;
    further.wait().map(Exit::code)
}

fn read_resources(file: &Path) -> bundle::Result<Resources> {
    if file == Path::new("-") {
        return Resources::of(io::stdin());
    }
    let fail = |source| bundle::Error::System { what: format!("cannot read `{}`", file.display()), source };
    Resources::of(File::open(file).map_err(fail)?)
}

fn write_spec(folder: &Path) -> bundle::Result<()> {
    let file = folder.join("config.json");
    let fail = |source| bundle::Error::System { what: format!("cannot write `{}`", file.display()), source };
    let mut created = match File::create_new(&file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return refuse("File config.json exists. Remove it first");
        }
        created => created.map_err(fail)?,
    };
    created.write_all(text::json(&bundle::example()).as_bytes()).map_err(fail)
}

fn print(text: &str) -> bundle::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(bundle::Error::System { what: "cannot write the output".into(), source })
        }
        _ => Ok(()),
    }
}

/// Adds a line to the caller's log, who reads there why something failed.
fn log(global: &Global, level: &str, message: &str) {
    let Some(file) = &global.log else { return };
    let time = jiff::Timestamp::now();
    let line = match global.log_format {
        LogFormat::Json => {
            serde_json::json!({"level": level, "msg": message, "time": time.to_string()}).to_string()
        }
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
    };
    // Without a log it is still told on standard error.
    if let Ok(mut file) = File::options().create(true).append(true).open(file) {
        let _ = writeln!(file, "{line}");
    }
}
