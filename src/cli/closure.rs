//! What `warm`, `drill` and `export` have in common: lockfiles, the feed where they name none, and a credential.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::Context;
use crate::{
    config::changes::FeedName,
    ident::FeedRef,
    lockfile::{self, Foreign, Need},
    route,
};

/// User name beside a token that is given alone; the service takes any.
const USER: &str = "feedgate";
/// Problems that are printed; `--json` has all.
const PRINTED: usize = 50;

/// Which builds are meant.
#[derive(Debug, clap::Args)]
pub(super) struct Closure {
    /// Lockfiles: package-lock.json, npm-shrinkwrap.json, pnpm-lock.yaml, yarn.lock, bun.lock, packages.lock.json,
    /// packages.config, project.assets.json.
    #[arg(long = "lockfile", value_name = "FILE", num_args = 1..)]
    pub(super) lockfiles: Vec<PathBuf>,
    /// Feed of what the lockfile has no URL of a feed for: organisation/feed or organisation/project/feed.
    #[arg(long, value_name = "FEED", conflicts_with = "registry")]
    feed: Option<FeedName>,
    /// The same as the registry's URL in `.npmrc` or `nuget.config`, which may name a view.
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// Leave out what is for other platforms or may fail.
    #[arg(long)]
    omit_optional: bool,
}

/// Whose credential is shown.
#[derive(Debug, clap::Args)]
pub(super) struct Credential {
    /// Variable with the credential that the builds show: `user:token` as they send it, a token alone, or a whole
    /// `Authorization` (`Basic …`, `Bearer …`). What is stored is read by those only whom the service lets read the feed.
    #[arg(long, value_name = "VARIABLE")]
    credential_env: Option<String>,
}

/// What the builds need.
pub(super) struct Needs {
    pub(super) needs: Vec<Need>,
    pub(super) foreign: Vec<Foreign>,
}

// === impl Closure ===

impl Closure {
    /// Reads the lockfiles.
    pub(super) fn read(&self) -> anyhow::Result<Needs> {
        let feed = self.feed()?;
        let mut all = Needs { needs: Vec::new(), foreign: Vec::new() };
        for file in &self.lockfiles {
            let name = file.display().to_string();
            let bytes = std::fs::read(file).with_context(|| name.clone())?;
            let lockfile = lockfile::read(&name, &bytes)?;
            let needs = lockfile::needs(&lockfile, feed.as_ref()).with_context(|| name.clone())?;
            all.needs.extend(needs.into_iter().filter(|need| !(self.omit_optional && need.optional)));
            all.foreign.extend(lockfile.foreign);
        }
        Ok(all)
    }

    /// The feed that is named, without the view.
    pub(super) fn feed_name(&self) -> anyhow::Result<Option<String>> {
        Ok(self.feed()?.map(|feed| FeedName::of(&feed).to_string()))
    }

    fn feed(&self) -> anyhow::Result<Option<FeedRef>> {
        if let Some(feed) = &self.feed {
            return Ok(Some(feed.feed().clone()));
        }
        let Some(url) = &self.registry else { return Ok(None) };
        let place = url.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        let Some((host, path)) = place else { bail!("--registry `{url}` must be an http URL with a path") };
        let route =
            route::parse(Some(host), &format!("/{path}")).with_context(|| format!("--registry `{url}`"))?;
        let feed = route.target.feed().cloned();
        Ok(Some(
            feed.with_context(|| format!("--registry `{url}` names no feed: it has no `_packaging/FEED`"))?,
        ))
    }
}

// === impl Credential ===

impl Credential {
    /// The `Authorization` that is meant.
    pub(super) fn read(&self, context: &Context) -> anyhow::Result<Option<String>> {
        self.credential_env.as_deref().map(|variable| authorization(context, variable)).transpose()
    }
}

// === impl Needs ===

impl Needs {
    /// As the admin API takes them.
    pub(super) fn to_json(&self) -> Value {
        let need = |need: &Need| {
            json!({
                "label": need.label,
                "path": need.path,
                "integrity": need.integrity.as_ref().map(ToString::to_string),
                "optional": need.optional,
            })
        };
        self.needs.iter().map(need).collect()
    }
}

