//! Templates and patterns: what they take, refuse and match.

use super::*;

fn render(template: &str, org: &str) -> Result<String, UrlTemplateError> {
    let base = template.parse::<UrlTemplate>()?.render(&Name::parse(org).unwrap())?;
    Ok(format!("{} {}", base.origin, base.prefix))
}

fn origin(text: &str) -> Origin {
    let (scheme, rest) = Scheme::split(text).unwrap();
    let (host, port) = split_port(rest);
    Origin { scheme, host: host.to_owned(), port: parse_port(port, scheme).unwrap() }
}

#[test]
fn a_template_takes_the_organisation_into_its_host_or_path() {
    let rows = [
        ("https://pkgs.dev.azure.com/{org}", "Contoso", "https://pkgs.dev.azure.com /Contoso"),
        ("https://pkgs.dev.azure.com/{org}/", "a b", "https://pkgs.dev.azure.com /a%20b"),
        ("HTTPS://{org}.Pkgs.VisualStudio.com", "Contoso", "https://contoso.pkgs.visualstudio.com "),
        ("http://127.0.0.1:8080/tfs/{org}", "c", "http://127.0.0.1:8080 /tfs/c"),
        ("https://tfs.example:443/{org}/x", "c", "https://tfs.example /c/x"),
    ];
    for (template, org, expected) in rows {
        assert_eq!(render(template, org).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn a_template_that_cannot_be_asked_is_refused_with_the_reason() {
    use UrlTemplateError as E;
    let host = |host: &str| E::Host(host.to_owned());
    let rows = [
        ("pkgs.dev.azure.com/{org}", E::Scheme),
        ("ftp://pkgs/{org}", E::Scheme),
        ("https://pkgs.dev.azure.com", E::Org),
        ("https://{org}.pkgs/{org}", E::Org),
        ("https://x{org}.pkgs/", E::Org),
        ("https://pkgs/a{org}", E::Org),
        ("https://pkgs/{ORG}", E::Org),
        ("https://user@pkgs/{org}", host("user@pkgs")),
        ("https:///{org}", host("")),
        ("https://[::1]/{org}", E::Port("1]".to_owned())),
        ("https://pkgs:0/{org}", E::Port("0".to_owned())),
        ("https://pkgs:+1/{org}", E::Port("+1".to_owned())),
        ("https://pkgs:99999/{org}", E::Port("99999".to_owned())),
        ("https://pkgs/../{org}", E::Path("/../{org}".to_owned())),
        ("https://pkgs/{org}/a?b", E::Path("/{org}/a?b".to_owned())),
        ("https://pkgs/a b/{org}", E::Path("/a b/{org}".to_owned())),
    ];
    for (template, expected) in rows {
        assert_eq!(template.parse::<UrlTemplate>(), Err(expected), "{template}");
    }
}

#[test]
fn an_organisation_that_is_no_label_gets_no_host() {
    for org in ["a.b", "a b", "evil.example:80", &"x".repeat(64)] {
        let error = render("https://{org}.pkgs.visualstudio.com", org).unwrap_err();
        assert_eq!(error, UrlTemplateError::Label(org.to_owned()));
    }
}

#[test]
fn a_path_is_below_a_template_only_for_the_same_origin_and_organisation() {
    let template = UrlTemplate::of_path("pkgs.dev.azure.com");
    let rows = [
        ("https://pkgs.dev.azure.com", "/CONTOSO/_packaging/x?y", Some("/_packaging/x?y")),
        ("https://pkgs.dev.azure.com", "/contoso", None),
        ("https://pkgs.dev.azure.com", "/contoso2/x", None),
        ("https://pkgs.dev.azure.com", "/fabrikam/x", None),
        ("https://pkgs.dev.azure.com:444", "/contoso/x", None),
        ("http://pkgs.dev.azure.com", "/contoso/x", None),
        ("https://feeds.dev.azure.com", "/contoso/x", None),
    ];
    let org = Name::parse("Contoso").unwrap();
    for (host, path, expected) in rows {
        assert_eq!(template.below(&org, &origin(host), path), expected, "{host}{path}");
    }
}

#[test]
fn the_default_blob_hosts_are_the_services_shards_and_nothing_else() {
    let rows = [
        ("https://4fdvsblobprodwcus012.vsblob.vsassets.io", true),
        ("https://vsblobprodscussu5shard72.blob.core.windows.net", true),
        ("https://se1vsblobprodcus349.vsblob.vsassets.io", true),
        ("http://4fdvsblobprodwcus012.vsblob.vsassets.io", false),
        ("https://4fdvsblobprodwcus012.vsblob.vsassets.io:8443", false),
        ("https://other.blob.core.windows.net", false),
        ("https://a.vsblobprod1.blob.core.windows.net", false),
        ("https://vsblobprod1.blob.core.windows.net.evil.example", false),
        ("https://vsblobprod1.evil.example", false),
        ("https://169.254.169.254", false),
    ];
    let patterns = Upstream::default().blob_hosts;
    for (host, expected) in rows {
        assert_eq!(patterns.iter().any(|p| p.matches(&origin(host))), expected, "{host}");
    }
}

#[test]
fn a_test_host_matches_with_its_scheme_and_port_only() {
    let pattern: HostPattern = "http://localhost:1234".parse().unwrap();
    assert!(pattern.matches(&origin("http://localhost:1234")));
    for other in ["http://localhost:1235", "https://localhost:1234", "http://localhost"] {
        assert!(!pattern.matches(&origin(other)), "{other}");
    }
}

#[test]
fn a_pattern_that_is_unclear_or_too_wide_is_refused() {
    use HostPatternError as E;
    let rows = [
        ("*", E::Wide("*".to_owned())),
        ("*.com", E::Wide("*.com".to_owned())),
        ("x.*.net", E::Wide("x.*.net".to_owned())),
        ("blob.example:8443", E::SchemeMissing("blob.example:8443".to_owned())),
        ("blob.example/x", E::Path("blob.example/x".to_owned())),
        ("https://blob.example:x", E::Port("x".to_owned())),
        ("https://a@blob.example", E::Host("a@blob.example".to_owned())),
        ("", E::Host(String::new())),
    ];
    for (text, expected) in rows {
        assert_eq!(text.parse::<HostPattern>(), Err(expected), "{text}");
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    for text in ["*vsblobprod*.vsblob.vsassets.io", "http://localhost:80", "https://b.example:8443"] {
        assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
    }
    for text in ["https://pkgs.dev.azure.com/{org}", "http://{org}.pkgs.example:81/a"] {
        assert_eq!(text.parse::<UrlTemplate>().unwrap().to_string(), text);
    }
    let defaults = Upstream::default();
    assert_eq!(defaults.pkgs, "https://pkgs.dev.azure.com/{org}".parse().unwrap());
    assert_eq!(defaults.feeds, "https://feeds.dev.azure.com/{org}".parse().unwrap());
    for pattern in defaults.blob_hosts {
        assert_eq!(pattern.to_string().parse(), Ok(pattern));
    }
}
