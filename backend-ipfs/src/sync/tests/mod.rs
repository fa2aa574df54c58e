//! Both sides over a pipe in memory, well-behaved ones and others.

mod archive;
mod exchanging;
mod holding;
mod hostile;
mod publishing;
mod support;

pub(super) use self::support::pipe;
