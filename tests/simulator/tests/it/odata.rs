//! NuGet v2 (OData): lists, entries, downloads, unlisting.

use feedgate_simulator::client::{self, Response};
use feedgate_simulator::{Feed, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token};

fn utility() -> NugetPackage {
    NugetPackage::new("Contoso.Utility")
        .version("1.0", NugetVersion::new().promoted_to("release"))
        .version("1.10.0", NugetVersion::new().dependency("Contoso.Core", "2.0").description("a < b & c"))
        .version("1.2.0", NugetVersion::new().unlisted())
        .version("2.0.0-RC1", NugetVersion::new())
        .version("3.0.0-rc.1", NugetVersion::new())
}

/// A public feed `Main` with two packages, a private one `secret` with one; pages of three entries.
async fn start() -> Simulator {
    let core = NugetPackage::new("Contoso.Core").version("2.0.0", NugetVersion::new());
    let feed = Feed::new("Main").public().nuget(utility()).nuget(core);
    let tokens = [
        Token::pat("alice-pat").label("alice"),
        Token::pat("bob-pat").label("bob").scope(Scope::ReadWrite),
        Token::pat("carol-pat").label("carol").scope(Scope::ReadForbidden),
    ];
    let contoso = Organisation::new("contoso").feed(feed).feed(Feed::new("secret").nuget(utility()));
    let contoso = tokens.into_iter().fold(contoso, Organisation::token);
    Simulator::builder().organisation(contoso).odata_page(3).start().await.unwrap()
}

async fn get(url: &str) -> Response {
    client::get(url, &[]).await.unwrap()
}

/// The texts between `open` and the next `close`, in order.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open).skip(1).map(|part| part.split(close).next().unwrap()).collect()
}

/// `Id 1.2.3` for every entry of a feed.
fn entries(feed: &str) -> Vec<String> {
    let ids = between(feed, "<d:Id>", "</d:Id>");
    let versions = between(feed, "<d:Version>", "</d:Version>");
    ids.iter().zip(versions).map(|(id, version)| format!("{id} {version}")).collect()
}

/// The entries of all pages, by the links to the next one.
async fn all_entries(url: &str) -> Vec<String> {
    let (mut url, mut found) = (Some(url.to_owned()), Vec::new());
    while let Some(page) = url {
        let response = get(&page).await;
        assert_eq!(response.status, 200, "{page}: {}", response.text());
        found.extend(entries(&response.text()));
        let next =
            between(&response.text(), "<link rel=\"next\" href=\"", "\"").first().copied().map(str::to_owned);
        url = next.map(|url| url.replace("&amp;", "&"));
    }
    found
}

#[tokio::test]
async fn every_list_holds_what_its_query_asks_for() {
    let simulator = start().await;
    let base = simulator.nuget_v2_url("contoso/main");
    let utility = |versions: &[&str]| -> Vec<String> {
        versions.iter().map(|version| format!("Contoso.Utility {version}")).collect()
    };
    let both = |versions: &[&str]| [vec!["Contoso.Core 2.0.0".to_owned()], utility(versions)].concat();
    let rows = [
        ("FindPackagesById()?id='contoso.utility'", utility(&["1.0", "1.2.0", "1.10.0", "2.0.0-RC1"])),
        (
            "FindPackagesById()?id='Contoso.Utility'&semVerLevel=2.0.0",
            utility(&["1.0", "1.2.0", "1.10.0", "2.0.0-RC1", "3.0.0-rc.1"]),
        ),
        ("FindPackagesById()?id='Contoso.Utility'&$filter=IsLatestVersion", utility(&["1.10.0"])),
        (
            "FindPackagesById?id=%27Contoso.Utility%27&%24filter=IsAbsoluteLatestVersion",
            utility(&["2.0.0-RC1"]),
        ),
        (
            "FindPackagesById()?id='Contoso.Utility'&$orderby=Version%20desc&$top=2",
            utility(&["2.0.0-RC1", "1.10.0"]),
        ),
        ("FindPackagesById()?id='Contoso.Utility'&$skip=3", utility(&["2.0.0-RC1"])),
        ("FindPackagesById()?id='Contoso.Nothing'", vec![]),
        ("Packages", both(&["1.0", "1.2.0", "1.10.0", "2.0.0-RC1"])),
        ("Packages()?$filter=Id%20eq%20'contoso.core'", vec!["Contoso.Core 2.0.0".to_owned()]),
        (
            "Packages?$filter=(tolower(Id)+eq+'contoso.utility')+and+(NormalizedVersion+eq+'1.0.0')",
            utility(&["1.0"]),
        ),
        ("Packages?$filter=substringof('util',tolower(Id))%20and%20Listed%20eq%20false", utility(&["1.2.0"])),
        ("Packages?$filter=startswith(Id,'Contoso')%20and%20IsLatestVersion", both(&["1.10.0"])),
        (
            "Search()?$filter=IsLatestVersion&searchTerm=''&targetFramework=''&includePrerelease=false&$skip=0&$top=30",
            both(&["1.10.0"]),
        ),
        (
            "Search()?searchTerm='utility'&includePrerelease=true&$filter=IsAbsoluteLatestVersion&semVerLevel=2.0.0",
            utility(&["3.0.0-rc.1"]),
        ),
        ("Search()?searchTerm='utility'&includePrerelease=false", utility(&["1.0", "1.10.0"])),
        ("Search()?searchTerm='nothing'", vec![]),
    ];
    for (query, expected) in rows {
        assert_eq!(all_entries(&format!("{base}/{query}")).await, expected, "{query}");
    }
}

