//! The simulator over real sockets: every route, every door, every fault.

mod access;
mod blob;
mod common;
mod connections;
mod faults;
mod npm;
mod nuget;
mod throttling;
