//! Refreshing: documents that are stored are asked for anew before their time is over.
//!
//! Clients get the stored copies meanwhile, and go on getting them when the service gives no answer. The bytes of packages
//! never change, so they are not asked for. Copies for callers without a credential are asked for without one, the others
//! with the operator's. What no path of the gate addresses (searches, answers of the REST interface) keeps its time.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Errand, Errands, Fate, Report, Seen};
use crate::{
    access::{Audience, Caller},
    blob::BlobError,
    cache::Entry,
    handler::{Filter, Object},
    lockfile::Need,
    route::ObjectKey,
};

/// What became of documents that were to be refreshed.
#[derive(Debug, Clone, Default)]
pub struct Refreshed {
    /// Those that were asked for: *stored* is what has not changed, *fetched* what has.
    pub report: Report,
    /// Those that no path addresses.
    pub unaddressed: usize,
}

/// A stored document that can be asked for.
struct Document {
    key: String,
    need: Need,
    before: Entry,
}

// === impl Errands ===

impl Errands {
    /// Asks the service anew for the documents that `filter` means. `total` hears how many there are, `each` of every one.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn refresh(
        &self,
        filter: &Filter,
        caller: &Caller,
        total: impl FnOnce(usize),
        each: impl Fn(&Seen),
    ) -> Result<Refreshed, BlobError> {
        let found = self.handler.documents(filter).await?;
        let all = found.len();
        let addressed = found.into_iter().filter_map(Document::read);
        let (anonymous, others): (Vec<_>, Vec<_>) =
            addressed.partition(|document| document.key.starts_with(Audience::Anonymous.letter()));
        total(anonymous.len() + others.len());
        let unaddressed = all - anonymous.len() - others.len();
        let (nobody, each) = (self.caller(None), &each);
        let (mut seen, more) =
            tokio::join!(self.refresh_as(&nobody, anonymous, each), self.refresh_as(caller, others, each));
        seen.extend(more);
        Ok(Refreshed { report: Report { seen }, unaddressed })
    }

    async fn refresh_as(&self, caller: &Caller, documents: Vec<Document>, each: impl Fn(&Seen)) -> Vec<Seen> {
        let needs = documents.iter().map(|document| document.need.clone()).collect();
        let mut seen = self.run(Errand::Refresh, needs, caller, each).await.seen;
        for (seen, document) in seen.iter_mut().zip(&documents) {
            match seen.fate {
                Fate::Fetched => self.compare(seen, document).await,
                Fate::Stored => {
                    seen.fail(Fate::Failed, "the service did not answer; the copy stays".to_owned());
                }
                Fate::Missing | Fate::Refused | Fate::Mismatch | Fate::Failed => {}
            }
        }
        seen
    }

    /// Tells what has changed from what has not.
    async fn compare(&self, seen: &mut Seen, document: &Document) {
        match self.handler.parts.documents.entry(&document.key).await {
            Some(now) if millis(now.fetched_at) <= millis(document.before.fetched_at) => {
                seen.fail(Fate::Failed, "another copy than this one is for such a credential".to_owned());
            }
            Some(now) if now.digest == document.before.digest => seen.fate = Fate::Stored,
            Some(_) => {}
            None => seen.fail(Fate::Failed, "it could not be stored".to_owned()),
        }
    }
}

// === impl Document ===

impl Document {
    /// `None` when its key does not tell how it is asked for.
    fn read((object, before): (Object, Entry)) -> Option<Self> {
        let key = ObjectKey::read(object.bare())?;
        // Asked for in another spelling, its URLs would be others.
        let spelling = Some(&before.origin.spelling).filter(|spelling| !spelling.is_empty());
        let path = spelling.map_or_else(|| key.path(), |spelling| key.path_below(spelling))?;
        let need = Need { label: object.bare().to_owned(), path, integrity: None, optional: false };
        Some(Self { key: object.key, need, before })
    }
}

/// A time as entries are stored with it.
fn millis(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}
