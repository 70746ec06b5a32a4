//! Grammar of the feeds host's REST, the paths below `_apis/packaging/Feeds/{feed}` (facts §5.4).

use super::place::{Found, Place};

/// Reads what follows the feed.
pub(super) fn recognise(_place: &Place<'_, '_>, _query: &str) -> Option<Found> {
    None
}
