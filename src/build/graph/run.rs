//! RUN: the command line that the shell gets, heredocs included.

use kiln_grammar::ast::{CommandLine, Heredoc, Instruction, Run, Span, Word};
use kiln_grammar::mount::clean;
use kiln_grammar::run_flags::{self, Network, Security};

use super::lower::{Lowering, Stop};
use super::stage::StageState;
use super::{DeviceSpec, ExecSpec, HOSTNAME, OpSpec, SCRIPT_FOLDER, Script, budget, history, observe};
use crate::api::NetworkMode;

impl StageState {
    pub(super) fn run(
        &mut self,
        lowering: &mut Lowering<'_>,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(), Stop> {
        // The mistakes of all flags are told together.
        let network = self.run_network(lowering, run.network.as_ref());
        let insecure = self.run_security(lowering, run.security.as_ref());
        let devices = self.run_devices(lowering, &run.devices);
        let mounts = self.mounts(lowering, &run.mounts);
        let hostname = hostname(lowering, instruction.span);
        let (args, script) = self.run_program(lowering, instruction, run)?;
        let (network, insecure, devices, mounts) = (network?, insecure?, devices?, mounts?);
        let hostname = hostname?;
        lowering.charge(budget::weight(&self.scope), instruction.span)?;
        let created_by = history::run(&args, &self.scope.declared());
        let mut env = self.scope.environment();
        // The image's own variables, then the ARGs.
        let mut seen_args = env.split_off(self.scope.env.len());
        let newer = self.scope.newer_args.iter();
        let arg_names = seen_args.iter().map(|(name, _)| name).chain(newer).cloned().collect();
        let cwd = clean(&self.config.config.working_dir);
        let judged = match &script {
            // What is mounted may stand in the place of a program.
            None if mounts.specs.is_empty() && devices.is_empty() && !insecure => {
                observe::unread(&args, &env, &cwd, &mut seen_args)
            }
            _ => None,
        };
        let (unread_env, relies_on) =
            judged.map_or_else(Default::default, |(args, on)| (args, Some(Box::new(on))));
        env.append(&mut seen_args);
        if let Some(agent) = mounts.agent
            && !env.iter().any(|(name, _)| name == "SSH_AUTH_SOCK")
        {
            env.push(("SSH_AUTH_SOCK".to_owned(), agent));
        }
        let hidden_env = self.proxies(lowering);
        let spec = ExecSpec {
            args,
            env,
            hidden_env,
            unread_env,
            arg_names,
            relies_on,
            cwd,
            user: self.config.config.user.clone(),
            hostname,
            network,
            script,
            add_hosts: lowering.parameters.add_hosts.clone(),
            mounts: mounts.specs,
            insecure,
            devices,
        };
        let shown = instruction.original.clone();
        self.step(lowering, OpSpec::Exec(spec), mounts.reads, (&shown, instruction.span), created_by);
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
        let escape = lowering.tree.directives.escape;
        let network = run_flags::network(word, escape, &self.scope).map_err(|wrong| lowering.wrong(wrong))?;
        let whole = lowering.parameters.network;
        match network {
            Network::Default => Ok(whole),
            Network::None => Ok(NetworkMode::None),
            Network::Host if whole == NetworkMode::Host || lowering.parameters.allow.network_host => {
                Ok(NetworkMode::Host)
            }
            Network::Host => Err(lowering.not_allowed("network.host", "RUN --network=host", word.span)),
        }
    }

    /// Whether the step runs without a sandbox.
    fn run_security(&self, lowering: &mut Lowering<'_>, word: Option<&Word>) -> Result<bool, Stop> {
        let Some(word) = word else { return Ok(false) };
        let escape = lowering.tree.directives.escape;
        let security =
            run_flags::security(word, escape, &self.scope).map_err(|wrong| lowering.wrong(wrong))?;
        match security {
            Security::Sandbox => Ok(false),
            Security::Insecure if lowering.parameters.allow.security_insecure => Ok(true),
            Security::Insecure => {
                Err(lowering.not_allowed("security.insecure", "RUN --security=insecure", word.span))
            }
        }
    }

    fn run_devices(&self, lowering: &mut Lowering<'_>, words: &[Word]) -> Result<Vec<DeviceSpec>, Stop> {
        let escape = lowering.tree.directives.escape;
        let mut devices = Vec::with_capacity(words.len());
        for word in words {
            let device =
                run_flags::device(word, escape, &self.scope).map_err(|wrong| lowering.wrong(wrong))?;
            let allow = &lowering.parameters.allow;
            if !allow.all_devices && !allow.devices.contains(&device.name) {
                let entitlement = format!("device={}", device.name);
                return Err(lowering.not_allowed(&entitlement, "RUN --device", word.span));
            }
            devices.push(DeviceSpec { name: device.name, required: device.required });
        }
        Ok(devices)
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

/// Longest host name of Linux.
const HOSTNAME_BYTES: usize = 64;

/// The host name of RUN steps.
fn hostname(lowering: &mut Lowering<'_>, span: Span) -> Result<String, Stop> {
    let Some(name) = lowering.build_arg("BUILDKIT_SANDBOX_HOSTNAME").filter(|name| !name.is_empty()) else {
        return Ok(HOSTNAME.to_owned());
    };
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if plain && name.len() <= HOSTNAME_BYTES {
        return Ok(name);
    }
    let message = format!("invalid host name in the build-arg `BUILDKIT_SANDBOX_HOSTNAME`: `{name}`");
    let hint = Some(format!("use at most {HOSTNAME_BYTES} letters, digits, dots and dashes"));
    Err(lowering.error("bad-hostname", span, message, hint))
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

impl Lowering<'_> {
    /// Notes that a step wants what its user has to allow.
    fn not_allowed(&mut self, entitlement: &str, what: &str, span: Span) -> Stop {
        let message = format!("{what} needs the user's consent");
        self.error("not-allowed", span, message, Some(format!("build with `--allow {entitlement}`")))
    }
}
