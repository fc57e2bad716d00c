//! Nodes and a value to text.

use serde_json::{Map, Value};

use super::functions::{call, show, truth};
use super::{Labels, Node, Pipe, Start, TemplateError, Term};
use crate::cli::suggest;

/// Objects that have the keys of a user: any other one is no mistake and has no value.
const OPEN: &[&str] = &["Annotations", "Attributes", "DriverOpts", "Labels", "Options", "Sysctls", "Tmpfs"];
/// Lists that Go prints as such when there are none; JSON has null for them.
const LISTS: &[&str] = &[
    "Aliases",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Entrypoint",
    "ExecIDs",
    "GroupAdd",
    "Links",
    "OnBuild",
    "SecurityOpt",
    "Shell",
    "VolumesFrom",
];
/// The same of maps.
const MAPS: &[&str] = &["DriverOpts", "ExposedPorts", "Labels", "Options", "PortBindings", "Volumes"];

/// What docker's objects leave out of their JSON when there is none, and what Go prints then: a key that such an object
/// always has, and the fields. `{{if .State.Health}}` is no mistake.
const LEFT_OUT: &[(&str, &[(&str, &str)])] = &[
    ("OOMKilled", &[("Health", "<nil>")]),
    (
        "WorkingDir",
        &[
            ("ArgsEscaped", "false"),
            ("ExposedPorts", "map[]"),
            ("Healthcheck", "<nil>"),
            ("MacAddress", ""),
            ("NetworkDisabled", "false"),
            ("OnBuild", "[]"),
            ("Shell", "[]"),
            ("StopSignal", ""),
            ("StopTimeout", "<nil>"),
            ("Volumes", "map[]"),
        ],
    ),
    (
        "NetworkMode",
        &[
            ("Annotations", "map[]"),
            ("Init", "<nil>"),
            ("Mounts", "[]"),
            ("StorageOpt", "map[]"),
            ("Sysctls", "map[]"),
            ("Tmpfs", "map[]"),
        ],
    ),
    ("HostConfig", &[("SizeRootFs", "<nil>"), ("SizeRw", "<nil>")]),
];

/// Renders `nodes` with `value` as the dot.
pub(super) fn render(nodes: &[Node], value: &Value, labels: Labels<'_>) -> Result<String, TemplateError> {
    let mut scope = Scope { variables: vec![(String::new(), value.clone())], out: String::new(), labels };
    scope.nodes(nodes, value)?;
    Ok(scope.out)
}

/// How a run of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Scope<'a> {
    /// Innermost last; the empty name is `$`.
    variables: Vec<(String, Value)>,
    out: String,
    labels: Labels<'a>,
}

