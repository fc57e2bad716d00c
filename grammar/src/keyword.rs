//! The instructions' names.

/// An instruction's keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
}

impl Keyword {
    /// All of them, the most used first so that ties of "did you mean" go to them.
    pub(crate) const ALL: [Keyword; 18] = [
        Keyword::Run,
        Keyword::From,
        Keyword::Copy,
        Keyword::Env,
        Keyword::Arg,
        Keyword::Workdir,
        Keyword::Cmd,
        Keyword::Entrypoint,
        Keyword::Add,
        Keyword::Label,
        Keyword::Expose,
        Keyword::User,
        Keyword::Volume,
        Keyword::Shell,
        Keyword::Healthcheck,
        Keyword::Onbuild,
        Keyword::Stopsignal,
        Keyword::Maintainer,
    ];

    /// The keyword that `word` spells in any case.
    pub(crate) fn of(word: &str) -> Option<Keyword> {
        Keyword::ALL.into_iter().find(|keyword| keyword.name().eq_ignore_ascii_case(word))
    }

    /// The name in upper case.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Keyword::Add => "ADD",
            Keyword::Arg => "ARG",
            Keyword::Cmd => "CMD",
            Keyword::Copy => "COPY",
            Keyword::Entrypoint => "ENTRYPOINT",
            Keyword::Env => "ENV",
            Keyword::Expose => "EXPOSE",
            Keyword::From => "FROM",
            Keyword::Healthcheck => "HEALTHCHECK",
            Keyword::Label => "LABEL",
            Keyword::Maintainer => "MAINTAINER",
            Keyword::Onbuild => "ONBUILD",
            Keyword::Run => "RUN",
            Keyword::Shell => "SHELL",
            Keyword::Stopsignal => "STOPSIGNAL",
            Keyword::User => "USER",
            Keyword::Volume => "VOLUME",
            Keyword::Workdir => "WORKDIR",
        }
    }
}
