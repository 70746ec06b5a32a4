//! Bodies of metadata: URL rewriting, the abbreviated packument, and the representations served.
//!
//! Everything here is a pure function over bytes; what is fetched, stored or allowed is decided elsewhere.
//! Nothing here builds a tree of a whole document: a packument can have 40 MB (facts §3.1), so every step is
//! a pass over borrowed bytes, fit for a blocking thread when the document is large.

pub mod advisories;
pub mod changes;
mod check;
pub mod conditional;
pub mod listing;
pub mod packument;
pub mod representation;
pub mod rewrite;
pub mod service_index;

pub use check::{DocumentError, looks_like_html, validate_json, validate_xml, without_bom};
