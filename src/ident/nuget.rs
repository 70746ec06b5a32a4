//! NuGet package ids and versions, normalised.

use std::sync::Arc;

/// A NuGet package id, lower-cased.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NugetId(Arc<str>);

/// Why a text is not a [`NugetId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("NuGet id `{0}` is not valid")]
pub struct NugetIdError(String);

/// A NuGet version in its normalised, lower-cased form (facts §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NugetVersion(Arc<str>);

/// Why a text is not a [`NugetVersion`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("NuGet version `{0}` is not valid")]
pub struct NugetVersionError(String);
