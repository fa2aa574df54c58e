//! Replicas: one mailbox on several networks, each of which answers for itself.
//!
//! [`Replicas`] is not a [`Mailbox`], since its answer is not one but one for each member: a member that fails is
//! reported and costs only itself, and stored is what enough distinct holders say, whichever member they are behind.

mod causes;
mod pages;
mod placement;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{
    StreamExt,
    future::join_all,
    stream::{self, BoxStream},
};

pub(crate) use self::pages::pages;
pub use self::{
    causes::Causes,
    placement::{Answer, Placement},
};
use self::{causes::copy, placement::of_refusal};
use crate::{
    DeleteRequest, EnvelopeId, Error, ErrorKind, MailboxId, Result,
    auth::Authorizer,
    envelope::Envelope,
    locator::Locator,
    mailbox::{AuditOptions, Cursor, DeleteOptions, ListOptions, Mailbox, Page, PutOptions},
    receipt::{Deletion, Holding, Receipt, Refusal},
};

/// Most holders that are asked at the same time: records name at most eight places.
const CONCURRENCY: usize = 8;
/// Confirmations that are wanted where nobody set a number, and where there are as many holders: one may die.
const DEFAULT_ACKS: usize = 2;

/// Mailboxes that hold the same mail.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    members: Vec<Replica>,
    /// Opened to reach the places of other people's mailboxes, and nothing of one's own.
    guests: Vec<Replica>,
    min_acks: Option<usize>,
}

/// A mailbox under its name.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The name of its instance.
    pub name: String,
    /// The mailbox.
    pub mailbox: Arc<dyn Mailbox>,
}

/// How to list everything.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct ListAllOptions {
    /// Who asks: the mailbox or keeper key.
    pub auth: Option<Arc<dyn Authorizer>>,
    /// Where to go on, holder by holder; from the start where a holder is not named.
    pub after: BTreeMap<Locator, Cursor>,
    /// At most so many items a page; 0 for each backend's own page size.
    pub limit: u32,
}

impl ListAllOptions {
    /// As this key.
    #[must_use]
    pub fn auth(mut self, auth: Option<Arc<dyn Authorizer>>) -> Self {
        self.auth = auth;
        self
    }

    /// From these cursors.
    #[must_use]
    pub fn after(mut self, after: impl IntoIterator<Item = (Locator, Cursor)>) -> Self {
        self.after = after.into_iter().collect();
        self
    }
}

/// A page of one holder, or what went wrong with it.
#[derive(Debug)]
pub struct Listed {
    /// The name of the member.
    pub member: String,
    /// The holder.
    pub holder: Locator,
    /// Its next page; an error is the last of this holder.
    pub page: Result<Page>,
}

impl Replicas {
    /// These mailboxes, in order of preference, and how many distinct holders have to confirm an envelope, where that
    /// was set.
    pub fn new(members: impl IntoIterator<Item = (String, Arc<dyn Mailbox>)>, min_acks: Option<usize>) -> Self {
        let members = members.into_iter().map(|(name, mailbox)| Replica { name, mailbox }).collect();
        Self { members, guests: Vec::new(), min_acks }
    }

    /// Adds a mailbox that was opened only to reach the places of other people's mailboxes.
    pub fn add_guest(&mut self, name: impl Into<String>, mailbox: Arc<dyn Mailbox>) {
        self.guests.push(Replica { name: name.into(), mailbox });
    }

    /// The members.
    pub fn members(&self) -> &[Replica] {
        &self.members
    }

    /// The holders of all members, each once, with the first member that has it.
    pub fn holders(&self) -> Vec<(&Replica, Locator)> {
        let mut seen = BTreeSet::new();
        let all =
            self.members.iter().flat_map(|member| member.mailbox.holders().into_iter().map(move |one| (member, one)));
        all.filter(|(_, holder)| seen.insert(holder.clone())).collect()
    }

    /// How many distinct holders have to confirm an envelope that goes to so many places: what was set, else two
    /// where there are two.
    pub fn min_acks(&self, places: usize) -> usize {
        self.min_acks.unwrap_or(DEFAULT_ACKS.min(places).max(1))
    }

    /// Who opens a place: the member or guest that has it among its own, else the first one that opens its scheme.
    pub fn for_locator(&self, locator: &Locator) -> Option<&Replica> {
        let opens = |one: &&Replica| one.mailbox.descriptor().schemes.contains(&locator.scheme());
        let all = || self.members.iter().chain(&self.guests).filter(opens);
        all().find(|one| one.mailbox.holders().contains(locator)).or_else(|| all().next())
    }

    /// Puts envelopes to all holders of all members, or to those of [`PutOptions::at`] through whoever opens them. One
    /// placement for each envelope, in order.
    pub async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Placement> {
        if options.at.is_empty() {
            let targets = self.members.iter().map(|member| (member, Vec::new())).collect();
            return put_to(targets, Vec::new(), envelopes, &options).await;
        }
        let (targets, refused) = self.route(&options.at);
        put_to(targets, refused, envelopes, &options).await
    }

    /// Puts envelopes to these places. One placement for each envelope, in order; a place that nobody opens is in its
    /// refusals, which say what is missing.
    pub async fn put_at(&self, envelopes: &[Envelope], at: &[Locator], options: PutOptions) -> Vec<Placement> {
        let (targets, refused) = self.route(at);
        put_to(targets, refused, envelopes, &options).await
    }

