//! What is stored of a package, what would happen to a request for it, and the way to drop it: a question first, then the
//! deed.

use serde::Deserialize;
use serde_json::Value;

use super::{
    begin,
    html::{Column, Html},
    overview::{size, word},
};
use crate::{
    admin::{
        exchange::Request,
        explain::explained,
        explanation_text,
        objects::{Asked, list, purge as drop_objects},
        problem::Problem,
    },
    config::units::rough_span,
    handler::{Explainer, Handler},
};

/// What a form asks for; what is empty is not asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    pub(super) package: String,
    #[serde(default)]
    pub(super) feed: String,
    #[serde(default)]
    pub(super) storage_id: String,
}

/// What is stored, with a way to the question.
pub(super) async fn search(handler: &Handler, request: &Request) -> Result<Html, Problem> {
    let wanted: Wanted = request.query()?;
    let found = list(handler, &wanted.asked(false)).await?;
    let mut html = begin(&[], &wanted);
    objects(&mut html, "Stored", &found);
    if found["objects"].as_array().is_some_and(|objects| !objects.is_empty()) {
        html.raw("<section><h2>What would happen?</h2><form action=\"/explain\">");
        wanted.fields(&mut html);
        html.raw("<button>Explain…</button></form></section>");
        html.raw("<section><h2>Away with it</h2><form action=\"/purge\">");
        wanted.fields(&mut html);
        html.raw("<button>Purge…</button></form></section>");
    }
    html.raw("</main>");
    Ok(html)
}

/// What would happen to a request of somebody without a credential.
pub(super) async fn explain(explainer: &Explainer, request: &Request) -> Result<Html, Problem> {
    let wanted: Wanted = request.query()?;
    let asked = wanted.asked(false);
    let told = explained(explainer, asked.package.unwrap_or_default(), asked.feed).await?;
    let mut html = begin(&[], &wanted);
    html.raw("<section><h2>What would happen now</h2><p class=\"soft\">To a caller without a credential; ");
    html.raw(
        "<code>feedgate explain --credential-env</code> tells it for others.</p><div class=\"wide\"><pre>",
    );
    for line in explanation_text(&told).lines() {
        html.raw("<span>").text(line).raw("\n</span>");
    }
    html.raw("</pre></div></section></main>");
    Ok(html)
}

/// What would be dropped, and the button that does it.
pub(super) async fn ask(handler: &Handler, request: &Request) -> Result<Html, Problem> {
    let wanted: Wanted = request.query()?;
    let purged = drop_objects(handler, &wanted.asked(true)).await?;
    let mut html = begin(&[], &wanted);
    html.raw("<section><h2>Drop this?</h2><p>");
    counts(&mut html, &purged);
    html.raw(
        " They are fetched anew when somebody asks for them.</p><form method=\"post\" action=\"/purge\">",
    );
    wanted.fields(&mut html);
    html.raw("<button class=\"danger\">Drop</button></form></section>");
    objects(&mut html, "What would be dropped", &purged);
    html.raw("</main>");
    Ok(html)
}

/// What was dropped.
pub(super) async fn purge(handler: &Handler, request: &Request) -> Result<Html, Problem> {
    let wanted: Wanted = serde_urlencoded::from_bytes(request.bytes())
        .map_err(|error| Problem::invalid(format!("the form: {error}")))?;
    let purged = drop_objects(handler, &wanted.asked(false)).await?;
    let mut html = begin(&[("good", "dropped".to_owned())], &wanted);
    html.raw("<section><h2>Dropped</h2><p>");
    counts(&mut html, &purged);
    html.raw("</p></section>");
    objects(&mut html, "What was dropped", &purged);
    html.raw("</main>");
    Ok(html)
}

// === impl Wanted ===

impl Wanted {
    fn asked(&self, dry_run: bool) -> Asked {
        let given = |text: &String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Asked {
            package: given(&self.package),
            feed: given(&self.feed),
            storage_id: given(&self.storage_id),
            dry_run,
            ..Asked::default()
        }
    }

    /// The same as hidden fields of a form.
    fn fields(&self, html: &mut Html) {
        let fields = [("package", &self.package), ("feed", &self.feed), ("storage_id", &self.storage_id)];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            html.raw("<input type=\"hidden\" name=\"").raw(name).raw("\" value=\"").text(value).raw("\">");
        }
    }
}

fn counts(html: &mut Html, purged: &Value) {
    html.text(&purged["packages"]).raw(" packages and ").text(&purged["documents"]).raw(" documents, ");
    html.text(&purged["blobs"]).raw(" blobs of ").text(size(&purged["bytes"])).raw(".");
    if purged["shared_blobs"].as_u64().unwrap_or_default() > 0 {
        html.raw(" ").text(&purged["shared_blobs"]).raw(" blobs stay, since other objects name them.");
    }
}

fn objects(html: &mut Html, heading: &'static str, found: &Value) {
    let line = |object: &Value| {
        let ago = object["age"].as_u64().map(rough_span).unwrap_or_default();
        vec![
            format!("{} {}", word(&object["package"]), object["version"].as_str().unwrap_or_default()),
            word(&object["kind"]),
            word(&object["feed"]),
            size(&object["bytes"]),
            ago,
            word(&object["key"]),
        ]
    };
    let lines: Vec<_> = found["objects"].as_array().into_iter().flatten().map(line).collect();
    let columns = [
        Column::Left("package"),
        Column::Left("kind"),
        Column::Left("feed"),
        Column::Right("size"),
        Column::Right("named ago"),
        Column::Left("key"),
    ];
    html.table(heading, &columns, &lines);
    if found["more"] == true {
        html.raw("<p class=\"soft\">There is more; <code>feedgate ls</code> lists it all.</p>");
    }
}
