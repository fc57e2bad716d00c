//! Rows as `--format` wants them: docker's table, `json`, `table TEMPLATE`, or a template.

use serde_json::{Map, Value};

use super::error::Error;
use super::session::print;
use super::table;
use super::template::{Labels, Template, TemplateError};

/// One thing of a list: its fields by docker's names.
pub(crate) type Row = Vec<(&'static str, Value)>;

/// The name in a [`Row`] of an object that is no field: what `.Label "key"` finds its labels in.
pub(crate) const LABEL: &str = "Label";

/// A list's columns: the field, its header, and whether the table shows it by default.
pub(crate) type Columns = &'static [(&'static str, &'static str, bool)];

/// Prints `rows`; `format` is the flag's value.
pub(crate) fn print_rows(columns: Columns, rows: Vec<Row>, format: Option<&str>) -> Result<(), Error> {
    print(&rows_text(columns, rows, format)?)
}

/// What `--format` asks for, where `raw` stands for `template`: docker's lines of one field each.
pub(crate) fn or_raw<'a>(format: Option<&'a str>, template: &'a str) -> Option<&'a str> {
    match format.map(str::trim) {
        Some("raw") => Some(template),
        _ => format,
    }
}

/// Tells whether `--quiet` is to show ids alone: a template goes before it.
pub(crate) fn is_quiet(quiet: bool, format: Option<&str>) -> bool {
    quiet && matches!(format.map(str::trim), None | Some("" | "table"))
}

/// The text of `rows`.
pub(crate) fn rows_text(columns: Columns, rows: Vec<Row>, format: Option<&str>) -> Result<String, Error> {
    let rows = rows.into_iter().map(Shown::of);
    match format.map(str::trim) {
        None | Some("" | "table") => {
            let shown: Vec<_> = columns.iter().filter(|column| column.2).collect();
            let mut cells = vec![shown.iter().map(|column| column.1.to_owned()).collect::<Vec<_>>()];
            cells.extend(rows.map(|row| shown.iter().map(|column| cell(&row.fields, column.0)).collect()));
            Ok(table::layout(&cells))
        }
        Some("json") => Ok(rows.map(|row| format!("{}\n", row.fields)).collect()),
        Some(format) => {
            match format.strip_prefix("table").filter(|rest| rest.starts_with([' ', '\t', '{'])) {
                Some(template) => as_table(columns, rows, template.trim_start()),
                None => {
                    let template = Template::parse(&unescape(format))?;
                    rows.map(|row| Ok(row.render(&template)? + "\n")).collect()
                }
            }
        }
    }
}

/// `table TEMPLATE`: the header is the template over the headers' names, columns are split at its tabs.
fn as_table(columns: Columns, rows: impl Iterator<Item = Shown>, template: &str) -> Result<String, Error> {
    let template = Template::parse(&unescape(template))?;
    let headers: Map<String, Value> =
        columns.iter().map(|column| (column.0.to_owned(), Value::from(column.1))).collect();
    let header = template.render_labelled(&Value::Object(headers), Labels::Header)?;
    let mut cells = Vec::new();
    for text in std::iter::once(Ok(header)).chain(rows.map(|row| row.render(&template))) {
        cells.push(text?.split('\t').map(str::to_owned).collect());
    }
    Ok(table::layout(&cells))
}

/// A row as a template sees it.
struct Shown {
    fields: Value,
    /// What [`LABEL`] had.
    labels: Option<Map<String, Value>>,
}

impl Shown {
    fn of(row: Row) -> Self {
        let mut fields: Map<String, Value> =
            row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let labels = match fields.remove(LABEL) {
            Some(Value::Object(labels)) => Some(labels),
            _ => None,
        };
        Self { fields: Value::Object(fields), labels }
    }

    fn render(&self, template: &Template) -> Result<String, TemplateError> {
        template.render_labelled(&self.fields, self.labels.as_ref().map_or(Labels::None, Labels::Of))
    }
}

/// `\t` and `\n` as people type them in single quotes.
fn unescape(template: &str) -> String {
    template.replace("\\t", "\t").replace("\\n", "\n")
}

fn cell(row: &Value, field: &str) -> String {
    match row.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Prints each of `values` by `format`; without one as an indented JSON array.
pub(crate) fn print_objects(values: &[Value], format: Option<&str>) -> Result<(), Error> {
    let json = |error: serde_json::Error| Error::usage(format!("cannot print as JSON: {error}"));
    let mut out = String::new();
    match format.map(str::trim) {
        None | Some("") => {
            out = indented(&Value::Array(values.to_vec())).map_err(json)?;
            out.push('\n');
        }
        Some("json") => {
            for value in values {
                out += &(serde_json::to_string(value).map_err(json)? + "\n");
            }
        }
        Some(format) => {
            let template = Template::parse(&unescape(format))?;
            for value in values {
                out += &(template.render(value)? + "\n");
            }
        }
    }
    print(&out)
}

/// JSON with docker's four blanks.
fn indented(value: &Value) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = &[("ID", "IMAGE ID", true), ("Size", "SIZE", true), ("Digest", "DIGEST", false)];

    fn text(format: Option<&str>) -> String {
        let rows = vec![
            vec![
                ("ID", Value::from("0123456789ab")),
                ("Size", Value::from("117MB")),
                ("Digest", Value::from("<none>")),
            ],
            vec![
                ("ID", Value::from("ba9876543210")),
                ("Size", Value::from("5kB")),
                ("Digest", Value::from("x")),
            ],
        ];
        match rows_text(COLUMNS, rows, format) {
            Ok(text) => text,
            Err(Error::Failure(failure)) => failure.message,
            Err(other) => format!("{other:?}"),
        }
    }

    // Docker's `ps` and the header that it makes of a label's key.
    #[test]
    fn a_label_is_shown_by_its_key() {
        let labels = serde_json::json!({ "com.example.some-key": "yes" });
        let text = |format| {
            let row = |labels: &Value| vec![("ID", Value::from("1")), (LABEL, labels.clone())];
            let rows = vec![row(&labels), row(&serde_json::json!({}))];
            rows_text(&[("ID", "ID", true)], rows, Some(format)).unwrap_or_default()
        };
        assert_eq!(text("{{.ID}} {{.Label \"com.example.some-key\"}}"), "1 yes\n1 \n");
        assert_eq!(text("{{upper (.Label \"com.example.some-key\")}}"), "YES\n\n");
        let table = "table {{.ID}}\t{{.Label \"com.example.some-key\"}}";
        assert_eq!(text(table), "ID        some key\n1         yes\n1         \n");
        assert_eq!(text("json"), "{\"ID\":\"1\"}\n{\"ID\":\"1\"}\n");
    }

    #[test]
    fn rows_come_in_every_format() {
        for (format, expected) in [
            (None, "IMAGE ID       SIZE\n0123456789ab   117MB\nba9876543210   5kB\n"),
            (Some("table"), "IMAGE ID       SIZE\n0123456789ab   117MB\nba9876543210   5kB\n"),
            (Some("{{.ID}}"), "0123456789ab\nba9876543210\n"),
            (Some("{{.ID}}\\t{{.Size}}"), "0123456789ab\t117MB\nba9876543210\t5kB\n"),
            (
                Some("table {{.Digest}}\\t{{upper .ID}}"),
                "DIGEST    IMAGE ID\n<none>    0123456789AB\nx         BA9876543210\n",
            ),
            (
                Some("json"),
                "{\"Digest\":\"<none>\",\"ID\":\"0123456789ab\",\"Size\":\"117MB\"}\n{\"Digest\":\"x\",\"ID\":\"ba9876543210\",\"Size\":\"5kB\"}\n",
            ),
            (
                Some("{{json .}}"),
                "{\"Digest\":\"<none>\",\"ID\":\"0123456789ab\",\"Size\":\"117MB\"}\n{\"Digest\":\"x\",\"ID\":\"ba9876543210\",\"Size\":\"5kB\"}\n",
            ),
            (Some("{{.Id}}"), "bad --format template: no field `Id`; did you mean `.ID`?"),
        ] {
            assert_eq!(text(format), expected, "{format:?}");
        }
    }
}
