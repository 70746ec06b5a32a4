//! How fast is the gate beside what a build farm could put there instead?
//!
//! `cargo bench --bench peers` prints the tables; `cargo bench --bench peers -- hits install document` only those. Needs
//! the peers, which `deploy/setup --peers` brings. Each front stands before the same simulated service; the server that
//! is measured has one core and one thread or worker, and everything else another core. Rounds alternate, medians are
//! printed, and bodies are checked (`load.rs`). `PEERS_ROUNDS` and `PEERS_SECONDS` set how many rounds, and how long
//! they are; `PEERS_CASE` is a part of the names of the cases that are run; `PEERS_GATE` is another build of the gate,
//! to compare two.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it has settings, real clocks, and servers that do not tell when they listen"
)]

mod content;
mod document;
mod fronts;
mod hits;
mod install;
mod load;
mod process;

use std::{env, io::Write, str::FromStr};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Run by `cargo test --benches`: nothing to measure in an unoptimised gate.
    if cfg!(debug_assertions) && env::var_os(fronts::GATE).is_none() {
        return Ok(());
    }
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    if is_wanted("hits") {
        hits::table().await?;
    }
    if is_wanted("document") {
        document::table().await?;
    }
    if is_wanted("install") {
        install::table().await?;
    }
    Ok(())
}

/// A number from the environment.
fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn say(line: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}
