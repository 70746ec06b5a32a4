//! The XML of v2: Atom feeds and entries, the service document, the EDMX.
//!
//! Written by hand: the documents are flat, and a writer crate would not make them shorter.

use super::entry::{Entry, PROPERTIES, Value};
use crate::clock;
use crate::content::nupkg::escape;
use crate::world::FIRST_INGESTION;

const PROLOGUE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n";
const NAMESPACES: &str = "xmlns=\"http://www.w3.org/2005/Atom\" \
     xmlns:d=\"http://schemas.microsoft.com/ado/2007/08/dataservices\" \
     xmlns:m=\"http://schemas.microsoft.com/ado/2007/08/dataservices/metadata\"";

/// A page of a feed, before it is written.
pub(super) struct Feed<'a> {
    /// `FindPackagesById`, `Packages` or `Search`.
    pub(super) title: &'a str,
    pub(super) entries: &'a [Entry<'a>],
    /// How many there are on all pages, if the client wants to know.
    pub(super) count: Option<usize>,
    /// The URL of the next page.
    pub(super) next: Option<String>,
}

/// An entry as a document of its own. `base` is the URL of `v2` without a slash at its end.
pub(super) fn entry_document(entry: &Entry<'_>, base: &str) -> String {
    let root = format!("<entry xml:base=\"{}/\" {NAMESPACES}>", escape(base));
    format!("{PROLOGUE}{root}{}</entry>", entry_content(entry, base))
}

/// A page of a feed as a document.
pub(super) fn feed_document(feed: &Feed<'_>, base: &str) -> String {
    let link = |rel: &str, url: &str| format!("<link rel=\"{rel}\" href=\"{}\" />", escape(url));
    let updated = feed.entries.iter().map(Entry::moment).max();
    let updated = updated.unwrap_or_else(|| clock::iso(FIRST_INGESTION));
    let (title, own) = (feed.title, format!("{base}/{}", feed.title));
    let mut xml = format!("{PROLOGUE}<feed xml:base=\"{}/\" {NAMESPACES}>", escape(base));
    xml += &feed.count.map_or(String::new(), |count| format!("<m:count>{count}</m:count>"));
    xml +=
        &format!("<id>{}</id><title type=\"text\">{title}</title><updated>{updated}</updated>", escape(&own));
    xml += &link("self", &own);
    if feed.entries.is_empty() {
        xml += "<author><name /></author>";
    }
    for entry in feed.entries {
        xml += &format!("<entry>{}</entry>", entry_content(entry, base));
    }
    xml += &feed.next.as_ref().map_or(String::new(), |url| link("next", url));
    xml + "</feed>"
}

fn entry_content(entry: &Entry<'_>, base: &str) -> String {
    let (own, nuspec) = (escape(&format!("{base}/{}", entry.key())), &entry.release.nuspec);
    let (lower_id, version) = (entry.id.to_ascii_lowercase(), &entry.release.normalised);
    let source = escape(&format!("{base}?id={lower_id}&version={version}"));
    let properties: String = PROPERTIES.iter().map(|(name, kind)| property(name, kind, entry)).collect();
    format!(
        "<id>{own}</id>\
         <category term=\"NuGet.V2FeedPackage\" scheme=\"http://schemas.microsoft.com/ado/2007/08/dataservices/scheme\" />\
         <link rel=\"edit\" title=\"V2FeedPackage\" href=\"{own}\" /><link rel=\"self\" title=\"V2FeedPackage\" href=\"{own}\" />\
         <title type=\"text\">{}</title><summary type=\"text\">{}</summary><updated>{}</updated>\
         <author><name>{}</name></author><content type=\"application/zip\" src=\"{source}\" />\
         <m:properties>{properties}</m:properties>",
        escape(entry.id),
        escape(&nuspec.summary),
        entry.moment(),
        escape(&nuspec.authors),
    )
}

/// Texts have no type attribute (OData Atom format §6.1.3).
fn property(name: &str, kind: &str, entry: &Entry<'_>) -> String {
    let kind = if kind == "Edm.String" { String::new() } else { format!(" m:type=\"{kind}\"") };
    match entry.value(name) {
        Value::Null => format!("<d:{name}{kind} m:null=\"true\" />"),
        value => format!("<d:{name}{kind}>{}</d:{name}>", escape(&value.to_text())),
    }
}

/// The document at `v2/`.
pub(super) fn service_document(base: &str) -> String {
    format!(
        "{PROLOGUE}<service xml:base=\"{}/\" xmlns=\"http://www.w3.org/2007/app\" \
         xmlns:atom=\"http://www.w3.org/2005/Atom\"><workspace><atom:title>Default</atom:title>\
         <collection href=\"Packages\"><atom:title>Packages</atom:title></collection></workspace></service>",
        escape(base)
    )
}

/// The document at `v2/$metadata`: clients read from it which operations and properties there are.
pub(super) fn metadata_document() -> String {
    let property = |(name, kind): &(&str, &str)| {
        let nullable = !matches!(*name, "Id" | "Version") && matches!(*kind, "Edm.String");
        format!("<Property Name=\"{name}\" Type=\"{kind}\" Nullable=\"{nullable}\" />")
    };
    let properties: String = PROPERTIES.iter().map(property).collect();
    let search = ["searchTerm", "targetFramework", "includePrerelease", "semVerLevel"];
    let operations = operation("Search", &search) + &operation("FindPackagesById", &["id", "semVerLevel"]);
    format!(
        "{PROLOGUE}<edmx:Edmx Version=\"1.0\" xmlns:edmx=\"http://schemas.microsoft.com/ado/2007/06/edmx\">\
         <edmx:DataServices m:DataServiceVersion=\"2.0\" m:MaxDataServiceVersion=\"2.0\" \
         xmlns:m=\"http://schemas.microsoft.com/ado/2007/08/dataservices/metadata\">\
         <Schema Namespace=\"NuGet\" xmlns=\"http://schemas.microsoft.com/ado/2006/04/edm\">\
         <EntityType Name=\"V2FeedPackage\" m:HasStream=\"true\">\
         <Key><PropertyRef Name=\"Id\" /><PropertyRef Name=\"Version\" /></Key>{properties}</EntityType>\
         <EntityContainer Name=\"V2FeedContext\" m:IsDefaultEntityContainer=\"true\">\
         <EntitySet Name=\"Packages\" EntityType=\"NuGet.V2FeedPackage\" />{operations}</EntityContainer>\
         </Schema></edmx:DataServices></edmx:Edmx>"
    )
}

fn operation(name: &str, parameters: &[&str]) -> String {
    let parameter = |name: &&str| {
        let kind = if *name == "includePrerelease" { "Edm.Boolean" } else { "Edm.String" };
        format!("<Parameter Name=\"{name}\" Type=\"{kind}\" />")
    };
    let parameters: String = parameters.iter().map(parameter).collect();
    format!(
        "<FunctionImport Name=\"{name}\" ReturnType=\"Collection(NuGet.V2FeedPackage)\" EntitySet=\"Packages\" \
         m:HttpMethod=\"GET\">{parameters}</FunctionImport>"
    )
}
