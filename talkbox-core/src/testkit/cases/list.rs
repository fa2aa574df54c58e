//! Listing: pages, cursors, ids.

use std::collections::BTreeSet;

use crate::{
    EnvelopeId, ErrorKind,
    envelope::{Envelope, MAX_BACKDATE, RawEnvelope},
    keys::SecretKey,
    mailbox::ListOptions,
    seal::{Draft, SealOptions, seal},
    testkit::{
        Harness, Outcome, Role, Verdict,
        outcome::{ensure, skip},
        scene::{list_to_the_end, scene, sealed_at},
    },
};

/// A mailbox that nobody has written to is an empty page, not an error.
pub async fn an_unknown_mailbox_is_an_empty_page(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    for holder in scene.reader.holders() {
        let (items, _) = scene.list(&holder, None).await?;
        ensure!(items.is_empty(), "{holder} lists {} items of a mailbox that is new", items.len());
    }
    Ok(Verdict::Pass)
}

/// A listing of one mailbox shows nothing of another.
pub async fn mailboxes_are_kept_apart(harness: &dyn Harness) -> Outcome {
    let (one, other) = (scene!(harness), scene!(harness));
    let (to_one, to_other) = (one.sealed("one")?.envelope, other.sealed("other")?.envelope);
    let holders = one.put_one(&to_one).await?;
    other.put_one(&to_other).await?;
    for holder in &holders {
        one.wait_listed(holder, &[to_one.id()]).await?;
        ensure!(one.ids(holder).await?.len() == 1, "{holder} lists the mail of another mailbox");
        let options = one.list_options().ids([to_other.id()]);
        let page = one.reader.list(one.mailbox(), holder, options).await?;
        ensure!(page.items.is_empty(), "{holder} gives the mail of another mailbox to who knows its id");
    }
    Ok(Verdict::Pass)
}

/// Small pages end, keep their limit, and together are everything.
pub async fn pages_lose_nothing(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let envelopes = scene.envelopes(7)?;
    let ids: Vec<EnvelopeId> = envelopes.iter().map(Envelope::id).collect();
    scene.put(&envelopes).await?;
    for holder in scene.reader.holders() {
        scene.wait_listed(&holder, &ids).await?;
        let page = scene.reader.list(scene.mailbox(), &holder, scene.list_options().limit(2)).await?;
        ensure!(page.items.len() <= 2, "{holder} gives {} items where two were asked for", page.items.len());
        let options = scene.list_options().limit(2);
        let (items, _) = list_to_the_end(&*scene.reader, scene.mailbox(), &holder, options).await?;
        let found: BTreeSet<EnvelopeId> = items.iter().map(RawEnvelope::id).collect();
        ensure!(found == ids.iter().copied().collect(), "pages of two have {} of {}", found.len(), ids.len());
    }
    Ok(Verdict::Pass)
}

/// What was there when a listing began is in it, whatever arrives between its pages.
pub async fn pages_lose_nothing_while_more_arrives(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let envelopes = scene.envelopes(6)?;
    let ids: BTreeSet<EnvelopeId> = envelopes.iter().map(Envelope::id).collect();
    scene.put(&envelopes).await?;
    let holder = scene.reader.holders().swap_remove(0);
    scene.wait_listed(&holder, &ids.iter().copied().collect::<Vec<_>>()).await?;
    let (mut found, mut after) = (BTreeSet::new(), None);
    // A holder that orders by time may list what arrives as well: it arrives for so long and no longer.
    for round in 0.. {
        let page = scene.reader.list(scene.mailbox(), &holder, scene.list_options().limit(2).after(after)).await?;
        found.extend(page.items.iter().map(RawEnvelope::id));
        after = page.next;
        if !page.more {
            break;
        }
        ensure!(round < 50, "the listing does not end");
        if round < 5 {
            scene.put_one(&scene.sealed("meanwhile")?.envelope).await?;
        }
    }
    let lost = ids.difference(&found).count();
    ensure!(lost == 0, "{lost} of {} are in no page", ids.len());
    Ok(Verdict::Pass)
}

