//! The first page: health, savings over time, throttle, breakers, feeds, packages, refusals.

use serde_json::Value;

use super::{
    begin,
    html::{Column, Html},
    store::Wanted,
};
use crate::{
    admin::{problem::Problem, stats::Stats},
    config::units::{rough_size, rough_span},
};

/// Size of a chart in its own units.
const WIDTH: usize = 480;
const HEIGHT: f64 = 100.0;

pub(super) async fn page(stats: &Stats) -> Result<Html, Problem> {
    let stats = stats.read().await?;
    let ready =
        if stats["ready"] == true { ("good", "ready".to_owned()) } else { ("warn", "draining".to_owned()) };
    let mode = word(&stats["mode"]);
    let calm = if mode == "fallback" { "good" } else { "warn" };
    let mut pills = vec![ready, (calm, format!("mode {mode}"))];
    let dead = rows(&stats["breakers"]).filter(|host| host["state"] != "closed").count();
    if dead > 0 {
        pills.push(("bad", format!("{dead} hosts not answering")));
    }
    let mut html = begin(&pills, &Wanted::default());
    cards(&mut html, &stats);
    charts(&mut html, &stats);
    throttle(&mut html, &stats["throttle"]);
    breakers(&mut html, &stats["breakers"]);
    lately(&mut html, &stats);
    html.raw("</main><footer>feedgate ").text(word(&stats["version"]));
    html.raw(
        " · <a href=\"/metrics\">metrics</a> · <a href=\"/admin/v1/stats\">these figures as JSON</a> · ",
    );
    html.raw("<a href=\"/admin/v1/openapi.json\">API</a></footer>");
    Ok(html)
}

fn cards(html: &mut Html, stats: &Value) {
    let (totals, store) = (&stats["totals"], &stats["store"]);
    let ratio = stats["hit_ratio"].as_f64().map_or("–".to_owned(), percent);
    html.raw("<div class=\"cards\">");
    card(html, "hit ratio", &ratio, &format!("of {} requests since the start", totals["requests"]));
    card(
        html,
        "bytes saved",
        &size(&totals["saved_bytes"]),
        &format!("of {} sent", size(&totals["sent_bytes"])),
    );
    card(html, "requests saved", &word(&totals["saved_requests"]), "that the service did not get");
    let (used, capacity) = (size(&store["disk_bytes"]), size(&store["capacity_bytes"]));
    html.raw("<div class=\"card\"><span>store</span><b>").text(used).raw("</b><span>of ").text(capacity);
    html.raw(", ").text(&store["blobs"]).raw(" blobs</span><progress aria-label=\"Store use\" value=\"");
    html.text(&store["disk_bytes"])
        .raw("\" max=\"")
        .text(&store["capacity_bytes"])
        .raw("\"></progress></div></div>");
}

fn card(html: &mut Html, name: &'static str, figure: &str, more: &str) {
    html.raw("<div class=\"card\"><span>").raw(name).raw("</span><b>").text(figure).raw("</b><span>");
    html.text(more).raw("</span></div>");
}

#[expect(clippy::cast_precision_loss, reason = "it is drawn")]
fn charts(html: &mut Html, stats: &Value) {
    let stretches: Vec<_> = rows(&stats["history"]).collect();
    let number = |stretch: &Value, key: &str| stretch[key].as_u64().unwrap_or_default() as f64;
    let ratio = |stretch: &&Value| {
        let requests = number(stretch, "requests");
        if requests > 0.0 { number(stretch, "hits") / requests } else { 0.0 }
    };
    let ratios: Vec<_> = stretches.iter().map(ratio).collect();
    let saved: Vec<_> = stretches.iter().map(|stretch| number(stretch, "saved_bytes")).collect();
    let most = saved.iter().copied().fold(0.0, f64::max);
    let span = match (stretches.first(), stretches.last()) {
        (Some(first), Some(last)) => {
            let seconds = |stretch: &Value, key: &str| stretch[key].as_u64().unwrap_or_default();
            rough_span(seconds(last, "at").saturating_sub(seconds(first, "from"))) + " ago"
        }
        _ => String::new(),
    };
    let peak =
        stretches.iter().filter_map(|stretch| stretch["saved_bytes"].as_u64()).max().unwrap_or_default();
    html.raw("<div class=\"halves\">");
    chart(html, "Hit ratio over time", (&ratios, 1.0), &span, "full height: 100 %", |ratio| percent(*ratio));
    let height = format!("full height: {}", rough_size(peak));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was a whole number")]
    chart(html, "Bytes saved over time", (&saved, most), &span, &height, |bytes| rough_size(*bytes as u64));
    html.raw("</div>");
}

