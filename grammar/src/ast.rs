//! The typed tree of a Dockerfile.
//!
//! Every text that a user wrote keeps its [`Span`] in the source, so that a later stage can point at
//! it. Words are kept unexpanded: expansion needs the scopes of the build (see [`crate::word`]).

use crate::diagnostic::Diagnostic;
use crate::lint::Checks;

/// A half-open range of byte offsets into the source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset one past the last byte.
    pub end: usize,
}

impl Span {
    /// The place of a mistake that isn't in the file: in the command line.
    pub const NOWHERE: Span = Span { start: usize::MAX, end: usize::MAX };
}

/// A word as written: quotes, escapes and `$` still in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text with continuations joined; that of a flag and of a JSON string without its own quotes.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq)]
pub struct Dockerfile {
    /// The parser directives at the top.
    pub directives: Directives,
    /// `ARG` declarations before the first `FROM`.
    pub globals: Vec<Declaration>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
    /// Which warnings the file wants, those of later stages of a build included.
    pub checks: Checks,
    /// Mistakes that don't stop a build.
    pub warnings: Vec<Diagnostic>,
}

/// The parser directives `# key=value` at the top of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the frontend that the file asks for.
    pub syntax: Option<Word>,
    /// `# escape=`: `\` unless set.
    pub escape: char,
    /// `# check=`.
    pub check: Option<Word>,
}

/// One `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The `FROM` instruction as written, continuations joined.
    pub original: String,
    /// Where the `FROM` stands.
    pub span: Span,
    /// The image, stage or named context to start from; unexpanded.
    pub base: Word,
    /// `AS name`, lower-cased.
    pub name: Option<Word>,
    /// `--platform=`; unexpanded.
    pub platform: Option<Word>,
    /// What the comment right above it, `# name description`, says of it.
    pub description: Option<String>,
    /// The instructions after the `FROM`, in order.
    pub instructions: Vec<Instruction>,
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// The instruction as written: first line, continuations joined, no comments; heredocs not included.
    pub original: String,
    /// All its lines, heredoc bodies included.
    pub span: Span,
    /// What it says.
    pub kind: Kind,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `RUN`.
    Run(Run),
    /// `COPY`.
    Copy(Copy),
    /// `ADD`.
    Add(Add),
    /// `CMD`.
    Cmd(CommandLine),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `LABEL`.
    Label(Vec<Pair>),
    /// `ARG` inside a stage.
    Arg(Vec<Declaration>),
    /// `EXPOSE`: ports, unexpanded.
    Expose(Vec<Word>),
    /// `VOLUME`: paths, unexpanded; JSON elements already decoded.
    Volume(Vec<Word>),
    /// `WORKDIR`.
    Workdir(Word),
    /// `USER`.
    User(Word),
    /// `ONBUILD`.
    Onbuild(Onbuild),
    /// `MAINTAINER`: the rest of the line.
    Maintainer(Word),
    /// `STOPSIGNAL`.
    Stopsignal(Word),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `SHELL`: the program and its arguments, at least one.
    Shell(Vec<String>),
}

/// `KEY=value` of ENV and LABEL, both unexpanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Left of the `=`.
    pub key: Word,
    /// Right of the `=`, or the rest of the line in the legacy `ENV key value` form.
    pub value: Word,
    /// True for the legacy form without `=`: the value is not split into words, but quotes are still removed.
    pub legacy: bool,
}

/// One name of an ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The name.
    pub name: Word,
    /// The default after `=`, unexpanded.
    pub default: Option<Word>,
    /// What the comment right above it, `# NAME description`, says of it.
    pub description: Option<String>,
}

/// A command in shell or exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// The text after the instruction, handed to the stage's shell; continuations joined.
    Shell(String),
    /// The elements of the JSON array.
    Exec(Vec<String>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The command; with heredocs, the line without their bodies.
    pub command: CommandLine,
    /// Heredocs of the line, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount=`, one word each, unexpanded CSV.
    pub mounts: Vec<Word>,
    /// `--network=`.
    pub network: Option<Word>,
    /// `--security=`.
    pub security: Option<Word>,
    /// `--device=`, one word each.
    pub devices: Vec<Word>,
}

/// A heredoc: `<<EOF` and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes.
    pub name: String,
    /// The body with its line ends; leading tabs removed for `<<-`.
    pub body: String,
    /// The body as it is written, tabs and all: what a shell that reads the heredoc itself is given.
    pub raw: String,
    /// False when the delimiter was quoted.
    pub expand: bool,
    /// True for `<<-`.
    pub strip_tabs: bool,
    /// The file descriptor before `<<`, if written.
    pub fd: Option<u32>,
    /// The redirection word as written (`<<-"EOF"`).
    pub token: String,
    /// Where the body and its terminator stand.
    pub span: Span,
}

/// A source of COPY or ADD.
#[derive(Debug, Clone, PartialEq)]
pub enum CopySource {
    /// A path, wildcard, or (ADD) a URL; unexpanded.
    Path(Word),
    /// An inline file.
    Heredoc(Heredoc),
}

/// Flags that COPY and ADD share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CopyFlags {
    /// `--chown=`.
    pub chown: Option<Word>,
    /// `--chmod=`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude=`, one word each.
    pub excludes: Vec<Word>,
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// The sources, at least one.
    pub sources: Vec<CopySource>,
    /// The destination.
    pub destination: Word,
    /// `--from=`.
    pub from: Option<Word>,
    /// `--parents`.
    pub parents: bool,
    /// Flags shared with ADD.
    pub flags: CopyFlags,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq)]
pub struct Add {
    /// The sources, at least one.
    pub sources: Vec<CopySource>,
    /// The destination.
    pub destination: Word,
    /// `--checksum=`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--unpack`, if given.
    pub unpack: Option<bool>,
    /// Flags shared with COPY.
    pub flags: CopyFlags,
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq)]
pub struct Onbuild {
    /// The trigger's text as it is stored in the image's config.
    pub text: String,
    /// The trigger, parsed, so that mistakes are found where they were written; `None` when it is wrong,
    /// which doesn't keep this image from being built.
    pub trigger: Option<Box<Instruction>>,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`.
    None,
    /// `HEALTHCHECK … CMD …`. Durations in nanoseconds; 0 stands for the default.
    Command {
        /// What is run.
        command: CommandLine,
        /// `--interval`.
        interval: i64,
        /// `--timeout`.
        timeout: i64,
        /// `--start-period`.
        start_period: i64,
        /// `--start-interval`.
        start_interval: i64,
        /// `--retries`.
        retries: u32,
    },
}
