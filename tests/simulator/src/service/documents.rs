//! Rendered documents, kept per requested spelling so that a busy bench does not measure JSON rendering.
//!
//! Every entry remembers the revision of the world it was rendered from; an older one is rendered anew.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::RwLock;

/// Beyond this many, all are dropped: simpler than an order, and benches stay far below.
const MAX_DOCUMENTS: usize = 20_000;

/// A rendered document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) plain: Bytes,
    gzip: OnceLock<Bytes>,
}

/// The kept documents.
#[derive(Default)]
pub(crate) struct Documents(RwLock<HashMap<String, (u64, Arc<Document>)>>);

// === impl Document ===

impl Document {
    pub(crate) fn new(plain: Bytes) -> Self {
        Self { plain, gzip: OnceLock::new() }
    }

    pub(crate) fn gzip(&self) -> Bytes {
        self.gzip.get_or_init(|| gzip(&self.plain)).clone()
    }
}

// === impl Documents ===

impl Documents {
    pub(crate) fn get(&self, key: &str, revision: u64) -> Option<Arc<Document>> {
        let documents = self.0.read();
        let (of, document) = documents.get(key)?;
        (*of == revision).then(|| Arc::clone(document))
    }

    pub(crate) fn keep(&self, key: String, revision: u64, document: &Arc<Document>) {
        let mut documents = self.0.write();
        if documents.len() >= MAX_DOCUMENTS {
            documents.clear();
        }
        documents.insert(key, (revision, Arc::clone(document)));
    }
}

/// Compresses with a constant header, so that equal documents give equal bytes.
pub(crate) fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("memory does not fail");
    encoder.finish().expect("memory does not fail").into()
}
