//! Batches: one operation for many versions. All of them change, or none (invented: nobody says).

use serde_json::Value;

use super::version::{deprecation, malformed, promotion};
use super::{Call, Target};
use crate::service::error::Refusal;
use crate::service::reply::Reply;
use crate::world::{FeedState, Operation, Protocol, VersionKey};

// === impl Call ===

impl Call<'_> {
    /// POST `packagesbatch`.
    pub(super) fn batch(&self) -> Result<Reply, Refusal> {
        self.run(|feed, body| self.operation(feed, body))
    }

    /// POST `RecycleBin/PackagesBatch`.
    pub(super) fn recycled_batch(&self) -> Result<Reply, Refusal> {
        self.run(|_, body| match word(body).as_str() {
            "restoretofeed" => Ok(Operation::Restore),
            "permanentdelete" | "delete" => Ok(Operation::Purge),
            _ => Err(malformed("the operation is not known in the recycle bin")),
        })
    }

    fn run(
        &self,
        choose: impl FnOnce(&FeedState, &Value) -> Result<Operation, Refusal>,
    ) -> Result<Reply, Refusal> {
        self.visit.admit_writer()?;
        let body = self.visit.body()?;
        self.visit.change(&self.place, |feed| {
            let operation = choose(feed, &body)?;
            let packages = body["packages"].as_array().ok_or_else(|| malformed("there are no packages"))?;
            let keys: Vec<VersionKey> = packages
                .iter()
                .map(|package| self.key(feed, package, &operation))
                .collect::<Result<_, _>>()?;
            for key in &keys {
                feed.apply(key, &operation);
            }
            Ok(Reply::empty(200))
        })
    }

    fn operation(&self, feed: &FeedState, body: &Value) -> Result<Operation, Refusal> {
        let parameters = &body["data"];
        match (word(body).as_str(), self.protocol) {
            ("promote", _) => promotion(feed, &parameters["viewId"]),
            ("deprecate", Protocol::Npm) => Ok(deprecation(&parameters["message"])),
            ("list", Protocol::Nuget) => {
                let listed = parameters["listed"].as_bool();
                listed.map(Operation::List).ok_or_else(|| malformed("listed is true or false"))
            }
            ("unpublish", Protocol::Npm) | ("delete", _) => Ok(Operation::Delete),
            ("permanentdelete", _) => Ok(Operation::Purge),
            ("restoretofeed", _) => Ok(Operation::Restore),
            _ => Err(malformed("the operation is not known")),
        }
    }

    /// The version that an entry of `packages` names, if the operation suits it.
    fn key(&self, feed: &FeedState, package: &Value, operation: &Operation) -> Result<VersionKey, Refusal> {
        let text = |field: &str| package[field].as_str().unwrap_or_default();
        let target = Target::new(text("id"), text("version"));
        let (package, version) = self.find(feed, &target)?;
        if !operation.suits(version.release.presence()) {
            return Err(self.missing(&target));
        }
        Ok(package.key_of(&version))
    }
}

fn word(body: &Value) -> String {
    body["operation"].as_str().unwrap_or_default().to_ascii_lowercase()
}
