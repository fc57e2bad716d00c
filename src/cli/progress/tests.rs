//! Progress on a terminal and in a log.

use std::time::Duration;

use super::plain::Plain;
use super::transfers::Transfers;
use super::tty::Tty;
use super::*;
use crate::api::{MissReason, StepId, StepOutcome, Stream};
use crate::cli::text::width;

fn planned(step: StepId, name: &str) -> Event {
    Event::Planned { step, name: name.into() }
}

fn output(step: StepId, text: &str) -> Event {
    Event::Output { step, stream: Stream::Stdout, bytes: text.as_bytes().to_vec() }
}

fn transfer(done: u64, total: u64) -> Event {
    Event::Transfer { step: 1, item: "sha256:0123456789ab".into(), done, total }
}

fn done(milliseconds: u64) -> StepOutcome {
    StepOutcome::Done(Duration::from_millis(milliseconds))
}

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

// Expected form: BuildKit 0.32 `--progress=plain`.
#[test]
fn plain_lines_are_those_of_buildkit() {
    let mut plain = Plain::default();
    let events = [
        (0, planned(1, "[1/3] FROM docker.io/library/debian")),
        (0, planned(2, "[2/3] RUN one\ntwo")),
        (0, planned(3, "[3/3] COPY . .")),
        (0, Event::Finished(1, StepOutcome::Cached)),
        (100, Event::Started(2)),
        (223, output(2, "first\nsec")),
        (250, output(2, "ond\n\x1b[2Jthird")),
        (400, Event::Finished(2, done(300))),
        (400, Event::Started(3)),
        (500, Event::Finished(3, StepOutcome::Failed("no such file\nat all".into()))),
    ];
    let text: String = events.into_iter().map(|(time, event)| plain.take(event, at(time))).collect();
    let expected = "\
#1 [1/3] FROM docker.io/library/debian
#1 CACHED

#2 [2/3] RUN one two
#2 0.123 first
#2 0.150 second
#2 0.300 third
#2 DONE 0.3s

#3 [3/3] COPY . .
#3 ERROR: no such file at all
";
    assert_eq!(text, expected);
}

#[test]
fn plain_lines_of_parallel_steps_say_whose_they_are() {
    let mut plain = Plain::default();
    let events = [
        planned(1, "[a 1/1] RUN x"),
        planned(2, "[b 1/1] RUN y"),
        Event::Started(1),
        Event::Started(2),
        output(1, "x\n"),
        output(2, "y\n"),
        Event::Finished(2, done(0)),
        Event::Finished(1, done(0)),
    ];
    let text: String = events.into_iter().map(|event| plain.take(event, at(0))).collect();
    let expected = "\
#1 [a 1/1] RUN x
#1 ...

#2 [b 1/1] RUN y
#2 ...

#1 [a 1/1] RUN x
#1 0.000 x
#1 ...

#2 [b 1/1] RUN y
#2 0.000 y
#2 DONE 0.0s

#1 [a 1/1] RUN x
#1 DONE 0.0s
";
    assert_eq!(text, expected);
}

#[test]
fn why_a_step_runs_stands_below_its_name_once_it_has_begun() {
    let mut plain = Plain::default();
    let ran =
        |step, name: &str| Event::Ran { step, reasons: vec![MissReason::StepRemoved { name: name.into() }] };
    let events = [
        planned(1, "[1/3] RUN x"),
        planned(2, "[2/3] COPY y /"),
        planned(3, "[3/3] RUN z"),
        ran(1, "a"),
        // It still waits for its turn.
        ran(3, "c\n\x1b[2J"),
        Event::Started(1),
        output(1, "x\n"),
        Event::Finished(1, done(0)),
        Event::Started(2),
        ran(2, "b"),
        Event::Finished(2, done(0)),
        Event::Started(3),
        Event::Finished(3, done(0)),
    ];
    let text: String = events.into_iter().map(|event| plain.take(event, at(0))).collect();
    let expected = "\
#1 [1/3] RUN x
#1 ran: earlier step a is gone
#1 0.000 x
#1 DONE 0.0s

#2 [2/3] COPY y /
#2 ran: earlier step b is gone
#2 DONE 0.0s

#3 [3/3] RUN z
#3 ran: earlier step c  [2J is gone
#3 DONE 0.0s
";
    assert_eq!(text, expected);
}

#[test]
fn the_terminal_shows_why_a_step_runs_beside_its_name() {
    let mut tty = Tty::new(Style::plain(), 6);
    for event in [
        planned(1, "[1/2] RUN make"),
        planned(2, &format!("[2/2] RUN {}", "long ".repeat(20))),
        Event::Ran { step: 1, reasons: vec![MissReason::NewStep] },
        Event::Ran { step: 2, reasons: vec![MissReason::Arg { names: vec!["A".into()] }] },
        Event::Started(1),
        Event::Finished(1, done(1000)),
        Event::Started(2),
    ] {
        assert_eq!(tty.take(event, at(0)), Vec::<String>::new());
    }
    let expected = [
        "[+] Building 2.0s (1/2)",
        " => [1/2] RUN make  ran: new step                        1.0s",
        " => [2/2] RUN long long long long l…  ran: ARG A changed 2.0s",
    ];
    assert_eq!(tty.block(at(2000), 10, 62), expected);
    for columns in 0..100 {
        assert!(
            tty.block(at(2000), 10, columns).iter().all(|line| width(line) < columns.max(2)),
            "{columns}"
        );
    }
}

