//! Criterion suites: every backend, same cases, side by side.
