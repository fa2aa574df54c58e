//! The backend against nodes that are not what they should be, each beside an honest one.

mod answers;
mod failing;
mod hostile;
mod listing;
mod promises;
mod proofs;
mod restoring;
mod support;
mod watching;