/// The cursor of the last page leads to what arrives later.
pub async fn a_listing_goes_on_from_its_cursor(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    scene.put(&scene.envelopes(3)?).await?;
    for holder in scene.reader.holders() {
        let (_, cursor) = scene.list(&holder, None).await?;
        ensure!(cursor.is_some(), "the last page of {holder} has no cursor");
        let later = scene.sealed("later")?.envelope;
        if !scene.put_one(&later).await?.contains(&holder) {
            continue;
        }
        scene.wait_listed(&holder, &[later.id()]).await?;
        let (items, next) = scene.list(&holder, cursor).await?;
        ensure!(items.iter().any(|raw| raw.id() == later.id()), "{holder} does not list what arrived after the cursor");
        ensure!(next.is_some(), "a listing of {holder} that went on has no cursor");
    }
    Ok(Verdict::Pass)
}

/// A cursor is good for a program that was closed and opened again.
pub async fn a_cursor_survives_reopening(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    scene.put(&scene.envelopes(2)?).await?;
    let holder = scene.reader.holders().swap_remove(0);
    let (_, cursor) = scene.list(&holder, None).await?;
    scene.reader.close().await;
    let later = scene.sealed("while closed")?.envelope;
    scene.put_one(&later).await?;

    let again = harness.open(Role::Owner).await?;
    let Some(reader) = again.mailbox else { skip!("a mailbox") };
    let scene = crate::testkit::scene::Scene { reader, ..scene };
    scene.wait_listed(&holder, &[later.id()]).await?;
    let (items, _) = scene.list(&holder, cursor).await?;
    ensure!(items.iter().any(|raw| raw.id() == later.id()), "{holder} does not list what arrived after the cursor");
    Ok(Verdict::Pass)
}

/// Gift wraps are dated back by up to two days, so that time says nothing about arrival.
pub async fn a_late_arrival_with_an_old_date_is_found(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    scene.put(&scene.envelopes(2)?).await?;
    for holder in scene.reader.holders() {
        let (_, cursor) = scene.list(&holder, None).await?;
        // A minute less: some relays count from their own clock.
        let two_days_back = scene.now().minus(MAX_BACKDATE - 60);
        let options = SealOptions { backdate: false, ..SealOptions::default() };
        let sender = SecretKey::generate()?;
        let late = seal(&Draft::text("late"), &sender, scene.mailbox(), two_days_back, &options)?.envelope;
        if !scene.put_one(&late).await?.contains(&holder) {
            continue;
        }
        scene.wait_listed(&holder, &[late.id()]).await?;
        let (items, _) = scene.list(&holder, cursor).await?;
        ensure!(items.iter().any(|raw| raw.id() == late.id()), "{holder} loses what is dated two days back");
    }
    Ok(Verdict::Pass)
}

/// A listing of ids gives those that are there, whatever the cursor, and nothing else.
pub async fn listing_by_id_gives_what_was_asked_for(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let envelopes = scene.envelopes(4)?;
    let ids: Vec<EnvelopeId> = envelopes.iter().map(Envelope::id).collect();
    scene.put(&envelopes).await?;
    let unknown = sealed_at(&scene.owner, "never put", scene.now())?.envelope.id();
    for holder in scene.reader.holders() {
        scene.wait_listed(&holder, &ids).await?;
        let (_, end) = scene.list(&holder, None).await?;
        let options = ListOptions { after: end, ..scene.list_options().ids([ids[1], unknown, ids[3]]) };
        let page = scene.reader.list(scene.mailbox(), &holder, options).await?;
        let found: BTreeSet<EnvelopeId> = page.items.iter().map(RawEnvelope::id).collect();
        ensure!(found == BTreeSet::from([ids[1], ids[3]]), "{holder} gives {} items for two ids", page.items.len());
    }
    Ok(Verdict::Pass)
}

/// Who is not the owner is denied, or served; both are an answer.
pub async fn a_stranger_is_denied_or_served(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    scene.put(&scene.envelopes(1)?).await?;
    let Some(mailbox) = harness.open(Role::Stranger).await?.mailbox else { skip!("a mailbox") };
    let stranger = SecretKey::generate()?;
    for holder in mailbox.holders() {
        for auth in [scene.auth(&stranger), None] {
            let answer = mailbox.list(scene.mailbox(), &holder, ListOptions::default().auth(auth)).await;
            let kind = answer.err().map(|error| error.kind());
            ensure!(matches!(kind, None | Some(ErrorKind::Denied)), "a stranger is answered with {kind:?}");
        }
        // The holder still serves the owner afterwards.
        scene.list(&holder, None).await?;
    }
    Ok(Verdict::Pass)
}
