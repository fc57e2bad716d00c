//! Colours, where the terminal and the user want them.

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    coloured: bool,
}

impl Style {
    /// Colours when `terminal` is one and the user didn't set `NO_COLOR` or `TERM=dumb`.
    pub(crate) fn new(terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty()) || term == Some("dumb");
        Self { coloured: terminal && !refused }
    }

    /// No colours.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { coloured: false }
    }

    /// Failures.
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Hints.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// Steps that are done.
    pub(crate) fn blue(self, text: &str) -> String {
        self.paint("34", text)
    }

    /// Warnings and cancelled steps.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Log lines of running steps.
    pub(crate) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
