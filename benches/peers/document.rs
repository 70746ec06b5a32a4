//! A packument of 40 MB: what building its representation takes, and what others notice of it.

use std::time::Duration;

use feedgate_simulator::{Simulator, client};

use crate::{
    Failure,
    content::{self, PAT},
    fronts::{Front, Kind},
    load::Load,
    median, say, setting,
};

const LARGE: &str = "doc-40m";
const OTHERS: &str = "doc-8k";
const HEADERS: [(&str, &str); 2] =
    [("Accept", "application/vnd.npm.install-v1+json"), ("Accept-Encoding", "gzip")];

/// Each round has a gate of its own. The document is asked for one second after the load on others began.
pub async fn table() -> Result<(), Failure> {
    let simulator = Simulator::builder()
        .organisation(content::organisation(content::feed()))
        .without_log()
        .start()
        .await?;
    let rounds = setting("PEERS_ROUNDS", 5);
    let length =
        client::get(&format!("{}{LARGE}", simulator.npm_url(content::FEED)), &[]).await?.body.len() as f64;
    let mut figures = <[Vec<f64>; 5]>::default();
    for _ in 0..rounds {
        let seen = round(&simulator).await?;
        figures.iter_mut().zip(seen).for_each(|(all, one)| all.push(one));
    }
    let [seconds, extra, kept, quiet, beside] = figures.map(median);
    say(&format!("\na packument of {:.1} MB, as npm asks; medians of {rounds} rounds\n", length / 1e6))?;
    say("| built in s | peak extra memory, MB | ÷ its size | kept MB | p99 of others, ms | meanwhile |")?;
    say("|---|---|---|---|---|---|")?;
    say(&format!(
        "| {seconds:.2} | {extra:.0} | {:.2} | {kept:.0} | {quiet:.2} | {beside:.2} |",
        extra * 1e6 / length
    ))
}

async fn round(simulator: &Simulator) -> Result<[f64; 5], Failure> {
    let front = Front::start(Kind::Gate, simulator)?;
    let time = Duration::from_secs(setting("PEERS_SECONDS", 4));
    // One connection: the gate is not to be busy with it.
    let others = Load { path: OTHERS, headers: &HEADERS, connections: 1, among: 1, time };
    let body = others.check(&front, None).await?;
    let alone = others.run(&front, &body).await?;
    let before = front.process.rss();
    front.process.reset_peak()?;
    let (beside, seconds) = tokio::join!(others.run(&front, &body), large(&front));
    let (beside, seconds) = (beside?, seconds?);
    let extra = front.process.peak() - before;
    Ok([seconds, extra, front.process.rss() - before, alone.times[1], beside.times[1]])
}

async fn large(front: &Front) -> Result<f64, Failure> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let basic = client::basic("any", PAT);
    let headers = [&HEADERS[..], &[("Authorization", basic.as_str())]].concat();
    let begun = std::time::Instant::now();
    let response = client::get(&format!("{}{LARGE}", front.registry()), &headers).await?;
    if response.status != 200 || !response.complete {
        return Err(format!("the large document: {}", response.status).into());
    }
    Ok(begun.elapsed().as_secs_f64())
}
