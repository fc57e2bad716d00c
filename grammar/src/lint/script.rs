//! Shell scripts in heredocs: whether commands go on after one that failed.
//!
//! A rough reading of the script's lines, not a shell parser: it errs on the side of silence.

/// Tells whether `body` has several commands and none of them is `set -e`.
///
/// A compound command (`if … fi`), a chain of `&&` and what stands in another heredoc count as a part
/// of one command; comments, settings and plain assignments as none.
pub fn ignores_failures(body: &str) -> bool {
    let mut reader = Reader::default();
    for line in body.lines() {
        if reader.line(line) == Line::StopsAtErrors {
            return false;
        }
    }
    reader.commands > 1
}

#[derive(PartialEq, Eq)]
enum Line {
    StopsAtErrors,
    Other,
}

#[derive(Default)]
struct Reader<'a> {
    commands: usize,
    /// Open compound commands.
    depth: usize,
    /// True when the last line goes on in the next one.
    continues: bool,
    /// The ends of heredocs that are open.
    heredocs: std::collections::VecDeque<&'a str>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) -> Line {
        if let Some(end) = self.heredocs.front() {
            if line.trim_start_matches('\t') == *end {
                self.heredocs.pop_front();
            }
            return Line::Other;
        }
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            return Line::Other;
        }
        if self.depth == 0 && !self.continues {
            if sets_errexit(text) {
                return Line::StopsAtErrors;
            }
            self.commands += usize::from(!is_setting(text));
        }
        self.nest(text);
        self.heredocs.extend(openings(text));
        self.continues = ["\\", "&&", "||", "|"].iter().any(|end| text.ends_with(end));
        Line::Other
    }

    /// Counts the compound commands that begin and end in a line.
    fn nest(&mut self, text: &str) {
        for word in text.split([' ', '\t', ';', '&', '|']).filter(|word| !word.is_empty()) {
            match word {
                "if" | "case" | "for" | "while" | "until" | "select" | "{" | "(" => self.depth += 1,
                "fi" | "esac" | "done" | "}" | ")" => self.depth = self.depth.saturating_sub(1),
                word if word.ends_with("(){") => self.depth += 1,
                _ => {}
            }
        }
    }
}

fn sets_errexit(text: &str) -> bool {
    let mut words = text.split([' ', '\t', ';', '&']).filter(|word| !word.is_empty());
    words.next() == Some("set")
        && words.any(|word| {
            word == "errexit" || (word.starts_with('-') && !word.starts_with("--") && word.contains('e'))
        })
}

/// A line that can hardly fail: a setting of the shell, an assignment of a plain value.
fn is_setting(text: &str) -> bool {
    let simple = !text.contains(['`', ';', '&', '|']) && !text.contains("$(");
    let word = text.split([' ', '\t']).next().unwrap_or("");
    let name = word.split('=').next().unwrap_or("");
    let assigns = word.contains('=') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    simple && (matches!(word, "set" | "shopt" | "export" | "readonly" | "umask" | "unset" | ":") || assigns)
}

/// The names of the heredocs that a line of a script opens.
fn openings(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("<<") {
        let after = &rest[at + 2..];
        if after.starts_with('<') {
            rest = after.trim_start_matches('<');
            continue;
        }
        let word = after.trim_start_matches('-').trim_start();
        let word = word.trim_start_matches(['\'', '"', '\\']);
        let end = word.find(|c: char| !c.is_alphanumeric() && !"_-.".contains(c)).unwrap_or(word.len());
        if end > 0 && !word.starts_with(|c: char| c.is_ascii_digit()) {
            names.push(&word[..end]);
        }
        rest = after;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::ignores_failures;

    #[test]
    fn scripts_that_go_on_after_a_failure() {
        for body in [
            "apt-get update\napt-get install -y x\n",
            "# first\nfalse\n\necho done\n",
            "set -x\nmake\nmake install\n",
            "if a; then\n  b\nfi\nc\n",
            "make &&\n  make install\necho x\n",
            "cat <<E > /f\none\ntwo\nE\nmake\n",
            "X=$(false)\nmake\n",
            "f() {\n  a\n  b\n}\nf\n",
            "echo $((1 << 2))\nmake\n",
            "cat <<<x\nmake\n",
        ] {
            assert!(ignores_failures(body), "{body}");
        }
    }

    #[test]
    fn scripts_that_stop_or_have_one_command() {
        for body in [
            "",
            "make\n",
            "set -e\na\nb\n",
            "set -euxo pipefail\na\nb\n",
            "set -x -o errexit\na\nb\n",
            "#!ignored\nset -eu; a\nb\n",
            "export A=1\nB=2\numask 022\nmake\n",
            "a &&\n  b &&\n  c\n",
            "a \\\n  b\n",
            "for x in a b; do\n  a\n  b\ndone\n",
            "case $1 in\n  a) x ;;\nesac\n",
            "cat <<'E' > /f\none\ntwo\nE\n",
            "cat <<-E\n\tone\n\tE\n",
        ] {
            assert!(!ignores_failures(body), "{body}");
        }
    }
}
