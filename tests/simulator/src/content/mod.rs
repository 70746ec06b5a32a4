//! Content as a test describes it, and the real package files that are made of it. No HTTP here.

pub(crate) mod artifact;
pub(crate) mod folder;
pub(crate) mod npm;
pub(crate) mod nuget;
pub(crate) mod nupkg;
pub(crate) mod organisation;
pub(crate) mod range;
pub(crate) mod seed;
pub(crate) mod tarball;
pub(crate) mod version;
pub(crate) mod vso;