    /// Asks all holders of all members to delete, or those of [`DeleteOptions::at`]. One answer for each request.
    ///
    /// # Errors
    /// For a request that nobody took: one error that holds every cause ([`Causes`]).
    pub async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        let (targets, refused) = match options.at.is_empty() {
            true => (self.members.iter().map(|member| (member, Vec::new())).collect(), Vec::new()),
            false => self.route(&options.at),
        };
        let asked = targets.into_iter().map(|(member, at): (&Replica, Vec<Locator>)| {
            let options = options.clone().at(at);
            async move { (member, member.mailbox.delete(requests, options).await) }
        });
        let mut answers: Vec<(&Replica, std::vec::IntoIter<Result<Deletion>>)> =
            join_all(asked).await.into_iter().map(|(member, answers)| (member, answers.into_iter())).collect();
        requests
            .iter()
            .map(|_| {
                let mut all = Deletion { refused: refused.clone(), ..Deletion::default() };
                let mut causes = Vec::new();
                for (member, answers) in &mut answers {
                    match answers.next() {
                        Some(Ok(deletion)) => {
                            all.holders.extend(deletion.holders);
                            all.refused.extend(deletion.refused);
                        }
                        Some(Err(error)) => causes.push((member.name.clone(), error)),
                        None => causes.push((member.name.clone(), no_answer())),
                    }
                }
                causes.extend(all.refused.iter().map(|refusal| (refusal.holder.to_string(), of_refusal(refusal))));
                if all.holders.is_empty() { Err(Causes::into_error("delete", causes)) } else { Ok(all) }
            })
            .collect()
    }

    /// Asks every holder of all members which of these envelopes it has. One answer for each holder.
    pub async fn audit(
        &self,
        owner: MailboxId,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Vec<(Locator, Result<Vec<Holding>>)> {
        let asked = self.holders().into_iter().map(|(member, holder)| {
            let (mailbox, options) = (Arc::clone(&member.mailbox), options.clone());
            async move {
                let holdings = mailbox.audit(owner, &holder, ids, options).await;
                (holder, holdings)
            }
        });
        stream::iter(asked.collect::<Vec<_>>()).buffered(CONCURRENCY).collect().await
    }

    /// Everything that every holder has, page by page as they come, eight holders at a time. The same envelope comes
    /// from several; a holder that fails says so in its place.
    ///
    /// # Errors
    /// As the last item, where no holder gave anything: one error that holds every cause ([`Causes`]).
    pub fn list_all(&self, owner: MailboxId, options: ListAllOptions) -> BoxStream<'static, Result<Listed>> {
        let holders = self.holders();
        let listings: Vec<_> = holders
            .into_iter()
            .map(|(member, holder)| {
                let after = options.after.get(&holder).cloned();
                let list = ListOptions::default().auth(options.auth.clone()).after(after).limit(options.limit);
                let member_name = member.name.clone();
                pages(Arc::clone(&member.mailbox), owner, holder.clone(), list)
                    .map(move |page| Listed { member: member_name.clone(), holder: holder.clone(), page })
                    .boxed()
            })
            .collect();
        let listed = stream::iter(listings).flatten_unordered(CONCURRENCY);
        let whole = (false, Vec::new());
        stream::unfold((Some(listed), whole), |(listed, (mut any, mut causes))| async move {
            let mut listed = listed?;
            match listed.next().await {
                Some(item) => {
                    match &item.page {
                        Ok(_) => any = true,
                        Err(error) => causes.push((item.holder.to_string(), copy(error))),
                    }
                    Some((Ok(item), (Some(listed), (any, causes))))
                }
                None if any => None,
                None => Some((Err(Causes::into_error("list", causes)), (None, (any, Vec::new())))),
            }
        })
        .boxed()
    }

    /// Each place with who opens it; what nobody opens is a refusal.
    fn route(&self, at: &[Locator]) -> (Vec<(&Replica, Vec<Locator>)>, Vec<Refusal>) {
        let mut targets: Vec<(&Replica, Vec<Locator>)> = Vec::new();
        let mut refused = Vec::new();
        let mut seen = BTreeSet::new();
        for locator in at.iter().filter(|locator| seen.insert(*locator)) {
            let Some(member) = self.for_locator(locator) else {
                let words = format!("no backend is open for `{}:`", locator.scheme());
                refused.push(Refusal::new(locator.clone(), ErrorKind::Unsupported, &words));
                continue;
            };
            match targets.iter_mut().find(|(other, _)| std::ptr::eq(*other, member)) {
                Some((_, places)) => places.push(locator.clone()),
                None => targets.push((member, vec![locator.clone()])),
            }
        }
        (targets, refused)
    }
}

/// Puts to all targets at the same time, and sorts their answers by envelope.
async fn put_to(
    targets: Vec<(&Replica, Vec<Locator>)>,
    unopened: Vec<Refusal>,
    envelopes: &[Envelope],
    options: &PutOptions,
) -> Vec<Placement> {
    let asked = targets.into_iter().map(|(member, at)| {
        let places = if at.is_empty() { member.mailbox.holders() } else { at.clone() };
        let options = options.clone().at(at);
        async move { (member, places, member.mailbox.put(envelopes, options).await) }
    });
    let mut placements: Vec<Placement> =
        envelopes.iter().map(|_| Placement { unopened: unopened.clone(), ..Placement::default() }).collect();
    for (member, places, answers) in join_all(asked).await {
        let mut answers = answers.into_iter();
        for placement in &mut placements {
            let receipt: Result<Receipt> = answers.next().unwrap_or_else(|| Err(no_answer()));
            placement.answers.push(Answer { member: member.name.clone(), places: places.clone(), receipt });
        }
    }
    placements
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Unexpected, "the backend gave no answer")
}