#[test]
fn plain_tells_a_transfer_every_five_seconds_and_at_its_end() {
    let mut plain = Plain::default();
    let events = [
        (0, planned(1, "[1/1] FROM x")),
        (0, Event::Started(1)),
        (0, transfer(0, 3_000_000)),
        (1000, transfer(1_000_000, 3_000_000)),
        (6000, transfer(1_200_000, 3_000_000)),
        (7000, transfer(3_000_000, 3_000_000)),
        (7001, transfer(3_000_000, 3_000_000)),
    ];
    let text: String = events.into_iter().map(|(time, event)| plain.take(event, at(time))).collect();
    let expected = "\
#1 [1/1] FROM x
#1 sha256:0123456789ab 1.2MB / 3MB
#1 sha256:0123456789ab 3MB / 3MB done
";
    assert_eq!(text, expected);
}

/// A build in the middle: one step cached, one done, two running, one waiting.
fn half_done() -> Tty {
    let mut tty = Tty::new(Style::plain(), 2);
    for (time, event) in [
        (0, planned(1, "[1/5] FROM x")),
        (0, planned(2, "[2/5] RUN two")),
        (0, planned(3, "[3/5] RUN 日本語日本語日本語日本語日本語日本語")),
        (0, planned(4, "[4/5] RUN four")),
        (0, planned(5, "[5/5] RUN five")),
        (0, Event::Finished(1, StepOutcome::Cached)),
        (100, Event::Started(2)),
        (1600, Event::Finished(2, done(1500))),
        (1600, Event::Started(3)),
        (1700, Event::Started(4)),
        (1800, output(4, "one\ntwo\nthree\n")),
    ] {
        tty.take(event, at(time));
    }
    tty
}

#[test]
fn the_block_shows_steps_times_and_last_lines() {
    assert_eq!(
        half_done().block(at(3100), 24, 41),
        [
            "[+] Building 3.1s (2/5)",
            " => CACHED [1/5] FROM x             0.0s",
            " => [2/5] RUN two                   1.5s",
            " => [3/5] RUN 日本語日本語日本語日… 1.5s",
            " => [4/5] RUN four                  1.4s",
            " => => # two",
            " => => # three",
        ]
    );
}

#[test]
fn the_block_fits_every_terminal() {
    for rows in 0..12 {
        for columns in 1..100 {
            let block = half_done().block(at(3100), rows, columns);
            assert!(block.len() <= rows, "{rows} rows: {block:?}");
            assert!(block.iter().all(|line| width(line) < columns.max(2)), "{columns} columns: {block:?}");
        }
    }
    let small = half_done().block(at(3100), 3, 41);
    assert!(small[1].contains("[3/5]") && small[2].contains("[4/5]"), "running steps stay: {small:?}");
}

#[test]
fn the_last_block_says_that_it_is_over() {
    let mut tty = half_done();
    tty.take(Event::Finished(3, StepOutcome::Failed("no".into())), at(2000));
    tty.take(Event::Finished(4, StepOutcome::Cancelled), at(2000));
    tty.take(Event::Finished(5, StepOutcome::Cancelled), at(2000));
    tty.finish();
    let block = tty.block(at(2000), 24, 60);
    assert_eq!(block[0], "[+] Building 2.0s (5/5) FINISHED");
    assert!(
        block[3].starts_with(" => ERROR [3/5]") && block[4].starts_with(" => CANCELED [4/5]"),
        "{block:?}"
    );
    assert_eq!(block.len(), 5, "a step that never began is not shown");
}

#[test]
fn layers_are_shown_while_they_move() {
    let mut transfers = Transfers::new(true);
    assert_eq!(
        transfers.take(Event::Status("latest: Pulling from x\x1b[2J".into())),
        ["latest: Pulling from x"]
    );
    transfers.take(transfer(1_200_000, 3_000_000));
    assert_eq!(transfers.block(9, 80), ["sha256:0123456789ab: 1.2MB / 3MB"]);
    transfers.take(transfer(3_000_000, 3_000_000));
    assert!(transfers.block(9, 80).is_empty());
}

#[test]
fn a_line_without_end_is_shown_in_pieces() {
    let mut lines = Lines::default();
    let shown: usize = (0..5).map(|_| lines.take(&vec![b'x'; 40 << 10]).len()).sum();
    assert_eq!(shown, 2);
}

#[test]
fn progress_is_chosen_by_flag_then_environment() {
    let environment = Environment::from([("BUILDKIT_PROGRESS", "plain")]);
    assert_eq!(chosen(None, &environment).ok(), Some(Progress::Plain));
    assert_eq!(chosen(Some("quiet"), &environment).ok(), Some(Progress::Quiet));
    assert_eq!(chosen(None, &Environment::default()).ok(), Some(Progress::Auto));
    assert!(chosen(Some("fancy"), &environment).is_err());
}
