//! Bodies of metadata: URL rewriting, the abbreviated packument, and the representations served.
//!
//! Everything here is a pure function over bytes; what is fetched, stored or allowed is decided elsewhere.
