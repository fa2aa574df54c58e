//! Anti-entropy: the set beside a model, the messages beside those of the `negentropy` crate, byte for byte.

mod beside_the_crate;
mod changing;
mod hostile;
mod model;
mod sizes;
mod support;
mod windows;
