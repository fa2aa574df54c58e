//! A node that has nothing to do.

use std::{io, thread::sleep, time::Duration};

use talkbox_benches::{Bound, Report, Row};
use talkbox_core::MailboxId;

use crate::{mib, nodes::Node};

/// Until what a start leaves behind is settled.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) fn claims(report: &Report) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let mailbox = MailboxId::from_bytes([4; 32]);
    let node = Node::start(Some(folder.path()), mailbox, 0, &[])?;
    let peer = Node::start(None, mailbox, 0, std::slice::from_ref(&node.address))?;
    sleep(SETTLE);
    let memory = mib(node.rss());
    peer.end()?;
    node.end()?;
    report.add([Row::figure("an idle node with one peer", "RSS", memory, "MiB", Some(Bound::AtMost(60.0)))])
}
