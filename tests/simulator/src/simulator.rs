//! The handle of a running simulator.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::builder::Builder;
use crate::content::artifact::Digests;
use crate::content::npm::NpmPackage;
use crate::content::nuget::NugetPackage;
use crate::content::organisation::Scope;
use crate::fault::Fault;
use crate::hub::Hub;
use crate::log::{Listener, Logged, Violation};
use crate::pace::Pace;
use crate::service::npm_audit::Advisory;
use crate::throttle::Throttle;
use crate::wire::door::Door;
use crate::world::{Operation, Protocol};

/// A running simulator. Dropping it ends everything.
///
/// Feeds are addressed as `organisation/feed` or `organisation/project/feed`; an address or a package that is not
/// there panics, since it is a mistake of the test.
pub struct Simulator {
    hub: Arc<Hub>,
    doors: Mutex<[Door; 3]>,
    ports: [u16; 3],
    ca_pem: Option<String>,
}

// === impl Simulator ===

impl Simulator {
    /// Starts to describe a simulator.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(hub: Arc<Hub>, doors: [Door; 3], ca_pem: Option<String>) -> Self {
        let ports = [doors[0].port(), doors[1].port(), doors[2].port()];
        Self { hub, doors: Mutex::new(doors), ports, ca_pem }
    }

    /// `http://127.0.0.1:PORT` of the pkgs host; paths go on as `/{organisation}/_packaging/...`.
    pub fn pkgs_url(&self) -> String {
        format!("{}://{}", self.hub.service.settings.scheme, self.authority(Listener::Pkgs))
    }

    /// `http://127.0.0.1:PORT` of the feeds host.
    pub fn feeds_url(&self) -> String {
        format!("{}://{}", self.hub.service.settings.scheme, self.authority(Listener::Feeds))
    }

    /// `localhost:PORT`: another host name than that of the other two.
    pub fn blob_authority(&self) -> String {
        self.authority(Listener::Blob)
    }

    /// `host:port` of a door.
    pub fn authority(&self, listener: Listener) -> String {
        let host = if listener == Listener::Blob { "localhost" } else { "127.0.0.1" };
        format!("{host}:{}", self.ports[listener as usize])
    }

    /// The base URL of a feed's npm registry, with the slash at its end: `npm_url("contoso/main")`, a view as `main@release`.
    pub fn npm_url(&self, feed: &str) -> String {
        let (prefix, feed) = feed.rsplit_once('/').expect("organisation[/project]/feed");
        format!("{}/{prefix}/_packaging/{feed}/npm/registry/", self.pkgs_url())
    }

    /// The URL of a feed's NuGet v3 service index.
    pub fn nuget_url(&self, feed: &str) -> String {
        let (prefix, feed) = feed.rsplit_once('/').expect("organisation[/project]/feed");
        format!("{}/{prefix}/_packaging/{feed}/nuget/v3/index.json", self.pkgs_url())
    }

    /// The base URL of a feed's NuGet v2 (OData) routes, without a slash at its end.
    pub fn nuget_v2_url(&self, feed: &str) -> String {
        let (prefix, feed) = feed.rsplit_once('/').expect("organisation[/project]/feed");
        format!("{}/{prefix}/_packaging/{feed}/nuget/v2", self.pkgs_url())
    }

    /// The authority that clients must trust, as PEM; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// GUID of a feed.
    pub fn feed_guid(&self, feed: &str) -> Uuid {
        self.hub.service.world.read().feed(feed).own.guid
    }

    /// GUID of a feed's project; nothing for an organisation-scoped feed.
    pub fn project_guid(&self, feed: &str) -> Option<Uuid> {
        self.hub.service.world.read().feed(feed).project.as_ref().map(|project| project.guid)
    }

    /// GUID of a view of a feed.
    pub fn view_guid(&self, feed: &str, view: &str) -> Uuid {
        self.hub.service.world.read().feed(feed).view(view).expect("the view exists").guid
    }

    /// GUID of an npm package in a feed.
    pub fn npm_guid(&self, feed: &str, name: &str) -> Uuid {
        self.hub.service.world.read().package(feed, Protocol::Npm, name).guid
    }

    /// GUID of a NuGet package in a feed.
    pub fn nuget_guid(&self, feed: &str, id: &str) -> Uuid {
        self.hub.service.world.read().package(feed, Protocol::Nuget, id).guid
    }

    /// GUID of an npm version in a feed, deleted or not.
    pub fn npm_version_guid(&self, feed: &str, name: &str, version: &str) -> Uuid {
        self.version_guid(feed, Protocol::Npm, name, version)
    }

    /// GUID of a NuGet version in a feed, deleted or not.
    pub fn nuget_version_guid(&self, feed: &str, id: &str, version: &str) -> Uuid {
        self.version_guid(feed, Protocol::Nuget, id, version)
    }

    fn version_guid(&self, feed: &str, protocol: Protocol, name: &str, version: &str) -> Uuid {
        let world = self.hub.service.world.read();
        let package = world.package(feed, protocol, name);
        package.version(version).unwrap_or_else(|| panic!("no {name} {version} in {feed}")).guid()
    }

    /// The token of a feed's latest change, as `packagechanges` counts them.
    pub fn change_token(&self, feed: &str) -> u64 {
        let mut world = self.hub.service.world.write();
        let place = world.locate(feed);
        world.settled(place).changes.latest
    }

    /// Bytes and digests of an npm version's tarball.
    pub fn npm_file(&self, feed: &str, name: &str, version: &str) -> (Bytes, Digests) {
        let artifact = self.hub.service.world.read().artifact(feed, Protocol::Npm, name, version);
        (artifact.bytes(), artifact.digests().clone())
    }

    /// Bytes and digests of a NuGet version's nupkg.
    pub fn nuget_file(&self, feed: &str, id: &str, version: &str) -> (Bytes, Digests) {
        let artifact = self.hub.service.world.read().artifact(feed, Protocol::Nuget, id, version);
        (artifact.bytes(), artifact.digests().clone())
    }

    /// Ends everything: listeners are closed, connections reset.
    pub async fn stop(self) {
        // Nothing is left to do about a port that can't be taken again.
        let _ = self.refuse_connections().await;
    }
}

