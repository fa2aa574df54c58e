//! What was claimed and what was measured, as a table.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};

use crate::{clocks::Clock, pairs::Pairs};

/// What a figure has to keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Bound {
    /// Whether a figure keeps to it.
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

/// One claim.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is claimed.
    pub claim: String,
    /// By which clock, or of which kind.
    pub by: &'static str,
    /// What was measured of ours.
    pub ours: String,
    /// What was measured of the other.
    pub theirs: String,
    /// The figure that the claim is about.
    pub figure: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What was claimed of it; `None` for a figure that only stands beside the others.
    pub bound: Option<Bound>,
}

impl Row {
    /// That ours costs at most so many times as much, `per` operations a run.
    pub fn cost(claim: &str, pairs: &Pairs, clock: Clock, per: u32, most: f64) -> Self {
        Self::ratio(claim, pairs, clock, per, pairs.cost(clock), Bound::AtMost(most))
    }

    /// That ours is at least so many times faster, `per` operations a run.
    pub fn gain(claim: &str, pairs: &Pairs, clock: Clock, per: u32, least: f64) -> Self {
        Self::ratio(claim, pairs, clock, per, pairs.gain(clock), Bound::AtLeast(least))
    }

    /// A figure of ours alone.
    pub fn figure(claim: &str, by: &'static str, figure: f64, unit: &'static str, bound: Option<Bound>) -> Self {
        let (ours, theirs) = (format!("{figure:.2} {unit}"), "–".to_owned());
        Self { claim: claim.to_owned(), by, ours, theirs, figure, unit, bound }
    }

    /// A figure of ours beside the same one of another, where the claim is about how many times as much ours is.
    pub fn beside(claim: &str, by: &'static str, ours: Duration, theirs: Duration, most: f64) -> Self {
        Self {
            claim: claim.to_owned(),
            by,
            ours: duration(ours),
            theirs: duration(theirs),
            figure: ours.as_secs_f64() / theirs.as_secs_f64(),
            unit: "×",
            bound: Some(Bound::AtMost(most)),
        }
    }

    /// The same, where nothing was claimed.
    pub fn unclaimed(mut self) -> Self {
        self.bound = None;
        self
    }

    fn ratio(claim: &str, pairs: &Pairs, clock: Clock, per: u32, figure: f64, bound: Bound) -> Self {
        Self {
            claim: format!("{claim} ({} pairs)", pairs.len()),
            by: clock.name(),
            ours: duration(pairs.ours(clock) / per),
            theirs: duration(pairs.theirs(clock) / per),
            figure,
            unit: "×",
            bound: Some(bound),
        }
    }
}

/// The table, printed row by row: some of it takes a while.
#[derive(Debug)]
pub struct Report(());

impl Report {
    /// Prints the head.
    ///
    /// # Errors
    /// Where it cannot be printed.
    pub fn begin() -> io::Result<Self> {
        print(["claim", "by", "ours", "theirs", "measured", "claimed", "held"].map(str::to_owned))?;
        Ok(Self(()))
    }

    /// Prints some rows.
    ///
    /// # Errors
    /// Where they cannot be printed.
    pub fn add(&self, rows: impl IntoIterator<Item = Row>) -> io::Result<()> {
        for row in rows {
            let (claimed, held) = match row.bound {
                Some(bound) => {
                    let held = bound.holds(row.figure);
                    let (sign, limit) = match bound {
                        Bound::AtMost(most) => ("≤", most),
                        Bound::AtLeast(least) => ("≥", least),
                    };
                    (format!("{sign} {limit} {}", row.unit), if held { "yes" } else { "NO" })
                }
                None => ("–".to_owned(), "–"),
            };
            let figure = format!("{:.2} {}", row.figure, row.unit);
            print([row.claim, row.by.to_owned(), row.ours, row.theirs, figure, claimed, held.to_owned()])?;
        }
        Ok(())
    }

    /// Says that something was left out, and why.
    ///
    /// # Errors
    /// Where it cannot be printed.
    pub fn skip(&self, claim: &str, why: &str) -> io::Result<()> {
        let none = || "–".to_owned();
        print([claim.to_owned(), none(), none(), none(), none(), none(), format!("skipped: {why}")])
    }
}

fn print(cells: [String; 7]) -> io::Result<()> {
    const WIDTHS: [usize; 7] = [82, 4, 9, 9, 10, 10, 0];
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(WIDTHS) {
        // Into a string, which takes everything.
        let _ = write!(line, "{cell:<width$}  ");
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", line.trim_end())?;
    stdout.flush()
}

/// A time with three digits that mean something.
pub fn duration(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        0.0..100.0 => format!("{micros:.1} µs"),
        100.0..10_000.0 => format!("{micros:.0} µs"),
        10_000.0..10_000_000.0 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}
