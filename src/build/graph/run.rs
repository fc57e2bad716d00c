//! RUN: the command line that the shell gets, heredocs included.

use kiln_grammar::ast::{CommandLine, Heredoc, Instruction, Run, Word};

use super::lower::{Lowering, Stop};
use super::stage::{StageState, clean};
use super::{ExecSpec, OpSpec, SCRIPT_FOLDER, Script, history};
use crate::api::NetworkMode;

impl StageState {
    pub(super) fn run(
        &mut self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(), Stop> {
        refuse_unsupported(lowering, run)?;
        let network = self.run_network(lowering, run.network.as_ref())?;
        let (args, script) = self.run_program(lowering, instruction, run)?;
        let created_by = history::run(&args, &self.scope.declared());
        let env = self.scope.environment();
        let hidden_env = self.proxies(lowering);
        let spec = ExecSpec {
            args,
            env,
            hidden_env,
            cwd: clean(&self.config.config.working_dir),
            user: self.config.config.user.clone(),
            network,
            script,
            add_hosts: lowering.parameters.add_hosts.clone(),
        };
        let shown = instruction.original.clone();
        self.step(lowering, OpSpec::Exec(spec), Vec::new(), (&shown, instruction.span), created_by);
        Ok(())
    }

    /// Proxy variables that the environment or a build-arg sets, unless the stage declares them itself.
    ///
    /// One that is set in one case is given in both, as BuildKit does: programs disagree on which they read.
    fn proxies(&self, lowering: &Lowering<'_>) -> Vec<(String, String)> {
        let names = super::scope::PROXY_NAMES.iter();
        let value = |name: &&str| {
            let from_env = || lowering.parameters.proxies.iter().find(|(key, _)| key == name);
            lowering.build_arg(name).or_else(|| from_env().map(|(_, value)| value.clone()))
        };
        let value = |name: &&str| {
            let (upper, lower) = (name.to_ascii_uppercase(), name.to_ascii_lowercase());
            let other = if **name == upper { lower } else { upper };
            value(name).or_else(|| value(&other.as_str()))
        };
        let hidden = |name: &&&str| {
            !self.scope.env.iter().any(|(key, _)| key == *name)
                && !self.scope.args.iter().any(|(key, _)| key == *name)
        };
        names.filter(hidden).filter_map(|name| Some(((*name).to_owned(), value(name)?))).collect()
    }

    fn run_network(&self, lowering: &mut Lowering<'_>, word: Option<&Word>) -> Result<NetworkMode, Stop> {
        let Some(word) = word else { return Ok(lowering.parameters.network) };
        let text = lowering.expand(word, &self.scope).ok_or(Stop::Wrong)?;
        match text.as_str() {
            "" | "default" => Ok(lowering.parameters.network),
            "none" => Ok(NetworkMode::None),
            "host" if lowering.parameters.network == NetworkMode::Host => Ok(NetworkMode::Host),
            "host" => Err(lowering.error(
                "host-network",
                word.span,
                "RUN --network=host needs the user's consent".to_owned(),
                Some("build with `--network host`".to_owned()),
            )),
            other => {
                let message = format!("invalid network mode `{other}`");
                let hint = Some("use default, none or host".to_owned());
                Err(lowering.error("bad-network", word.span, message, hint))
            }
        }
    }

    /// The program and, for a heredoc that starts with `#!`, the script that it is.
    fn run_program(
        &self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(Vec<String>, Option<Script>), Stop> {
        let line = match (&run.command, run.heredocs.as_slice()) {
            (command, []) => return Ok((self.program(command), None)),
            (CommandLine::Exec(_), _) => {
                let message = "the exec form of RUN cannot be used with a heredoc".to_owned();
                return Err(lowering.error("exec-heredoc", instruction.span, message, None));
            }
            (CommandLine::Shell(line), _) => line,
        };
        if let [heredoc] = run.heredocs.as_slice()
            && line.trim() == heredoc.token
        {
            return Ok(self.lone_heredoc(heredoc));
        }
        Ok((self.shell(with_bodies(line, &run.heredocs)), None))
    }

    fn lone_heredoc(&self, heredoc: &Heredoc) -> (Vec<String>, Option<Script>) {
        if heredoc.body.starts_with("#!") {
            let script = Script { name: heredoc.name.clone(), body: heredoc.body.clone() };
            return (self.shell(format!("{SCRIPT_FOLDER}/{}", heredoc.name)), Some(script));
        }
        (self.shell(heredoc.body.clone()), None)
    }
}

/// The line with the bodies and their terminators glued back on, for a shell that knows heredocs.
fn with_bodies(line: &str, heredocs: &[Heredoc]) -> String {
    let mut text = line.to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.raw);
        text.push_str(&heredoc.name);
    }
    text
}

fn refuse_unsupported(lowering: &mut Lowering<'_>, run: &Run) -> Result<(), Stop> {
    if let Some(mount) = run.mounts.first() {
        return Err(lowering.unsupported("RUN --mount", mount.span));
    }
    if let Some(device) = run.devices.first() {
        return Err(lowering.unsupported("RUN --device", device.span));
    }
    match &run.security {
        Some(word) if word.text != "sandbox" => {
            Err(lowering.unsupported("RUN --security=insecure", word.span))
        }
        _ => Ok(()),
    }
}