/// The `Authorization` that a variable holds.
pub(super) fn authorization(context: &Context, variable: &str) -> anyhow::Result<String> {
    let value = context.variable(variable).map(str::trim).filter(|value| !value.is_empty());
    let value = value.with_context(|| format!("the variable `{variable}` is not set"))?;
    Ok(header(value))
}

fn header(value: &str) -> String {
    if value.starts_with("Basic ") || value.starts_with("Bearer ") {
        return value.to_owned();
    }
    let pair = if value.contains(':') { value.to_owned() } else { format!("{USER}:{value}") };
    format!("Basic {}", BASE64.encode(pair))
}

/// The report of an errand for people.
pub(super) fn text(report: &Value, foreign: &[Foreign]) -> String {
    let number = |key: &str| report[key].as_u64().unwrap_or(0);
    let (needed, good) = (number("needed"), number("good"));
    let counts: Vec<_> = report["counts"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, count)| **count != json!(0))
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let mut text = format!("{good} of {needed} there: {} %; {}\n", percent(good, needed), counts.join(", "));
    // Writing to a string cannot fail.
    let _ =
        writeln!(text, "{} bytes read, {} checked against the lockfile", number("bytes"), number("checked"));
    let documents: Vec<_> = report["documents"].as_array().into_iter().flatten().collect();
    if let Some(first) = documents.iter().min_by_key(|document| document["good_for"].as_u64()) {
        let oldest = documents.iter().filter_map(|document| document["age"].as_u64()).max().unwrap_or(0);
        let (good_for, label) =
            (first["good_for"].as_u64().unwrap_or(0), first["label"].as_str().unwrap_or("?"));
        let _ = writeln!(
            text,
            "{} documents, the oldest {oldest} s old; {label} may stand in for {good_for} s more",
            documents.len()
        );
    }
    text.push_str(&problems(report));
    for Foreign { name, source } in foreign {
        let _ = writeln!(text, "elsewhere {name}: {source} is no feed's; the gate has no part in it");
    }
    text
}

/// What is not there, a line for each thing.
pub(super) fn problems(report: &Value) -> String {
    let mut text = String::new();
    let problems = report["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    for problem in problems.iter().take(PRINTED) {
        let word = |key: &str| problem[key].as_str().unwrap_or("?");
        let optional = if problem["optional"] == true { " (optional)" } else { "" };
        let _ = writeln!(
            text,
            "{:9} {}{optional}: {} [{}]",
            word("outcome"),
            word("label"),
            word("reason"),
            word("path")
        );
    }
    if problems.len() > PRINTED {
        let _ = writeln!(text, "and {} more, see --json", problems.len() - PRINTED);
    }
    text
}

/// Rounded down, so that only all is 100.
fn percent(part: u64, whole: u64) -> String {
    let tenths = (part * 1000).checked_div(whole).unwrap_or(1000);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The same for programs: what is foreign goes along.
pub(super) fn with_foreign(mut report: Value, foreign: &[Foreign]) -> Value {
    let foreign = foreign.iter().map(|one| json!({ "name": one.name, "source": one.source }));
    report["foreign"] = foreign.collect();
    report
}

#[cfg(test)]
mod tests {
    use super::{header, percent};

    #[test]
    fn a_credential_is_a_header_a_pair_or_a_token() {
        for (value, expected) in [
            ("Basic YTpi", "Basic YTpi"),
            ("Bearer x.y", "Bearer x.y"),
            ("any:pat", "Basic YW55OnBhdA=="),
            ("pat", "Basic ZmVlZGdhdGU6cGF0"),
        ] {
            assert_eq!(header(value), expected);
        }
    }

    #[test]
    fn only_all_is_100_percent() {
        assert_eq!(
            (percent(9999, 10000), percent(7, 7), percent(0, 0)),
            ("99.9".into(), "100.0".into(), "100.0".into())
        );
    }
}
