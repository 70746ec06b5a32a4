//! The service's answers: from a request to a reply, without a thought for the wire.
//!
//! One file per protocol; REST is in `rest` (pkgs host) and `feeds` (feeds host). A handler returns a [`Reply`] or a [`Refusal`]; what every reply of a host has in common is
//! added here.

pub(crate) mod blob;
pub(crate) mod discovery;
pub(crate) mod documents;
pub(crate) mod error;
pub(crate) mod feeds;
pub(crate) mod ids;
pub(crate) mod location;
pub(crate) mod npm;
pub(crate) mod npm_audit;
pub(crate) mod npm_extensions;
pub(crate) mod npm_publish;
pub(crate) mod nuget;
pub(crate) mod nuget_push;
pub(crate) mod nuget_query;
pub(crate) mod odata;
pub(crate) mod registration;
pub(crate) mod reply;
pub(crate) mod rest;
pub(crate) mod signature;
pub(crate) mod visit;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::content::artifact::Artifact;
use crate::log::Listener;
use crate::wire::request::{Request, decode};
use crate::world::{Caller, World};
use documents::{Document, Documents};
use error::{Refusal, RefusalContext, SignIn};
use ids::Ids;
use location::{Area, Location};
use npm_audit::Advisory;
use reply::Reply;
use signature::Signer;
use visit::Visit;

/// The simulated service.
pub(crate) struct Service {
    pub(crate) world: RwLock<World>,
    pub(crate) signer: Signer,
    pub(crate) settings: Settings,
    /// What audits are answered from.
    pub(crate) advisories: RwLock<Vec<Advisory>>,
    documents: Documents,
    /// What redirects have pointed to so far, by storage id.
    blobs: RwLock<HashMap<String, Arc<Artifact>>>,
    requests: AtomicU64,
}

/// Choices that hold for a simulator's whole life.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the builder")]
pub(crate) struct Settings {
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// `host:port` of the three listeners.
    pub(crate) authorities: [String; 3],
    /// Azure DevOps Server: one host for all, no redirects.
    pub(crate) server: bool,
    /// REST requests that change something must name a version.
    pub(crate) requires_api_version: bool,
    /// Packuments carry `dist.integrity`.
    pub(crate) integrity: bool,
    pub(crate) sign_in: SignIn,
    /// Registrations with more versions than this are split into pages of this many.
    pub(crate) registration_page: usize,
    /// dist-tags, deprecation and unpublishing over npm's own routes.
    pub(crate) npm_extensions: bool,
    /// npm's audit routes.
    pub(crate) audit: bool,
    /// NuGet v2 lists go out in pages of this many entries.
    pub(crate) odata_page: usize,
}

// === impl Service ===

impl Service {
    pub(crate) fn new(world: World, signer: Signer, settings: Settings) -> Self {
        Self {
            world: RwLock::new(world),
            signer,
            settings,
            advisories: RwLock::default(),
            documents: Documents::default(),
            blobs: RwLock::default(),
            requests: AtomicU64::new(0),
        }
    }

