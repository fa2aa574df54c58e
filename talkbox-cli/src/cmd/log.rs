//! `talkbox log`: how the logs of a mailbox on IPFS stand, here, at peers, and at pinning services.

use std::time::Duration;

use serde_json::json;
use talkbox_backend_ipfs::{LogReport, MonthReport, PeerMonth, PeerReport};
use talkbox_core::{
    ErrorKind, Locator, MailboxId, Shortcode,
    address::{Target, to_npub},
};

use super::send::address;
use crate::{
    exit::{Code, Failure, Outcome},
    ipfs,
    output::{BAD, BOLD, DIM, GOOD, Output, Table, WARN},
    session::Session,
    text::{REASON, number, one_line, place, size},
};

/// How long the network may take to find a mailbox.
const RESOLVE: Duration = Duration::from_secs(15);
/// Symbols of a head that are shown: all begin alike, and the last ones tell them apart.
const SHORT: usize = 8;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A mailbox on IPFS is one OrbitDB log for each month. Asking peers also fetches what they have more; \
                        with --offline only what is here is shown. A peer is in step where it has every entry that is \
                        known. Where no peer answers, what is here is shown, and it ends with 4."
)]
pub(crate) struct Arguments {
    /// The mailbox: its name on this computer, or anybody's code, npub or link [default: the own one]
    #[arg(value_name = "MAILBOX|CODE")]
    whose: Option<String>,
}

/// Whose logs, and where they may be besides the configured peers.
struct Whose {
    mailbox: MailboxId,
    name: String,
    code: Option<Shortcode>,
    at: Vec<Locator>,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let (config, context) = ipfs::backend(session)?;
    let whose = whose(session, arguments.whose.as_deref()).await?;
    let asks = !session.is_offline();
    if asks {
        session.output.progress("asking the peers …");
    }
    let work = talkbox_backend_ipfs::report(config, context, whose.mailbox, &whose.at, asks);
    // In a box: it has a whole peer in it.
    let report = ipfs::wait(session, Box::pin(work)).await;
    session.output.progress_done();
    let report = report?;
    if session.output.is_json() {
        session.output.object(&json!({
            "mailbox": to_npub(&whose.mailbox),
            "code": whose.code,
            "asked": asks,
            "months": report.months,
            "peers": report.peers,
            "pins": report.pins,
        }))?;
    } else {
        tell(&session.output, &whose, &report, asks)?;
    }
    answered(&report.peers)
}

/// Whether any of the peers that were asked has answered.
///
/// # Errors
/// `unreachable`, with what each of them failed by: what is here is no answer to what they have.
fn answered(peers: &[PeerReport]) -> Outcome {
    if peers.is_empty() || peers.iter().any(|peer| peer.error.is_none()) {
        return Ok(Code::Done);
    }
    let why = peers.iter().map(|peer| {
        let why = one_line(peer.error.as_deref().unwrap_or_default(), REASON);
        format!("{}: {why}", place(&peer.holder))
    });
    let message = format!("no peer answered: {}", why.collect::<Vec<_>>().join("; "));
    Err(Failure::new(Code::Unreachable, "unreachable", message)
        .hint("what is stored here was shown; `--offline` asks nobody"))
}

async fn whose(session: &Session, text: Option<&str>) -> Outcome<Whose> {
    let own = session.keyring.list()?;
    let named = text.filter(|text| !own.iter().any(|entry| entry.name == **text));
    let Some(text) = named else {
        let entry = session.entry(text)?;
        return Ok(Whose { mailbox: entry.id, name: entry.name, code: Some(entry.code), at: Vec::new() });
    };
    let address = address(session, text)
        .map_err(|failure| failure.hint("name a mailbox of this computer, or anybody's code, npub or link"))?;
    let is_it = |entry: &&crate::keyring::Entry| match address.target() {
        Target::Code(code) => entry.code == code,
        Target::Mailbox(mailbox) => entry.id == mailbox,
    };
    if let Some(entry) = own.iter().find(is_it) {
        return Ok(Whose { mailbox: entry.id, name: entry.name.clone(), code: Some(entry.code), at: Vec::new() });
    }
    let live = session.open(None).await?;
    session.output.progress("looking for the mailbox …");
    // Without the network what is pinned has to be enough, and is there at once.
    let budget = if session.is_offline() { Duration::ZERO } else { session.budget(RESOLVE) };
    let found = live.talkbox.resolve(&address, budget).await;
    session.output.progress_done();
    live.close().await;
    match (found, address.target()) {
        (Ok(found), _) => {
            let (name, at) = (text.to_owned(), found.locators);
            Ok(Whose { mailbox: found.mailbox, name, code: found.code, at })
        }
        // Its log has a name all the same, and the configured peers may have it.
        (Err(error), Target::Mailbox(mailbox)) if error.kind() != ErrorKind::Storage => {
            Ok(Whose { mailbox, name: text.to_owned(), code: None, at: Vec::new() })
        }
        (Err(error), _) => {
            Err(Failure::from(error).hint("a code is looked up as for sending; an npub needs no look-up"))
        }
    }
}

