//! Names, parsed once at the door: organisation, feed, view, npm name, NuGet id and version, storage id.
//!
//! A value of one of these types is already valid and normalised, so the rest of the gate compares, hashes
//! and prints it without asking again. What a *path* may look like is not decided here but in `route`.

mod name;
mod npm;
mod nuget;
mod selector;
mod storage_id;

pub use name::{FeedRef, Name, NameError};
pub use npm::{NpmName, NpmNameError};
pub use nuget::{NugetId, NugetIdError, NugetVersion, NugetVersionError};
pub use selector::{NamePattern, Rank, Selector};
pub use storage_id::{StorageId, StorageIdError};
