//! Text of strangers, made safe for a terminal; and numbers and times, made easy to read.

use talkbox_core::Timestamp;

/// Text that cannot move the cursor, change colours, ring, hide or reorder what stands beside it. Line feeds and tabs
/// stay.
pub(crate) fn safe(text: &str) -> String {
    text.chars().filter(|symbol| matches!(symbol, '\n' | '\t') || !is_unsafe(*symbol)).collect()
}

/// [`safe`], in one line of at most so many characters: white space becomes a space, and a cut is marked.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    let mut pending = false;
    for symbol in text.chars() {
        if symbol.is_whitespace() {
            pending = length > 0;
            continue;
        }
        if is_unsafe(symbol) {
            continue;
        }
        if length + 1 + usize::from(pending) > limit {
            // The mark takes the place of the last one.
            if length == limit {
                line.pop();
            }
            line.push('…');
            return line;
        }
        if std::mem::take(&mut pending) {
            line.push(' ');
            length += 1;
        }
        line.push(symbol);
        length += 1;
    }
    line
}

/// Most characters of a reason that are shown: as many as a holder's own words may have.
pub(crate) const REASON: usize = 256;
/// Most characters of a place beside a reason, and how many of them are of its end: there is the id of a peer, and ids
/// begin alike.
const PLACE: usize = 48;
const PLACE_END: usize = 10;

/// Where a holder is, short enough that what is said of it stands beside it: of a long place the middle is left out.
pub(crate) fn place(holder: impl ToString) -> String {
    let text: Vec<char> = one_line(&holder.to_string(), usize::MAX).chars().collect();
    if text.len() <= PLACE {
        return text.into_iter().collect();
    }
    let (head, end) = (&text[..PLACE - PLACE_END - 1], &text[text.len() - PLACE_END..]);
    head.iter().chain(&['…']).chain(end).collect()
}

/// Controls (C0 with escape, DEL, C1), the separators that some terminals take for line ends, and the marks that
/// reverse the direction of what follows.
const fn is_unsafe(symbol: char) -> bool {
    matches!(symbol,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Bytes in the largest unit that leaves a number of at least one.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1_048_576)),
    }
}

/// How long ago, in one unit.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.secs().saturating_sub(then.secs());
    match seconds {
        0..60 => "now".to_owned(),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A time as RFC 3339, in UTC.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let (year, month, day) = civil(time.secs() / 86_400);
    let second = time.secs() % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// So many of something.
pub(crate) fn number(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The date of a time, in UTC.
pub(crate) fn date(time: Timestamp) -> String {
    let (year, month, day) = civil(time.secs() / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a number of days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`): eras of 400 years that begin on 1 March.
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + if month <= 2 { 1 } else { 0 }, month, day)
}

/// Seconds of a duration such as `90`, `90s`, `15m`, `12h`, `7d` or `2w`.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|symbol: char| symbol.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        other => return Err(format!("`{other}` is no unit of time: there are s, m, h, d and w")),
    };
    let number: u64 = digits.parse().map_err(|_| "a duration is a number and a unit, such as 30s or 7d".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "this is longer than time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(safe("a\u{1b}[31mred\u{7}\u{9b}2J\r\n\tb\u{202e}c"), "a[31mred2J\n\tbc");
        assert_eq!(one_line("  two\n\n words\u{1b}[0m here ", 80), "two words[0m here");
    }

    #[test]
    fn a_line_is_cut_at_the_limit_and_says_so() {
        assert_eq!(one_line("abcdef", 6), "abcdef");
        assert_eq!(one_line("abcdefg", 6), "abcde…");
        assert_eq!(one_line("abc def", 4), "abc…");
        assert_eq!(one_line("abcd ef", 4), "abc…");
        assert_eq!(one_line("abcd  ", 4), "abcd");
    }

    #[test]
    fn a_long_place_keeps_its_beginning_and_its_end() {
        let relay = "nostr:wss://relay.example";
        assert_eq!(place(relay), relay);
        let peer = "ipfs:/ip4/192.0.2.7/tcp/4001/p2p/16Uiu2HAm3aBGq5sdGKKmyHYVJWrJUvqLoC1HbmoaQEUTBJ2bHP8u";
        assert_eq!(place(peer), "ipfs:/ip4/192.0.2.7/tcp/4001/p2p/16Ui…UTBJ2bHP8u");
        assert_eq!(place(peer).chars().count(), PLACE);
        assert_eq!(place("a\u{1b}[2Jb"), "a[2Jb");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(Timestamp(951_782_399)), "2000-02-28T23:59:59Z");
        assert_eq!(date(Timestamp(951_782_400)), "2000-02-29");
        assert_eq!(date(Timestamp(4_107_542_400)), "2100-03-01");
        assert_eq!(date(Timestamp(1_803_168_000)), "2027-02-21");
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("2w"), Ok(1_209_600));
        for bad in ["", "m", "1x", "-1", "1.5h", "99999999999999999999", "18446744073709551615w"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_ages_have_one_unit() {
        assert_eq!((size(1023), size(1025), size(1_048_577)), ("1023 B".into(), "2 KiB".into(), "2 MiB".into()));
        let now = Timestamp(1_000_000);
        assert_eq!(ago(Timestamp(999_999), now), "now");
        assert_eq!(ago(Timestamp(1_000_100), now), "now");
        assert_eq!(ago(Timestamp(996_000), now), "1 h");
        assert_eq!(ago(Timestamp(0), now), "11 d");
    }
}
