//! One request on its way through the pkgs or feeds host: who asks, for which feed, and may they.

use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::Service;
use super::documents::Document;
use super::error::{self, Refusal};
use super::ids::Ids;
use super::location::{Area, Location};
use super::reply::{Body, Reply};
use crate::content::artifact::Artifact;
use crate::content::organisation::Scope;
use crate::content::seed::Seed;
use crate::log::Listener;
use crate::wire::request::Request;
use crate::world::{Caller, FeedState, Named, OrganisationState};

/// The REST version of a request that names none (facts §5.1: the newest).
const NEWEST_VERSION: &str = "7.1-preview.1";

/// A request with everything that is known about it before a protocol looks at it.
pub(crate) struct Visit<'a> {
    pub(crate) service: &'a Service,
    pub(crate) request: &'a Request,
    pub(crate) ids: Ids,
    pub(crate) caller: Caller,
    pub(crate) organisation: usize,
    pub(crate) location: Location,
}

/// The feed that a `_packaging` request is about; the caller has been admitted to it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) feed: usize,
    pub(crate) own: Named,
    pub(crate) project: Option<Named>,
    pub(crate) view: Option<Named>,
    /// Origin and path up to the feed segment, as the client spelled them, without a slash at the end.
    pub(crate) spelled: String,
    /// The world's revision when the place was looked up.
    pub(crate) revision: u64,
}

// === impl Visit ===

