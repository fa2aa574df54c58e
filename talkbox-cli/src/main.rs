//! The `talkbox` binary.

fn main() {}
