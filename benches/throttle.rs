//! What do a service with limits, and one with bad days, look like from behind the gate?
//!
//! `cargo bench --bench throttle` prints the tables; `cargo bench --bench throttle -- burst` one of `burst`, `install`,
//! `fairness`, `blocked`, `outage`, `flapping`. The loads are those of `tests/shows`, which the tests run in small. Beside the
//! gate stand nginx with `proxy_cache` (`peers/nginx-throttle.conf`), if it is installed, and no gate at all. Real
//! clocks, and everything in one process but nginx and the clients: about eight minutes.
//!
//! The clients of `burst` and `fairness` ask nothing twice, so that a failure is counted where it was made.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set must end the bench loudly")]

#[allow(dead_code, reason = "it serves several programs")]
#[path = "../tests/shows/mod.rs"]
mod shows;
#[allow(dead_code, reason = "it serves several programs")]
#[path = "../tests/it/support.rs"]
mod support;

use std::{
    env,
    io::{self, Write},
    time::Duration,
};

use shows::{Figures, Front};

const FRONTS: [(Front, &str); 4] = [
    (Front::Gate, "gate"),
    (Front::Nginx, "nginx"),
    (Front::Nothing, "nothing"),
    (Front::Unlimited, "nothing, no limits"),
];
const CLIENTS: usize = 200;
const TARBALLS: usize = 3_000;
const HUGE: usize = 5_000;
/// When the small installs begin, in seconds. The first one runs into the first Retry-After.
const SMALL_BEGIN: [u64; 8] = [1, 6, 10, 20, 30, 45, 60, 75];
const BLOCK: Duration = Duration::from_secs(10);
const LOCKED: usize = 320;
const ROUNDS: usize = 3;
const FLAP: Duration = Duration::from_secs(5);
const FLAPS: u32 = 24;

#[tokio::main]
async fn main() -> io::Result<()> {
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    if is_wanted("burst") {
        burst().await?;
    }
    if is_wanted("install") {
        install().await?;
    }
    if is_wanted("fairness") {
        fairness().await?;
    }
    if is_wanted("blocked") {
        blocked().await?;
    }
    if is_wanted("outage") {
        outage().await?;
    }
    if is_wanted("flapping") {
        flapping().await?;
    }
    Ok(())
}

async fn burst() -> io::Result<()> {
    say(&format!("\n{CLIENTS} clients, {TARBALLS} tarballs; 60 requests/s, 16 in flight, Retry-After 2\n"))?;
    say(Figures::head())?;
    for (front, name) in FRONTS {
        match shows::burst(front, CLIENTS, TARBALLS).await {
            Some(figures) => say(&figures.row(name))?,
            None => say(&format!("| {name} is not installed: skipped |"))?,
        }
    }
    Ok(())
}

async fn install() -> io::Result<()> {
    say("\none cold npm ci; 300 requests per 5 s, Retry-After 2\n")?;
    say(Figures::head())?;
    for (front, name) in FRONTS {
        let Some(install) = shows::install(front, None).await else {
            say(&format!("| {name} is not installed: skipped |"))?;
            continue;
        };
        say(&install.figures.row(&format!("{name}, {} packages", install.packages)))?;
        if !install.outcome.success {
            let error =
                install.outcome.stderr.lines().find(|line| line.contains("error")).unwrap_or_default();
            say(&format!("npm failed: {error}"))?;
        }
    }
    Ok(())
}

async fn fairness() -> io::Result<()> {
    let fairness = shows::fairness(HUGE, &SMALL_BEGIN.map(Duration::from_secs)).await;
    say(&format!("\n20-package installs beside one of {HUGE} packages; 60 requests/s, 16 in flight\n"))?;
    say(&format!(
        "| alone s | beside, begun at {SMALL_BEGIN:?} s | slowest but the first ÷ alone | huge one s | failed |\n|---|---|---|---|---|\n\
         | {:.2} | {:.2?} | {:.2} | {:.1} | {} |",
        fairness.alone,
        fairness.beside,
        fairness.worst(1),
        fairness.huge.seconds,
        fairness.failed
    ))
}

async fn blocked() -> io::Result<()> {
    let blocked = shows::blocked(BLOCK).await;
    say(&format!("\nthe service answers 500 \"blocked\" for {} s to cold installs\n", BLOCK.as_secs()))?;
    for (name, outcome) in &blocked.outcomes {
        let end = if outcome.success { "installed" } else { "FAILED" };
        say(&format!("{name}: {end} in {:.1} s", outcome.seconds))?;
    }
    say(&format!(
        "requests meanwhile: {}; asked again {:.1?} after the end",
        blocked.meanwhile, blocked.recovery
    ))
}

async fn outage() -> io::Result<()> {
    let seen = shows::outage(LOCKED, ROUNDS).await;
    let [healthy, refusing, hanging] = seen.medians();
    say(&format!(
        "\nnpm ci of {} packages, fresh clients, documents and verdicts too old, first-byte timeout {:?}\n",
        seen.packages,
        shows::FIRST_BYTE
    ))?;
    say(&format!(
        "| healthy s | refusing s, ÷ healthy | silent s, ÷ healthy | cold, refusing s | cold, silent s |\n|---|---|---|---|---|\n\
         | {healthy:.2} | {refusing:.2}, {:.2} | {hanging:.2}, {:.2} | {:.1} | {:.1} |",
        refusing / healthy,
        hanging / healthy,
        seen.cold[0].seconds,
        seen.cold[1].seconds
    ))?;
    for cold in &seen.cold {
        let why = cold.stderr.lines().find(|line| line.contains("error")).unwrap_or("NO FAILURE");
        say(&format!("cold: {why}"))?;
    }
    Ok(())
}

async fn flapping() -> io::Result<()> {
    let seen = shows::flapping(FLAP, FLAPS).await;
    say(&format!("\nthe service is up and down by turns of {} s, {FLAPS} turns\n", FLAP.as_secs()))?;
    say(&format!(
        "| asked | served | wrong | failed | of them while up | cut | silent | longest s |\n|---|---|---|---|---|---|---|---|\n\
         | {} | {} | {} | {} | {} | {} | {} | {:.1} |",
        seen.asked,
        seen.served,
        seen.wrong,
        seen.failed,
        seen.failed_while_up,
        seen.cut,
        seen.silent,
        seen.longest.as_secs_f64()
    ))
}

fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}
