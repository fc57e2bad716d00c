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
/// `ps -eF`
const EXTRA: &str = "user=UID,pid,ppid,c,sz,rss,psr,stime,tty,time,cmd";
/// `ps -ej`
const JOBS: &str = "pid,pgid,sid,tty,time,comm=CMD";
/// `ps -efj`
const FULL_JOBS: &str = "user=UID,pid,ppid,pgid,sid,c,stime,tty,time,cmd";
/// `ps -e`
const SHORT: &str = "pid,tty,time,comm=CMD";
/// `ps aux`
const USER: &str = "user,pid,pcpu,pmem,vsz,rss,tty,stat,start,bsdtime,command";
/// `ps ax`
const BSD: &str = "pid,tty,stat,bsdtime,command";

impl Containers {
    /// Lists the processes of a running container; `options` are those of `ps`, `-ef` when there are none.
    pub fn top(&self, record: &Record, options: &[String]) -> Result<ProcessTable> {
        let wishes = Wishes::read(options)?;
        let columns = wishes.columns()?;
        let not_running = || Error::NotRunning { name: record.name.clone() };
        let target = record.state.process.as_ref().ok_or_else(not_running)?;
        let machine = Machine::read();
        let mut pids = Cgroup::open(&target.cgroup).pids();
        pids.sort_unstable();
        let processes = pids.into_iter().filter_map(Process::read).flat_map(|process| match wishes.threads {
            Threads::Together => vec![process],
            _ => process.threads(),
        });
        let row =
            |process: Process| columns.iter().map(|(_, column)| (column.text)(&process, &machine)).collect();
        Ok(ProcessTable {
            titles: columns.iter().map(|(header, _)| header.clone()).collect(),
            rows: processes.map(row).collect(),
        })
    }
}

/// How the threads of a process are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Threads {
    /// In one line.
    Together,
    /// `-L`: a line for each, with its number and how many there are.
    Counted,
    /// `-T`: a line for each, with its number.
    Numbered,
    /// `H`: a line for each.
    Apart,
}

