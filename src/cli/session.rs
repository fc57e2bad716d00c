//! What every command has at hand.

use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::error::Error;
use super::settings::{self, Environment, Globals};
use super::style::Style;
use super::table_of_commands::Entry;
use super::{exit, failure, tell};
use crate::api::{Failure, FailureKind};
use crate::engine::{Ahead, Engine};

/// Containers that a command works on at the same time.
const AT_ONCE: usize = 50;

/// The environment, the global flags and, once it is needed, the engine.
#[derive(Debug)]
pub(crate) struct Session {
    /// The caller's variables.
    pub(crate) environment: Environment,
    /// Colours of standard error.
    pub(crate) style: Style,
    globals: Globals,
    engine: OnceLock<Engine>,
    ahead: Mutex<Option<Ahead>>,
}

impl Session {
    /// Returns a session that has opened nothing yet.
    pub(crate) fn new(globals: Globals, environment: Environment, style: Style) -> Self {
        Self { environment, style, globals, engine: OnceLock::new(), ahead: Mutex::default() }
    }

    /// Hands on what was begun before it was known what it is for.
    pub(crate) fn with(self, ahead: Option<Ahead>) -> Self {
        Self { ahead: ahead.into(), ..self }
    }

    /// Returns the engine.
    pub(crate) fn engine(&self) -> Result<&Engine, Error> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let root = rustix::process::geteuid().is_root();
        let settings = settings::settings(&self.globals, &self.environment, root)?;
        let ahead = || self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(self.engine.get_or_init(|| Engine::new(settings).with(ahead())))
    }

    /// Returns the engine for a verb that mounts, unpacks or starts something: only root may, for now.
    pub(crate) fn root_engine(&self) -> Result<&Engine, Error> {
        if !rustix::process::geteuid().is_root() {
            let failure =
                Failure::new(FailureKind::System, "this needs root; rootless mode is not supported yet");
            return Err(failure.hint("run it with `sudo`").into());
        }
        self.engine()
    }

    /// Does `work` for each of `names`, tells the failures, and returns the exit code.
    pub(crate) fn each(
        &self,
        names: &[String],
        mut work: impl FnMut(&str) -> Result<(), Error>,
    ) -> Result<i32, Error> {
        let mut code = exit::SUCCESS;
        for name in names {
            match work(name) {
                Ok(()) => {}
                Err(Error::Failure(failure)) => {
                    tell(&failure::render(&failure, self.style));
                    code = exit::FAILURE;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(code)
    }

    /// As [`Self::each`], for work that waits: some of it at the same time. Its lines are printed in the order of
    /// the names.
    pub(crate) fn all_at_once(
        &self,
        names: &[String],
        work: impl Fn(&str) -> Result<String, Error> + Sync,
    ) -> Result<i32, Error> {
        self.all_at_once_then(names, work, |_, line| print_line(&line?))
    }

    /// The same, where `told` decides what is printed of each result.
    pub(crate) fn all_at_once_then<T: Send>(
        &self,
        names: &[String],
        work: impl Fn(&str) -> T + Sync,
        mut told: impl FnMut(&str, T) -> Result<(), Error>,
    ) -> Result<i32, Error> {
        if let [name] = names {
            return self.each(std::slice::from_ref(name), |name| told(name, work(name)));
        }
        let mut code = exit::SUCCESS;
        for names in names.chunks(AT_ONCE) {
            code = code.max(std::thread::scope(|scope| {
                let work = &work;
                let started: Vec<_> = names.iter().map(|name| scope.spawn(move || work(name))).collect();
                let mut results = started
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                self.each(names, |name| results.next().map_or(Ok(()), |result| told(name, result)))
            })?);
        }
        Ok(code)
    }
}

/// A command as it was called.
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    /// What every command has at hand.
    pub(crate) session: &'a Session,
    /// Its entry in the table.
    pub(crate) entry: &'static Entry,
    /// Its name as typed: `image ls`.
    pub(crate) name: String,
    /// What followed the name.
    pub(crate) arguments: Vec<std::ffi::OsString>,
}

/// Writes `line` and a newline to standard output.
pub(crate) fn print_line(line: &str) -> Result<(), Error> {
    print(&format!("{line}\n"))
}

/// Writes `text` to standard output.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
