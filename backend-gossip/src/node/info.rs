//! What the node says of itself (NIP-11).

use serde_json::{Value, json};
use talkbox_core::{
    PublicKey,
    envelope::{DEFAULT_RETENTION, MAX_ENVELOPE_BYTES, MAX_FUTURE, MAX_RETENTION},
    record::{MAX_RECORD_BYTES, RECORD_WORK},
};

use super::{
    config::NodeConfig,
    policy::{KINDS, MAX_TAG_VALUE, MAX_TAGS},
    session::MAX_SUBSCRIPTION_NAME,
};

/// The NIPs that the node keeps to.
const NIPS: [u16; 10] = [1, 9, 11, 13, 40, 42, 45, 59, 62, 77];

/// The information document.
pub(crate) fn document(config: &NodeConfig, key: &PublicKey) -> Value {
    let limits = &config.limits;
    json!({
        "name": config.name,
        "description": "A Talkbox node: it keeps sealed mailboxes. Gift wraps are served to their recipient and author.",
        // Who signs its receipts.
        "self": key.to_hex(),
        "supported_nips": NIPS,
        "negentropy": 1,
        // NIP-11 wants a URL here; the package has none.
        "software": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "limitation": {
            "max_message_length": limits.max_message_bytes,
            "max_subscriptions": limits.max_subscriptions,
            "max_filters": limits.max_filters,
            "max_limit": limits.max_limit,
            "default_limit": limits.max_limit,
            "max_subid_length": MAX_SUBSCRIPTION_NAME,
            "max_event_tags": MAX_TAGS,
            "max_content_length": MAX_ENVELOPE_BYTES,
            "min_pow_difficulty": limits.min_work,
            "auth_required": false,
            "payment_required": false,
            // Only some kinds are taken.
            "restricted_writes": true,
            "created_at_lower_limit": MAX_RETENTION,
            "created_at_upper_limit": MAX_FUTURE,
        },
        // What NIP-11 has no field for: it had `retention`, and has no more.
        "talkbox": {
            "kinds": KINDS,
            "max_event_bytes": { "1059": MAX_ENVELOPE_BYTES, "others": MAX_RECORD_BYTES },
            "max_tag_value_bytes": MAX_TAG_VALUE,
            "max_filter_values": limits.max_values,
            "min_record_pow_difficulty": RECORD_WORK,
            // Seconds from `created_at`: without an expiration, and at most.
            "retention": { "default": DEFAULT_RETENTION, "max": MAX_RETENTION },
            // Of one address; `null` for any number.
            "events_per_second": any(limits.events_per_second),
            "requests_per_second": any(limits.requests_per_second),
            "burst_seconds": limits.burst_seconds,
            "max_connections": limits.max_connections_per_address,
            "max_mailbox_events": limits.max_mailbox_events,
            "max_mailbox_bytes": limits.max_mailbox_bytes,
        },
    })
}

/// A rate, where there is one.
fn any(rate: u32) -> Option<u32> {
    Some(rate).filter(|rate| *rate > 0)
}