impl Visit<'_> {
    pub(crate) fn origin(&self) -> String {
        self.service.origin(self.request)
    }

    /// The REST version that the caller names, in the query or in `Accept` (facts §5.1).
    pub(crate) fn api_version(&self) -> Option<String> {
        let in_accept = || {
            let accept = self.request.header("accept")?;
            accept.split(';').find_map(|part| part.trim().strip_prefix("api-version=").map(str::to_owned))
        };
        self.request.parameter("api-version").or_else(in_accept)
    }

    /// A JSON reply of a REST route; its `Content-Type` repeats the version that was asked for (facts §5.1).
    pub(crate) fn json(&self, status: u16, value: &Value) -> Reply {
        let version = self.api_version().unwrap_or_else(|| NEWEST_VERSION.to_owned());
        let content_type = format!("application/json; charset=utf-8; api-version={version}");
        let document = Arc::new(Document::new(value.to_string().into()));
        Reply { body: Body::Document(document), ..Reply::empty(status) }.header("Content-Type", content_type)
    }

    /// The number before the first dot of the REST version.
    pub(crate) fn api_generation(&self) -> u32 {
        let version = self.api_version().unwrap_or_else(|| NEWEST_VERSION.to_owned());
        version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// A query parameter that is `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let value = self.request.parameter(name)?;
        value.to_ascii_lowercase().parse().ok()
    }

    /// A query parameter that is a number; another text counts as absent.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.request.parameter(name)?.parse().ok()
    }

    /// The body as JSON (facts §5.5 for the refusal).
    pub(crate) fn body(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(&self.request.body)
            .map_err(|error| Refusal::refused(400, "JsonReaderException", error.to_string()))
    }

    /// Whether the method only reads.
    pub(crate) fn reads(&self) -> bool {
        matches!(self.request.method.as_str(), "GET" | "HEAD")
    }

    /// Finds the feed of a `_packaging` path and admits the caller to it.
    pub(crate) fn place(&self) -> Result<Place, Refusal> {
        let asked = self.location.feed().ok_or(Refusal::NoRoute)?;
        let segment = &self.location.rest[0];
        self.place_of(asked, format!("{}{}/_packaging/{segment}", self.origin(), self.location.spelled))
    }

    /// Finds the feed of an `_apis` path (a view may be named as in protocol URLs) and admits the caller to it.
    pub(crate) fn rest_place(&self, spelling: &str) -> Result<Place, Refusal> {
        let asked = match spelling.split_once('@') {
            Some((feed, view)) => (feed.to_owned(), Some(view.to_owned())),
            None => (spelling.to_owned(), None),
        };
        self.place_of(asked, String::new())
    }

    fn place_of(&self, (feed, view): (String, Option<String>), spelled: String) -> Result<Place, Refusal> {
        let world = self.service.world.read();
        let organisation = &world.organisations[self.organisation];
        let (index, found) = self.find_feed(organisation, &feed)?;
        let view = view
            .map(|view| found.view(&view).cloned().ok_or_else(|| error::no_view(&view, &feed)))
            .transpose()?;
        Ok(Place {
            feed: index,
            own: found.own.clone(),
            project: found.project.clone(),
            view,
            spelled,
            revision: world.revision,
        })
    }

    /// Finds a feed by the request's project and admits the caller; strangers don't learn which feeds exist.
    pub(crate) fn find_feed<'w>(
        &self,
        organisation: &'w OrganisationState,
        spelling: &str,
    ) -> Result<(usize, &'w FeedState), Refusal> {
        let found = organisation.feed(self.location.project.as_deref(), spelling);
        match found {
            Some((index, feed)) => self.admit(feed).map(|()| (index, feed)),
            None if self.caller.is_valid() => Err(error::no_feed(spelling)),
            None => Err(self.not_signed_in()),
        }
    }

    /// Whether the caller may read the feed.
    pub(crate) fn admit(&self, feed: &FeedState) -> Result<(), Refusal> {
        let token = match &self.caller {
            Caller::Anonymous if feed.public => return Ok(()),
            Caller::Anonymous | Caller::Unknown => return Err(self.not_signed_in()),
            Caller::Known(token) => token,
        };
        let is_own = |feeds: &Vec<String>| feeds.iter().any(|own| own.eq_ignore_ascii_case(&feed.own.name));
        match token.scope {
            Scope::Expired => Err(self.not_signed_in()),
            Scope::ReadForbidden => Err(self.lacks("ReadPackages")),
            Scope::Read | Scope::ReadWrite if !token.feeds.as_ref().is_none_or(is_own) => {
                Err(self.lacks("ReadPackages"))
            }
            Scope::Read | Scope::ReadWrite => Ok(()),
        }
    }

    /// Whether the caller, who may read the feed, may also publish to it.
    pub(crate) fn admit_writer(&self) -> Result<(), Refusal> {
        match &self.caller {
            caller if caller.may_write() => Ok(()),
            Caller::Anonymous | Caller::Unknown => Err(self.not_signed_in()),
            Caller::Known(_) => Err(self.lacks("AddPackage")),
        }
    }

    fn lacks(&self, permission: &str) -> Refusal {
        let user = match &self.caller {
            Caller::Known(token) => user_guid(&token.label),
            Caller::Anonymous | Caller::Unknown => Uuid::nil(),
        };
        Refusal::Forbidden(format!(
            "User '{user}' lacks permission to complete this action. You need to have '{permission}'."
        ))
    }

    /// 401, or on `_apis` routes the sign-in page for a bad credential (facts §6).
    pub(crate) fn not_signed_in(&self) -> Refusal {
        let suppressed = self
            .request
            .header("x-tfs-fedauthredirect")
            .is_some_and(|value| value.eq_ignore_ascii_case("suppress"));
        let browser_like = matches!(self.request.method.as_str(), "GET" | "POST");
        let bad_credential = !matches!(self.caller, Caller::Anonymous);
        if self.location.area == Area::Apis && bad_credential && browser_like && !suppressed {
            return Refusal::SignIn;
        }
        match &self.caller {
            Caller::Known(token) if token.scope == Scope::Expired => Refusal::Unauthenticated(
                "Access Denied: The Personal Access Token used has expired.".to_owned(),
            ),
            _ => Refusal::Unauthenticated(String::new()),
        }
    }

    /// 303 to the blob host; a server of one's own has none and sends the bytes.
    pub(crate) async fn redirect(&self, artifact: &Arc<Artifact>, file_name: &str) -> Result<Reply, Refusal> {
        if self.request.method != "GET" {
            return Err(Refusal::Method);
        }
        if self.service.settings.server {
            return Ok(Reply::new(200, "application/octet-stream", artifact.load().await.0));
        }
        let digests = artifact.load_digests().await;
        self.service.offer(&digests.storage_id, artifact);
        let container = self.service.world.read().organisations[self.organisation].own.guid;
        let container = container.simple().to_string();
        let path = self.service.signer.sign(&container, &digests.storage_id, file_name, &self.ids);
        let settings = &self.service.settings;
        let location =
            format!("{}://{}{path}", settings.scheme, settings.authorities[Listener::Blob as usize]);
        Ok(Reply::empty(303).header("Location", location))
    }

    /// Refuses the bytes of an unsaved version to callers who can't save it.
    pub(crate) fn may_ingest(&self, package: &str) -> Result<(), Refusal> {
        match &self.caller {
            caller if caller.may_write() => Ok(()),
            Caller::Anonymous | Caller::Unknown => Err(Refusal::Unauthenticated(format!(
                "No local versions of package '{package}'; please provide authentication to access versions from upstream that have not yet been saved to your feed."
            ))),
            Caller::Known(_) => Err(Refusal::Forbidden(format!(
                "User lacks permission to save package '{package}' from an upstream source. You need to have 'AddUpstreamPackage'."
            ))),
        }
    }

    /// The feed for a change, after [`Visit::place`] has admitted the caller.
    pub(crate) fn change<T>(&self, place: &Place, change: impl FnOnce(&mut FeedState) -> T) -> T {
        self.service.world.write().edit((self.organisation, place.feed), change)
    }

    /// Renders something about the feed as it is now, away from the async threads: it may hash every file.
    pub(crate) async fn render<T, F>(&self, place: &Place, render: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&FeedState) -> T + Send + 'static,
    {
        let feed = self.service.world.write().settled((self.organisation, place.feed)).clone();
        let rendering = tokio::task::spawn_blocking(move || render(&feed));
        rendering.await.expect("rendering does not panic")
    }

    /// Scheme, host and path of a door up to the project, in the style of the request: what absolute URLs start with.
    pub(crate) fn base_of(&self, listener: Listener) -> String {
        let root = &self.location.root;
        let own = self.request.listener;
        if listener == own || self.service.settings.server {
            return format!("{}{root}", self.origin());
        }
        let (from, to) = match own {
            Listener::Feeds => ("feeds.", "pkgs."),
            Listener::Pkgs | Listener::Blob => ("pkgs.", "feeds."),
        };
        let host = self.request.header("host").unwrap_or_default();
        let public = host.contains(".visualstudio.com") || host.contains(".dev.azure.com");
        let authority = if public {
            host.replacen(from, to, 1)
        } else {
            self.service.settings.authorities[listener as usize].clone()
        };
        format!("{}://{authority}{root}", self.service.settings.scheme)
    }

    /// A look at the feed.
    pub(crate) fn look<T>(&self, place: &Place, look: impl FnOnce(&FeedState) -> T) -> T {
        look(&self.service.world.read().organisations[self.organisation].feeds[place.feed])
    }
}

/// The GUID of the user behind a label.
pub(crate) fn user_guid(label: &str) -> Uuid {
    Seed(0).guid(&format!("user/{label}"))
}
