//! What the node says of itself (NIP-11).

use serde_json::{Value, json};
use talkbox_core::{
    PublicKey,
    envelope::{MAX_ENVELOPE_BYTES, MAX_FUTURE},
};

use super::{config::NodeConfig, policy::MAX_TAGS, session::MAX_SUBSCRIPTION_NAME};

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
            "created_at_upper_limit": MAX_FUTURE,
        },
    })
}
