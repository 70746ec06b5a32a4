//! Each rule by what it lets through and what it stops. Times are seconds after an arbitrary origin.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{
    Directives, Refusal, Reuse, Standby, Stored, age, freshen, lifetime, may_store, reuse, selecting,
    selects, standby, storable, validators,
};

/// Sun, 06 Nov 1994 08:49:37 GMT, as RFC 9110 likes it.
const START: u64 = 784_111_777;
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

type Fields = [(&'static str, &'static str)];

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(START + second)
}

fn headers(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

fn stored(fields: &Fields) -> Stored {
    Stored {
        status: StatusCode::OK,
        reason: None,
        headers: headers(fields),
        selecting: Vec::new(),
        requested_at: at(0),
        received_at: at(0),
    }
}

fn cached(control: &'static str) -> Stored {
    stored(&[("cache-control", control), ("etag", "\"1\"")])
}

#[test]
fn directives_are_read_as_they_are_written() {
    let rows = [
        ("max-age=60", Some(60)),
        ("MaX-aGe=60", Some(60)),
        ("max-age=\"60\"", Some(60)),
        ("max-age=0060", Some(60)),
        ("foo, max-age=60 , bar", Some(60)),
        ("max-age=60, max-age=1", Some(60)),
        ("x=\"max-age=7\", max-age=60", Some(60)),
        ("x=\"a\\\"max-age=7\", max-age=60", Some(60)),
        ("max-age=99999999999999999999999", Some(1 << 31)),
        ("max-age=-60", Some(0)),
        ("max-age='60'", Some(0)),
        ("max-age=60.5", Some(0)),
        ("max-age=60a", Some(0)),
        ("max-age= 60", Some(0)),
        ("max-age", Some(0)),
        ("x=\"max-age=60\"", None),
        ("", None),
    ];
    for (control, expected) in rows {
        let read = Directives::of_response(&headers(&[("cache-control", control)])).seconds("max-age");
        assert_eq!(read, expected.map(Duration::from_secs), "{control}");
    }
    let listed = Directives::of_response(&headers(&[("cache-control", "private=\"a, B\", no-cache")]));
    assert_eq!(listed.fields("private").collect::<Vec<_>>(), ["a", "b"]);
    assert!(!listed.has_whole("private") && listed.has_whole("no-cache"));
    for empty in [
        "private=\"\"",
        "private=",
        "private=\" , \"",
        "private=\"a b\"",
        "private=\"a, \u{fc}\"",
        "private=a, private",
    ] {
        let headers =
            HeaderMap::from_iter([(http::header::CACHE_CONTROL, HeaderValue::from_str(empty).unwrap())]);
        assert!(Directives::of_response(&headers).has_whole("private"), "{empty} names no field");
    }
}

#[test]
fn a_targeted_field_stands_before_the_general_ones() {
    let general = [("cache-control", "max-age=1"), ("expires", "0"), ("date", DATE)];
    let with = |name, value| {
        let mut response = stored(&general);
        response.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        lifetime(&response).as_secs()
    };
    let rows = [
        ("cdn-cache-control", "max-age=60", 60),
        ("cdn-cache-control", "max-age=60;x=y, foo", 60),
        ("cdn-cache-control", "", 1),
        ("cdn-cache-control", "no-store", 0),
        ("surrogate-control", "max-age=60", 60),
        ("surrogate-control", "max-age=60;feedgate", 60),
        ("surrogate-control", "max-age=60;another", 1),
    ];
    for (name, value, expected) in rows {
        assert_eq!(with(name, value), expected, "{name}: {value}");
    }
    let both = headers(&[("surrogate-control", "max-age=1"), ("cdn-cache-control", "max-age=2")]);
    assert_eq!(Directives::of_response(&both).seconds("max-age"), Some(Duration::from_secs(2)));
}

#[test]
fn a_lifetime_is_told_or_guessed() {
    let later = "Sun, 06 Nov 1994 09:49:37 GMT";
    let earlier = "Sun, 06 Nov 1994 07:49:37 GMT";
    let rows: [(&Fields, u64); 11] = [
        (&[("cache-control", "s-maxage=5, max-age=60")], 5),
        (&[("cache-control", "max-age=60"), ("expires", "0")], 60),
        (&[("expires", later), ("date", DATE)], 3600),
        (&[("expires", later)], 3600),
        (&[("expires", later), ("date", "foo")], 3600),
        (&[("expires", DATE), ("date", DATE)], 0),
        (&[("expires", "0"), ("last-modified", earlier)], 0),
        (&[("expires", later), ("expires", later)], 0),
        (&[("last-modified", earlier), ("date", DATE)], 360),
        (&[("last-modified", later), ("date", DATE)], 0),
        (&[("etag", "\"1\"")], 0),
    ];
    for (fields, expected) in rows {
        assert_eq!(lifetime(&stored(fields)).as_secs(), expected, "{fields:?}");
    }
    let guess = |status, control| {
        let fields = [("last-modified", earlier), ("date", DATE)];
        let mut response = stored(&fields);
        response.status = StatusCode::from_u16(status).unwrap();
        response.headers.insert("cache-control", HeaderValue::from_static(control));
        lifetime(&response).as_secs()
    };
    assert_eq!((guess(404, ""), guess(201, ""), guess(599, ""), guess(599, "public")), (360, 0, 0, 360));
}

#[test]
fn age_is_the_most_that_is_known() {
    let aged = |fields: &Fields, requested, received, now| {
        let response = Stored { requested_at: at(requested), received_at: at(received), ..stored(fields) };
        age(&response, at(now)).map(|age| age.as_secs())
    };
    assert_eq!(aged(&[("date", DATE)], 0, 0, 7), Some(7));
    assert_eq!(aged(&[("date", DATE)], 10, 10, 12), Some(12), "a date in the past");
    assert_eq!(aged(&[("age", "100")], 0, 3, 5), Some(105), "the wait for the head counts");
    assert_eq!(aged(&[("date", "Sun, 06 Nov 1994 09:49:37 GMT")], 0, 0, 7), Some(7), "a fast clock");
    assert_eq!(aged(&[], 5, 5, 0), Some(0), "a clock that was set back");
    assert_eq!(aged(&[("age", "0, 100")], 0, 0, 0), Some(0), "the first of a list");
    for bad in ["x", "-1", "1.0", "1;a=b", ""] {
        assert_eq!(aged(&[("age", bad)], 0, 0, 0), None, "{bad}");
    }
    assert_eq!(aged(&[("age", "0"), ("age", "0")], 0, 0, 0), None);
}

#[test]
fn what_is_stored() {
    let outcome = |method: Method, status, request: &Fields, response: &Fields| {
        may_store(&method, &headers(request), StatusCode::from_u16(status).unwrap(), &headers(response)).err()
    };
    let fresh = ("cache-control", "max-age=60");
    let auth = ("authorization", "x");
    let rows: [(u16, &Fields, &Fields, Option<Refusal>); 25] = [
        (200, &[], &[fresh], None),
        (599, &[], &[fresh], None),
        (206, &[], &[fresh], Some(Refusal::Status)),
        (304, &[], &[fresh], Some(Refusal::Status)),
        (412, &[], &[fresh], Some(Refusal::Status)),
        (416, &[], &[fresh], Some(Refusal::Status)),
        (200, &[("cache-control", "no-store")], &[fresh], Some(Refusal::NoStore)),
        (200, &[], &[fresh, ("cache-control", "No-Store")], Some(Refusal::NoStore)),
        (200, &[], &[("cache-control", "max-age=1, no-store, must-understand")], None),
        (599, &[], &[("cache-control", "max-age=1, must-understand")], Some(Refusal::NotUnderstood)),
        (200, &[], &[("cache-control", "private, max-age=1")], Some(Refusal::Private)),
        (200, &[], &[("cache-control", "private=\"a\", max-age=1")], None),
        (200, &[auth], &[fresh], Some(Refusal::Authorization)),
        (200, &[auth], &[("cache-control", "public, max-age=1")], None),
        (200, &[auth], &[("cache-control", "must-revalidate, max-age=1")], None),
        (200, &[auth], &[("cache-control", "s-maxage=1")], None),
        (200, &[], &[fresh, ("vary", "a"), ("vary", ", *")], Some(Refusal::Vary)),
        (200, &[], &[fresh, ("vary", "a b")], Some(Refusal::Vary)),
        (200, &[], &[], Some(Refusal::Unusable)),
        (200, &[], &[("etag", "\"1\"")], None),
        (200, &[], &[("last-modified", DATE)], None),
        (201, &[], &[("last-modified", DATE)], Some(Refusal::Unusable)),
        (201, &[], &[("cache-control", "no-cache"), ("etag", "\"1\"")], None),
        (200, &[], &[("expires", "0")], None),
        (200, &[], &[("cdn-cache-control", "max-age=1"), ("cache-control", "no-store")], None),
    ];
    for (status, request, response, expected) in rows {
        assert_eq!(
            outcome(Method::GET, status, request, response),
            expected,
            "{status} {request:?} {response:?}"
        );
    }
    assert_eq!(outcome(Method::PUT, 200, &[], &[fresh]), Some(Refusal::Method));
    assert_eq!(outcome(Method::HEAD, 200, &[], &[fresh]), Some(Refusal::Method));
    assert_eq!(outcome(Method::POST, 200, &[], &[fresh]), None);
    assert_eq!(outcome(Method::POST, 200, &[], &[("etag", "\"1\"")]), Some(Refusal::Method));
}

#[test]
fn a_response_is_for_requests_with_its_selecting_fields() {
    let rows: [(&'static str, &Fields, &Fields, bool); 14] = [
        ("", &[("foo", "1")], &[], true),
        ("Foo", &[("foo", "1")], &[("foo", "1"), ("bar", "2")], true),
        ("Foo", &[("foo", "1")], &[("foo", "2")], false),
        ("Foo", &[("foo", "1")], &[], false),
        ("Foo", &[], &[("foo", "")], false),
        ("Foo, Bar", &[("foo", "1")], &[("foo", "1")], true),
        ("Foo, Bar", &[("foo", "1")], &[("foo", "1"), ("bar", "")], false),
        ("Foo", &[("foo", "1"), ("foo", "2")], &[("foo", " 1 ,2 ")], true),
        ("Foo", &[("foo", "\"a, b\"")], &[("foo", "\"a,b\"")], false),
        ("Accept-Language", &[("accept-language", "en, de")], &[("accept-language", "DE ,en;q=1.0")], true),
        (
            "Accept-Language",
            &[("accept-language", "en, de;q=0.5")],
            &[("accept-language", "de, en;q=0.5")],
            false,
        ),
        ("Accept-Encoding", &[("accept-encoding", "gzip, br")], &[("accept-encoding", "br,gzip")], true),
        ("Accept", &[("accept", "a/b")], &[("accept", "A/b")], false),
        ("Foo", &[("foo", "1, 2")], &[("foo", "2, 1")], false),
    ];
    for (vary, first, second, expected) in rows {
        let fields = selecting(&headers(first), &headers(&[("vary", vary)])).unwrap();
        assert_eq!(selects(&fields, &headers(second)), expected, "{vary}: {first:?} {second:?}");
    }
    assert_eq!(selecting(&HeaderMap::new(), &headers(&[("vary", "*, foo")])), None);
}

#[test]
fn reuse_weighs_what_both_sides_say() {
    const VALIDATE: Reuse = Reuse::Validate { demanded: false };
    const DEMANDED: Reuse = Reuse::Validate { demanded: true };
    let fresh = |left| Reuse::Fresh { left };
    let rows: [(&'static str, &Fields, u64, Reuse); 23] = [
        ("max-age=10", &[], 9, fresh(1)),
        ("max-age=10", &[], 10, VALIDATE),
        ("max-age=10, no-cache", &[], 1, DEMANDED),
        ("max-age=10, no-cache=\"a\"", &[], 1, fresh(9)),
        ("max-age=10", &[("cache-control", "no-cache")], 1, DEMANDED),
        ("max-age=10", &[("pragma", "no-cache")], 1, DEMANDED),
        ("max-age=10", &[("pragma", "no-cache"), ("cache-control", "x")], 1, fresh(9)),
        ("max-age=10", &[("cache-control", "max-age=0")], 0, DEMANDED),
        ("max-age=10", &[("cache-control", "max-age=3")], 3, fresh(7)),
        ("max-age=10", &[("cache-control", "max-age=3")], 4, DEMANDED),
        ("max-age=10", &[("cache-control", "min-fresh=5")], 5, fresh(5)),
        ("max-age=10", &[("cache-control", "min-fresh=5")], 6, DEMANDED),
        ("max-age=10", &[("cache-control", "max-stale")], 99, fresh(-89)),
        ("max-age=10", &[("cache-control", "max-stale=5")], 15, fresh(-5)),
        ("max-age=10", &[("cache-control", "max-stale=5")], 16, VALIDATE),
        ("max-age=10", &[("cache-control", "max-stale=x")], 16, VALIDATE),
        ("max-age=10", &[("cache-control", "max-stale=\"\"")], 16, VALIDATE),
        ("max-age=10", &[("cache-control", "max-stale=a b")], 16, VALIDATE),
        ("max-age=10, no-cache=\"\"", &[], 1, DEMANDED),
        ("max-age=10, must-revalidate", &[("cache-control", "max-stale")], 11, VALIDATE),
        ("max-age=10, stale-while-revalidate=5", &[], 14, Reuse::Stale { left: -4 }),
        ("max-age=10, stale-while-revalidate=5", &[], 15, VALIDATE),
        ("s-maxage=10, stale-while-revalidate=5", &[], 14, VALIDATE),
    ];
    for (control, request, now, expected) in rows {
        assert_eq!(
            reuse(&cached(control), &headers(request), None, at(now)),
            expected,
            "{control} {request:?} {now}"
        );
    }
    let ttl = Some(Duration::from_secs(100));
    assert_eq!(reuse(&cached("max-age=1"), &HeaderMap::new(), ttl, at(50)), fresh(50));
    let unreadable = stored(&[("cache-control", "max-age=10"), ("age", "x")]);
    assert_eq!(reuse(&unreadable, &headers(&[("cache-control", "max-stale")]), None, at(0)), VALIDATE);
}

#[test]
fn a_failure_of_the_origin_is_bridged_as_far_as_that_is_allowed() {
    let rows = [
        ("max-age=10", Standby::Unreachable, 60, true),
        ("max-age=10", Standby::Unreachable, 8 * 86_400, false),
        ("max-age=10", Standby::Failing, 60, false),
        ("max-age=10, stale-if-error=50", Standby::Failing, 60, true),
        ("max-age=10, stale-if-error=50", Standby::Failing, 61, false),
        ("max-age=10, stale-if-error=50", Standby::Unreachable, 61, false),
        ("max-age=10, must-revalidate", Standby::Unreachable, 60, false),
        ("max-age=10, proxy-revalidate", Standby::Unreachable, 60, false),
        ("s-maxage=10", Standby::Unreachable, 60, false),
        ("max-age=10, no-cache", Standby::Unreachable, 60, false),
    ];
    for (control, reason, now, expected) in rows {
        let left = standby(&cached(control), reason, &HeaderMap::new(), at(now));
        assert_eq!(left.is_some(), expected, "{control} {reason:?} {now}");
    }
    let asked = headers(&[("cache-control", "stale-if-error=60")]);
    assert_eq!(standby(&cached("max-age=10"), Standby::Failing, &asked, at(30)), Some(-20));
}

#[test]
fn a_validation_names_what_is_stored() {
    let response = stored(&[("etag", "W/\"a\""), ("last-modified", DATE)]);
    let expected = headers(&[("if-none-match", "W/\"a\""), ("if-modified-since", DATE)]);
    assert_eq!(validators(&response), expected);
    assert_eq!(validators(&stored(&[])), HeaderMap::new());
}

#[test]
fn hop_by_hop_and_named_fields_are_not_stored() {
    let response = headers(&[
        ("connection", "a, close"),
        ("a", "1"),
        ("keep-alive", "x"),
        ("proxy-authenticate", "x"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("cache-control", "max-age=1, no-cache=\"b\", private=\"c\""),
        ("b", "2"),
        ("c", "3"),
        ("set-cookie", "d"),
        ("set-cookie", "e"),
    ]);
    let expected = headers(&[
        ("cache-control", "max-age=1, no-cache=\"b\", private=\"c\""),
        ("set-cookie", "d"),
        ("set-cookie", "e"),
    ]);
    assert_eq!(storable(&response), expected);
}

#[test]
fn a_validation_updates_all_but_what_describes_the_bytes() {
    let before = headers(&[
        ("etag", "\"1\""),
        ("content-encoding", "gzip"),
        ("kept", "1"),
        ("x", "1"),
        ("x", "2"),
        ("age", "9"),
    ]);
    let validation = headers(&[
        ("etag", "\"2\""),
        ("content-encoding", "br"),
        ("content-length", "0"),
        ("x", "3"),
        ("date", DATE),
        ("keep-alive", "y"),
    ]);
    let after = headers(&[
        ("etag", "\"1\""),
        ("content-encoding", "gzip"),
        ("kept", "1"),
        ("x", "3"),
        ("date", DATE),
    ]);
    assert_eq!(freshen(&before, &validation), after);
}

#[test]
fn a_connection_with_bytes_beyond_ascii_still_names_its_fields() {
    let mut fields = headers(&[("x-one", "1"), ("x-two", "2"), ("x-three", "3")]);
    fields.append("connection", HeaderValue::from_bytes(b"X-One, \xff ,x-two").unwrap());
    assert_eq!(super::end_to_end(&fields), headers(&[("x-three", "3")]));
}
