//! Tables, documents of the shapes that the service sends, and properties over generated documents.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_assume, prop_oneof, proptest},
    sample::select,
};
use serde_json::{Value, json};

use super::{PublicBase, RewriteError, Rewriter, ServiceHosts};
use crate::document::{validate_json, validate_xml};

const UPSTREAMS: [&str; 3] =
    ["http://127.0.0.1:8080/{org}", "http://{org}.sim.test:99", "https://tfs.example/tfs/{org}/"];

fn hosts() -> Arc<ServiceHosts> {
    Arc::new(ServiceHosts::new(&UPSTREAMS).unwrap())
}

fn gate() -> Rewriter {
    Rewriter::new(hosts(), &PublicBase::Path { origin: "http://gate:4873".to_owned() }).unwrap()
}

fn subdomain() -> Rewriter {
    let origin = "https://{org}.pkgs.visualstudio.com".to_owned();
    Rewriter::new(hosts(), &PublicBase::Subdomain { origin }).unwrap()
}

/// Rewrites a JSON text with `rewriter` and checks the counts against what changed.
#[track_caller]
fn check_json(rewriter: &Rewriter, before: &str, after: &str, leaked: usize) {
    let body = Bytes::copy_from_slice(before.as_bytes());
    let rewritten = rewriter.rewrite_json(&body);
    assert_eq!(std::str::from_utf8(&rewritten.body).unwrap(), after);
    assert_eq!(rewritten.leaked, leaked, "{before}");
    assert_eq!(rewriter.leaks(&rewritten.body), leaked, "{before}");
    assert_eq!(rewriter.leaks(&body), leaked + rewritten.replaced, "{before}");
    assert_eq!(rewritten.replaced == 0, rewritten.body.as_ptr() == body.as_ptr(), "copied for nothing");
}

#[test]
fn every_spelling_of_a_service_url_ends_on_the_gate() {
    let rows = [
        ("https://pkgs.dev.azure.com/Org/p/_packaging/f/x", "http://gate:4873/Org/p/_packaging/f/x"),
        ("http://pkgs.dev.azure.com/org/x", "http://gate:4873/org/x"),
        ("HTTPS://PKGS.Dev.Azure.COM:443/org/x", "http://gate:4873/org/x"),
        ("http://feeds.dev.azure.com:80/org/_apis?x=1#y", "http://gate:4873/org/_apis?x=1#y"),
        ("https://feeds.dev.azure.com./org", "http://gate:4873/org"),
        ("https://org.pkgs.visualstudio.com/_packaging/f@v/", "http://gate:4873/org/_packaging/f@v/"),
        (
            "https://org.pkgs.VisualStudio.com/DefaultCollection/_p",
            "http://gate:4873/org/DefaultCollection/_p",
        ),
        ("https://Org-1.feeds.visualstudio.com:443/_apis", "http://gate:4873/Org-1/_apis"),
        ("https://org.feeds.visualstudio.com", "http://gate:4873/org"),
        ("https://org.pkgs.visualstudio.com?q", "http://gate:4873/org?q"),
        ("https://any:thing@pkgs.dev.azure.com/org/x", "http://gate:4873/org/x"),
        ("https://pkgs.dev.azure.com/", "http://gate:4873/"),
        ("https://pkgs.dev.azure.com", "http://gate:4873"),
        ("https://pkgs.dev.azure.com//x", "http://gate:4873//x"),
        ("https://pkgs.dev.azure.com/my%20org/x", "http://gate:4873/my%20org/x"),
        ("http://127.0.0.1:8080/org/x", "http://gate:4873/org/x"),
        ("http://org.SIM.test:99/x", "http://gate:4873/org/x"),
        ("http://tfs.example/TFS/Collection/x", "http://gate:4873/Collection/x"),
        (r"https:\/\/pkgs.dev.azure.com\/org\/x\/y", r"http://gate:4873/org\/x\/y"),
        (r"https:/\/org.pkgs.visualstudio.com\/x", r"http://gate:4873/org\/x"),
        (r"https:\u002f\u002Fpkgs.dev.azure.com\u002Forg\u002fx", r"http://gate:4873/org\u002fx"),
        (r"\u0068ttps://o\u0072g.pkgs.visualstudio.com/x", r"http://gate:4873/o\u0072g/x"),
        (r"https\u003a//pkgs.dev.azure.com/my\u002dorg/x", r"http://gate:4873/my\u002dorg/x"),
    ];
    for (before, after) in rows {
        check_json(&gate(), &format!("{{\"a\":\"{before}\"}}"), &format!("{{\"a\":\"{after}\"}}"), 0);
    }
}

