//! Which commands are known to read no variable but those that everybody knows.

use std::collections::BTreeSet;

use super::names::is_identifier;
use super::names::is_plain;
use super::shell::{self, Command, Word};

/// Programs that a step may use; see the module above for what is known of them.
pub(super) const PROGRAMS: &[&str] = &[
    "basename", "cat", "chgrp", "chmod", "chown", "date", "dirname", "id", "ln", "ls", "mkdir", "mkfifo",
    "mv", "readlink", "realpath", "rm", "rmdir", "seq", "sleep", "stat", "sync", "tee", "touch", "uname",
    "whoami",
];

/// The same, and every shell has them built in.
const BUILT_IN: &[&str] = &["[", "echo", "false", "printf", "pwd", "test", "true"];

/// Builtins that change the shell itself.
const OF_THE_SHELL: &[&str] = &[":", "cd", "exit", "export", "set", "umask", "unset"];

const SHELLS: &[&str] = &["ash", "bash", "dash", "sh"];

/// Names that a step may not put anything in the place of: folders of programs and libraries.
const PLACES: &[&str] = &[
    "",
    ".",
    "..",
    "bin",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "local",
    "sbin",
    "usr",
    "ld.so.preload",
];

/// Words before a command, or alone.
const RESERVED: &[&str] = &["!", "do", "done", "elif", "else", "fi", "if", "then", "until", "while"];

/// Returns the shell and the programs that `args` runs, which are looked for in `folders`; `None` if something
/// unknown is among them.
pub(super) fn of(args: &[String], folders: &[String]) -> Option<(Option<String>, BTreeSet<String>)> {
    let (program, rest) = args.split_first()?;
    let places = PLACES.iter().copied().chain(folders.iter().flat_map(|folder| folder.split('/'))).collect();
    let mut step = Step { places, ..Step::default() };
    if let Some(script) = script(program, rest) {
        for command in shell::commands(script)? {
            step.command(&command)?;
        }
        return step.finish().map(|programs| (Some(program.clone()), programs));
    }
    let word = |text: &String| Word { text: text.clone(), literal: true, assigns: None };
    let words: Vec<Word> = rest.iter().map(word).collect();
    if !is_program(program) && !BUILT_IN.contains(&program.as_str()) {
        return None;
    }
    step.program(program, &words)?;
    // Here it is no builtin.
    step.programs.insert(program.clone());
    step.finish().map(|programs| (None, programs))
}

fn is_program(name: &str) -> bool {
    PROGRAMS.contains(&name)
}

/// The script of `sh -c script`, with options that only change how errors are met.
fn script<'a>(shell: &str, args: &'a [String]) -> Option<&'a str> {
    let (folder, name) = shell.rsplit_once('/').unwrap_or(("/bin", shell));
    if !["/bin", "/usr/bin"].contains(&folder) || !SHELLS.contains(&name) {
        return None;
    }
    let (script, options) = args.split_last()?;
    let (mut runs, mut options) = (false, options.iter());
    while let Some(option) = options.next() {
        let letters = option.strip_prefix('-').filter(|letters| !letters.is_empty())?;
        if !letters.bytes().all(|letter| b"ceuxo".contains(&letter)) {
            return None;
        }
        if letters.contains('o') && options.next()? != "pipefail" {
            return None;
        }
        runs |= letters.contains('c');
    }
    runs.then_some(script)
}

/// What was seen of a step so far.
#[derive(Default)]
struct Step<'a> {
    /// Names of the folders that lead to programs and libraries.
    places: BTreeSet<&'a str>,
    programs: BTreeSet<String>,
    /// It may write to where its programs are.
    writes_anywhere: bool,
    /// It goes to folders that the text doesn't tell.
    goes_anywhere: bool,
    /// The text has the word `proc`.
    names_proc: bool,
}