type Columns = Vec<(String, &'static Column)>;

/// What options of `ps` ask for.
#[derive(Debug)]
struct Wishes {
    /// One of the lists above; empty until an option names one.
    format: &'static str,
    /// The lists of `-o`, which stand for any other.
    own: Vec<String>,
    threads: Threads,
}

impl Wishes {
    /// Reads options that choose columns and threads; those that choose all processes mean nothing here.
    fn read(options: &[String]) -> Result<Self> {
        let mut words: Vec<String> =
            options.iter().flat_map(|word| word.split_whitespace()).map(str::to_owned).collect();
        words.reverse();
        let format = if words.is_empty() { FULL } else { "" };
        let mut wishes = Self { format, own: Vec::new(), threads: Threads::Together };
        while let Some(word) = words.pop() {
            if let Some(list) = word.strip_prefix("--format=") {
                wishes.own.push(list.to_owned());
                continue;
            }
            let (dashed, letters) = match word.strip_prefix('-') {
                Some("-format") => (true, "o"),
                Some(letters) => (true, letters),
                None => (false, word.as_str()),
            };
            let mut letters = letters.chars();
            while let Some(letter) = letters.next() {
                if letter != 'o' {
                    wishes.letter(letter, dashed).map_err(|why| bad(&word, &why))?;
                    continue;
                }
                let rest = letters.as_str().trim_start_matches('=').to_owned();
                letters = "".chars();
                let list = Some(rest).filter(|rest| !rest.is_empty()).or_else(|| words.pop());
                wishes.own.push(list.ok_or_else(|| bad(&word, "it needs a list of columns"))?);
            }
        }
        Ok(wishes)
    }

    /// Takes one letter, after a dash or without; or says why it can't.
    fn letter(&mut self, letter: char, dashed: bool) -> std::result::Result<(), String> {
        match (letter, dashed) {
            ('f', true) => self.format = if self.format == JOBS { FULL_JOBS } else { FULL },
            ('j', true) => self.format = if self.format == FULL { FULL_JOBS } else { JOBS },
            ('F', true) => self.format = EXTRA,
            // `ps -aux` is `ps aux` to everybody.
            ('u', _) => self.format = USER,
            ('e' | 'A', true) if self.format.is_empty() => self.format = SHORT,
            ('a' | 'x', false) if self.format.is_empty() => self.format = BSD,
            ('L', true) => self.threads = Threads::Counted,
            ('T', true) => self.threads = Threads::Numbered,
            ('H', false) => self.threads = Threads::Apart,
            ('a' | 'x' | 'w', _) | ('e' | 'A', true) => {}
            ('p' | 'C' | 'G' | 'U' | 'g' | 's' | 't' | 'q' | 'N' | 'd' | 'r', true) => {
                return Err(format!("`-{letter}` chooses processes, which are all of the container here"));
            }
            _ => return Err(format!("`{}{letter}` isn't known here", if dashed { "-" } else { "" })),
        }
        Ok(())
    }

    /// The columns, in their order.
    fn columns(&self) -> Result<Columns> {
        let lists = if self.own.is_empty() { vec![self.usual()] } else { self.own.clone() };
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

    /// The list without `-o`, with the columns of threads where procps puts them.
    fn usual(&self) -> String {
        let format = if self.format.is_empty() { SHORT } else { self.format };
        match self.threads {
            Threads::Together | Threads::Apart => format.to_owned(),
            Threads::Counted if format == USER => format.replacen(",pcpu", ",lwp,pcpu,nlwp", 1),
            Threads::Counted if format.contains(",c,") => format.replacen(",c,", ",lwp,c,nlwp,", 1),
            Threads::Counted => format.replacen(",tty", ",lwp,tty", 1),
            Threads::Numbered => format.replacen("pid,", "pid,spid,", 1),
        }
    }
}

/// What options there are.
const HINT: &str =
    "it may be -ef, -eF, -ej, -e, aux, ax, with -L, -T or H for threads, or -o with a list of columns";

fn bad(text: &str, why: &str) -> Error {
    Error::Advised { message: format!("invalid option `{text}` for `ps`: {why}"), hint: HINT.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(options: &[&str]) -> Option<String> {
        let options: Vec<String> = options.iter().map(|&word| word.to_owned()).collect();
        let columns = Wishes::read(&options).and_then(|wishes| wishes.columns()).ok()?;
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
            (&["-eF"], Some("UID PID PPID C SZ RSS PSR STIME TTY TIME CMD")),
            (&["-ej"], Some("PID PGID SID TTY TIME CMD")),
            (&["-efj"], Some("UID PID PPID PGID SID C STIME TTY TIME CMD")),
            (&["-o"], None),
            (&["-o", "colour"], None),
            (&["-Z"], None),
            (&["--forest"], None),
        ] {
            assert_eq!(headers(options).as_deref(), expected, "{options:?}");
        }
    }

    // Expected: the headers of procps 4.0.2.
    #[test]
    fn columns_of_threads_stand_where_ps_has_them() {
        for (options, expected) in [
            (&["-eLf"][..], "UID PID PPID LWP C NLWP STIME TTY TIME CMD"),
            (&["-L"], "PID LWP TTY TIME CMD"),
            (&["-eL"], "PID LWP TTY TIME CMD"),
            (&["-ejL"], "PID PGID SID LWP TTY TIME CMD"),
            (&["-eFL"], "UID PID PPID LWP C NLWP SZ RSS PSR STIME TTY TIME CMD"),
            (&["aux", "-L"], "USER PID LWP %CPU NLWP %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            (&["ax", "-L"], "PID LWP TTY STAT TIME COMMAND"),
            (&["-efT"], "UID PID SPID PPID C STIME TTY TIME CMD"),
            (&["-eT"], "PID SPID TTY TIME CMD"),
            (&["-T", "aux"], "USER PID SPID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            (&["auxH"], "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            (&["-L", "-eo", "pid,lwp,tid,spid,nlwp"], "PID LWP TID SPID NLWP"),
        ] {
            assert_eq!(headers(options).as_deref(), Some(expected), "{options:?}");
        }
    }

    #[test]
    fn options_that_choose_processes_are_named() {
        for (word, name) in
            [("-p", "`-p` chooses"), ("-efC", "`-C` chooses"), ("-ely", "`-l` isn't"), ("f", "`f`")]
        {
            let message = Wishes::read(&[word.to_owned()]).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
}
