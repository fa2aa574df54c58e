//! Whole swarms that send each other real messages.

mod exchange;
mod hostile;
mod node;
