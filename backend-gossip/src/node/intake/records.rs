//! The thread that checks whether the shortcode of a record is that of its key: 0.2 s and 64 MiB each, so one at a
//! time, and only for records whose signature and work have been checked.

use std::{sync::Arc, thread};

use talkbox_core::{Error, ErrorKind, MailboxRecord, Result};
use tokio::sync::mpsc;

use super::ticket::Ticket;
use crate::node::{
    admitted::Admitted,
    context::Work,
    refusal::{Reason, Refusal},
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

impl Job {
    fn run(self, writer: &Writer) {
        if self.record.code().matches(&self.record.mailbox()) {
            writer.admit(self.event, self.ticket);
        } else {
            self.ticket.refuse(Refusal::malformed("the d tag is not the shortcode of the key"));
        }
    }
}

/// The way to the thread, if there is one. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Records {
    queue: Option<mpsc::Sender<Job>>,
    writer: Writer,
}

impl Records {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Unexpected` where the system gives no thread.
    pub(crate) fn start(writer: Writer, work: Work) -> Result<Self> {
        if work == Work::Inline {
            return Ok(Self { queue: None, writer });
        }
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
        let passed = writer.clone();
        thread::Builder::new()
            .name("node-records".to_owned())
            .spawn(move || {
                while let Some(job) = jobs.blocking_recv() {
                    job.run(&passed);
                }
            })
            .map_err(|error| Error::new(ErrorKind::Unexpected, "no thread for records").source(error))?;
        Ok(Self { queue: Some(queue), writer })
    }

    /// Queues a record that is otherwise verified; refuses it where too many wait.
    pub(crate) fn check(&self, record: MailboxRecord, event: Arc<Admitted>, ticket: Ticket) {
        let job = Job { record, event, ticket };
        let Some(queue) = &self.queue else { return job.run(&self.writer) };
        if let Err(refused) = queue.try_send(job) {
            let job = refused.into_inner();
            job.ticket
                .refuse(Refusal::new(Reason::RateLimited, "many records are being checked; try again in a minute"));
        }
    }
}
