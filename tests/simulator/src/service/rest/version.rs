//! What REST does about one version, and about a package's upstreaming.

use serde_json::{Value, json};

use super::{Call, Target, npm, nuget};
use crate::clock;
use crate::log::Listener;
use crate::service::error::{self, Refusal};
use crate::service::feeds::FeedUrls;
use crate::service::reply::Reply;
use crate::world::{FeedState, Operation, PackageEntry, Protocol, Release, VersionEntry};

/// The two words of an upstreaming behaviour, and whether versions from public registries are let in.
const UPSTREAMING: [(&str, bool); 2] = [("Auto", false), ("AllowExternalVersions", true)];

// === impl Call ===

impl Call<'_> {
    /// GET of a version.
    pub(super) fn show(&self, target: &Target) -> Result<Reply, Refusal> {
        let switch = match self.protocol {
            Protocol::Npm => "showUnpublished",
            Protocol::Nuget => "showDeleted",
        };
        let with_gone = self.visit.flag(switch).unwrap_or(false);
        let described = self.visit.look(&self.place, |feed| {
            let (package, version) =
                if with_gone { self.find(feed, target)? } else { self.live(feed, target)? };
            Ok::<_, Refusal>(self.describe(&package, &version))
        })?;
        Ok(self.visit.json(200, &described))
    }

    /// PATCH of a version: deprecation, listing, promotion, or several at once. Answers with the package JSON.
    pub(super) fn patch(&self, target: &Target) -> Result<Reply, Refusal> {
        self.visit.admit_writer()?;
        let body = self.visit.body()?;
        let described = self.visit.change(&self.place, |feed| {
            let operations = self.operations(feed, &body)?;
            self.operate(feed, target, &operations)
        })?;
        Ok(self.visit.json(200, &described))
    }

    /// DELETE of a version: to the recycle bin. Answers with the package JSON.
    pub(super) fn delete(&self, target: &Target) -> Result<Reply, Refusal> {
        self.visit.admit_writer()?;
        let described =
            self.visit.change(&self.place, |feed| self.operate(feed, target, &[Operation::Delete]))?;
        Ok(self.visit.json(200, &described))
    }

    /// GET of a deleted version: the short "deletion state".
    pub(super) fn recycled(&self, target: &Target) -> Result<Reply, Refusal> {
        let field = match self.protocol {
            Protocol::Npm => "unpublishedDate",
            Protocol::Nuget => "deletedDate",
        };
        let state = self.visit.look(&self.place, |feed| {
            let (package, version) = self.find(feed, target)?;
            let presence = version.release.presence();
            let deleted = presence.deleted.filter(|_| presence.purged.is_none());
            let deleted = deleted.ok_or_else(|| self.missing(target))?;
            Ok::<_, Refusal>(
                json!({ "name": package.name, "version": version.version, field: clock::precise(deleted) }),
            )
        })?;
        Ok(self.visit.json(200, &state))
    }

    /// PATCH in the recycle bin: `{"deleted":false}` restores.
    pub(super) fn restore(&self, target: &Target) -> Result<Reply, Refusal> {
        self.visit.admit_writer()?;
        if self.visit.body()?["deleted"] != json!(false) {
            return Err(malformed("the body must be {\"deleted\":false}"));
        }
        self.visit.change(&self.place, |feed| self.operate(feed, target, &[Operation::Restore]))?;
        Ok(Reply::empty(200))
    }

    /// DELETE in the recycle bin: gone for good.
    pub(super) fn purge(&self, target: &Target) -> Result<Reply, Refusal> {
        self.visit.admit_writer()?;
        self.visit.change(&self.place, |feed| {
            let (_, version) = self.find(feed, target)?;
            if version.release.presence().deleted.is_none() {
                return Err(self.missing(target));
            }
            self.operate(feed, target, &[Operation::Purge]).map(drop)
        })?;
        Ok(Reply::empty(200))
    }

    /// GET of the upstreaming behaviour; a package that does not exist has the usual one.
    pub(super) fn upstreaming(&self, name: &str) -> Reply {
        let external =
            self.visit.look(&self.place, |feed| feed.external.contains(&self.upstreaming_key(feed, name)));
        let (word, _) = UPSTREAMING[usize::from(external)];
        self.visit.json(200, &json!({ "versionsFromExternalUpstreams": word }))
    }

    /// PATCH of the upstreaming behaviour. It is kept and told again, and changes nothing else here.
    pub(super) fn set_upstreaming(&self, name: &str) -> Result<Reply, Refusal> {
        self.visit.admit_writer()?;
        let body = self.visit.body()?;
        let word = body["versionsFromExternalUpstreams"].as_str().unwrap_or_default();
        let known = UPSTREAMING.iter().find(|(own, _)| own.eq_ignore_ascii_case(word));
        let (_, external) = known.ok_or_else(|| malformed("the behaviour is not known"))?;
        self.visit.change(&self.place, |feed| {
            let key = self.upstreaming_key(feed, name);
            if *external { feed.external.insert(key) } else { feed.external.remove(&key) }
        });
        Ok(self.upstreaming(name))
    }

    fn upstreaming_key(&self, feed: &FeedState, name: &str) -> (Protocol, String) {
        let known = feed.package(self.protocol, name).map(|package| package.key.to_owned());
        (self.protocol, known.unwrap_or_else(|| name.to_ascii_lowercase()))
    }

    /// The operations that a PATCH body asks for.
    fn operations(&self, feed: &FeedState, body: &Value) -> Result<Vec<Operation>, Refusal> {
        let mut operations = Vec::new();
        match (self.protocol, body.get("deprecateMessage"), body.get("listed")) {
            (Protocol::Npm, Some(message), _) => operations.push(deprecation(message)),
            (Protocol::Nuget, _, Some(listed)) => {
                let listed = listed.as_bool().ok_or_else(|| malformed("listed is true or false"))?;
                operations.push(Operation::List(listed));
            }
            _ => {}
        }
        if let Some(patch) = body.get("views") {
            if patch["op"] != "add" || patch["path"] != "/views/-" {
                return Err(malformed("only {\"op\":\"add\",\"path\":\"/views/-\"} is supported"));
            }
            operations.push(promotion(feed, &patch["value"])?);
        }
        if operations.is_empty() { Err(malformed("nothing to change")) } else { Ok(operations) }
    }

    /// Applies operations to a version that they suit, and describes it afterwards. Inside a change only.
    fn operate(
        &self,
        feed: &mut FeedState,
        target: &Target,
        operations: &[Operation],
    ) -> Result<Value, Refusal> {
        let (package, version) = self.find(feed, target)?;
        if !operations.iter().all(|operation| operation.suits(version.release.presence())) {
            return Err(self.missing(target));
        }
        let key = package.key_of(&version);
        for operation in operations {
            feed.apply(&key, operation);
        }
        let (package, version) = self.find(feed, target)?;
        Ok(self.describe(&package, &version))
    }

    /// A version that the view shows.
    pub(super) fn live<'f>(
        &self,
        feed: &'f FeedState,
        target: &Target,
    ) -> Result<(PackageEntry<'f>, VersionEntry<'f>), Refusal> {
        let (package, version) = self.find(feed, target)?;
        let presence = version.release.presence();
        if presence.is_gone() || !presence.shows_in(self.place.view.as_ref()) {
            return Err(self.missing(target));
        }
        Ok((package, version))
    }

    /// A version in any state.
    pub(super) fn find<'f>(
        &self,
        feed: &'f FeedState,
        target: &Target,
    ) -> Result<(PackageEntry<'f>, VersionEntry<'f>), Refusal> {
        let package = feed.package(self.protocol, &target.name).ok_or_else(|| self.missing(target))?;
        let version = package.version(&target.version).copied().ok_or_else(|| self.missing(target))?;
        Ok((package, version))
    }

    pub(super) fn missing(&self, target: &Target) -> Refusal {
        // As the protocols' routes word it.
        let between = if self.protocol == Protocol::Npm { '@' } else { ' ' };
        error::no_package(&format!("{}{between}{}", target.name, target.version), &self.place.own.name)
    }

    fn describe(&self, package: &PackageEntry<'_>, version: &VersionEntry<'_>) -> Value {
        let mut described = match version.release {
            Release::Npm(release) => npm::describe(package.name, release),
            Release::Nuget(release) => nuget::describe(package.name, release),
        };
        if self.visit.api_generation() >= 5 {
            let purged = version.release.presence().purged.map(clock::precise);
            described.insert("permanentlyDeletedDate".to_owned(), json!(purged));
            described.insert("sourceChain".to_owned(), json!([]));
            described.insert("_links".to_owned(), self.links(package, version));
        }
        Value::Object(described)
    }

    fn links(&self, package: &PackageEntry<'_>, version: &VersionEntry<'_>) -> Value {
        let (protocol, number) = (self.protocol.name().to_ascii_lowercase(), version.version);
        let name = match self.protocol {
            Protocol::Npm => package.name.to_owned(),
            Protocol::Nuget => format!("packages/{}", package.name),
        };
        let feed = FeedUrls::at(&self.visit.base_of(Listener::Pkgs), &self.place).feed;
        let urls = FeedUrls::at(&self.visit.base_of(Listener::Feeds), &self.place);
        json!({
            "self": { "href": format!("{feed}/{protocol}/{name}/versions/{number}") },
            "feed": { "href": urls.feed },
            "package": { "href": urls.package(package.guid) },
        })
    }
}

/// The empty message ends a deprecation.
pub(super) fn deprecation(message: &Value) -> Operation {
    let message = message.as_str().filter(|message| !message.is_empty());
    Operation::Deprecate(message.map(str::to_owned))
}

/// Promotion to a view, by name or GUID.
pub(super) fn promotion(feed: &FeedState, view: &Value) -> Result<Operation, Refusal> {
    let spelling = view.as_str().ok_or_else(|| malformed("a view is named by a text"))?;
    let view = feed.view(spelling).ok_or_else(|| error::no_view(spelling, &feed.own.name))?;
    Ok(Operation::Promote(view.name.clone()))
}

pub(super) fn malformed(message: &str) -> Refusal {
    Refusal::refused(400, "InvalidUserRequestException", message)
}