impl Step<'_> {
    fn finish(self) -> Option<BTreeSet<String>> {
        // A program that was replaced in the step could be anything. What the shell has built in can't be.
        let replaced = self.writes_anywhere && self.programs.iter().any(|name| is_program(name));
        // `mv` copies what it can't rename.
        let reads = self.programs.contains("mv") && (self.goes_anywhere || self.names_proc);
        (!replaced && !reads).then_some(self.programs)
    }

    fn command(&mut self, command: &Command) -> Option<()> {
        self.names_proc |= command.words.iter().any(|word| word.text.contains("proc"));
        for target in &command.targets {
            let is_descriptor = target.text == "-" || target.text.bytes().all(|byte| byte.is_ascii_digit());
            if !(target.literal && (is_descriptor || target.text == "/dev/null")) {
                self.writes_to(target);
            }
        }
        let mut words = command.words.as_slice();
        while let Some((first, rest)) = words.split_first()
            && first.literal
            && RESERVED.contains(&first.text.as_str())
        {
            words = rest;
        }
        while let Some((Word { assigns: Some(name), .. }, rest)) = words.split_first() {
            may_be_set(name)?;
            words = rest;
        }
        let Some((name, args)) = words.split_first() else { return Some(()) };
        if !name.literal {
            return None;
        }
        match name.text.as_str() {
            "for" => for_loop(args),
            text if OF_THE_SHELL.contains(&text) => self.of_the_shell(text, args),
            text if is_program(text) || BUILT_IN.contains(&text) => {
                self.programs.insert(text.to_owned());
                self.program(text, args)
            }
            _ => None,
        }
    }

    fn of_the_shell(&mut self, name: &str, args: &[Word]) -> Option<()> {
        match name {
            "cd" => {
                self.goes_anywhere |= args.iter().any(|word| !word.literal);
                Some(())
            }
            // Without an operand it shows the environment.
            "export" if args.is_empty() => None,
            "export" | "unset" if !args.is_empty() => args.iter().try_for_each(|word| {
                let name = match &word.assigns {
                    Some(name) if name == "unset" => None,
                    Some(name) => Some(name),
                    None if word.literal => Some(&word.text),
                    None => None,
                };
                may_be_set(name?)
            }),
            "set" => set(args),
            _ => Some(()),
        }
    }

    /// Judges the operands of a program or of a builtin that works like one.
    fn program(&mut self, name: &str, args: &[Word]) -> Option<()> {
        match name {
            "[" => {
                let (last, args) = args.split_last()?;
                (last.literal && last.text == "]").then(|| test(args))?
            }
            "test" => test(args),
            // `-v` sets a variable.
            "printf" => {
                args.first().is_none_or(|first| first.literal && !first.text.starts_with('-')).then_some(())
            }
            // A name is the content of a file.
            "cat" => args.iter().all(|word| word.literal && word.text == "-").then_some(()),
            "date" => {
                let harmless =
                    |word: &Word| word.literal && (word.text.starts_with('+') || word.text == "-u");
                args.iter().all(harmless).then_some(())
            }
            "mv" | "ln" | "tee" => {
                for word in args {
                    let is_option = word.literal && word.text.starts_with('-') && !word.text.contains('/');
                    if !is_option {
                        self.writes_to(word);
                    }
                }
                Some(())
            }
            _ => Some(()),
        }
    }

    /// Something is put at `place`, or from there somewhere else.
    fn writes_to(&mut self, place: &Word) {
        let name = place.text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let is_known = self.places.contains(name)
            || is_program(name)
            || SHELLS.contains(&name)
            || name.starts_with("busybox")
            || name == "coreutils"
            || name.contains(".so");
        self.writes_anywhere |= !place.literal || is_known;
    }
}

/// `None` for a variable that somebody reads.
fn may_be_set(name: &str) -> Option<()> {
    (is_identifier(name) && is_plain(name)).then_some(())
}

/// `for name in words`.
fn for_loop(args: &[Word]) -> Option<()> {
    let (name, rest) = args.split_first()?;
    if !name.literal || rest.first().is_some_and(|word| !word.literal || word.text != "in") {
        return None;
    }
    may_be_set(&name.text)
}

/// `set` with options that only change how errors are met; without any it shows all variables.
fn set(args: &[Word]) -> Option<()> {
    let mut args = args.iter();
    let mut some = false;
    while let Some(word) = args.next() {
        let letters = word.text.strip_prefix(['-', '+']).filter(|_| word.literal)?;
        if letters.is_empty() || !letters.bytes().all(|letter| b"euxfo".contains(&letter)) {
            return None;
        }
        if letters.contains('o') {
            let name = args.next().filter(|name| name.literal)?;
            if !["errexit", "nounset", "pipefail", "xtrace"].contains(&name.text.as_str()) {
                return None;
            }
        }
        some = true;
    }
    some.then_some(())
}

/// The operators of a `test` have to be told by the text: `-v` reads a variable by its name.
fn test(args: &[Word]) -> Option<()> {
    let unary = |word: &Word| {
        const LETTERS: &str = "bcdefghknprstuwxzLOGNS";
        let letter = word.text.strip_prefix('-').filter(|letter| letter.len() == 1);
        word.literal && (word.text == "!" || letter.is_some_and(|letter| LETTERS.contains(letter)))
    };
    let binary = |word: &Word| {
        const OPERATORS: [&str; 12] =
            ["=", "==", "!=", "-eq", "-ne", "-gt", "-ge", "-lt", "-le", "-ef", "-nt", "-ot"];
        word.literal && OPERATORS.contains(&word.text.as_str())
    };
    let known = match args {
        [] | [_] => true,
        [first, _] => unary(first),
        [_, middle, _] if binary(middle) => true,
        [not, operator, _] => not.literal && not.text == "!" && unary(operator),
        [not, _, middle, _] => not.literal && not.text == "!" && binary(middle),
        _ => false,
    };
    known.then_some(())
}
