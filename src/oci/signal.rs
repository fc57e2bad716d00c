//! Signals by name or number.

/// Linux' signals in order of their numbers, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The first real-time signal that programs may use, as glibc counts.
const RTMIN: i32 = 34;
/// The last one.
const RTMAX: i32 = 64;

/// Returns the number of a signal such as `SIGTERM`, `term`, `15` or `RTMIN+3`.
pub fn parse_signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index + 1).ok();
    }
    let number = match name {
        "IOT" => 6,
        "POLL" => 29,
        "CLD" => 17,
        "RTMIN" => RTMIN,
        "RTMAX" => RTMAX,
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(offset), _) => RTMIN.checked_add(offset.parse().ok()?)?,
            (_, Some(offset)) => RTMAX.checked_sub(offset.parse().ok()?)?,
            _ => return None,
        },
    };
    (1..=RTMAX).contains(&number).then_some(number)
}

/// Returns docker's name of a signal: `SIGTERM`, `SIGRTMIN+3`.
pub fn signal_name(number: i32) -> String {
    let index = usize::try_from(number - 1).ok();
    match index.and_then(|index| NAMES.get(index)) {
        Some(name) => format!("SIG{name}"),
        None if number == RTMIN => "SIGRTMIN".to_owned(),
        None if (RTMIN..=RTMAX).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_as_its_number() {
        assert_eq!([15, 34, 37].map(signal_name), ["SIGTERM", "SIGRTMIN", "SIGRTMIN+3"]);
        for number in (1..=31).chain(34..=64) {
            assert_eq!(parse_signal(&signal_name(number)), Some(number));
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SYS", 31),
            ("KILL", 9),
        ] {
            assert_eq!(parse_signal(text), Some(number), "{text}");
        }
        for bad in ["", "0", "65", "-1", "SIGFOO", "RTMIN+99"] {
            assert_eq!(parse_signal(bad), None, "{bad}");
        }
    }
}
