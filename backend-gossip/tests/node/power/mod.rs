//! The power fails: the node is killed, and what it finds is what a disk has that writes nothing before it is told to.

#[cfg(target_os = "linux")]
mod failing;