#[test]
fn a_url_with_a_long_token_in_it_ends_on_the_gate_without_it() {
    let before = format!(r#"["https://user:{}@pkgs.dev.azure.com/o/x"]"#, "t".repeat(2000));
    check_json(&gate(), &before, r#"["http://gate:4873/o/x"]"#, 0);
}

#[test]
fn what_is_no_service_url_at_the_start_of_a_string_stays() {
    let rows = [
        "https://registry.example.com/x/-/x-1.0.0.tgz",
        "https://dev.azure.com/org/_git/x",
        "https://org.visualstudio.com/_git/x",
        "see https://pkgs.dev.azure.com/org/",
        r#"\"https://pkgs.dev.azure.com/org/"#,
        r#"\\\"https://pkgs.dev.azure.com/org/"#,
        r"\\https://pkgs.dev.azure.com/org/",
        r"\thttps:\/\/pkgs.dev.azure.com\/org",
        "git+https://pkgs.dev.azure.com/org/x",
        "https://pkgs.dev.azure.com.evil.example/org/",
        "https://xpkgs.dev.azure.com/org/",
        "https://pkgs.dev.azure.com:8443/org/",
        "ftp://pkgs.dev.azure.com/org/",
        "https://tfs.example/tfs2/org/x",
        "http://127.0.0.1:80801/org",
        "https:///org/",
        "https://",
        r"\u00e9\u0041\u00",
        "https://foo.blob.core.windows.net/icon.png",
        "://",
    ];
    for text in rows {
        check_json(&gate(), &format!("[\"{text}\"]"), &format!("[\"{text}\"]"), 0);
    }
    check_json(&gate(), "https://pkgs.dev.azure.com/org/", "https://pkgs.dev.azure.com/org/", 0);
    check_json(&gate(), r#""\\","https://pkgs.dev.azure.com/o""#, r#""\\","http://gate:4873/o""#, 0);
}

#[test]
fn urls_that_the_gate_cannot_give_are_counted_as_leaks() {
    let rows = [
        "https://4fdvsblobprodwcus012.vsblob.vsassets.io/b-0/x.blob?sig=1",
        "https://k0ivsblobprodcus356.BLOB.core.windows.net/b-0/x.blob?sig=1",
        "https://x.vsblob.visualstudio.com/",
        "https://pkgsprodsu3weu.app.pkgs.visualstudio.com/",
        "https://org.pkgs.visualstudio.com:8443/",
        "https://pkgs.dev.azure.com/o,rg/",
        "https://o,rg.pkgs.visualstudio.com/",
        "https://:80x.vsblob.vsassets.io/",
        r"https:\/\/a.vsblob.vsassets.io\/x",
    ];
    for text in rows {
        check_json(&gate(), &format!("[\"{text}\"]"), &format!("[\"{text}\"]"), 1);
    }
    let mixed = r#"["https://pkgs.dev.azure.com/a/x","https://s.vsblob.vsassets.io/y","https://b.pkgs.visualstudio.com/z"]"#;
    let after = r#"["http://gate:4873/a/x","https://s.vsblob.vsassets.io/y","http://gate:4873/b/z"]"#;
    check_json(&gate(), mixed, after, 1);
}

#[test]
fn a_subdomain_base_moves_the_organisation_into_the_host() {
    let rows = [
        ("https://pkgs.dev.azure.com/Org/p/x", "https://Org.pkgs.visualstudio.com/p/x", 0),
        ("https://org.feeds.visualstudio.com/_apis", "https://org.pkgs.visualstudio.com/_apis", 0),
        ("https://org.pkgs.visualstudio.com/x", "https://org.pkgs.visualstudio.com/x", 0),
        ("https://pkgs.dev.azure.com/my%20org/x", "https://pkgs.dev.azure.com/my%20org/x", 1),
        ("https://pkgs.dev.azure.com/", "https://pkgs.dev.azure.com/", 1),
    ];
    for (before, after, leaked) in rows {
        check_json(&subdomain(), &format!("[\"{before}\"]"), &format!("[\"{after}\"]"), leaked);
    }
    let own = Rewriter::new(hosts(), &PublicBase::Path { origin: "https://pkgs.dev.azure.com/".to_owned() });
    let before = r#"["https://pkgs.dev.azure.com/a/x","https://a.feeds.visualstudio.com/y"]"#;
    let after = r#"["https://pkgs.dev.azure.com/a/x","https://pkgs.dev.azure.com/a/y"]"#;
    check_json(&own.unwrap(), before, after, 0);
}

#[test]
fn a_url_alone_is_rewritten_when_it_is_the_services() {
    let rows = [
        ("https://pkgs.dev.azure.com/o/_apis/x?y=1#z", Some("http://gate:4873/o/_apis/x?y=1#z")),
        ("https://o.feeds.visualstudio.com", Some("http://gate:4873/o")),
        ("https://pkgs.dev.azure.com/o,rg/", None),
        ("https://x.vsblob.vsassets.io/b?sig=1", None),
        ("https://login.example/", None),
        ("/o/_apis/x", None),
        ("", None),
    ];
    for (before, after) in rows {
        assert_eq!(gate().rewrite_url(before).as_deref(), after, "{before}");
    }
}

#[test]
fn urls_of_a_server_are_the_gates_with_its_collection_first() {
    let collection = |name: &str| crate::ident::Name::parse(name).unwrap();
    let hosts = ServiceHosts::new(&UPSTREAMS).unwrap();
    let hosts =
        hosts.with_collection("https://tfs.example.com/tfs/DefaultCollection", &collection("Default"));
    let hosts = hosts.unwrap().with_collection("http://tfs:8080/My%20One", &collection("My One")).unwrap();
    let base = PublicBase::Path { origin: "http://gate:4873".to_owned() };
    let gate = Rewriter::new(Arc::new(hosts), &base).unwrap();
    let own = "http://gate:4873/Default";
    let rows = [
        ("https://tfs.example.com/tfs/DefaultCollection/_apis/x?y", format!("{own}/_apis/x?y")),
        (
            r"https:\/\/TFS.example.com:443\/TFS\/defaultcollection\/web\/_packaging",
            format!(r"{own}\/web\/_packaging"),
        ),
        ("https://tfs.example.com/tfs/DefaultCollection", own.to_owned()),
        ("http://tfs:8080/My%20One/_apis", "http://gate:4873/My%20One/_apis".to_owned()),
        ("https://tfs.example.com/tfs/Other/_apis", "https://tfs.example.com/tfs/Other/_apis".to_owned()),
        (
            "https://tfs.example.com/tfs/DefaultCollection2/",
            "https://tfs.example.com/tfs/DefaultCollection2/".to_owned(),
        ),
        ("https://pkgs.dev.azure.com/contoso/x", "http://gate:4873/contoso/x".to_owned()),
    ];
    for (before, after) in rows {
        check_json(&gate, &format!(r#"{{"a":"{before}"}}"#), &format!(r#"{{"a":"{after}"}}"#), 0);
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let templates =
        ["", "http://x", "ftp://{org}.x", "http://x/{org}/y", "http://x.{org}.y", "http:///{org}", "{org}"];
    for template in templates {
        assert!(matches!(ServiceHosts::new(&[template]), Err(RewriteError::Template(..))), "{template}");
    }
    let origins = [
        "",
        "gate:4873",
        "ftp://gate",
        "http://",
        "http://ga\"te",
        "http://gate/<",
        "http://ga te",
        "http:///x",
    ];
    for origin in origins {
        let base = PublicBase::Path { origin: origin.to_owned() };
        assert!(matches!(Rewriter::new(hosts(), &base), Err(RewriteError::Base(..))), "{origin}");
    }
    for origin in ["https://gate", "{org}.x", "https://{org}.{org}.x"] {
        let base = PublicBase::Subdomain { origin: origin.to_owned() };
        assert!(matches!(Rewriter::new(hosts(), &base), Err(RewriteError::Base(..))), "{origin}");
    }
}

#[test]
fn a_service_index_loses_its_hosts_and_keeps_its_guids() {
    let index = |base: &str| {
        json!({
            "version": "3.0.0-beta",
            "resources": [
                {"@id": format!("{base}/6b1e/_packaging/11de6d24/nuget/v2/"), "@type": "PackagePublish/2.0.0"},
                {"@id": format!("{base}/6b1e/_packaging/11de6d24/nuget/v3/flat2/"), "@type": "PackageBaseAddress/3.0.0",
                 "comment": "Base URL of https://pkgs.dev.azure.com/contoso/ content."},
                {"@id": format!("{base}/"), "@type": "VssBaseUrl"},
                {"@id": "urn:uuid:11de6d24-4b7d-4a9f-9e5a-1b5b2f0c8f5e", "@type": "VssFeedId", "label": "main"}
            ],
            "@context": {"@vocab": "http://schema.nuget.org/services#",
                         "comment": "http://www.w3.org/2000/01/rdf-schema#comment"}
        })
        .to_string()
    };
    check_json(&gate(), &index("https://pkgs.dev.azure.com/contoso"), &index("http://gate:4873/contoso"), 0);
    check_json(
        &gate(),
        &index("https://contoso.pkgs.visualstudio.com"),
        &index("http://gate:4873/contoso"),
        0,
    );
}

#[test]
fn a_registration_and_a_packument_are_rewritten_at_every_depth() {
    let registration = |base: &str| {
        let b = format!("{base}/_packaging/8f5e/nuget/v3");
        json!({"count": 1, "items": [{"count": 1, "lower": "3.7.1", "upper": "3.7.1", "items": [{
            "@id": format!("{b}/registrations2/nunit/3.7.1.json"), "@type": "Package",
            "catalogEntry": {"@id": format!("{b}/x"), "iconUrl": "https://cdn.example/nunit.png", "id": "NUnit"},
            "packageContent": format!("{b}/flat2/nunit/3.7.1/nunit.3.7.1.nupkg")}]}]})
        .to_string()
    };
    check_json(
        &gate(),
        &registration("https://pkgs.dev.azure.com/a"),
        &registration("http://gate:4873/a"),
        0,
    );
    let packument = |base: &str| {
        json!({"_id": "@s/left", "readme": "# https://pkgs.dev.azure.com/a/\n\"https://pkgs.dev.azure.com/a\"",
            "versions": {"1.0.0": {"name": "@s/left", "dist": {"shasum": "3754f2e8",
                "tarball": format!("{base}/p/_packaging/f/npm/registry/@s/left/-/left-1.0.0.tgz")}}}})
        .to_string()
    };
    check_json(&gate(), &packument("http://a.sim.test:99"), &packument("http://gate:4873/a"), 0);
    check_json(
        &subdomain(),
        &packument("https://pkgs.dev.azure.com/a"),
        &packument("https://a.pkgs.visualstudio.com"),
        0,
    );
}

#[track_caller]
fn check_xml(before: &str, after: &str, leaked: usize) {
    let body = Bytes::copy_from_slice(before.as_bytes());
    let rewritten = gate().rewrite_xml(&body);
    assert_eq!(std::str::from_utf8(&rewritten.body).unwrap(), after);
    assert_eq!((rewritten.leaked, gate().leaks_xml(&rewritten.body)), (leaked, leaked), "{before}");
}

#[test]
fn xml_attributes_and_texts_that_start_with_a_url_are_rewritten() {
    let rows = [
        (r#"<a href="https://pkgs.dev.azure.com/o/x"/>"#, r#"<a href="http://gate:4873/o/x"/>"#, 0),
        (r"<a src = 'https://o.pkgs.visualstudio.com/x'/>", r"<a src = 'http://gate:4873/o/x'/>", 0),
        ("<id>https://pkgs.dev.azure.com/o/x(Id='A')</id>", "<id>http://gate:4873/o/x(Id='A')</id>", 0),
        ("<id>\n  HTTPS://PKGS.dev.azure.com/o</id>", "<id>\n  http://gate:4873/o</id>", 0),
        ("<id><![CDATA[https://pkgs.dev.azure.com/o]]></id>", "<id><![CDATA[http://gate:4873/o]]></id>", 0),
        ("<id>https:&#x2F;&#47;pkgs.dev.azure.com/o/x</id>", "<id>http://gate:4873/o/x</id>", 0),
        (r#"<a t="x]]>y" b='https://pkgs.dev.azure.com/o'/>"#, r#"<a t="x]]>y" b='http://gate:4873/o'/>"#, 0),
        (
            "<!-- <a> ' --><id>https://pkgs.dev.azure.com/o</id>",
            "<!-- <a> ' --><id>http://gate:4873/o</id>",
            0,
        ),
        (r#"<a b="https&#58;//pkgs.dev.azure.com/o?a&amp;b"/>"#, r#"<a b="http://gate:4873/o?a&amp;b"/>"#, 0),
        ("<id>see https://pkgs.dev.azure.com/o</id>", "<id>see https://pkgs.dev.azure.com/o</id>", 0),
        (r#"<p>x="https://pkgs.dev.azure.com/o"</p>"#, r#"<p>x="https://pkgs.dev.azure.com/o"</p>"#, 0),
        ("<p>a > https://pkgs.dev.azure.com/o</p>", "<p>a > https://pkgs.dev.azure.com/o</p>", 0),
        ("<id>https://x.vsblob.vsassets.io/b</id>", "<id>https://x.vsblob.vsassets.io/b</id>", 1),
        ("<id>&#;&#x;&#xFFF;&#</id>", "<id>&#;&#x;&#xFFF;&#</id>", 0),
        (
            "<id><![CDATA[https://pkgs.dev.azure.com/o]]>/x<!-- -->y</id>",
            "<id><![CDATA[http://gate:4873/o]]>/x<!-- -->y</id>",
            0,
        ),
    ];
    for (before, after, leaked) in rows {
        check_xml(before, after, leaked);
    }
}

#[test]
fn a_url_in_parts_that_a_reader_of_xml_puts_together_is_counted() {
    for url in [
        "<![CDATA[https://pkgs.]]>dev.azure.com/o",
        "ht<![CDATA[tps://pkgs.dev.azure.com/]]>o",
        "https:<!-- -->//o.pkgs<?x y?>.visualstudio.com/x",
        "https://x.vsblob<![CDATA[]]><![CDATA[.vsassets.io]]>/b",
        "https://pkgs.dev.azure.com/<!-- -->o/x",
    ] {
        let document = format!("<id> {url}</id>");
        check_xml(&document, &document, 1);
    }
    for other in ["https://pkgs.<b/>dev.azure.com/o", "https://<!-- pkgs.dev.azure.com -->x.test/o"] {
        let document = format!("<id>{other}</id>");
        check_xml(&document, &document, 0);
    }
}

#[test]
fn an_atom_entry_is_rewritten_in_all_its_places() {
    let entry = |base: &str| {
        format!(
            r#"<?xml version="1.0" encoding="utf-8"?>
<entry xml:base="{base}/_packaging/f/nuget/v2/" xmlns="http://www.w3.org/2005/Atom">
  <id>{base}/_packaging/f/nuget/v2/Packages(Id='A',Version='1.0.0')</id>
  <link rel="edit" href="{base}/_packaging/f/nuget/v2/Packages(Id='A',Version='1.0.0')" />
  <content type="application/zip" src="{base}/_packaging/f/nuget/v2?id=a&amp;version=1.0.0" />
  <summary>Lives at https://pkgs.dev.azure.com/o/</summary>
</entry>"#
        )
    };
    validate_xml(entry("x").as_bytes()).unwrap();
    check_xml(&entry("https://pkgs.dev.azure.com/o/p"), &entry("http://gate:4873/o/p"), 0);
}

#[test]
fn a_v2_feed_is_rewritten_in_all_its_places() {
    let feed = |base: &str| {
        let v2 = format!("{base}/_packaging/f/nuget/v2");
        format!(
            r#"<?xml version='1.0' encoding='utf-8' standalone='yes'?>
<feed xml:base='{v2}/' xmlns='http://www.w3.org/2005/Atom' xmlns:d='http://schemas.microsoft.com/ado/2007/08/dataservices'
      xmlns:m='http://schemas.microsoft.com/ado/2007/08/dataservices/metadata'>
  <m:count>2</m:count>
  <title type="text">Packages</title>
  <id>{v2}/Packages</id>
  <link rel="self" title="Packages" href="Packages" />
  <entry>
    <id>
      {v2}/Packages(Id='A.B',Version='1.0.0-beta')
    </id>
    <category term="NuGet.Server.DataServices.Package" scheme="http://schemas.microsoft.com/ado/2007/08/dataservices/scheme" />
    <link rel='edit-media' href='{v2}/Packages(Id=&apos;A.B&apos;,Version=&apos;1.0.0-beta&apos;)/$value'/>
    <content type="application/zip"
             src="{v2}?id=a.b&amp;version=1.0.0-beta&amp;x=%26"/>
    <m:properties>
      <d:Description>&lt;a href="https://pkgs.dev.azure.com/o/x"&gt; and 'https://pkgs.dev.azure.com/o/y'</d:Description>
      <d:ProjectUrl>https://example.test/a?b=1&amp;c=2</d:ProjectUrl>
      <d:GalleryDetailsUrl m:null="true"></d:GalleryDetailsUrl>
      <d:ReportAbuseUrl>{v2}/abuse?id=a.b&amp;version=1</d:ReportAbuseUrl>
    </m:properties>
  </entry>
  <link rel="next" href="{v2}/Search()?$filter=IsLatestVersion&amp;searchTerm='a'&amp;$skiptoken='A.B'" />
</feed>"#
        )
    };
    validate_xml(feed("x").as_bytes()).unwrap();
    for base in ["https://pkgs.dev.azure.com/o/p", "https://o.pkgs.visualstudio.com/p"] {
        check_xml(&feed(base), &feed("http://gate:4873/o/p"), 0);
    }
    let service = |base: &str| {
        format!(
            r#"<service xmlns="http://www.w3.org/2007/app" xmlns:atom="http://www.w3.org/2005/Atom" xml:base="{base}/nuget/v2/">
<workspace><atom:title>Default</atom:title><collection href="Packages"><atom:title>Packages</atom:title></collection></workspace></service>"#
        )
    };
    check_xml(&service("HTTPS://PKGS.DEV.AZURE.COM:443/o"), &service("http://gate:4873/o"), 0);
}

/// Respells `from` as `to` in a JSON text, and in an XML attribute where the text has no escapes of JSON.
#[track_caller]
fn check_respelled(from: &str, to: &str, before: &str, after: &str) {
    let rewriter = gate().respell(from, to);
    let body = Bytes::from(format!("[\"{before}\"]"));
    let rewritten = rewriter.rewrite_json(&body).body;
    assert_eq!(std::str::from_utf8(&rewritten).unwrap(), format!("[\"{after}\"]"), "{before}");
    assert_eq!(rewriter.rewrite_json(&rewritten).body, rewritten, "{before}");
    if !before.contains('\\') {
        for quote in ['"', '\''] {
            let body = Bytes::from(format!("<a b={quote}{before}{quote}/>"));
            let rewritten = rewriter.rewrite_xml(&body).body;
            assert_eq!(rewritten, format!("<a b={quote}{after}{quote}/>"), "{before}");
        }
    }
}

const FROM: &str = "Contoso/_packaging/Main";
const TO: &str = "contoso/_packaging/0f1d6e4a";

#[test]
fn a_feed_is_respelled_as_it_was_asked_for() {
    let rows = [
        (
            "https://pkgs.dev.azure.com/Contoso/_packaging/Main/npm/x",
            "http://gate:4873/contoso/_packaging/0f1d6e4a/npm/x",
        ),
        (
            "https://CONTOSO.pkgs.visualstudio.com/_Packaging/MAIN/x",
            "http://gate:4873/contoso/_packaging/0f1d6e4a/x",
        ),
        (
            "https://pkgs.dev.azure.com/Contoso/_packaging/Main",
            "http://gate:4873/contoso/_packaging/0f1d6e4a",
        ),
        (
            "https://pkgs.dev.azure.com/Contoso/_packaging/Main?a=b",
            "http://gate:4873/contoso/_packaging/0f1d6e4a?a=b",
        ),
        (
            "https://pkgs.dev.azure.com/Contoso/%5Fpackaging/M%61in/x",
            "http://gate:4873/contoso/_packaging/0f1d6e4a/x",
        ),
        (
            r"https:\/\/pkgs.dev.azure.com\/Contoso\/_packaging\/Main\/x",
            r"http://gate:4873/contoso/_packaging/0f1d6e4a\/x",
        ),
        (
            r"https://pkgs.dev.azure.com/Contoso/_packaging/\u004dain/x",
            "http://gate:4873/contoso/_packaging/0f1d6e4a/x",
        ),
    ];
    for (before, after) in rows {
        check_respelled(FROM, TO, before, after);
    }
    let view = "https://pkgs.dev.azure.com/o/my%20p/_packaging/f@rel/x";
    let escaped = "https://pkgs.dev.azure.com/o/My%20P/_packaging/f%40rel/x";
    let after = "http://gate:4873/o/p/_packaging/f@r/x";
    check_respelled("o/My%20P/_packaging/F%40rel", "o/p/_packaging/f@r", view, after);
    check_respelled("o/my%20p/_packaging/f@rel", "o/p/_packaging/f@r", escaped, after);
    let own = "https://pkgs.dev.azure.com/o/_packaging/f/x";
    let after = "http://gate:4873/o/it%27s/_packaging/f/x";
    check_respelled("o/_packaging/f", "o/it's/_packaging/f", own, after);
}

#[test]
fn what_is_another_feed_or_no_url_of_the_service_keeps_its_spelling() {
    let rows = [
        (
            "https://pkgs.dev.azure.com/Contoso/_packaging/Main2/x",
            "http://gate:4873/Contoso/_packaging/Main2/x",
        ),
        (
            "https://pkgs.dev.azure.com/Contoso/_packaging/Main@v/x",
            "http://gate:4873/Contoso/_packaging/Main@v/x",
        ),
        (
            "https://pkgs.dev.azure.com/Contoso/p/_packaging/Main/x",
            "http://gate:4873/Contoso/p/_packaging/Main/x",
        ),
        (
            "https://pkgs.dev.azure.com/Contoso2/_packaging/Main/x",
            "http://gate:4873/Contoso2/_packaging/Main/x",
        ),
        (
            "https://pkgs.dev.azure.com/Contoso%2F_packaging/Main/x",
            "http://gate:4873/Contoso%2F_packaging/Main/x",
        ),
        (
            "https://pkgs.dev.azure.com/Contoso/_packaging%2FMain/x",
            "http://gate:4873/Contoso/_packaging%2FMain/x",
        ),
        ("https://example.test/Contoso/_packaging/Main/x", "https://example.test/Contoso/_packaging/Main/x"),
        ("https://pkgs.dev.azure.com/Contoso", "http://gate:4873/Contoso"),
    ];
    for (before, after) in rows {
        check_respelled(FROM, TO, before, after);
    }
    let own = "https://pkgs.dev.azure.com/o/_packaging/f/x";
    for (from, to) in [("", "o/_packaging/g"), ("o", "p"), ("o/_packaging/f", "o/_packaging/f"), ("/x", "/y")]
    {
        check_respelled(from, to, own, "http://gate:4873/o/_packaging/f/x");
    }
}

#[test]
fn a_feed_is_respelled_below_a_subdomain_too() {
    let rewriter = subdomain().respell("o/_packaging/f", "O/p/_packaging/g");
    let body = Bytes::from_static(br#"["https://pkgs.dev.azure.com/o/_packaging/f/x"]"#);
    assert_eq!(rewriter.rewrite_json(&body).body, r#"["https://O.pkgs.visualstudio.com/p/_packaging/g/x"]"#);
}

/// A string as the service sends it and as the client must get it.
fn string_pair() -> impl Strategy<Value = (String, String)> {
    let spelling = select(vec![
        "https://pkgs.dev.azure.com/{}",
        "http://PKGS.dev.azure.com:80/{}",
        "HTTPS://feeds.dev.azure.com/{}",
        "https://{}.pkgs.visualstudio.com",
        "https://{}.Feeds.visualstudio.com:443",
        "http://127.0.0.1:8080/{}",
        "http://{}.sim.test:99",
        "https://tfs.example/tfs/{}",
    ]);
    let rest = prop_oneof![Just(String::new()), "[/?#]\\PC*", "/[a-z0-9/@.-]{0,40}", "/[\"\\\\\n]{0,5}x"];
    let url = (spelling, "[a-zA-Z0-9-]{1,12}", rest).prop_map(|(spelling, org, rest)| {
        (spelling.replace("{}", &org) + &rest, format!("http://gate:4873/{org}{rest}"))
    });
    let same = prop_oneof![
        ".*",
        "[\"\\\\ a]{1,4}https://pkgs.dev.azure.com/[a-z\"\\\\]{0,9}",
        "https://[a-z]{1,8}\\.example/[a-z]{0,9}",
    ];
    prop_oneof![2 => url, 1 => same.prop_map(|text: String| (text.clone(), text))]
}

/// A spelling of a feed, as the gate writes it.
fn spelling() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9-]{1,5}(/[a-z]{1,3}(%20[a-z])?)?/_packaging/[a-zA-Z0-9._-]{1,6}(@[a-z]{1,3})?"
}

/// A document as the service sends it and as the client must get it.
fn document_pair() -> impl Strategy<Value = (Value, Value)> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from)
    ];
    let leaf = prop_oneof![
        4 => string_pair().prop_map(|(before, after)| (Value::from(before), Value::from(after))),
        1 => scalar.prop_map(|value| (value.clone(), value)),
    ];
    leaf.prop_recursive(4, 48, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(|pairs| {
                let (before, after): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                (Value::from(before), Value::from(after))
            }),
            vec(("[a-z@\"\\\\-]{1,8}", inner), 0..8).prop_map(|fields| {
                let before = fields.iter().map(|(key, pair)| (key.clone(), pair.0.clone())).collect();
                let after = fields.iter().map(|(key, pair)| (key.clone(), pair.1.clone())).collect();
                (Value::Object(before), Value::Object(after))
            }),
        ]
    })
}

/// Writes a document in one of several styles; slashes occur in strings only.
fn written(document: &Value, style: u8) -> String {
    let compact = document.to_string();
    match style {
        0 => compact,
        1 => serde_json::to_string_pretty(document).unwrap(),
        2 => compact.replace('/', "\\/"),
        3 => compact.replace('/', "\\u002f"),
        _ => compact.replace("https", "http\\u0073"),
    }
}

proptest! {
    #[test]
    fn rewriting_changes_the_prefixes_and_nothing_else((before, after) in document_pair(), style in 0_u8..5) {
        let body = Bytes::from(written(&before, style));
        let rewritten = gate().rewrite_json(&body);
        prop_assert_eq!(validate_json(&rewritten.body), Ok(()));
        // The last style also spells `https` in the middle of texts differently, which reads the same.
        let value: Value = serde_json::from_slice(&rewritten.body).unwrap();
        prop_assert_eq!(value, after);
        prop_assert_eq!((rewritten.leaked, gate().leaks(&rewritten.body)), (0, 0));
        prop_assert_eq!(gate().rewrite_json(&rewritten.body).body, rewritten.body.clone());
    }

    #[test]
    fn respelling_there_and_back_changes_nothing(
        (from, to) in (spelling(), spelling()),
        rests in vec("(/[a-z@]{0,9}){0,3}", 0..8),
        others in vec("https://[a-z.]{1,9}/[a-z/_]{0,20}", 0..4),
    ) {
        prop_assume!(!from.eq_ignore_ascii_case(&to));
        let base = PublicBase::Path { origin: "https://pkgs.dev.azure.com".to_owned() };
        let rewriter = || Rewriter::new(hosts(), &base).unwrap();
        let own = rests.iter().map(|rest| format!("https://pkgs.dev.azure.com/{from}{rest}"));
        let urls: Vec<_> = own.chain(others).collect();
        for (body, is_xml) in [
            (serde_json::to_string(&urls).unwrap(), false),
            (urls.iter().map(|url| format!("<a b='{url}'>{url}</a>")).collect::<Vec<_>>().concat(), true),
        ] {
            let rewrite = |rewriter: &Rewriter, body: &Bytes| {
                if is_xml { rewriter.rewrite_xml(body).body } else { rewriter.rewrite_json(body).body }
            };
            let body = Bytes::from(body);
            let there = rewrite(&rewriter().respell(&from, &to), &body);
            prop_assert!(rests.is_empty() || there != body);
            prop_assert_eq!(rewrite(&rewriter().respell(&to, &from), &there), body);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in vec(select(b"\"'\\/:<>=&#;u0028fhtps.a-@]\xC3 ".to_vec()), 0..200)) {
        let body = Bytes::from(body);
        let gate = gate().respell("a/-", "b/-");
        let both = [gate.rewrite_json(&body), gate.rewrite_xml(&body)];
        prop_assert!(both.iter().all(|rewritten| rewritten.replaced == 0 || rewritten.body != body));
    }
}