/// Changing the content.
impl Simulator {
    /// Adds versions to a feed; ones that exist are replaced.
    pub fn add_npm(&self, feed: &str, package: &NpmPackage) {
        self.hub.service.world.write().add_npm(feed, package);
    }

    /// Adds versions to a feed; ones that exist are replaced.
    pub fn add_nuget(&self, feed: &str, package: &NugetPackage) {
        self.hub.service.world.write().add_nuget(feed, package);
    }

    /// Deletes a version: it goes to the recycle bin, and its number stays taken. [`Simulator::add_npm`] alone may
    /// bring the number back with other content.
    pub fn remove_npm(&self, feed: &str, name: &str, version: &str) {
        self.operate(feed, (Protocol::Npm, name, version), &Operation::Delete);
    }

    /// Deletes a version, see [`Simulator::remove_npm`].
    pub fn remove_nuget(&self, feed: &str, id: &str, version: &str) {
        self.operate(feed, (Protocol::Nuget, id, version), &Operation::Delete);
    }

    /// Brings a deleted version back from the recycle bin.
    pub fn restore_npm(&self, feed: &str, name: &str, version: &str) {
        self.operate(feed, (Protocol::Npm, name, version), &Operation::Restore);
    }

    /// Brings a deleted version back from the recycle bin.
    pub fn restore_nuget(&self, feed: &str, id: &str, version: &str) {
        self.operate(feed, (Protocol::Nuget, id, version), &Operation::Restore);
    }

    /// Deprecates a version, or ends that with `None`.
    pub fn deprecate_npm(&self, feed: &str, name: &str, version: &str, message: Option<&str>) {
        let operation = Operation::Deprecate(message.map(str::to_owned));
        self.operate(feed, (Protocol::Npm, name, version), &operation);
    }

    /// Registers an advisory for the versions of an npm package in `range`: comparators and `||`, such as
    /// `>=1.0.0 <1.3.0 || 2.0.0`, or `*`. Audits tell of it if [`Builder::audit`] has switched them on.
    pub fn advise(&self, name: &str, range: &str, title: &str) {
        let [name, range, title] = [name, range, title].map(str::to_owned);
        self.hub.service.advisories.write().push(Advisory { name, range, title });
    }

    /// Lists or unlists a version.
    pub fn list_nuget(&self, feed: &str, id: &str, version: &str, listed: bool) {
        self.operate(feed, (Protocol::Nuget, id, version), &Operation::List(listed));
    }

    /// Puts a version into a view.
    pub fn promote_npm(&self, feed: &str, name: &str, version: &str, view: &str) {
        self.operate(feed, (Protocol::Npm, name, version), &Operation::Promote(view.to_owned()));
    }

    /// Puts a version into a view.
    pub fn promote_nuget(&self, feed: &str, id: &str, version: &str, view: &str) {
        self.operate(feed, (Protocol::Nuget, id, version), &Operation::Promote(view.to_owned()));
    }