/// Bars from the oldest to the newest; each tells its figure when it is pointed at.
#[expect(clippy::cast_precision_loss, reason = "it is drawn")]
fn chart(
    html: &mut Html,
    heading: &'static str,
    (figures, most): (&[f64], f64),
    span: &str,
    height: &str,
    tell: impl Fn(&f64) -> String,
) {
    html.raw("<section><h2>")
        .raw(heading)
        .raw("</h2><figure><svg viewBox=\"0 0 480 100\" preserveAspectRatio=\"none\" ");
    html.raw("role=\"img\" aria-label=\"").raw(heading).raw("\">");
    let step = WIDTH as f64 / figures.len().max(1) as f64;
    for (index, figure) in figures.iter().enumerate() {
        let top = if most > 0.0 { figure / most * (HEIGHT - 2.0) } else { 0.0 };
        html.raw("<rect class=\"bar\" x=\"").text(format_args!("{:.2}", step * index as f64));
        html.raw("\" y=\"").text(format_args!("{:.2}", HEIGHT - top));
        html.raw("\" width=\"").text(format_args!("{:.2}", (step * 0.82).min(40.0)));
        html.raw("\" height=\"").text(format_args!("{top:.2}"));
        html.raw("\"><title>").text(tell(figure)).raw("</title></rect>");
    }
    html.raw("<line class=\"base\" x1=\"0\" y1=\"99.5\" x2=\"480\" y2=\"99.5\"/></svg><figcaption><span>");
    html.text(span)
        .raw("</span><span>")
        .text(height)
        .raw("</span><span>now</span></figcaption></figure></section>");
}

fn throttle(html: &mut Html, throttle: &Value) {
    let mut lines = Vec::new();
    for (class, figures) in throttle.as_object().into_iter().flatten() {
        let sum = |key: &str| {
            let counts = figures[key].as_object().into_iter().flatten();
            counts.filter_map(|(_, count)| count.as_u64()).sum::<u64>().to_string()
        };
        for (budget, name) in [("gate", "gate"), ("tightest_identity", "tightest identity")] {
            let figures = &figures[budget];
            if figures.is_null() {
                continue;
            }
            let pause = figures["pause_seconds"].as_f64().unwrap_or_default();
            let ends = if budget == "gate" { [sum("queued"), sum("shed")] } else { Default::default() };
            let [queued, shed] = ends;
            lines.push(vec![
                format!("{class}, {name}"),
                format!("{} of {}", figures["in_flight"], figures["in_flight_limit"]),
                rounded(&figures["requests_per_second"]),
                rounded(&figures["remaining"]),
                if pause > 0.0 { format!("{pause:.1} s") } else { "–".to_owned() },
                queued,
                shed,
            ]);
        }
    }
    let columns = [
        Column::Left("hosts, budget"),
        Column::Right("in flight"),
        Column::Right("per second"),
        Column::Right("remaining"),
        Column::Right("pause"),
        Column::Right("queued"),
        Column::Right("shed"),
    ];
    html.table("Throttle", &columns, &lines);
}

fn breakers(html: &mut Html, hosts: &Value) {
    let line = |host: &Value| {
        vec![word(&host["host"]), word(&host["class"]), word(&host["state"]), rounded(&host["seconds_left"])]
    };
    let lines: Vec<_> = rows(hosts).map(line).collect();
    let columns = [
        Column::Left("host"),
        Column::Left("class"),
        Column::Left("state"),
        Column::Right("asked again in, s"),
    ];
    html.table("Breakers", &columns, &lines);
}

fn lately(html: &mut Html, stats: &Value) {
    let seconds = |value: &Value| format!("{:.3} s", value.as_f64().unwrap_or_default());
    let feed = |one: &Value| {
        vec![
            word(&one["feed"]),
            word(&one["requests"]),
            seconds(&one["mean_seconds"]),
            seconds(&one["longest_seconds"]),
        ]
    };
    let feeds: Vec<_> = rows(&stats["slowest_feeds"]).map(feed).collect();
    let columns =
        [Column::Left("feed"), Column::Right("requests"), Column::Right("mean"), Column::Right("longest")];
    html.raw("<div class=\"halves\">").table("Slowest feeds, last 10 to 20 minutes", &columns, &feeds);
    let package = |one: &Value| {
        let name = if one["package"].is_null() { &one["storage_id"] } else { &one["package"] };
        vec![
            format!("{} {}", word(name), one["version"].as_str().unwrap_or_default()),
            word(&one["feed"]),
            size(&one["bytes"]),
        ]
    };
    let packages: Vec<_> = rows(&stats["largest_packages"]).map(package).collect();
    let columns = [Column::Left("package"), Column::Left("feed"), Column::Right("size")];
    html.table("Largest packages", &columns, &packages).raw("</div>");
    let refusal = |one: &Value| {
        let ago = one["age"].as_u64().map(rough_span).unwrap_or_default();
        vec![word(&one["key"]), word(&one["status"]), word(&one["code"]), word(&one["client"]), ago]
    };
    let refusals: Vec<_> = rows(&stats["refusals"]).map(refusal).collect();
    let columns = [
        Column::Left("asked for"),
        Column::Right("status"),
        Column::Left("code"),
        Column::Left("client"),
        Column::Right("ago"),
    ];
    html.table("Recent refusals", &columns, &refusals);
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value without the quotes of JSON.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) if text.is_empty() => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn size(value: &Value) -> String {
    value.as_u64().map_or("–".to_owned(), rough_size)
}

fn rounded(value: &Value) -> String {
    value.as_f64().map_or("–".to_owned(), |number| format!("{number:.1}"))
}

fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}
