//! Setting up a simulator.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::content::organisation::Organisation;
use crate::content::seed::Seed;
use crate::fault::Faults;
use crate::hub::Hub;
use crate::log::{Listener, Log};
use crate::pace::Pace;
use crate::service::error::SignIn;
use crate::service::signature::Signer;
use crate::service::{Service, Settings};
use crate::simulator::Simulator;
use crate::throttle::{Throttle, Throttles};
use crate::wire::door::Door;
use crate::wire::tls;
use crate::world::World;

/// How long signed URLs live unless said otherwise (facts §3.5).
const SIGNATURE_LIFETIME: Duration = Duration::from_secs(3600);
/// Registrations with more versions than this are paged unless said otherwise.
const REGISTRATION_PAGE: usize = 64;
/// The page of public v2 galleries.
const ODATA_PAGE: usize = 100;

/// Collects what a simulator is to be; [`Builder::start`] starts it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each with its own method")]
pub struct Builder {
    seed: u64,
    organisations: Vec<Organisation>,
    throttles: Vec<Throttle>,
    paces: [Pace; 3],
    tls: bool,
    gzip: bool,
    keeps_log: bool,
    integrity: bool,
    server: bool,
    requires_api_version: bool,
    sign_in: SignIn,
    signature_lifetime: Duration,
    registration_page: usize,
    odata_page: usize,
    npm_extensions: bool,
    audit: bool,
}

// === impl Builder ===

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            seed: 1,
            organisations: Vec::new(),
            throttles: Vec::new(),
            paces: [Pace::default(); 3],
            tls: false,
            gzip: true,
            keeps_log: true,
            integrity: false,
            server: false,
            requires_api_version: false,
            sign_in: SignIn::default(),
            signature_lifetime: SIGNATURE_LIFETIME,
            registration_page: REGISTRATION_PAGE,
            odata_page: ODATA_PAGE,
            npm_extensions: false,
            audit: false,
        }
    }

    /// Content, GUIDs and correlation ids follow from it. 1 unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds an organisation.
    pub fn organisation(mut self, organisation: Organisation) -> Self {
        self.organisations.push(organisation);
        self
    }

    /// Speaks TLS on all three doors; clients must trust [`Simulator::ca_pem`].
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// Whether documents are compressed for clients that accept gzip. Yes unless set.
    pub fn gzip(mut self, gzip: bool) -> Self {
        self.gzip = gzip;
        self
    }

    /// Keeps no log, for long benches; the counters still run.
    pub fn without_log(mut self) -> Self {
        self.keeps_log = false;
        self
    }

    /// Packuments carry `dist.integrity` beside `dist.shasum`. The service often leaves it out (facts §3.1).
    pub fn integrity(mut self, integrity: bool) -> Self {
        self.integrity = integrity;
        self
    }

    /// Behaves like Azure DevOps Server: the pkgs door answers the feeds routes too, paths start with a collection
    /// (an organisation's name) or with `tfs/` and one, package files come at once with 200, and the feeds door answers
    /// 404. No unless set.
    pub fn server(mut self, server: bool) -> Self {
        self.server = server;
        self
    }

    /// Whether REST requests that change something are refused with 400 unless they name an api-version. The facts have
    /// this from memory only (§5.1), so no unless set.
    pub fn requires_api_version(mut self, requires: bool) -> Self {
        self.requires_api_version = requires;
        self
    }

    /// What a bad credential gets on `_apis` routes.
    pub fn sign_in(mut self, sign_in: SignIn) -> Self {
        self.sign_in = sign_in;
        self
    }

    /// How long signed URLs live, in whole seconds; zero makes them expire at once. An hour unless set.
    pub fn signature_lifetime(mut self, lifetime: Duration) -> Self {
        self.signature_lifetime = lifetime;
        self
    }

    /// NuGet registrations with more versions than this are split into pages of this many. 64 unless set.
    pub fn registration_page(mut self, versions: usize) -> Self {
        self.registration_page = versions.max(1);
        self
    }

    /// npm's own routes for dist-tags, deprecation and unpublishing work as at an ordinary registry, and packuments
    /// carry a `_rev`. Off unless set: facts §3 knows of no such thing at the service.
    pub fn npm_extensions(mut self, npm_extensions: bool) -> Self {
        self.npm_extensions = npm_extensions;
        self
    }

    /// npm's audit routes answer from what [`Simulator::advise`] registered. Off, which is 404, unless set (facts §3).
    pub fn audit(mut self, audit: bool) -> Self {
        self.audit = audit;
        self
    }

    /// NuGet v2 lists go out in pages of this many entries. 100 unless set.
    pub fn odata_page(mut self, entries: usize) -> Self {
        self.odata_page = entries.max(1);
        self
    }

    /// How fast a door answers.
    pub fn pace(mut self, listener: Listener, pace: Pace) -> Self {
        self.paces[listener as usize] = pace;
        self
    }

    /// Adds a throttle.
    pub fn throttle(mut self, throttle: Throttle) -> Self {
        self.throttles.push(throttle);
        self
    }

    /// Reads folders, binds the three doors and serves, on the current tokio runtime.
    pub async fn start(self) -> io::Result<Simulator> {
        let seed = Seed(self.seed);
        let organisations = self.organisations.clone();
        let build = move || World::build(seed, &organisations);
        let world = tokio::task::spawn_blocking(build).await.map_err(io::Error::other)??;
        let doors = [Door::new(Listener::Pkgs)?, Door::new(Listener::Feeds)?, Door::new(Listener::Blob)?];
        let (tls, ca_pem) = self.tls.then(tls::acceptor).unzip();
        let settings = Settings {
            scheme: if self.tls { "https" } else { "http" },
            authorities: [
                format!("127.0.0.1:{}", doors[Listener::Pkgs as usize].port()),
                format!("127.0.0.1:{}", doors[Listener::Feeds as usize].port()),
                format!("localhost:{}", doors[Listener::Blob as usize].port()),
            ],
            server: self.server,
            requires_api_version: self.requires_api_version,
            integrity: self.integrity,
            sign_in: self.sign_in,
            registration_page: self.registration_page,
            odata_page: self.odata_page,
            npm_extensions: self.npm_extensions,
            audit: self.audit,
        };
        let throttles = Throttles::default();
        self.throttles.into_iter().for_each(|throttle| throttles.add(throttle));
        let hub = Hub {
            service: Service::new(world, Signer::new(seed, self.signature_lifetime), settings),
            log: Log::new(self.keeps_log),
            faults: Faults::default(),
            throttles,
            paces: RwLock::new(self.paces),
            tls,
            gzip: self.gzip,
            ended: Mutex::new(watch::Sender::new(())),
        };
        let simulator = Simulator::new(Arc::new(hub), doors, ca_pem);
        simulator.accept_connections().await?;
        Ok(simulator)
    }
}
