//! The fields of `--mount=`: which keys there are, and what is wrong with one.

use super::{Sharing, size};
use crate::ast::{Span, Word};
use crate::csv;
use crate::diagnostic::{Diagnostic, quote};
use crate::suggest::closest;
use crate::word::{self, Lookup};

/// `type=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Type {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

impl Type {
    const ALL: [Type; 5] = [Type::Bind, Type::Cache, Type::Tmpfs, Type::Secret, Type::Ssh];

    pub(super) fn name(self) -> &'static str {
        match self {
            Type::Bind => "bind",
            Type::Cache => "cache",
            Type::Tmpfs => "tmpfs",
            Type::Secret => "secret",
            Type::Ssh => "ssh",
        }
    }

    /// Whether mounts of this type may have `key`. What BuildKit ignores is allowed.
    fn allows(self, key: &str) -> bool {
        match key {
            "required" => matches!(self, Type::Secret | Type::Ssh),
            "size" => self == Type::Tmpfs,
            "sharing" => self == Type::Cache,
            "mode" | "uid" | "gid" => matches!(self, Type::Cache | Type::Secret | Type::Ssh),
            _ => true,
        }
    }
}

/// A mount with more mistakes is not looked at further.
const MAX_MISTAKES: usize = 100;

/// All keys and their other names, the most used first for "did you mean".
const KEYS: [&str; 19] = [
    "type",
    "target",
    "source",
    "from",
    "id",
    "sharing",
    "required",
    "env",
    "mode",
    "uid",
    "gid",
    "size",
    "ro",
    "rw",
    "dst",
    "src",
    "destination",
    "readonly",
    "readwrite",
];

/// The fields as they are read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) kind: Type,
    /// True when a value is left open: it has variables, and none are known.
    pub(super) open: bool,
    /// True when the type is.
    any_type: bool,
    pub(super) target: Option<String>,
    pub(super) source: Option<String>,
    pub(super) from: Option<String>,
    pub(super) id: Option<String>,
    pub(super) env: Option<String>,
    pub(super) sharing: Option<Sharing>,
    pub(super) readonly: Option<bool>,
    pub(super) required: bool,
    pub(super) size: Option<u64>,
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

