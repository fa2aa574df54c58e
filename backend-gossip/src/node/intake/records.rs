//! The thread that checks whether the shortcode of a record is that of its key: 0.2 s and 64 MiB each, so one at a
//! time, and only for records whose signature and work have been checked.

use std::{sync::Arc, thread};

use talkbox_core::{Error, ErrorKind, MailboxRecord, Result};
use tokio::sync::mpsc;

use super::ticket::Ticket;
use crate::node::{
    admitted::Admitted,
    refusal::{Prefix, Refusal},
    store::Writer,
};

/// Records that wait. The last of them is answered after about 6 s, within what clients wait for an OK.
const QUEUE: usize = 32;

/// A record to check, and what becomes of it then.
#[derive(Debug)]
struct Job {
    record: MailboxRecord,
    event: Arc<Admitted>,
    ticket: Ticket,
}

/// The way to the thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Records {
    queue: mpsc::Sender<Job>,
}

impl Records {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Unexpected` where the system gives no thread.
    pub(crate) fn start(writer: Writer) -> Result<Self> {
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
        thread::Builder::new()
            .name("node-records".to_owned())
            .spawn(move || {
                while let Some(Job { record, event, ticket }) = jobs.blocking_recv() {
                    if record.code().matches(&record.mailbox()) {
                        writer.admit(event, ticket);
                    } else {
                        ticket.refuse(Refusal::invalid("the d tag is not the shortcode of the key"));
                    }
                }
            })
            .map_err(|error| Error::new(ErrorKind::Unexpected, "no thread for records").source(error))?;
        Ok(Self { queue })
    }

    /// Queues a record that is otherwise verified; refuses it where too many wait.
    pub(crate) fn check(&self, record: MailboxRecord, event: Arc<Admitted>, ticket: Ticket) {
        if let Err(refused) = self.queue.try_send(Job { record, event, ticket }) {
            let job = refused.into_inner();
            job.ticket
                .refuse(Refusal::new(Prefix::RateLimited, "many records are being checked; try again in a minute"));
        }
    }
}
