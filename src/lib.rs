//! feedgate: a caching reverse proxy in front of Azure Artifacts for npm and NuGet build farms.

pub mod blob;
pub mod clock;
pub mod document;
pub mod ident;
pub mod redact;
pub mod route;
pub mod throttle;
pub mod upstream;