    fn operate(&self, feed: &str, version: (Protocol, &str, &str), operation: &Operation) {
        self.hub.service.world.write().operate(feed, version, operation);
    }

    /// Gives a feed another name, as REST can; its GUID stays, the old name answers 404.
    pub fn rename_feed(&self, feed: &str, new_name: &str) {
        let mut world = self.hub.service.world.write();
        let place = world.locate(feed);
        world.rename(place, new_name);
    }

    /// Changes what the credentials of a label may do, such as revoking one.
    pub fn set_scope(&self, label: &str, scope: Scope) {
        self.hub.service.world.write().set_scope(label, scope);
    }

    /// Opens a feed to anonymous readers, or closes it.
    pub fn set_public(&self, feed: &str, public: bool) {
        self.hub.service.world.write().feed_mut(feed).public = public;
    }

    /// How long URLs signed from now on live, in whole seconds.
    pub fn set_signature_lifetime(&self, lifetime: Duration) {
        self.hub.service.signer.set_lifetime(lifetime);
    }

    /// Makes every blob URL issued so far worthless: 403.
    pub fn expire_signatures(&self) {
        self.hub.service.signer.void_issued();
    }
}

/// Making trouble.
impl Simulator {
    /// Orders a fault.
    pub fn fault(&self, fault: Fault) {
        self.hub.faults.order(fault);
    }

    /// Cancels all faults, used up or not. Hanging connections stay as they are.
    pub fn clear_faults(&self) {
        self.hub.faults.clear();
    }

    /// Adds a throttle.
    pub fn throttle(&self, throttle: Throttle) {
        self.hub.throttles.add(throttle);
    }

    /// Lifts all throttles.
    pub fn clear_throttles(&self) {
        self.hub.throttles.clear();
    }

    /// Changes how fast a door answers, for requests that arrive from now on.
    pub fn set_pace(&self, listener: Listener, pace: Pace) {
        self.hub.set_pace(listener, pace);
    }

    /// The service is gone: connects are refused, open connections are reset. Returns when that is so.
    ///
    /// # Errors
    /// When a port can't be taken again, because somebody else got hold of it.
    pub async fn refuse_connections(&self) -> io::Result<()> {
        let mut doors = self.doors.lock().await;
        for door in doors.iter_mut() {
            door.shut().await?;
        }
        self.hub.end_connections().await;
        Ok(())
    }

    /// The service is back on the same ports.
    pub async fn accept_connections(&self) -> io::Result<()> {
        self.doors.lock().await.iter_mut().try_for_each(|door| door.open(&self.hub))
    }

    /// Resets every open connection, as the service's connection cycling does; new ones are accepted.
    pub async fn reset_connections(&self) {
        self.hub.end_connections().await;
    }
}

/// What happened.
impl Simulator {
    /// Every request since the start or the last [`Simulator::clear_log`], in order of arrival.
    pub fn requests(&self) -> Vec<Logged> {
        self.hub.log.requests()
    }

    /// How many requests the closure picks.
    pub fn count(&self, wanted: impl Fn(&Logged) -> bool) -> usize {
        self.hub.log.count(wanted)
    }

    /// Forgets requests, violations and the peak of concurrency.
    pub fn clear_log(&self) {
        self.hub.log.clear();
    }

    /// GETs at the blob host that were answered by 200 or 206, by storage id.
    pub fn blob_downloads(&self) -> BTreeMap<String, usize> {
        self.hub.log.blob_downloads()
    }

    /// What clients did that they must not do.
    pub fn violations(&self) -> Vec<Violation> {
        self.hub.log.violations()
    }

    /// Connections open now.
    pub fn open_connections(&self) -> u64 {
        self.hub.log.open.load(Ordering::SeqCst)
    }

    /// Connections accepted since the start.
    pub fn accepted_connections(&self) -> u64 {
        self.hub.log.accepted.load(Ordering::SeqCst)
    }

    /// Those of them whose TLS session is that of an earlier one.
    pub fn resumed_connections(&self) -> u64 {
        self.hub.log.resumed.load(Ordering::SeqCst)
    }

    /// Requests answered since the start, also without a log.
    pub fn answered(&self) -> u64 {
        self.hub.log.answered.load(Ordering::SeqCst)
    }

    /// Requests being answered now.
    pub fn in_flight(&self) -> u64 {
        self.hub.log.in_flight.now()
    }

    /// The most requests ever answered at the same time, since the last [`Simulator::clear_log`].
    pub fn peak_in_flight(&self) -> u64 {
        self.hub.log.in_flight.peak()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.doors.get_mut().iter().for_each(Door::abandon);
        self.hub.abandon_connections();
    }
}
