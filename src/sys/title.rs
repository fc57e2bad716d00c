//! What other processes see of this one's command line.

use std::io;

/// The fields of `/proc/self/stat` that say where the words and the environment are (proc(5)), counted from the state.
const WORDS_START: usize = 45;
const WORDS_END: usize = 46;
const ENVIRONMENT_END: usize = 48;

/// Shows the words of `title` as the whole command line, and wipes the words and the environment that this process was started with.
///
/// For processes whose environment is empty: that of the start was left out, or cleared
/// ([`super::process::clear_environment`]).
pub fn set(title: &str) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold anything.
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
    let field = |number: usize| fields.split(' ').nth(number).and_then(|text| text.trim().parse().ok());
    let incomplete = || io::Error::from(io::ErrorKind::InvalidData);
    let start: usize = field(WORDS_START).ok_or_else(incomplete)?;
    let end: usize = field(ENVIRONMENT_END).ok_or_else(incomplete)?;
    let words_end: usize = field(WORDS_END).ok_or_else(incomplete)?;
    if start == 0 || words_end <= start || end < words_end {
        return Err(incomplete());
    }
    // SAFETY: the kernel says that the words and the environment lie between the two, in memory that is this process's own
    // and can be written; nothing refers to them any more.
    let words = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, end - start) };
    words.fill(0);
    // The last byte stays zero. What doesn't fit into the place of the words is taken for one word that goes on behind it.
    let fits = title.len() < words_end - start;
    for (place, byte) in words.iter_mut().take(end - start - 1).zip(title.bytes()) {
        *place = if fits && byte == b' ' { 0 } else { byte };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_fields_are_those_of_the_words_and_the_environment() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let number = |index: usize| fields[index].trim().parse::<usize>().unwrap();
        let length = number(super::WORDS_START + 1) - number(super::WORDS_START);
        assert_eq!(length, std::fs::read("/proc/self/cmdline").unwrap().len());
        assert!(number(super::ENVIRONMENT_END) >= number(super::WORDS_START + 1));
    }
}
