//! What the benchmarks share: measuring two things in turn, on two clocks; the work that nobody can leave out.

mod bare;
mod clocks;
mod pairs;
mod report;

pub use self::{
    bare::Bare,
    clocks::{Clock, Spent, Stopwatch},
    pairs::Pairs,
    report::{Bound, Report, Row, duration},
};
