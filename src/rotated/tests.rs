//! Records are read over every way of rotating.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::*;

const FILES: usize = 3;

fn append(base: &Path, text: &[u8]) {
    OpenOptions::new().append(true).create(true).open(base).unwrap().write_all(text).unwrap();
}

fn lines(reader: &mut Reader) -> String {
    let mut text = String::new();
    while let Some(line) = reader.next_record().unwrap() {
        text += &String::from_utf8_lossy(line);
    }
    text.replace('\n', " ")
}

fn compress(base: &Path, age: usize) {
    let plain = file(base, age);
    let modified = std::fs::metadata(&plain).unwrap().modified().unwrap();
    let packed = File::create(compressed(base, age)).unwrap();
    if let Some(bytes) = begin::of(&File::open(&plain).unwrap()) {
        begin::set(&packed, bytes);
    }
    let mut encoder = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    encoder.write_all(&std::fs::read(&plain).unwrap()).unwrap();
    encoder.finish().unwrap().set_modified(modified).unwrap();
    std::fs::remove_file(plain).unwrap();
}

#[test]
fn all_files_are_read_the_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("log");
    assert_eq!(lines(&mut Reader::oldest(&base, FILES, Framing::Lines).unwrap()), "");
    for text in ["a\nb\n", "c\n", "d\ne\n", "f\nopen"] {
        rotate(&base, FILES).unwrap();
        append(&base, text.as_bytes());
    }
    assert_eq!(lines(&mut Reader::oldest(&base, FILES, Framing::Lines).unwrap()), "c d e f ");
    for (count, expected) in
        [(0, ""), (1, "f "), (2, "e f "), (3, "d e f "), (4, "c d e f "), (9, "c d e f ")]
    {
        let mut reader = Reader::last(&base, FILES, Framing::Lines, count).unwrap();
        assert_eq!(lines(&mut reader), expected, "{count}");
        append(&base, b"");
    }
    let mut reader = Reader::last(&base, FILES, Framing::Lines, 0).unwrap();
    assert_eq!(lines(&mut reader), "");
    append(&base, b" line\n");
    assert_eq!(lines(&mut reader), "open line ", "what was begun is read with its end");
}

#[test]
fn a_follower_misses_nothing_however_often_it_is_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("log");
    let mut reader = Reader::oldest(&base, FILES, Framing::Lines).unwrap();
    append(&base, b"1\n");
    assert_eq!(lines(&mut reader), "1 ");
    append(&base, b"2\n");
    for number in 3..5 {
        rotate(&base, FILES).unwrap();
        append(&base, format!("{number}\n").as_bytes());
    }
    assert_eq!(lines(&mut reader), "2 3 4 ");
    rotate(&base, FILES).unwrap();
    assert_eq!(lines(&mut reader), "", "there is no newest file for a moment");
    append(&base, b"5\n");
    assert_eq!(lines(&mut reader), "5 ");
    for number in 6..12 {
        rotate(&base, FILES).unwrap();
        append(&base, format!("{number}\n").as_bytes());
    }
    assert_eq!(lines(&mut reader), "9 10 11 ", "what was dropped is gone");
}

#[test]
fn compressed_files_are_read_and_known_again() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("log");
    append(&base, b"1\n");
    let mut reader = Reader::oldest(&base, FILES, Framing::Lines).unwrap();
    assert_eq!(lines(&mut reader), "1 ");
    append(&base, b"2\n3\n");
    rotate(&base, FILES).unwrap();
    compress(&base, 1);
    append(&base, b"4\n");
    assert_eq!(lines(&mut reader), "2 3 4 ");
    assert_eq!(lines(&mut Reader::oldest(&base, FILES, Framing::Lines).unwrap()), "1 2 3 4 ");
    assert_eq!(lines(&mut Reader::last(&base, FILES, Framing::Lines, 3).unwrap()), "2 3 4 ");
}

