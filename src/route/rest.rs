//! Grammar of the pkgs host's REST, the paths below `_apis/packaging/feeds/{feed}/{npm|nuget}` (facts §5.2, §5.3).

use super::place::{Found, Place};

/// Reads what follows the feed.
pub(super) fn recognise(_place: &Place<'_, '_>, _query: &str) -> Option<Found> {
    None
}