fn tell(output: &Output, whose: &Whose, report: &LogReport, asked: bool) -> Outcome<()> {
    let code = whose.code.map_or_else(|| to_npub(&whose.mailbox), |code| code.to_string());
    output.line(format_args!("{BOLD}{}{BOLD:#}  {code}", one_line(&whose.name, 64)))?;
    if report.months.is_empty() {
        output.line("no entries are known")?;
    } else {
        months(output, &report.months)?;
    }
    if !asked {
        output.note("the peers were not asked: this is what is here");
    } else if report.peers.is_empty() {
        output.note("no peer is named: `peers` under [backends.ipfs] names those that keep your mail");
    }
    peers(output, report)?;
    if !report.pins.is_empty() {
        output.line("")?;
        super::pin::table(output, &report.pins, |pin| month_of(&report.months, &pin.log))?;
    }
    Ok(())
}

fn months(output: &Output, months: &[MonthReport]) -> Outcome<()> {
    let mut table = Table::new(["MONTH", "ENTRIES", "WAITING", "SIZE", "HEADS", "LOG"]);
    for month in months {
        let heads: Vec<_> = month.heads.iter().map(|head| end_of(head)).collect();
        let more = usize::try_from(month.head_count).unwrap_or(usize::MAX).saturating_sub(heads.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        table.row([
            month.month.clone(),
            month.entries.to_string(),
            month.waiting.to_string(),
            size(usize::try_from(month.bytes).unwrap_or(usize::MAX)),
            format!("{}: {}{more}", month.head_count, heads.join(" ")),
            month.address.clone(),
        ]);
    }
    table.print(output)
}

fn end_of(head: &str) -> String {
    let from = head.char_indices().rev().nth(SHORT - 1).map_or(0, |(at, _)| at);
    format!("…{}", &head[from..])
}

fn peers(output: &Output, report: &LogReport) -> Outcome<()> {
    for peer in &report.peers {
        let (style, word) = if peer.reachable { (GOOD, "reachable") } else { (BAD, "away") };
        output.line(format_args!("\n{style}{word:<9}{style:#}  {}", one_line(&peer.holder, 256)))?;
        for PeerMonth { month, entries, behind, .. } in &peer.months {
            match entries {
                None => output.line(format_args!("  {month}  {WARN}does not have it{WARN:#}"))?,
                Some(entries) if *behind == 0 => {
                    output.line(format_args!(
                        "  {month}  {}, {GOOD}in step{GOOD:#}",
                        number(*entries, "entry", "entries")
                    ))?;
                }
                Some(entries) => {
                    output.line(format_args!(
                        "  {month}  {}, {WARN}{behind} behind{WARN:#}",
                        number(*entries, "entry", "entries")
                    ))?;
                }
            }
        }
        if let Some(error) = &peer.error {
            output.line(format_args!("  {DIM}{}{DIM:#}", one_line(error, REASON)))?;
        } else if peer.months.is_empty() {
            output.line("  has nothing of this mailbox, as far as is known")?;
        }
    }
    Ok(())
}

fn month_of(months: &[MonthReport], log: &str) -> String {
    months.iter().find(|month| month.address == log).map_or_else(String::new, |month| month.month.clone())
}