impl Draft {
    /// Reads all fields. Without `vars`, values with a `$` are left open.
    pub(super) fn read(word: &Word, escape: char, vars: Option<&dyn Lookup>) -> (Draft, Vec<Diagnostic>) {
        let mut draft = Draft::default();
        let mut mistakes = Vec::new();
        let fields = match csv::fields(&word.text) {
            Ok(fields) => fields,
            Err(misquoted) => {
                let span = place(word, misquoted.at, word.text.len());
                return (draft, vec![Diagnostic::error("mount", span, misquoted.why)]);
            }
        };
        let mut given = Vec::with_capacity(fields.len());
        for field in &fields {
            if mistakes.len() > MAX_MISTAKES {
                break;
            }
            let field = Field::new(word, field);
            match draft.field(&field, escape, vars) {
                Ok(key) => given.push((key, field.span)),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        mistakes.extend(draft.misplaced(&given));
        (draft, mistakes)
    }

    /// Takes one field and gives back the name of its key.
    fn field(
        &mut self,
        field: &Field<'_>,
        escape: char,
        vars: Option<&dyn Lookup>,
    ) -> Result<&'static str, Diagnostic> {
        let key = field.known_key()?;
        let Some(written) = field.value else {
            match key {
                "readonly" => self.readonly = Some(true),
                "readwrite" => self.readonly = Some(false),
                "required" => self.required = true,
                _ => return Err(field.not_a_pair()),
            }
            return Ok(key);
        };
        let nothing = |_: &str| None;
        let constant = !written.contains('$');
        if let (None, false) = (vars, constant) {
            word::check(written, escape).map_err(|error| field.wrong("bad-word", error.message))?;
            self.open = true;
            self.any_type |= key == "type";
            return Ok(key);
        }
        let value = word::expand(written, escape, vars.unwrap_or(&nothing))
            .map_err(|error| field.wrong("bad-substitution", error.message))?;
        self.set(key, value, field)?;
        Ok(key)
    }

    fn set(&mut self, key: &'static str, value: String, field: &Field<'_>) -> Result<(), Diagnostic> {
        match key {
            "type" => self.kind = field.kind(&value)?,
            "target" => self.target = Some(value),
            "source" => self.source = Some(value),
            "from" => self.from = Some(value),
            "id" => self.id = Some(value),
            "env" => self.env = Some(value),
            "sharing" => self.sharing = Some(field.sharing(&value)?),
            "readonly" => self.readonly = Some(field.switch(&value)?),
            "readwrite" => self.readonly = Some(!field.switch(&value)?),
            "required" => self.required = field.switch(&value)?,
            "size" => self.size = Some(field.size(&value)?),
            "mode" => self.mode = Some(field.number(key, &value, 8)?),
            "uid" => self.uid = Some(field.number(key, &value, 10)?),
            _ => self.gid = Some(field.number(key, &value, 10)?),
        }
        Ok(())
    }

    /// The keys that the mount's type doesn't have.
    ///
    /// As in BuildKit, `required` and `size` stand after the `type=` that has them.
    fn misplaced(&self, given: &[(&'static str, Span)]) -> Vec<Diagnostic> {
        if self.any_type {
            return Vec::new();
        }
        let typed = given.iter().position(|(key, _)| *key == "type");
        let kind_at = |index: usize, key: &str| match typed {
            Some(at) if at > index && matches!(key, "required" | "size") => Type::Bind,
            _ => self.kind,
        };
        let misplaced = given.iter().enumerate().filter_map(|(index, (key, span))| {
            let kind = kind_at(index, key);
            if kind.allows(key) {
                return None;
            }
            let message = match *key {
                "mode" | "uid" | "gid" => format!("{key} not allowed for `{}` type mounts", kind.name()),
                "sharing" if kind == Type::Secret => "secret mount should not define sharing".to_owned(),
                "sharing" => format!("invalid cache sharing set for {} mount", kind.name()),
                _ => format!("unexpected key {} for mount type `{}`", quote(key), kind.name()),
            };
            let owners = Type::ALL.into_iter().filter(|owner| owner.allows(key)).map(Type::name);
            let owners = owners.collect::<Vec<_>>().join(" or ");
            let hint = match typed {
                Some(_) if kind != self.kind => format!("write `type={}` before `{key}`", self.kind.name()),
                Some(_) => format!("`{key}` is for mounts with `type=` {owners}"),
                None => format!("a mount without `type=` is a bind mount: `{key}` is for `type=` {owners}"),
            };
            Some(Diagnostic::error("mount", *span, message).hint(hint))
        });
        misplaced.collect()
    }
}

/// One field of the word.
struct Field<'a> {
    text: &'a str,
    key: &'a str,
    value: Option<&'a str>,
    span: Span,
}

impl<'a> Field<'a> {
    fn new(word: &Word, field: &'a csv::Field<'_>) -> Field<'a> {
        let (key, value) = match field.text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.text.as_ref(), None),
        };
        Field { text: &field.text, key, value, span: place(word, field.start, field.end) }
    }

    fn wrong(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, self.span, message)
    }

    fn not_a_pair(&self) -> Diagnostic {
        let message = format!("invalid field {} must be a key=value pair", quote(self.text));
        let known = KEYS.contains(&self.key.to_ascii_lowercase().as_str());
        let hint = known.then(|| format!("write `{}=<value>`", self.key));
        self.wrong("mount", message).maybe_hint(hint)
    }

    /// The key by its first name, in any case.
    fn known_key(&self) -> Result<&'static str, Diagnostic> {
        let lower = self.key.to_ascii_lowercase();
        if let Some(key) = KEYS.into_iter().find(|key| *key == lower) {
            return Ok(match key {
                "dst" | "destination" => "target",
                "src" => "source",
                "ro" => "readonly",
                "rw" => "readwrite",
                key => key,
            });
        }
        let near = closest(&lower, KEYS).map(|near| format!("did you mean {near}?"));
        if self.value.is_none() {
            return Err(self.not_a_pair().maybe_hint(near));
        }
        let message = format!("unexpected key {} in {}", quote(self.key), quote(self.text));
        Err(self.wrong("mount", message).hint(near.unwrap_or_else(|| format!("the keys are {}", listed()))))
    }

    fn kind(&self, value: &str) -> Result<Type, Diagnostic> {
        let lower = value.to_ascii_lowercase();
        Type::ALL.into_iter().find(|kind| kind.name() == lower).ok_or_else(|| {
            let names = Type::ALL.map(Type::name);
            let message = format!("unsupported mount type {}", quote(value));
            self.wrong("mount", message).hint(one_of(&lower, &names))
        })
    }

    fn sharing(&self, value: &str) -> Result<Sharing, Diagnostic> {
        match value.to_ascii_lowercase().as_str() {
            "shared" => Ok(Sharing::Shared),
            "private" => Ok(Sharing::Private),
            "locked" => Ok(Sharing::Locked),
            other => {
                let message = format!("unsupported sharing value {}", quote(value));
                Err(self.wrong("mount", message).hint(one_of(other, &["shared", "private", "locked"])))
            }
        }
    }

    fn switch(&self, value: &str) -> Result<bool, Diagnostic> {
        boolean(value).ok_or_else(|| {
            let message = format!("invalid value for {}: {}", self.key, quote(value));
            self.wrong("mount", message).hint("write true or false")
        })
    }

    fn size(&self, value: &str) -> Result<u64, Diagnostic> {
        size::parse(value).ok_or_else(|| {
            let message = format!("invalid value for {}: {}", self.key, quote(value));
            self.wrong("mount", message).hint("write a number with a unit: 64m, 1g")
        })
    }

    fn number(&self, key: &str, value: &str, radix: u32) -> Result<u32, Diagnostic> {
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = u32::from_str_radix(value, radix).ok().filter(|_| digits);
        number.ok_or_else(|| {
            let hint = match key {
                "mode" => "write an octal number: 0755",
                _ => "write a number: names of users aren't known here",
            };
            self.wrong("mount", format!("invalid value {} for {key}", quote(value))).hint(hint)
        })
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// The neighbour of a mistyped name, or all names.
pub(crate) fn one_of(name: &str, names: &[&str]) -> String {
    match closest(name, names.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("write one of {}", names.join(", ")),
    }
}

/// The keys by their first names.
fn listed() -> String {
    let second = ["dst", "src", "destination", "readonly", "readwrite"];
    let names = KEYS.into_iter().filter(|key| !second.contains(key));
    names.collect::<Vec<_>>().join(", ")
}

/// The place of a part of a word, or the whole word's when its text isn't what stands there.
fn place(word: &Word, start: usize, end: usize) -> Span {
    if word.span.end - word.span.start != word.text.len() {
        return word.span;
    }
    Span { start: word.span.start + start, end: word.span.start + end }
}
