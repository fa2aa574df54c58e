//! What some filters match, newest first, as JSON and a page at a time: while a client takes its time, nothing of the store
//! is taken or kept for it but where to go on.

use std::sync::Arc;

use rusqlite::Connection;
use talkbox_core::Result;

use super::{
    Store,
    query::{self, Key, Reader},
    rot::Rot,
    search::Newest,
    walk::Walk,
};
use crate::node::filter::Filter;

/// Pages to come.
#[derive(Debug)]
pub(crate) struct Pages {
    reader: Reader,
    way: Way,
}

/// How they are come by.
#[derive(Debug)]
enum Way {
    /// The mail of one mailbox, which is what nearly everybody asks for: in the order of its index.
    Walk(Walk),
    /// Anything else: all of it has been found, and is read from this one on.
    Found { keys: Arc<[Key]>, from: usize, last: i64 },
}

impl Pages {
    /// Where there are no more of them, the last place in the order of arrival that was looked at.
    pub(crate) fn end(&self) -> Option<i64> {
        match &self.way {
            Way::Walk(walk) => walk.end(),
            Way::Found { keys, from, last } => (*from == keys.len()).then_some(*last),
        }
    }

    /// As many events as fit into so many bytes, but at least one. What has gone is left out.
    fn next(&mut self, conn: &Connection, bytes: usize, rot: &Rot) -> rusqlite::Result<Vec<String>> {
        let (keys, from) = match &mut self.way {
            Way::Walk(walk) => return walk.page(conn, &self.reader, bytes, rot),
            Way::Found { keys, from, .. } => (keys, from),
        };
        let (mut page, mut size) = (Vec::new(), 0);
        while let Some(key) = keys.get(*from).filter(|_| size < bytes) {
            *from += 1;
            if let Some(json) = query::event(conn, key.seq, &self.reader, rot)? {
                size += json.len();
                page.push(json);
            }
        }
        Ok(page)
    }
}

impl Store {
    /// The newest that the filters match, of each at most so many.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn newest(&self, filters: Arc<[Filter]>, reader: Reader, most: usize) -> Result<Pages> {
        let walk = match &*filters {
            [filter] => Walk::along(filter, most),
            _ => None,
        };
        let way = match walk {
            Some(walk) => Way::Walk(walk),
            None => {
                let (found, last) = self.search(filters, reader.clone(), Newest::new(most)).await?;
                Way::Found { keys: found.keys().into(), from: 0, last }
            }
        };
        Ok(Pages { reader, way })
    }

    /// The next page: as many events as JSON as fit into so many bytes, but at least one, unless there are no more. What
    /// has gone is left out.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn page(&self, mut pages: Pages, bytes: usize) -> Result<(Pages, Vec<String>)> {
        let (party, rot) = (pages.reader.party, Arc::clone(&self.rot));
        let next = move |conn: &Connection| {
            let page = pages.next(conn, bytes, &rot)?;
            Ok((pages, page))
        };
        self.read(party, next).await
    }
}
