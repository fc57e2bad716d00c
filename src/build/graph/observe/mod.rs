//! Which ARGs a RUN step can read, so that the others needn't make it run again.
//!
//! An ARG is in the environment of every program of a step, and any program may read it: a script in the
//! image, the scripts that a package manager runs. So an ARG counts unless it is *shown* that nothing of
//! the step reads it. What is shown here, from the text alone:
//!
//! 1. The step is a shell with a script, or a program without one, and the script consists of what
//!    [`shell`] understands: simple commands, lists, pipes, `if`, `while`, `for`, redirections of outputs,
//!    heredocs. Substitutions of commands, arithmetic, functions, `eval`, `.`, `env`, `export` without a value,
//!    `set` without options, `${!x}` and all that it doesn't know could read anything.
//! 2. Each command is a builtin or one of [`commands::PROGRAMS`]: programs that read no variables but
//!    those of [`names`], read the content of no file that they are told the name of, and start no other program.
//! 3. The ARG's name is nowhere in the text, and isn't one that shells, the C library or these programs know.
//! 4. The step puts nothing in the place of its own programs, and no variable makes the shell read a file first.
//!
//! What the text can't show is whether `mkdir` is mkdir: a script of that name would read anything. The op
//! looks at the rootfs for that ([`Relied`]), and counts the ARGs after all where a program isn't what it is
//! called. When in doubt, an ARG counts.

mod commands;
mod names;
mod shell;

use super::op::Relied;

/// Values longer than this count: a program could fail to start because of them.
const MAX_VALUE_BYTES: usize = 4096;

/// Takes the ARGs out of `args`, name and value, that a step with the program `program` can't read, if its
/// programs in `env`'s PATH are what they are called.
pub(super) fn unread(
    program: &[String],
    env: &[(String, String)],
    cwd: &str,
    args: &mut Vec<(String, String)>,
) -> Option<(Vec<(String, String)>, Relied)> {
    let candidate = |(name, value): &(String, String)| {
        names::is_plain(name)
            && value.len() <= MAX_VALUE_BYTES
            && !program.iter().any(|word| word.contains(name.as_str()))
    };
    let hooked = env.iter().chain(args.iter()).any(|(name, _)| names::is_hook(name));
    if !args.iter().any(candidate) || hooked || args.iter().any(|(name, _)| name == "PATH") {
        return None;
    }
    let path = &env.iter().find(|(name, _)| name == "PATH")?.1;
    let folders: Vec<String> = path.split(':').map(str::to_owned).collect();
    if cwd.starts_with("/proc") || !folders.iter().all(|folder| folder.starts_with('/')) {
        return None;
    }
    let (shell, programs) = commands::of(program, &folders)?;
    let unread: Vec<_> = args.iter().filter(|arg| candidate(arg)).cloned().collect();
    args.retain(|arg| !candidate(arg));
    Some((unread, Relied { shell, programs, folders }))
}

#[cfg(test)]
mod tests;