    pub(crate) fn next_ids(&self) -> Ids {
        let seed = self.world.read().seed;
        Ids::of(seed, self.requests.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) async fn respond(&self, request: &Request) -> Reply {
        if request.listener == Listener::Blob {
            return blob::answer(self, request).await;
        }
        let ids = self.next_ids();
        let location = Location::parse(request, self.settings.server);
        let (organisation, caller, tenant) = self.identify(request, location.as_ref());
        let url = self.url(request);
        let context = RefusalContext { ids, url: &url, tenant, sign_in: self.settings.sign_in };
        let answer = match (location, organisation) {
            (Some(location), Some(organisation)) => {
                let caller = caller.clone();
                Visit { service: self, request, ids, caller, organisation, location }.answer().await
            }
            _ => Err(Refusal::NoRoute),
        };
        let reply = answer.unwrap_or_else(|refusal| refusal.into_reply(&context));
        ids.stamp(reply, Some(&caller))
    }

    /// Index of the organisation, the caller from its point of view, and its tenant.
    fn identify(
        &self,
        request: &Request,
        location: Option<&Location>,
    ) -> (Option<usize>, Caller, Option<String>) {
        let world = self.world.read();
        let found = location.and_then(|location| world.organisation(&location.organisation));
        let credential = request.credential();
        match found {
            Some((index, own)) => {
                (Some(index), own.caller(credential.as_ref()), Some(own.tenant.to_string()))
            }
            None => (None, Caller::Anonymous, None),
        }
    }

    /// `http://host` as the client spelled the host: documents repeat it.
    pub(crate) fn origin(&self, request: &Request) -> String {
        format!("{}://{}", self.settings.scheme, request.header("host").unwrap_or_default())
    }

    fn url(&self, request: &Request) -> String {
        let mark = if request.query.is_empty() { "" } else { "?" };
        format!("{}{}{mark}{}", self.origin(request), request.path, request.query)
    }

    /// A kept document, or a new one rendered away from the async threads. `None`: there is nothing to render.
    pub(crate) async fn document<F>(&self, key: String, revision: u64, render: F) -> Option<Arc<Document>>
    where
        F: FnOnce() -> Option<Bytes> + Send + 'static,
    {
        if let Some(document) = self.documents.get(&key, revision) {
            return Some(document);
        }
        let rendered = tokio::task::spawn_blocking(render).await.expect("rendering does not panic")?;
        let document = Arc::new(Document::new(rendered));
        self.documents.keep(key, revision, &document);
        Some(document)
    }

    /// Makes a package file known to the blob host.
    fn offer(&self, storage_id: &str, artifact: &Arc<Artifact>) {
        if !self.blobs.read().contains_key(storage_id) {
            self.blobs.write().insert(storage_id.to_owned(), Arc::clone(artifact));
        }
    }

    fn offered(&self, storage_id: &str) -> Option<Arc<Artifact>> {
        self.blobs.read().get(storage_id).cloned()
    }
}

// === impl Visit ===

impl Visit<'_> {
    async fn answer(&self) -> Result<Reply, Refusal> {
        let server = self.service.settings.server;
        match (self.request.listener, self.location.area) {
            (Listener::Pkgs, Area::Packaging) => self.packaging().await,
            (Listener::Pkgs | Listener::Feeds, Area::Apis) => self.apis(server).await,
            _ => Err(Refusal::NoRoute),
        }
    }

    /// REST. A server of one's own answers everything at one door.
    async fn apis(&self, server: bool) -> Result<Reply, Refusal> {
        let path: Vec<String> = self.location.rest.iter().map(|segment| decode(segment)).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        self.check_version()?;
        if let Some(reply) = discovery::answer(self, &path) {
            return reply;
        }
        match self.request.listener {
            Listener::Feeds if server => Err(Refusal::NoRoute),
            Listener::Pkgs => match rest::answer(self, &path).await {
                Err(Refusal::NoRoute) if server => feeds::answer(self, &path).await,
                answer => answer,
            },
            Listener::Feeds | Listener::Blob => feeds::answer(self, &path).await,
        }
    }

    /// The refusal of a change without a version (facts §5.1, from memory there; the wording is invented).
    fn check_version(&self) -> Result<(), Refusal> {
        let changes = !self.reads() && self.request.method != "OPTIONS";
        if !changes || !self.service.settings.requires_api_version || self.api_version().is_some() {
            return Ok(());
        }
        let method = &self.request.method;
        let message = format!("No api-version was supplied for the \"{method}\" request.");
        Err(Refusal::refused(400, "VssVersionNotSpecifiedException", message))
    }

    async fn packaging(&self) -> Result<Reply, Refusal> {
        let place = self.place()?;
        let rest: Vec<&str> = self.location.rest[1..].iter().map(String::as_str).collect();
        let protocol = rest.first().map(|segment| segment.to_ascii_lowercase());
        match (protocol.as_deref(), rest.get(1..)) {
            (Some("npm"), Some(rest)) => npm::answer(self, &place, rest).await,
            (Some("nuget"), Some(rest)) => nuget::answer(self, &place, rest).await,
            _ => Err(Refusal::NoRoute),
        }
    }
}
