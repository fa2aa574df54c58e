//! Months, and the log that a mailbox has for each.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use talkbox_core::{
    Error, ErrorKind, MailboxId, Result, Timestamp,
    envelope::{MAX_BACKDATE, MAX_FUTURE, MAX_RETENTION},
};

use super::address::{Definition, define_open};

/// The years that a month can be of: before is no time of ours, and after there are more than four digits.
const YEARS: RangeInclusive<u64> = 1970..=9999;
const DAY: u64 = 86_400;

/// A month in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Month {
    year: u64,
    /// From 1.
    month: u64,
}

impl Month {
    /// The month that this time is in; the last one for all times after it.
    pub(crate) fn of(time: Timestamp) -> Self {
        let days = time.secs() / DAY;
        // 400 years have 146,097 days, so this is wrong by at most a year.
        let guess = (YEARS.start() + days.saturating_mul(400) / 146_097).min(*YEARS.end());
        let mut month = Self { year: (guess - 1).max(*YEARS.start()), month: 1 };
        while month.end() <= time && month.next() != month {
            month = month.next();
        }
        month
    }

    /// The first second of it.
    pub(crate) fn start(self) -> Timestamp {
        let leaps_before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
        let leaps = leaps_before(self.year) - leaps_before(*YEARS.start());
        let days = (1..self.month).map(|month| self.days_of(month)).sum::<u64>();
        Timestamp(((self.year - YEARS.start()) * 365 + leaps + days) * DAY)
    }

    /// The first second after it.
    pub(crate) fn end(self) -> Timestamp {
        self.start().plus(self.days_of(self.month) * DAY)
    }

    /// The month after it. After the last there is none, so that stays.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        match (self.year, self.month) {
            (year, 12) if year == *YEARS.end() => self,
            (year, 12) => Self { year: year + 1, month: 1 },
            (year, month) => Self { year, month: month + 1 },
        }
    }

    const fn days_of(self, month: u64) -> u64 {
        let is_leap = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Month({self})")
    }
}

impl FromStr for Month {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok());
        let read = || {
            let (year, month) = text.split_once('-').filter(|(year, month)| year.len() == 4 && month.len() == 2)?;
            Some((number(year)??, number(month)??))
        };
        match read() {
            Some((year, month)) if YEARS.contains(&year) && (1..=12).contains(&month) => Ok(Self { year, month }),
            _ => Err(Error::new(ErrorKind::InvalidInput, "a month is yyyy-mm").with("given", text)),
        }
    }
}

/// The months that a reader has open, the oldest first: those of the envelopes that are not expired now. More retention
/// than there is counts as the most there is.
pub(crate) fn open_months(now: Timestamp, retention_secs: u64) -> Vec<Month> {
    let last = Month::of(now.plus(MAX_FUTURE));
    let mut month = Month::of(now.minus(retention_secs.min(MAX_RETENTION)).minus(MAX_BACKDATE));
    let mut months = vec![month];
    while month < last {
        month = month.next();
        months.push(month);
    }
    months
}

/// The log of a mailbox for a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MonthLog {
    /// Whose mail.
    pub(crate) mailbox: MailboxId,
    /// Of envelopes created when.
    pub(crate) month: Month,
    /// The log itself.
    pub(crate) definition: Definition,
}

impl MonthLog {
    /// Follows from the two.
    pub(crate) fn new(mailbox: MailboxId, month: Month) -> Self {
        let definition = define_open(&format!("talkbox/1/{}/{month}", mailbox.to_hex()));
        Self { mailbox, month, definition }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn month(text: &str) -> Month {
        text.parse().expect("a month")
    }

    #[test]
    fn months_begin_when_the_calendar_says() {
        // As `date -u -d <month>-01 +%s` prints them.
        for (text, start) in [
            ("1970-01", 0),
            ("1972-03", 68_256_000),
            ("2000-03", 951_868_800),
            ("2001-01", 978_307_200),
            ("2024-03", 1_709_251_200),
            ("2026-07", 1_782_864_000),
            ("2100-03", 4_107_542_400),
            ("2400-03", 13_574_649_600),
            ("2401-01", 13_601_088_000),
            ("9999-12", 253_399_622_400),
        ] {
            assert_eq!(month(text).start(), Timestamp(start), "{text}");
            assert_eq!(Month::of(Timestamp(start)), month(text));
            assert_eq!(month(text).to_string(), text);
        }
    }

    #[test]
    fn each_month_ends_where_the_next_begins() {
        let mut one = month("1970-01");
        while one.next() != one {
            assert_eq!(one.end(), one.next().start(), "{one}");
            assert_eq!(Month::of(one.end().minus(1)), one);
            assert_eq!(Month::of(one.end()), one.next());
            one = one.next();
        }
        assert_eq!(one, month("9999-12"));
        assert_eq!(Month::of(Timestamp(u64::MAX)), one);
    }

    #[test]
    fn what_is_no_month_is_not_read() {
        for wrong in [
            "",
            "2026",
            "2026-7",
            "2026-00",
            "2026-13",
            "1969-12",
            "+026-01",
            "2026-+1",
            "12026-01",
            "2026-07-01",
            "é026-01",
        ] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_time_is_within_its_month(secs in 0..253_402_300_800u64) {
            let month = Month::of(Timestamp(secs));
            prop_assert!(month.start() <= Timestamp(secs) && Timestamp(secs) < month.end());
        }
    }

    #[test]
    fn the_open_months_are_those_of_mail_that_is_not_expired() {
        let text = |now: Timestamp, days: u64| -> Vec<String> {
            open_months(now, days * DAY).iter().map(ToString::to_string).collect()
        };
        let now = month("2026-07").start();
        assert_eq!(text(now.plus(20 * DAY), 0), ["2026-07"]);
        assert_eq!(text(now.plus(1), 0), ["2026-06", "2026-07"], "it may be back-dated by two days");
        assert_eq!(text(now.minus(900), 0), ["2026-06", "2026-07"], "a clock may be 15 minutes ahead");
        assert_eq!(text(now.minus(901), 0), ["2026-06"]);
        assert_eq!(text(now.plus(20 * DAY), 90), ["2026-04", "2026-05", "2026-06", "2026-07"]);
        assert_eq!(open_months(now, u64::MAX).len(), 15, "the most retention is 400 days");
        assert_eq!(text(Timestamp(0), 90), ["1970-01"]);
    }

    #[test]
    fn the_log_of_a_month_has_one_name() {
        let log = MonthLog::new(MailboxId::from_bytes([0xab; 32]), month("2026-07"));
        assert_eq!(log.definition.name, format!("talkbox/1/{}/2026-07", "ab".repeat(32)));
        assert_eq!(log.definition.write, ["*"]);
    }
}
