//! npm package names.

use std::sync::Arc;

/// An npm package name, `name` or `@scope/name`; case is kept (facts §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NpmName(Arc<str>);

/// Why a text is not an [`NpmName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("npm name `{0}` is not valid")]
pub struct NpmNameError(String);
