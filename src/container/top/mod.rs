//! The processes of a container, as the `ps` of its host shows them; no such program is called.

mod columns;
mod process;

use self::columns::{Column, Machine, column};
use self::process::Process;
use super::Containers;
use super::error::{Error, Result};
use super::record::Record;
use crate::api::ProcessTable;
use crate::runtime::Cgroup;

/// `ps -ef`, docker's default.
const FULL: &str = "user=UID,pid,ppid,c,stime,tty,time,cmd";
/// `ps -e`
const SHORT: &str = "pid,tty,time,comm=CMD";
/// `ps aux`
const USER: &str = "user,pid,pcpu,pmem,vsz,rss,tty,stat,start,bsdtime,command";
/// `ps ax`
const BSD: &str = "pid,tty,stat,bsdtime,command";

impl Containers {
    /// Lists the processes of a running container; `options` are those of `ps`, `-ef` when there are none.
    pub fn top(&self, record: &Record, options: &[String]) -> Result<ProcessTable> {
        let columns = columns_of(options)?;
        let not_running = || Error::NotRunning { name: record.name.clone() };
        let target = record.state.process.as_ref().ok_or_else(not_running)?;
        let machine = Machine::read();
        let mut pids = Cgroup::open(&target.cgroup).pids();
        pids.sort_unstable();
        let row =
            |process: Process| columns.iter().map(|(_, column)| (column.text)(&process, &machine)).collect();
        Ok(ProcessTable {
            titles: columns.iter().map(|(header, _)| header.clone()).collect(),
            rows: pids.into_iter().filter_map(Process::read).map(row).collect(),
        })
    }
}

type Columns = Vec<(String, &'static Column)>;

/// Reads options of `ps` that choose columns; those that choose processes mean nothing here.
fn columns_of(options: &[String]) -> Result<Columns> {
    let mut words: Vec<String> =
        options.iter().flat_map(|word| word.split_whitespace()).map(str::to_owned).collect();
    words.reverse();
    let (mut format, mut own) = ("", Vec::new());
    if words.is_empty() {
        format = FULL;
    }
    while let Some(word) = words.pop() {
        if let Some(list) = word.strip_prefix("--format=") {
            own.push(list.to_owned());
            continue;
        }
        let (dashed, letters) = match word.strip_prefix('-') {
            Some("-format") => (true, "o"),
            Some(letters) => (true, letters),
            None => (false, word.as_str()),
        };
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            match (letter, dashed) {
                ('o', _) => {
                    let rest = letters.as_str().trim_start_matches('=').to_owned();
                    letters = "".chars();
                    let list = Some(rest).filter(|rest| !rest.is_empty()).or_else(|| words.pop());
                    own.push(list.ok_or_else(|| bad(&word, "it needs a list of columns"))?);
                }
                ('f', true) => format = FULL,
                // `ps -aux` is `ps aux` to everybody.
                ('u', _) => format = USER,
                ('e' | 'A', true) if format.is_empty() => format = SHORT,
                ('a' | 'x', false) if format.is_empty() => format = BSD,
                ('a' | 'x' | 'w', _) | ('e' | 'A', true) => {}
                _ => return Err(bad(&word, "it may be -ef, -e, aux, ax, or -o with a list of columns")),
            }
        }
    }
    let lists =
        if own.is_empty() { vec![if format.is_empty() { SHORT } else { format }.to_owned()] } else { own };
    let mut columns = Vec::new();
    for list in lists {
        for text in list.split(',').filter(|text| !text.is_empty()) {
            let (name, header) =
                text.split_once('=').map_or((text, None), |(name, header)| (name, Some(header)));
            let unknown = || bad(text, "there is no such column, as `pid`, `user` or `args`");
            let column = column(&name.to_ascii_lowercase()).ok_or_else(unknown)?;
            columns.push((header.unwrap_or(column.header).to_owned(), column));
        }
    }
    Ok(columns)
}

fn bad(text: &str, why: &str) -> Error {
    Error::Invalid { message: format!("invalid option `{text}` for `ps`: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(options: &[&str]) -> Option<String> {
        let options: Vec<String> = options.iter().map(|&word| word.to_owned()).collect();
        let columns = columns_of(&options).ok()?;
        Some(columns.into_iter().map(|(header, _)| header).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn options_of_ps_choose_the_columns() {
        let full = "UID PID PPID C STIME TTY TIME CMD";
        let user = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND";
        for (options, expected) in [
            (&[][..], Some(full)),
            (&["-ef"], Some(full)),
            (&["-e", "-f"], Some(full)),
            (&["-e"], Some("PID TTY TIME CMD")),
            (&["aux"], Some(user)),
            (&["-aux"], Some(user)),
            (&["axu"], Some(user)),
            (&["ax"], Some("PID TTY STAT TIME COMMAND")),
            (&["-o", "pid,comm"], Some("PID COMMAND")),
            (&["-eo", "pid,user=WHO"], Some("PID WHO")),
            (&["-opid,args"], Some("PID COMMAND")),
            (&["-o", "pid", "-o", "ppid"], Some("PID PPID")),
            (&["-eo pid,cmd"], Some("PID CMD")),
            (&["--format=pid,rss"], Some("PID RSS")),
            (&["-o"], None),
            (&["-o", "colour"], None),
            (&["-Z"], None),
            (&["--forest"], None),
        ] {
            assert_eq!(headers(options).as_deref(), expected, "{options:?}");
        }
    }
}
