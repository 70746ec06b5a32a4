//! Grammar of NuGet v2 (OData), the paths below `_packaging/{feed}/nuget/v2` (facts §4.3).

use super::{path::Segment, place::Found};

/// Reads the segments below `v2`.
pub(super) fn recognise(_tail: &[Segment<'_>], _query: &str) -> Option<Found> {
    None
}