#[tokio::test]
async fn lists_are_counted_and_paged() {
    let simulator = start().await;
    let base = simulator.nuget_v2_url("contoso/main");
    let rows = [
        ("Search()/$count?searchTerm=''&includePrerelease=true&$filter=IsLatestVersion", "2"),
        ("Packages()/$count", "5"),
        ("FindPackagesById()/$count?id='Contoso.Utility'&semVerLevel=2.0.0", "5"),
    ];
    for (query, expected) in rows {
        let response = get(&format!("{base}/{query}")).await;
        assert_eq!((response.status, response.text().as_str()), (200, expected), "{query}");
        assert_eq!(response.header("content-type"), Some("text/plain;charset=utf-8"));
    }
    let page = get(&format!("{base}/Packages?$inlinecount=allpages&$top=4")).await.text();
    assert!(page.contains("<m:count>5</m:count>"), "{page}");
    assert_eq!(entries(&page).len(), 3);
    let next = format!("{base}/Packages?$inlinecount=allpages&amp;$skip=3&amp;$top=1");
    assert_eq!(between(&page, "<link rel=\"next\" href=\"", "\""), [next]);
}

#[tokio::test]
async fn an_entry_tells_all_about_a_version_in_the_spelling_of_the_request() {
    let simulator = start().await;
    let (_, digests) = simulator.nuget_file("contoso/Main", "Contoso.Utility", "1.10.0");
    let rows = [
        (
            "127.0.0.1:1",
            "/Contoso/_packaging/MAIN/nuget/v2",
            "http://127.0.0.1:1/Contoso/_packaging/MAIN/nuget/v2",
        ),
        (
            "contoso.pkgs.visualstudio.com",
            "/DefaultCollection/_packaging/main@Local/nuget/v2",
            "http://contoso.pkgs.visualstudio.com/DefaultCollection/_packaging/main@Local/nuget/v2",
        ),
    ];
    for (host, path, base) in rows {
        let url = format!("{}{path}/Packages(Id='contoso.utility',Version='1.10')", simulator.pkgs_url());
        let response = client::get(&url, &[("Host", host)]).await.unwrap();
        assert_eq!(response.header("content-type"), Some("application/atom+xml;type=entry;charset=utf-8"));
        let entry = response.text();
        let hash = digests.integrity.trim_start_matches("sha512-");
        let expected = [
            format!("<id>{base}/Packages(Id='Contoso.Utility',Version='1.10.0')</id>"),
            format!(
                "<content type=\"application/zip\" src=\"{base}?id=contoso.utility&amp;version=1.10.0\" />"
            ),
            "<d:IsLatestVersion m:type=\"Edm.Boolean\">true</d:IsLatestVersion>".to_owned(),
            "<d:IsAbsoluteLatestVersion m:type=\"Edm.Boolean\">false</d:IsAbsoluteLatestVersion>".to_owned(),
            "<d:Dependencies>Contoso.Core:2.0:</d:Dependencies>".to_owned(),
            "<d:Description>a &lt; b &amp; c</d:Description>".to_owned(),
            format!("<d:PackageHash>{hash}</d:PackageHash>"),
            "<d:PackageHashAlgorithm>SHA512</d:PackageHashAlgorithm>".to_owned(),
            format!("<d:PackageSize m:type=\"Edm.Int64\">{}</d:PackageSize>", digests.length),
            "<d:LicenseUrl m:null=\"true\" />".to_owned(),
        ];
        for part in expected {
            assert!(entry.contains(&part), "{part} is not in {entry}");
        }
    }
    let url =
        format!("{}/Packages(Id='Contoso.Utility',Version='1.2.0')", simulator.nuget_v2_url("contoso/main"));
    let prerelease = get(&url.replace("1.2.0", "2.0.0-rc1")).await.text();
    assert!(prerelease.contains("/Packages(Id='Contoso.Utility',Version='2.0.0-RC1')</id>"), "{prerelease}");
    assert!(prerelease.contains("<d:NormalizedVersion>2.0.0-RC1</d:NormalizedVersion>"));
    assert!(prerelease.contains("?id=contoso.utility&amp;version=2.0.0-rc1\""));
    let unlisted = get(&url).await.text();
    assert!(unlisted.contains("<d:Published m:type=\"Edm.DateTime\">1900-01-01T00:00:00</d:Published>"));
    assert_eq!(get(&url.replace("1.2.0", "9.9.9")).await.status, 404);
}

