//! Pinning: a service keeps what is in a mailbox while no node of one's own is there.
//!
//! - The [`root`] of a month stands above all blocks of its log, and is what a service pins.
//! - A [`service`] is asked over the Pinning Service API 1.0.0. Which ones there are stands in the [`settings`], each with
//!   the file of its [`token`].
//! - The [`keeper`] asks each service for each log, at its [`pace`], and remembers in its [`ledger`] what it asked for.
//! - What is said of it to the rest is in [`report`], and to those outside in [`view`].

mod api;
mod books;
mod delegates;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod keeper;
mod ledger;
mod pace;
mod refused;
mod report;
mod request;
mod root;
mod service;
mod settings;
mod shelf;
mod stored;
#[cfg(test)]
mod tests;
mod token;
mod view;
mod visit;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::root::Root;
pub(crate) use self::{
    keeper::{Keeper, KeeperParts},
    pace::Pace,
    report::Standing,
    service::{HttpService, PinService, connections},
    settings::{Service, services},
    shelf::Peers,
};
pub use self::{
    report::{PinLine, PinList, PinReport},
    settings::{PinSettings, read_pins},
    view::{pin_list, pin_status, pin_tokens},
};
