//! The simulator over real sockets: every route, every door, every fault.

mod access;
mod blob;
mod changes;
mod common;
mod connections;
mod faults;
mod feeds;
mod npm;
mod npm_writes;
mod nuget;
mod odata;
mod rest_npm;
mod rest_nuget;
mod server;
mod throttling;
