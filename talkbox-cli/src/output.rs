//! What goes to the terminal: data on standard output, everything else on standard error.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::exit::{Failure, Outcome};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const CODE: Style = AnsiColor::Cyan.on_default().bold();

/// How a command speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    verbose: u8,
}

impl Output {
    /// Decides about colours for the whole process, too.
    pub(crate) fn new(json: bool, quiet: bool, verbose: u8, no_color: bool) -> Self {
        if no_color {
            ColorChoice::Never.write_global();
        }
        Self { json, quiet, verbose }
    }

    /// Sends the log to standard error, as much of it as `-v` or `TALKBOX_LOG` ask for. A service has nothing else to
    /// say how it is: it logs what its operator needs to know, and with `-v` who comes and goes.
    pub(crate) fn start_log(&self, is_service: bool) {
        let level = match self.verbose {
            0 if is_service && self.quiet => "error",
            // A peer that listens without knowing another is told by the DHT to warn of it, where all is as it was asked for.
            0 if is_service => "warn,libp2p_kad=error,talkbox_backend_gossip=info,talkbox_backend_ipfs=info",
            0 => "off",
            1 if is_service => "info,talkbox_backend_gossip=debug,talkbox_backend_ipfs=debug",
            1 => {
                "talkbox=info,talkbox_core=info,talkbox_cli=info,talkbox_backend_nostr=info,talkbox_backend_gossip=info,talkbox_backend_ipfs=info"
            }
            _ => "debug",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_env("TALKBOX_LOG")
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
        // It was set before where a program calls `run` twice: then the first one holds.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .try_init();
    }

    /// Whether programs read: one JSON object, or one to a line.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person reads standard output.
    pub(crate) fn is_table(&self) -> bool {
        !self.json && io::stdout().is_terminal()
    }

    /// A line of data.
    pub(crate) fn line(&self, text: impl Display) -> Outcome<()> {
        Ok(writeln!(anstream::stdout().lock(), "{text}")?)
    }

    /// An object, in one line, with the version of the format before its members.
    pub(crate) fn object(&self, value: &impl Serialize) -> Outcome<()> {
        let mut stdout = io::stdout().lock();
        self.write_object(&mut stdout, value)?;
        Ok(stdout.flush()?)
    }

    /// The same, to somewhere else.
    pub(crate) fn write_object(&self, sink: &mut impl Write, value: &impl Serialize) -> Outcome<()> {
        #[derive(Serialize)]
        struct Versioned<'a, T> {
            v: u8,
            #[serde(flatten)]
            value: &'a T,
        }
        let line = serde_json::to_string(&Versioned { v: 1, value }).map_err(Failure::internal)?;
        Ok(writeln!(sink, "{line}")?)
    }

    /// Something for a person to know: not data, not a problem. Left out where a program reads, or on request.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet && !self.json {
            self.tell(text);
        }
    }

    /// Something that was asked for and is not data, such as words to be written down: shown also where notes are not.
    pub(crate) fn show(&self, text: impl Display) {
        self.tell(text);
    }

    /// Something to worry about.
    pub(crate) fn warn(&self, text: impl Display) {
        self.tell(format_args!("{WARN}warning:{WARN:#} {text}"));
    }

    /// A line that shows how far something is, on a terminal only; the next one takes its place.
    pub(crate) fn progress(&self, text: impl Display) {
        if self.shows_progress() {
            // Nobody minds where it cannot be shown.
            let _ = write!(anstream::stderr().lock(), "\r\x1b[K{DIM}{text}{DIM:#}");
        }
    }

    /// Takes the line of [`progress`](Self::progress) away.
    pub(crate) fn progress_done(&self) {
        if self.shows_progress() {
            let _ = write!(anstream::stderr().lock(), "\r\x1b[K");
        }
    }

    fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && io::stderr().is_terminal()
    }

    /// Says why the command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        self.progress_done();
        if self.json {
            self.tell(failure.to_json());
            return;
        }
        self.tell(format_args!("{BAD}error:{BAD:#} {}", crate::text::safe(failure.message())));
        if let Some(hint) = failure.hint_text() {
            self.tell(format_args!("{GOOD}hint:{GOOD:#} {}", crate::text::safe(hint)));
        }
    }

    fn tell(&self, text: impl Display) {
        // Where standard error is gone, there is nobody to tell.
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    }
}

/// Columns as wide as their widest cell, the last as wide as it likes.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned).into()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// # Errors
    /// Where nobody reads any more.
    pub(crate) fn print(&self, output: &Output) -> Outcome<()> {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for (at, row) in self.rows.iter().enumerate() {
            let line = align(row, &widths);
            if at == 0 {
                output.line(format_args!("{BOLD}{line}{BOLD:#}"))?;
            } else {
                output.line(line)?;
            }
        }
        Ok(())
    }
}

/// Cells side by side, two spaces apart, without spaces at the end.
pub(crate) fn align(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', 2 + width.saturating_sub(cell.chars().count())));
    }
    line.truncate(line.trim_end().len());
    line
}