impl Scope<'_> {
    /// Renders `nodes`; variables that they declare end with them.
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        let outer = self.variables.len();
        let mut flow = Flow::Next;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::Next {
                break;
            }
        }
        self.variables.truncate(outer);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                self.out.push_str(&nothing(pipe, &value).map_or_else(|| show(&value), str::to_owned));
            }
            Node::Set { name, declare: true, pipe } => {
                let value = self.pipe(pipe, dot)?;
                self.variables.push((name.clone(), value));
            }
            Node::Set { name, declare: false, pipe } => {
                let value = self.pipe(pipe, dot)?;
                let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                known.ok_or_else(|| undefined(name))?.1 = value;
            }
            Node::If { pipe, then, otherwise } => {
                let value = self.pipe(pipe, dot)?;
                return self.nodes(if truth(&value) { then } else { otherwise }, dot);
            }
            Node::With { variable, pipe, body, otherwise } => {
                let value = self.pipe(pipe, dot)?;
                if !truth(&value) {
                    return self.nodes(otherwise, dot);
                }
                return self.inside(variable.iter().map(|name| (name.clone(), value.clone())), body, &value);
            }
            Node::Range { variables, pipe, body, otherwise } => {
                let value = self.pipe(pipe, dot)?;
                return self.range(variables, &value, body, otherwise, dot);
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn inside(
        &mut self,
        variables: impl Iterator<Item = (String, Value)>,
        body: &[Node],
        dot: &Value,
    ) -> Result<Flow, TemplateError> {
        let outer = self.variables.len();
        self.variables.extend(variables);
        let flow = self.nodes(body, dot);
        self.variables.truncate(outer);
        flow
    }

    fn range(
        &mut self,
        variables: &[String],
        value: &Value,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, TemplateError> {
        let items: Vec<(Value, Value)> = match value {
            Value::Array(items) => {
                items.iter().enumerate().map(|(at, item)| (Value::from(at), item.clone())).collect()
            }
            Value::Object(fields) => {
                fields.iter().map(|(key, item)| (Value::from(key.clone()), item.clone())).collect()
            }
            Value::Null => Vec::new(),
            other => return Err(TemplateError(format!("`range` can't go through `{}`", show(other)))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            let bound: Vec<(String, Value)> = match variables {
                [one] => vec![(one.clone(), item.clone())],
                [first, second] => vec![(first.clone(), key), (second.clone(), item.clone())],
                _ => Vec::new(),
            };
            if self.inside(bound.into_iter(), body, &item)? == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// The value of a pipe.
    fn pipe(&self, pipe: &Pipe, dot: &Value) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipe.0 {
            last = Some(self.command(command, last, dot)?);
        }
        last.ok_or_else(|| TemplateError("empty pipe".into()))
    }

    fn command(&self, command: &[Term], last: Option<Value>, dot: &Value) -> Result<Value, TemplateError> {
        let Term::Function(name) = &command[0] else {
            return match &command[1..] {
                [] => self.term(&command[0], dot),
                arguments => self.label(arguments, last, dot),
            };
        };
        let mut arguments = Vec::with_capacity(command.len());
        for term in &command[1..] {
            arguments.push(self.term(term, dot)?);
            // Go stops at the first argument that decides.
            if deciding(name, &arguments) {
                return Ok(arguments.pop().unwrap_or(Value::Null));
            }
        }
        arguments.extend(last);
        call(name, &arguments)
    }

    /// `.Label "key"`: the one method that there is.
    fn label(&self, arguments: &[Term], last: Option<Value>, dot: &Value) -> Result<Value, TemplateError> {
        let [key] = arguments else {
            return Err(TemplateError("`.Label` takes one key".into()));
        };
        if last.is_some() {
            return Err(TemplateError("`.Label` takes one key".into()));
        }
        let key = show(&self.term(key, dot)?);
        match self.labels {
            Labels::None => Err(TemplateError("no field `Label`".into())),
            Labels::Of(labels) => Ok(labels.get(&key).cloned().unwrap_or_else(|| "".into())),
            // As docker makes it: of `com.example.some-key` remains `some key`.
            Labels::Header => Ok(key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ").into()),
        }
    }

    fn term(&self, term: &Term, dot: &Value) -> Result<Value, TemplateError> {
        match term {
            Term::Literal(value) => Ok(value.clone()),
            Term::Function(name) => call(name, &[]),
            Term::Path(start, fields) => {
                let start = match start {
                    Start::Dot => dot.clone(),
                    Start::Variable(name) => self.variable(name)?,
                    Start::Pipe(pipe) => self.pipe(pipe, dot)?,
                };
                below(&start, fields)
            }
        }
    }

    fn variable(&self, name: &str) -> Result<Value, TemplateError> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| undefined(name))
    }
}

fn undefined(name: &str) -> TemplateError {
    TemplateError(format!("undefined variable `${name}`"))
}

/// Tells whether the last argument settles an `and` or an `or`.
fn deciding(name: &str, arguments: &[Value]) -> bool {
    let Some(last) = arguments.last() else { return false };
    match name {
        "and" => !truth(last),
        "or" => truth(last),
        _ => false,
    }
}

/// Follows `fields` down from `value`.
fn below(value: &Value, fields: &[String]) -> Result<Value, TemplateError> {
    let mut at = value;
    for (depth, field) in fields.iter().enumerate() {
        at = match at {
            Value::Object(known) => match known.get(field) {
                Some(value) => value,
                None if depth > 0 && OPEN.contains(&fields[depth - 1].as_str()) => return Ok(Value::Null),
                None if left_out(field, known).is_some() => return Ok(Value::Null),
                None => return Err(no_field(field, known)),
            },
            // As Go: a field of nothing is nothing.
            Value::Null => return Ok(Value::Null),
            other => {
                let message = format!("can't take field `{field}` of `{}`", show(other));
                return Err(TemplateError(message));
            }
        };
    }
    Ok(at.clone())
}

/// What `field` prints where an object with these fields may leave it out.
fn left_out(field: &str, known: &Map<String, Value>) -> Option<&'static str> {
    let of = |(key, fields): &&(&str, &'static [(&str, &'static str)])| {
        known.contains_key(*key).then(|| fields.iter().find(|(name, _)| *name == field))?
    };
    LEFT_OUT.iter().find_map(|entry| of(&entry)).map(|(_, text)| *text)
}

/// What a list or map prints that isn't there.
fn nothing(pipe: &Pipe, value: &Value) -> Option<&'static str> {
    let [command] = pipe.0.as_slice() else { return None };
    let [Term::Path(_, fields)] = command.as_slice() else { return None };
    let field = fields.last().filter(|_| value.is_null())?.as_str();
    let missing = LEFT_OUT.iter().flat_map(|(_, fields)| *fields).find(|(name, _)| *name == field);
    match missing {
        Some((_, text)) => Some(text),
        None if LISTS.contains(&field) => Some("[]"),
        None => MAPS.contains(&field).then_some("map[]"),
    }
}

fn no_field(field: &str, known: &Map<String, Value>) -> TemplateError {
    let mut message = format!("no field `{field}`");
    match suggest::closest(field, known.keys().map(String::as_str)) {
        Some(close) => message += &format!("; did you mean `.{close}`?"),
        None => {
            let names: Vec<&str> = known.keys().map(String::as_str).take(30).collect();
            message += &format!("; there are: {}", names.join(", "));
        }
    }
    TemplateError(message)
}
