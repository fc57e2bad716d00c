//! The program's own text in memory.

use std::io;

unsafe extern "C" {
    /// Where the program's first segment begins.
    static __executable_start: u8;
    /// Where its last instruction ends.
    static etext: u8;
}

/// Gives the pages of the program's constants and instructions back. They are the file's, as they were: what is needed
/// again comes from the page cache, as large pieces as that has it in. Inlined, for the least that is needed next.
#[inline(always)]
pub fn give_back() -> io::Result<()> {
    let (start, end) = (&raw const __executable_start as usize, &raw const etext as usize);
    let end = end - end % rustix::param::page_size();
    // SAFETY: from the program's beginning to its last instruction nothing is ever written, so that each page can
    // be read from the file again, these very instructions as well.
    let given = unsafe {
        rustix::mm::madvise(start as *mut _, end.saturating_sub(start), rustix::mm::Advice::LinuxDontNeed)
    };
    Ok(given?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_goes_on_without_its_text_in_memory() {
        let resident = || {
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let lines = smaps.lines().skip_while(|line| !line.contains(" r-xp ")).skip(1);
            let rss = lines.into_iter().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = resident();
        // Other tests run meanwhile, and take theirs back.
        assert!((0..10).any(|_| give_back().is_ok() && resident() < before), "{before} kB");
    }
}
