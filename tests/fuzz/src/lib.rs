//! What holds for any input: one rule for each of the gate's readers of foreign bytes.
//!
//! A module is a target: its `check` reads one input and panics where the rule is broken. libFuzzer drives them
//! (`fuzz_targets`, started by `tests/fuzz/run`), and so does an ordinary test (`tests/replay.rs`) with the inputs
//! that are kept and with changes of them. See `README.md` beside this crate.

pub mod config;
#[path = "../../../src/route/generous.rs"]
mod generous;
pub mod json;
pub mod lockfile;
pub mod odata;
pub mod packument;
pub mod record;
pub mod route;
pub mod signal;
mod url;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 8] = [
    ("config", config::check),
    ("json", json::check),
    ("lockfile", lockfile::check),
    ("odata", odata::check),
    ("packument", packument::check),
    ("record", record::check),
    ("route", route::check),
    ("signal", signal::check),
];
