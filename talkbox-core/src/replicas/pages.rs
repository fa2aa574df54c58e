//! All pages of one holder, one after the other, whatever the holder does.

use std::sync::Arc;

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

use crate::{
    Error, ErrorKind, MailboxId, Result,
    locator::Locator,
    mailbox::{ListOptions, Mailbox, Page},
};

/// Most pages of one listing: more envelopes than a mailbox has, and an end to a holder that makes them up.
const MAX_PAGES: u32 = 100_000;
/// Most pages in a row without an item: a holder may filter, but not for ever.
const MAX_EMPTY: u32 = 64;

struct Listing {
    mailbox: Arc<dyn Mailbox>,
    owner: MailboxId,
    holder: Locator,
    options: ListOptions,
    may_restart: bool,
    pages: u32,
    empty: u32,
    next: Next,
}

enum Next {
    Ask,
    Fail(Error),
    End,
}

/// Lists a holder from a cursor to the end. An error is the last item. A cursor of another epoch of the holder begins
/// again from the start, once.
pub(crate) fn pages(
    mailbox: Arc<dyn Mailbox>,
    owner: MailboxId,
    holder: Locator,
    options: ListOptions,
) -> BoxStream<'static, Result<Page>> {
    let may_restart = options.after.is_some();
    let listing = Listing { mailbox, owner, holder, options, may_restart, pages: 0, empty: 0, next: Next::Ask };
    stream::unfold(listing, async |mut listing| {
        let page = match std::mem::replace(&mut listing.next, Next::End) {
            Next::End => return None,
            Next::Fail(error) => Err(error),
            Next::Ask => listing.ask().await,
        };
        Some((page, listing))
    })
    .boxed()
}

impl Listing {
    async fn ask(&mut self) -> Result<Page> {
        let page = loop {
            match self.mailbox.list(self.owner, &self.holder, self.options.clone()).await {
                Err(error) if error.kind() == ErrorKind::NotFound && self.may_restart => {
                    self.may_restart = false;
                    self.options.after = None;
                }
                answer => break answer?,
            }
        };
        self.pages += 1;
        self.empty = if page.items.is_empty() { self.empty + 1 } else { 0 };
        if page.more {
            let circles = page.next.is_none() || page.next == self.options.after;
            self.next = if circles || self.empty > MAX_EMPTY || self.pages >= MAX_PAGES {
                Next::Fail(self.endless())
            } else {
                Next::Ask
            };
        }
        self.options.after.clone_from(&page.next);
        Ok(page)
    }

    fn endless(&self) -> Error {
        Error::new(ErrorKind::Unexpected, "the listing of this holder does not end")
            .op("list")
            .with("holder", &self.holder)
            .with("pages", self.pages)
    }
}
