//! The backend on relays over real sockets: those that mean well, and those that do not.

mod faults;
mod finding;
mod hostile;
mod proxy;
mod storing;
mod support;
mod tls;
