//! The templates of `--format`: a small part of Go's text/template, as docker's users know it.
//!
//! Values are JSON. A template is parsed once (`Template::parse`) and rendered for each row
//! (`Template::render`). What it has: fields, variables, literals, pipes, parentheses, `if`, `range`, `with`,
//! `break`, `continue`, comments, `{{- -}}`, the functions of [`functions`], and the one method of docker's rows,
//! `.Label "key"`. What it hasn't: `define`, `template` and `block`, which no one-line format needs.

mod eval;
mod functions;
mod lex;
mod parse;

use serde_json::{Map, Value};

/// A mistake in a template, or a value that doesn't fit it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad --format template: {0}")]
pub(crate) struct TemplateError(pub(crate) String);

/// A parsed template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

impl Template {
    /// Reads `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text).map(|nodes| Self { nodes })
    }

    /// Returns the text that `value` gives, as `{{.}}`.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        self.render_labelled(value, Labels::None)
    }

    /// The same for a row, whose labels `.Label "key"` shows.
    pub(crate) fn render_labelled(&self, value: &Value, labels: Labels<'_>) -> Result<String, TemplateError> {
        eval::render(&self.nodes, value, labels)
    }
}

/// What `.Label "key"` shows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Labels<'a> {
    /// Nothing: what is shown has no labels.
    None,
    /// The label's value.
    Of(&'a Map<String, Value>),
    /// The column's header, made of the label's key.
    Header,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// Text outside of braces.
    Text(String),
    /// `{{pipe}}`: its value is written.
    Print(Pipe),
    /// `{{$name := pipe}}` and `{{$name = pipe}}`.
    Set { name: String, declare: bool, pipe: Pipe },
    /// `{{if pipe}} … {{else}} … {{end}}`.
    If { pipe: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    /// `{{range $key, $value := pipe}} … {{else}} … {{end}}`.
    Range { variables: Vec<String>, pipe: Pipe, body: Vec<Node>, otherwise: Vec<Node> },
    /// `{{with $name := pipe}} … {{else}} … {{end}}`.
    With { variable: Option<String>, pipe: Pipe, body: Vec<Node>, otherwise: Vec<Node> },
    /// `{{break}}`.
    Break,
    /// `{{continue}}`.
    Continue,
}

/// Commands joined by `|`: each one's value is the last argument of the next.
#[derive(Debug, Clone, PartialEq)]
struct Pipe(Vec<Vec<Term>>);

/// One word of a command.
#[derive(Debug, Clone, PartialEq)]
enum Term {
    /// A function's name.
    Function(String),
    /// A literal.
    Literal(Value),
    /// `.a.b`, `$x.a`, `(pipe).a`: a start and the fields below it.
    Path(Start, Vec<String>),
}

/// Where a path starts.
#[derive(Debug, Clone, PartialEq)]
enum Start {
    /// `.`
    Dot,
    /// `$name`; `$` alone is the whole value, under the empty name.
    Variable(String),
    /// `(pipe)`
    Pipe(Pipe),
}

#[cfg(test)]
mod tests;
