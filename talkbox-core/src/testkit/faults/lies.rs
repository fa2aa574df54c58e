//! Envelopes and records that are not what they seem.

use std::sync::Arc;

use super::Lie;
use crate::{
    EnvelopeId, MailboxId, Result,
    address::Target,
    clock::Timestamp,
    envelope::{Envelope, MAX_RETENTION, RawEnvelope},
    keys::SecretKey,
    random,
    record::{MailboxRecord, RecordFields},
    seal::{Draft, SealOptions, seal},
    shortcode::Shortcode,
};

/// Items of a huge page: ten times what any holder may give.
const HUGE: usize = 5_000;

/// The lie, told of a mailbox as envelopes.
pub(super) fn envelopes(lie: Lie, owner: MailboxId, now: Timestamp) -> Result<Vec<RawEnvelope>> {
    Ok(match lie {
        Lie::Forged => {
            let (one, other) = (fresh(owner, now)?, fresh(owner, now)?);
            let forged = RawEnvelope::new(one.id(), with_signature_of(one.json(), other.json()))?;
            vec![forged.clone(), forged]
        }
        Lie::Tampered => vec![tampered(&fresh(owner, now)?)?],
        Lie::WrongId => vec![RawEnvelope::new(random_id()?, fresh(owner, now)?.shared_json())?],
        Lie::Foreign => vec![RawEnvelope::from(&fresh(SecretKey::generate()?.id(), now)?)],
        Lie::Expired => vec![RawEnvelope::from(&fresh(owner, now.minus(MAX_RETENTION + 1))?)],
        Lie::Future => vec![RawEnvelope::from(&fresh(owner, now.plus(30 * 86_400))?)],
        Lie::Garbage => {
            let texts = ["", "null", "[]", "{\"id\":1}", "\u{0}\u{7f}", "{\"tags\":[[[[[[[[[[[[[[[["];
            texts.into_iter().map(|text| RawEnvelope::new(random_id()?, text)).collect::<Result<_>>()?
        }
        Lie::HugePage => vec![tampered(&fresh(owner, now)?)?; HUGE],
        Lie::CursorLoop | Lie::Withhold => vec![],
    })
}

/// The lie, told of a target as the JSON of records.
pub(super) fn records(lie: Lie, target: &Target, now: Timestamp) -> Result<Vec<String>> {
    Ok(match lie {
        Lie::Forged => {
            // Any other signature will do, and a record's takes work.
            let other = fresh(SecretKey::generate()?.id(), now)?;
            vec![with_signature_of(&record(target, now)?, other.json())]
        }
        Lie::Tampered => vec![record(target, now)?.replace("memory:elsewhere", "memory:nowhere")],
        Lie::Foreign => vec![record(target, now)?],
        Lie::Garbage => vec![String::new(), "{".to_owned(), "[]".to_owned(), "{\"kind\":30787}".to_owned()],
        _ => vec![],
    })
}

fn fresh(owner: MailboxId, now: Timestamp) -> Result<Envelope> {
    let sealed = seal(&Draft::text("not what it seems"), &SecretKey::generate()?, owner, now, &SealOptions::default())?;
    Ok(sealed.envelope)
}

/// A record of a mailbox that is not the target, which claims the target's code.
fn record(target: &Target, now: Timestamp) -> Result<String> {
    let key = SecretKey::generate()?;
    let code = match target {
        Target::Code(code) => *code,
        Target::Mailbox(mailbox) => Shortcode::of(mailbox),
    };
    let fields = RecordFields::new(vec!["memory:elsewhere".parse()?]);
    Ok(MailboxRecord::sign(&key, code, fields, now)?.event().to_json())
}

fn tampered(envelope: &Envelope) -> Result<RawEnvelope> {
    let content = envelope.content();
    // One symbol of base64 for another.
    let changed = if content.ends_with('A') { "B" } else { "A" };
    let changed = format!("{}{changed}", &content[..content.len() - 1]);
    RawEnvelope::new(envelope.id(), Arc::<str>::from(envelope.json().replace(content, &changed)))
}

/// The signature is the last member of the canonical form.
fn with_signature_of(one: &str, other: &str) -> String {
    const TAIL: usize = 128 + 2;
    format!("{}{}", &one[..one.len() - TAIL], &other[other.len() - TAIL..])
}

fn random_id() -> Result<EnvelopeId> {
    random::bytes().map(EnvelopeId::from_bytes)
}
