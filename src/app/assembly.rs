//! What the gate is made of: the store, and the handlers over the stack of wrappers towards the service.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use prometheus::Registry;

use crate::{
    access::{Access, Attempts, CallerKey, Gateway},
    blob::DiskStore,
    cache::{
        DocumentCache, Generations, Identities, NegativeCache, PackageIndex, Pins, Responses, Sightings,
    },
    clock::Clock,
    config::{Config, Mount, Organisation},
    disk::{Database, DatabaseSettings, OpenError, StoreDirectory, off_thread},
    document::rewrite::ServiceHosts,
    guard::Guards,
    handler::{Following, Guarding, Handler, HandlerMetrics, Modes, Mounts, Parts},
    throttle::Throttle,
    trace::Spans,
    upstream::{
        Advisories, Azure, Barred, Breaking, Breaks, Credential, CredentialMetrics, Http, Metered, Mirrored,
        Resumes, Retries, Retrying, Throttled, Traced, Whole,
    },
};

/// How long opening waits for another process (or the one before) to let go of the store.
const STORE_WAIT: Duration = Duration::from_secs(5);
/// How often it looks meanwhile.
const STORE_POLL: Duration = Duration::from_millis(50);

/// What several parts share.
pub(super) struct Shared<'a> {
    pub(super) database: &'a Database,
    pub(super) store: &'a DiskStore,
    pub(super) throttle: &'a Arc<Throttle>,
    pub(super) key: &'a CallerKey,
    pub(super) spans: &'a Spans,
}

/// Opens the store, or waits for who has it.
pub(super) async fn open_store(config: &Config, clock: &Clock) -> Result<(Database, DiskStore)> {
    let settings =
        DatabaseSettings { page_cache: config.store.page_cache, free_reserve: config.store.free_reserve };
    let deadline = tokio::time::Instant::now() + STORE_WAIT;
    let opened = loop {
        let path = config.store.path.clone();
        let open =
            move || StoreDirectory::open(&path).and_then(|directory| Database::open(directory, &settings));
        match off_thread("open store", open).await? {
            Err(OpenError::InUse { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(STORE_POLL).await;
            }
            opened => break opened.context("store.path")?,
        }
    };
    if let Some(path) = &opened.moved_aside {
        tracing::error!(moved_to = %path.display(), "the store was unreadable and was moved aside; starting empty");
    }
    let store = DiskStore::open(opened.database.clone(), config.store.clone(), clock.clone()).await?;
    Ok((opened.database, store))
}

/// What answers requests for feeds, and what those below mounts.
pub(super) fn handlers(
    config: &Config,
    clock: &Clock,
    registry: &Registry,
    shared: &Shared<'_>,
) -> Result<(Handler, Mounts)> {
    let metrics = CredentialMetrics::new(registry)?;
    let rules = (&config.organisations[..], &config.feeds[..], config.listen.public_url.as_ref());
    let credentials = credentials(config, clock, &metrics);
    let gateway = Arc::new(Gateway::new(&config.access, rules, &credentials, shared.key, registry)?);
    let mounts = mounts(config, clock, shared, (Arc::clone(&gateway), &metrics))?;
    Ok((handler(config, clock, registry, shared, gateway)?, mounts))
}

/// The handlers and all that they ask.
fn handler(
    config: &Config,
    clock: &Clock,
    registry: &Registry,
    shared: &Shared<'_>,
    gateway: Arc<Gateway>,
) -> Result<Handler> {
    // Innermost first. The connection, and the span of what is sent on it; the judgement of its host, which knows the dead; a permit, held while the body streams and measured with the wait for it; the
    // whole of a document, so that one that breaks is a failed try; a bar before dead hosts; and repeats around all of that, because each
    // try is a request of its own to the service: it is counted, stands in the queue and holds no permit while
    // the next one is waited for.
    let retries = Retries::new(registry)?;
    let http = Http::new(&config.upstream).context("upstream")?.counting(retries.clone());
    let breaks = Breaks::new(&config.upstream, &config.outage, registry)?;
    let judged = Breaking::new(Traced::new(http, shared.spans.clone()), breaks.clone());
    let tried = Metered::new(Throttled::new(judged, Arc::clone(shared.throttle), clock.clone()), registry)?;
    let whole = Barred::new(Whole::new(tried, &config.upstream), breaks.clone());
    let upstream = Retrying::new(whole, config.retry, clock.clone(), retries);
    let templates = [config.upstream.pkgs.to_string(), config.upstream.feeds.to_string()];
    let mut hosts = ServiceHosts::new(&templates).context("upstream")?;
    for server in &config.upstream.servers {
        hosts = hosts.with_collection(&server.url.to_string(), &server.collection).context("server")?;
    }
    Ok(Handler::new(Parts {
        throttle: Throttle::clone(shared.throttle),
        service: Azure::new(Arc::new(upstream), &config.upstream, clock.clone(), Resumes::new(registry)?),
        hosts: Arc::new(hosts),
        documents: DocumentCache::new(
            shared.database,
            Arc::new(shared.store.clone()),
            config.metadata.memory,
        ),
        missing: NegativeCache::new(config.metadata.negative_ttl),
        packages: PackageIndex::new(shared.database),
        identities: Identities::new(shared.database, config.access.identity_ttl, config.access.denied_ttl),
        pins: Pins::new(shared.database),
        generations: Generations::new(shared.database),
        guarding: Guarding::new(Guards::new(config.guards.clone(), config.pins.clone()), registry)?,
        sightings: Sightings::new(shared.database),
        changes: Following::new(&config.changes, shared.database, registry)?,
        blobs: Arc::new(shared.store.clone()),
        access: Access::new(shared.database, config.access.clone()),
        gateway,
        attempts: Attempts::new(config.access.denied_per_minute),
        metadata: config.metadata.clone(),
        outage: config.outage.clone(),
        breaks,
        modes: Modes::new(&config.outage, &config.feeds, registry)?,
        advisories: advisories(config)?,
        audit: config.audit.clone(),
        head_patience: config.retry.deadline.max(config.upstream.first_byte_timeout),
        clock: clock.clone(),
        metrics: HandlerMetrics::new(registry)?,
    }))
}

/// The mounts, over the same store.
fn mounts(
    config: &Config,
    clock: &Clock,
    shared: &Shared<'_>,
    (gateway, metrics): (Arc<Gateway>, &CredentialMetrics),
) -> Result<Mounts> {
    let origins = Mirrored::new(&config.upstream).context("upstream")?;
    let responses = Responses::new(shared.database, Arc::new(shared.store.clone()), config.store.capacity);
    let credential = |mount: &Mount| {
        let (settings, whose) = (mount.credential.clone()?, mount.path.clone());
        Some(Credential::new(settings, whose, clock.clone(), metrics.clone()))
    };
    let mounts = config.mounts.iter().map(|mount| (mount.clone(), credential(mount))).collect();
    Ok(Mounts::new(mounts, origins, responses, gateway, clock.clone()))
}

/// The gate's own credentials, by organisation in lower case.
fn credentials(config: &Config, clock: &Clock, metrics: &CredentialMetrics) -> HashMap<String, Credential> {
    let credential = |one: &Organisation| {
        let name = one.name.folded().to_owned();
        let settings = one.credential.clone()?;
        Some((name.clone(), Credential::new(settings, name, clock.clone(), metrics.clone())))
    };
    config.organisations.iter().filter_map(credential).collect()
}

fn advisories(config: &Config) -> Result<Option<Advisories>> {
    let registry = config.audit.upstream.as_ref().map(|url| Advisories::new(&config.upstream, url));
    registry.transpose().context("audit.upstream")
}
