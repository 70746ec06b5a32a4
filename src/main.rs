//! The `feedgate` binary.

fn main() {}