#[tokio::test]
async fn the_content_of_an_entry_is_a_redirect_to_the_file() {
    let simulator = start().await;
    let base = simulator.nuget_v2_url("contoso/main");
    let feed = get(&format!("{base}/FindPackagesById()?id='Contoso.Utility'")).await;
    assert_eq!(feed.header("content-type"), Some("application/atom+xml;type=feed;charset=utf-8"));
    let source = between(&feed.text(), "src=\"", "\"")[0].replace("&amp;", "&");
    assert_eq!(source, format!("{base}?id=contoso.utility&version=1.0.0"));
    let expected = simulator.nuget_file("contoso/Main", "Contoso.Utility", "1.0").0;
    for url in [source, format!("{base}/?id=Contoso.Utility&version=1.0")] {
        let redirect = get(&url).await;
        assert_eq!(redirect.status, 303, "{url}");
        assert_eq!(get(redirect.header("location").unwrap()).await.body, expected);
    }
    assert_eq!(get(&format!("{base}?id=contoso.utility&version=9.9.9")).await.status, 404);
    assert_eq!(get(&format!("{base}/package/contoso.utility/1.0.0")).await.status, 404);
    let head = client::send("HEAD", &format!("{base}?id=contoso.utility&version=1.0.0"), &[], b"").await;
    assert_eq!(head.unwrap().status, 405);
}

#[tokio::test]
async fn the_service_document_and_the_metadata_name_what_there_is() {
    let simulator = start().await;
    let base = simulator.nuget_v2_url("contoso/main");
    for url in [base.clone(), format!("{base}/")] {
        let service = get(&url).await;
        assert_eq!(service.header("content-type"), Some("application/xml;charset=utf-8"));
        assert!(service.text().contains("<collection href=\"Packages\">"));
        assert!(service.text().contains(&format!("xml:base=\"{base}/\"")));
    }
    let metadata = get(&format!("{base}/$metadata")).await.text();
    for name in
        ["Search", "FindPackagesById", "includePrerelease", "IsAbsoluteLatestVersion", "NormalizedVersion"]
    {
        assert!(metadata.contains(&format!("Name=\"{name}\"")), "{name}");
    }
}

#[tokio::test]
async fn a_view_shows_its_own_versions() {
    let simulator = start().await;
    let url = simulator.nuget_v2_url("contoso/main@release");
    assert_eq!(all_entries(&format!("{url}/Packages")).await, ["Contoso.Utility 1.0"]);
}

#[tokio::test]
async fn bad_queries_and_routes_are_refused() {
    let simulator = start().await;
    let base = simulator.nuget_v2_url("contoso/main");
    let rows = [
        ("Packages?$filter=Colour%20eq%20'red'", 400),
        ("Packages?$filter=Id%20eq", 400),
        ("Packages?$orderby=Colour", 400),
        ("Packages?$top=many", 400),
        ("GetUpdates()", 404),
        ("Packages(Id='Contoso.Utility')", 404),
        ("Packages()/$value", 404),
    ];
    for (query, expected) in rows {
        assert_eq!(get(&format!("{base}/{query}")).await.status, expected, "{query}");
    }
    let post = client::send("POST", &format!("{base}/Packages"), &[], b"").await.unwrap();
    assert_eq!(post.status, 405);
}

#[tokio::test]
async fn a_private_feed_admits_who_may_read() {
    let simulator = start().await;
    let base = simulator.nuget_v2_url("contoso/secret");
    for (pat, expected) in
        [(None, 401), (Some("wrong"), 401), (Some("carol-pat"), 403), (Some("alice-pat"), 200)]
    {
        let credential = pat.map(|pat| client::basic("any", pat));
        let headers: Vec<_> = credential.iter().map(|value| ("Authorization", value.as_str())).collect();
        for path in ["/", "/$metadata", "/Packages", "/Search()/$count"] {
            let response = client::get(&format!("{base}{path}"), &headers).await.unwrap();
            assert_eq!(response.status, expected, "{pat:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_delete_unlists_and_keeps_the_file() {
    let simulator = start().await;
    let base = simulator.nuget_v2_url("contoso/main");
    let delete = async |path: &str, pat: &str| {
        let credential = client::basic("any", pat);
        let headers = [("Authorization", credential.as_str()), ("X-NuGet-ApiKey", "az")];
        client::send("DELETE", &format!("{base}/{path}"), &headers, b"").await.unwrap().status
    };
    let rows = [
        ("Contoso.Utility/1.10.0", "alice-pat", 403),
        ("Contoso.Utility/1.10.0", "wrong", 401),
        ("Contoso.Utility/9.9.9", "bob-pat", 404),
        ("contoso.utility/1.10", "bob-pat", 204),
        ("package/Contoso.Utility/1.0.0", "bob-pat", 204),
    ];
    for (path, pat, expected) in rows {
        assert_eq!(delete(path, pat).await, expected, "{path} {pat}");
    }
    let found = all_entries(&format!("{base}/Search()?searchTerm='utility'&includePrerelease=true")).await;
    assert_eq!(found, ["Contoso.Utility 2.0.0-RC1"]);
    assert_eq!(get(&format!("{base}?id=contoso.utility&version=1.0.0")).await.status, 303);
}
