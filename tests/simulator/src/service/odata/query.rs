//! The query options of a v2 request (OData 2.0 URI conventions §4), and the arguments of the service operations.
//!
//! `$select`, `$expand`, `$format` and `targetFramework` are tolerated and change nothing.

use super::entry::{Entry, is_property};
use super::filter::Filter;
use crate::service::error::Refusal;
use crate::wire::request::{Request, decode};

/// What a list request asks for.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) filter: Option<Filter>,
    /// Property and whether it goes down, most important first.
    order: Vec<(String, bool)>,
    pub(super) skip: usize,
    pub(super) top: Option<usize>,
    /// `$inlinecount=allpages`
    pub(super) with_count: bool,
    /// `id` of `FindPackagesById`.
    pub(super) id: String,
    pub(super) search_term: String,
    pub(super) prerelease: bool,
    pub(super) semver2: bool,
    /// As sent, for the link to the next page.
    pairs: Vec<String>,
}

// === impl Query ===

impl Query {
    pub(super) fn parse(request: &Request) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.set(&decode(name), &plain(value))?;
            query.pairs.push(pair.to_owned());
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        let number = || value.parse().map_err(|_| malformed(&format!("'{value}' is no number in '{name}'")));
        match name.to_ascii_lowercase().as_str() {
            "$filter" if value.is_empty() => {}
            "$filter" => {
                self.filter = Some(Filter::parse(value).map_err(|error| malformed(&error.0))?);
            }
            "$orderby" => self.order = order(value)?,
            "$skip" => self.skip = number()?,
            "$top" => self.top = Some(number()?),
            "$inlinecount" => self.with_count = value.eq_ignore_ascii_case("allpages"),
            "$count" => self.with_count = value.eq_ignore_ascii_case("true"),
            "id" => self.id = unquoted(value),
            "searchterm" => self.search_term = unquoted(value),
            "includeprerelease" => self.prerelease = value.eq_ignore_ascii_case("true"),
            "semverlevel" => self.semver2 = unquoted(value).starts_with('2'),
            _ => {}
        }
        Ok(())
    }

    /// Keeps what passes the filter, in the order asked for.
    pub(super) fn pick<'a>(&self, entries: Vec<Entry<'a>>) -> Vec<Entry<'a>> {
        let passes = |entry: &Entry<'_>| {
            self.filter.as_ref().is_none_or(|filter| filter.passes(&|name| entry.value(name)))
        };
        let mut picked: Vec<Entry<'a>> = entries.into_iter().filter(passes).collect();
        picked.sort_by(|left, right| {
            let by = |(property, down): &(String, bool)| {
                let order = left.order(right, property);
                if *down { order.reverse() } else { order }
            };
            self.order.iter().map(by).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
        });
        picked
    }

    /// How many of `left` entries after the skipped ones go on a page, and whether a page follows.
    pub(super) fn page(&self, left: usize, page_size: usize) -> (usize, bool) {
        let wanted = self.top.unwrap_or(usize::MAX).min(left);
        (wanted.min(page_size), wanted > page_size)
    }

    /// The query of the page after one of `taken` entries.
    pub(super) fn next(&self, taken: usize) -> String {
        let is_own = |pair: &&String| {
            let name = decode(pair.split('=').next().unwrap_or_default());
            !name.eq_ignore_ascii_case("$skip") && !name.eq_ignore_ascii_case("$top")
        };
        let mut pairs: Vec<String> = self.pairs.iter().filter(is_own).cloned().collect();
        pairs.push(format!("$skip={}", self.skip + taken));
        pairs.extend(self.top.map(|top| format!("$top={}", top - taken)));
        pairs.join("&")
    }
}

/// A query value: `+` stands for a blank.
fn plain(value: &str) -> String {
    decode(&value.replace('+', " "))
}

/// A text argument without its quotes, if it has some.
pub(super) fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
    inner.map_or_else(|| value.to_owned(), |inner| inner.replace("''", "'"))
}

fn order(value: &str) -> Result<Vec<(String, bool)>, Refusal> {
    let one = |part: &str| {
        let mut words = part.split_whitespace();
        let property = words.next().unwrap_or_default();
        if !is_property(property) {
            return Err(malformed(&format!("no property named '{property}'")));
        }
        Ok((property.to_owned(), words.next() == Some("desc")))
    };
    value.split(',').filter(|part| !part.trim().is_empty()).map(one).collect()
}

fn malformed(message: &str) -> Refusal {
    let message = format!("The query specified in the URI is not valid. {message}.");
    Refusal::Refused { status: 400, message, type_key: "ODataException" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_with_the_entries_or_with_top() {
        // (left, page size, top) -> (entries on the page, another page follows)
        let rows = [
            ((5, 10, None), (5, false)),
            ((25, 10, None), (10, true)),
            ((10, 10, None), (10, false)),
            ((25, 10, Some(3)), (3, false)),
            ((25, 10, Some(12)), (10, true)),
            ((0, 10, Some(12)), (0, false)),
        ];
        for ((left, size, top), expected) in rows {
            let query = Query { top, ..Query::default() };
            assert_eq!(query.page(left, size), expected, "{left} {size} {top:?}");
        }
    }

    #[test]
    fn the_next_page_is_asked_for_with_the_same_words() {
        let query = Query {
            skip: 10,
            top: Some(25),
            pairs: ["id='X'", "%24skip=10", "$top=25", "semVerLevel=2.0.0"].map(str::to_owned).to_vec(),
            ..Query::default()
        };
        assert_eq!(query.next(10), "id='X'&semVerLevel=2.0.0&$skip=20&$top=15");
    }
}
