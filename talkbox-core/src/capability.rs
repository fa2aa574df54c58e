//! What a backend is and what it can do: few fields, so that they are read.

/// What does not change about an opened backend.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The kind of backend: `nostr`, `gossip`, `memory`, a third party's.
    pub backend: &'static str,
    /// The name of this instance in the configuration; the kind where it has none of its own.
    pub name: String,
    /// The schemes of the locators that it opens.
    pub schemes: &'static [&'static str],
}

impl Descriptor {
    /// A backend of this kind, under this name, opening these schemes.
    pub fn new(backend: &'static str, name: impl Into<String>, schemes: &'static [&'static str]) -> Self {
        Self { backend, name: name.into(), schemes }
    }
}

/// What a mailbox can do. The `Check` layer refuses a call outside of them before it reaches the network.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `watch` gives a stream.
    pub watch: bool,
    /// `delete` does something.
    pub delete: bool,
    /// What is stored survives a restart of the holder.
    pub durable: bool,
    /// Most bytes of one envelope.
    pub max_envelope_bytes: u32,
    /// How long holders keep what does not expire sooner, in seconds, where they say so.
    pub retention: Option<u64>,
}

impl Capabilities {
    /// All of the operations, durable, and envelopes of the largest size.
    pub const FULL: Self = Self {
        watch: true,
        delete: true,
        durable: true,
        max_envelope_bytes: crate::envelope::MAX_ENVELOPE_BYTES as u32,
        retention: None,
    };
}
