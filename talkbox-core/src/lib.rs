//! Talkbox core: sealed mailboxes with a short public code, over any kind of network.
