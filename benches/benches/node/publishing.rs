//! What somebody waits who publishes one event, at a rate that leaves the machine idle, beside an insert at the same
//! rate. Both in turn, so that what disturbs the machine disturbs both; both from one task, over clients that people use.

use std::{io, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use talkbox_benches::{Report, Row};
use tokio::{
    net::TcpStream,
    time::{Instant, interval},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config, tungstenite::Message};

use crate::{
    load,
    postgres::{Postgres, Rowed},
    servers::Server,
    supply::Supply,
    websocket::is_accepted,
};

/// 50 of each a second.
const EVERY: Duration = Duration::from_millis(10);
/// Of each: 40 s, and 20 that are beyond the 99th of a hundred.
const EVENTS: usize = 2_000;
/// What comes before is not counted: caches, statements.
const WARM: usize = 100;
/// Events that are stored before: each server has been through its log once, as one has that runs for a day. A log that grows
/// costs more to make durable than one that is written anew.
const STORED: usize = 20_000;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let claim = "publish until OK at 50/s: PostgreSQL's insert";
    let Some((mut ours, mut theirs)) = runtime.block_on(measure(supply))? else {
        return report.skip(claim, Postgres::why_none());
    };
    for (by, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let row = Row::beside(claim, by, percentile(&mut ours, part), percentile(&mut theirs, part), 1.3);
        report.add([if by == "p90" { row.unclaimed() } else { row }])?;
    }
    Ok(())
}

async fn measure(supply: &Supply) -> io::Result<Option<(Vec<Duration>, Vec<Duration>)>> {
    let Some(postgres) = Postgres::start().await? else { return Ok(None) };
    let node = Server::node()?;
    let stored = supply.take(STORED);
    postgres.fill(&stored).await?;
    load::over_http(node.address(), &load::batches(node.address(), &stored), STORED)?;
    let events = supply.take(WARM + EVENTS);
    let url = format!("ws://{}", node.address());
    let (mut socket, _) = connect_async_with_config(url, None, true).await.map_err(io::Error::other)?;
    let (mut ours, mut theirs, mut ticks) = (Vec::new(), Vec::new(), interval(EVERY));
    for (number, event) in events.iter().enumerate() {
        let (message, row) = (format!("[\"EVENT\",{event}]"), Rowed::new(event));
        // Each is first in turn.
        for is_ours in [number % 2 == 0, number % 2 == 1] {
            ticks.tick().await;
            let begun = Instant::now();
            if is_ours {
                publish(&mut socket, message.clone()).await?;
                ours.push(begun.elapsed());
            } else {
                postgres.insert(&row).await?;
                theirs.push(begun.elapsed());
            }
        }
    }
    Ok(Some((ours.split_off(WARM), theirs.split_off(WARM))))
}

async fn publish(socket: &mut Socket, message: String) -> io::Result<()> {
    socket.send(Message::text(message)).await.map_err(io::Error::other)?;
    while let Some(answer) = socket.next().await {
        if let Message::Text(text) = answer.map_err(io::Error::other)? {
            if is_accepted(&text) {
                return Ok(());
            }
            if text.starts_with("[\"OK\"") {
                return Err(io::Error::other(text.as_str().to_owned()));
            }
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// What so much of them is under.
pub(crate) fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    let at = (times.len() as f64 * part) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
