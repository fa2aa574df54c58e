//! The cases. Each is an ordinary function whose name says what is right; the list of them is in `run.rs`.

mod audit;
mod delete;
mod faults;
mod life;
mod list;
mod put;
mod reconcile;
mod transport;
mod watch;

pub use self::{audit::*, delete::*, faults::*, life::*, list::*, put::*, reconcile::*, transport::*, watch::*};