#[test]
fn sized_records_may_hold_anything() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("log");
    append(&base, b"\0\0\0\x02a\n\0\0\0\x01\xff\0\0\0\x05ab");
    let mut reader = Reader::oldest(&base, FILES, Framing::Sized).unwrap();
    assert_eq!(reader.next_record().unwrap(), Some(&b"a\n"[..]));
    assert_eq!(reader.next_record().unwrap(), Some(&b"\xff"[..]));
    assert_eq!(reader.next_record().unwrap(), None);
    append(&base, b"cde");
    assert_eq!(reader.next_record().unwrap(), Some(&b"abcde"[..]));
    let mut last = Reader::last(&base, FILES, Framing::Sized, 1).unwrap();
    assert_eq!(last.next_record().unwrap(), Some(&b"abcde"[..]));
    append(&base, b"\xff\xff\xff\xff");
    assert!(reader.next_record().is_err(), "a size that can't be is damage");
}

#[test]
fn lines_longer_than_a_read_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("log");
    let long = "x".repeat(200_000) + "\n";
    append(&base, long.as_bytes());
    append(&base, b"end\n");
    let mut reader = Reader::last(&base, FILES, Framing::Lines, 2).unwrap();
    assert_eq!(reader.next_record().unwrap().map(<[u8]>::len), Some(long.len()));
    assert_eq!(reader.next_record().unwrap(), Some(&b"end\n"[..]));
}

#[test]
fn a_reader_that_ends_here_reads_nothing_that_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("log");
    let oldest = || Reader::oldest(&base, FILES, Framing::Lines).unwrap().end_here();
    let mut none = oldest();
    append(&base, b"1\n");
    assert_eq!(lines(&mut none), "");
    rotate(&base, FILES).unwrap();
    append(&base, b"2\nbe");
    let (mut all, mut last) = (oldest(), Reader::last(&base, FILES, Framing::Lines, 1).unwrap().end_here());
    append(&base, b"gun\n3\n");
    assert_eq!((lines(&mut all), lines(&mut last)), ("1 2 ".to_owned(), "2 ".to_owned()));
    // The file that it ends in is rotated and compressed.
    let mut all = oldest();
    append(&base, b"4\n");
    rotate(&base, FILES).unwrap();
    append(&base, b"5\n");
    compress(&base, 1);
    assert_eq!(lines(&mut all), "1 2 begun 3 ");
    // It is gone before it was read.
    let mut all = oldest();
    assert_eq!(all.next_record().unwrap(), Some(&b"1\n"[..]));
    for text in ["6\n", "7\n", "8\n"] {
        rotate(&base, FILES).unwrap();
        append(&base, text.as_bytes());
    }
    assert_eq!(lines(&mut all), "");
}

#[test]
fn what_was_dropped_is_counted_by_the_marks_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("log");
    let mut begin = 0;
    let mut write = |number: u64, marks: bool| {
        rotate(&base, FILES).unwrap();
        let text = format!("{number}\n");
        append(&base, text.as_bytes());
        if marks {
            begin::set(&File::open(&base).unwrap(), begin);
        }
        // Who goes on with a file of an older kiln begins to count with it.
        begin = if marks { begin + text.len() as u64 } else { text.len() as u64 };
    };
    // Those of an older kiln have none.
    write(10, false);
    write(11, false);
    let mut reader = Reader::oldest(&base, FILES, Framing::Lines).unwrap();
    assert_eq!(reader.next_record().unwrap(), Some(&b"10\n"[..]));
    write(12, true);
    assert_eq!((lines(&mut reader), reader.take_lost()), ("11 12 ".into(), 0));
    (13..20).for_each(|number| write(number, true));
    // 13 to 16 are no more.
    assert_eq!((lines(&mut reader), reader.take_lost()), (String::new(), 12));
    assert_eq!((lines(&mut reader), reader.take_lost()), ("17 18 19 ".into(), 0));
    compress(&base, 1);
    write(20, true);
    assert_eq!((lines(&mut reader), reader.take_lost()), ("20 ".into(), 0));
    let mut bounded = Reader::oldest(&base, FILES, Framing::Lines).unwrap().end_here();
    assert_eq!(bounded.next_record().unwrap(), Some(&b"18\n"[..]));
    (21..30).for_each(|number| write(number, true));
    assert_eq!((lines(&mut bounded), bounded.take_lost()), (String::new(), 6), "its end was dropped");
    assert_eq!((lines(&mut bounded), bounded.take_lost()), (String::new(), 0));
}
