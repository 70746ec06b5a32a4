//! The gate from outside: real sockets on both sides, the simulated service behind it.

#![allow(clippy::print_stderr, reason = "the times of real installs, for who runs them by hand")]
#![allow(clippy::unwrap_used, reason = "a scene that cannot be set must fail its test loudly")]

mod access;
mod admin;
mod audit;
mod bombs;
mod bursts;
mod changes;
mod clients;
mod command_line;
mod control;
mod derived;
mod documents;
mod egress;
mod explain;
mod faults;
mod guard_ages;
mod guard_ways;
mod guards;
mod hits;
mod identity;
mod installs;
mod lifecycle;
mod listings;
mod load;
mod logs;
mod matrix;
mod metrics;
mod modes;
mod mount_access;
mod mounts;
mod objects;
mod outages;
mod packages;
mod pins;
mod process;
mod reference;
mod refresh;
mod resume;
#[allow(dead_code, reason = "it serves several test programs")]
#[path = "../support/mod.rs"]
mod scripted;
mod secrets;
mod separation;
mod server;
#[allow(dead_code, reason = "it serves several programs")]
#[path = "../shows/mod.rs"]
mod shows;
mod status;
mod support;
mod throttled_service;
mod throttling;
mod timing;
mod tls;
mod traces;
mod verify;
mod warm;
mod watchdog;
mod writes;
