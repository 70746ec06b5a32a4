//! The gate from outside: real sockets on both sides, the simulated service behind it.

#![allow(clippy::print_stderr, reason = "the times of real installs, for who runs them by hand")]
#![allow(clippy::unwrap_used, reason = "a scene that cannot be set must fail its test loudly")]

mod access;
mod bursts;
mod documents;
mod faults;
mod identity;
mod installs;
mod outages;
mod packages;
mod process;
mod separation;
mod support;
mod tls;
mod writes;
