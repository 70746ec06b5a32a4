//! [`Azure`]: the operations that handlers need of the service, with redirects followed.
//!
//! A redirect within the service is followed with the credential, one to a blob host without. Documents come
//! whole, and a package's download is taken up again where it breaks. Nothing else is repeated here: requests
//! are by [`super::Retrying`], and whether to do the whole again is the decision of the caller, which knows of
//! stored copies.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, IF_RANGE, RANGE},
};
use tokio::time::{Instant, timeout};

use super::{
    Answer, Expect, Phase, Refused, Target, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse,
    answer::{Context, Step, classify},
    body::read_document,
    resuming::{Part, Resumes, Resuming, Source},
    sites::{BlobLocation, Sites},
};
use crate::{
    clock::Clock,
    config::upstream::Upstream as Settings,
    ident::Name,
    redact::SignedUrl,
    throttle::{Asker, Work},
    trace::TRACEPARENT,
};

/// Most redirects within the service for one request. One is usual (REST content to the protocol route,
/// facts §4.2); more than a few is a loop.
const MAX_HOPS: usize = 5;
/// What a fetch of bytes must accept: with anything else the service was seen to answer 400 (facts §3.3).
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Longest wait for the rest of a broken download, its repeats included: clients have a part and wait for more,
/// and the most patient of them do so for minutes, the least for half of one.
const REST_PATIENCE: Duration = Duration::from_secs(30);

/// The service.
#[derive(Clone)]
pub struct Azure {
    upstream: Arc<dyn Upstream>,
    sites: Arc<Sites>,
    clock: Clock,
    resumes: Resumes,
    max_document: u64,
    document_patience: Duration,
}

/// A package's download: where it goes on, and how to ask anew where that is. Whoever began it may have left.
struct Package {
    azure: Azure,
    request: UpstreamRequest,
    /// Whether whoever stores the bytes can check them.
    hashed: bool,
}

/// Where the bytes of a package are.
#[derive(Debug)]
pub enum Located {
    /// At a signed URL, usually named by their content.
    Redirect(BlobLocation),
    /// In this response.
    Direct(UpstreamResponse),
    /// Nowhere for this caller.
    Refused(Refused),
}

// === impl Azure ===

impl Azure {
    /// The service at the hosts of `settings`, asked through `upstream`.
    pub fn new(upstream: Arc<dyn Upstream>, settings: &Settings, clock: Clock, resumes: Resumes) -> Self {
        Self {
            upstream,
            sites: Arc::new(Sites::new(settings)),
            clock,
            resumes,
            max_document: settings.max_document_size,
            document_patience: settings.document_timeout,
        }
    }

    /// Whether `org` is a collection of a server of one's own, which has one host for everything.
    pub fn is_server(&self, org: &Name) -> bool {
        self.sites.server(org).is_some()
    }

    /// Fetches a document. It comes as the service encodes it (gzip or plain): read it with [`Azure::read`]. A document
    /// that is kept as a blob is fetched from there. JSON and XML is received to its end before this returns; what else
    /// [`Expect::Any`] brings may be large, and streams.
    pub async fn document(
        &self,
        mut request: UpstreamRequest,
        expect: Expect,
    ) -> Result<Answer, UpstreamError> {
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        request.whole = matches!(expect, Expect::Json | Expect::Xml);
        let (whole, asker, trace) = (request.whole, request.asker.clone(), trace_of(&request));
        match self.follow(request, expect).await? {
            Located::Direct(response) => Ok(Answer::Success(response)),
            Located::Redirect(location) => {
                let blob = UpstreamRequest { whole, ..blob_request(&location.url, asker, trace) };
                self.fetch_blob(&blob).await.map(Answer::Success)
            }
            Located::Refused(refused) => Ok(Answer::Refused(refused)),
        }
    }

    /// Reads a document to its end, decoded: at most `max_document_size` bytes, within `document_timeout`.
    pub async fn read(&self, response: UpstreamResponse) -> Result<Bytes, UpstreamError> {
        let late = UpstreamError::Timeout { host: "the service".to_owned(), phase: Phase::Document };
        let whole = read_document(response, self.max_document);
        timeout(self.document_patience, whole).await.unwrap_or(Err(late))
    }

    /// Asks where the bytes of a package are. For the service this counts as the download.
    pub async fn locate(&self, mut request: UpstreamRequest) -> Result<Located, UpstreamError> {
        request.work = Work::Download;
        request.headers.insert(ACCEPT, OCTET_STREAM);
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.follow(request, Expect::Bytes).await
    }

    /// Fetches a package from where [`Azure::locate`] found it: status 200. When the body breaks, it goes on from
    /// where it was, at the same URL or, when that is no longer good, at the one that `request` (what `locate`
    /// was asked) leads to, if that names the same content. The deadline of `request` is for the head.
    ///
    /// [`UpstreamError::Link`] means that the signed URL is not good from the start: locate again, once.
    /// Any other status is [`UpstreamError::Download`].
    pub async fn package(
        &self,
        location: BlobLocation,
        mut request: UpstreamRequest,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let hashed = location.storage_id.is_some_and(|id| id.is_file());
        let first = UpstreamRequest {
            hashed,
            deadline: request.deadline,
            ..blob_request(&location.url, request.asker.clone(), trace_of(&request))
        };
        let response = self.fetch_blob(&first).await?;
        request.asker = request.asker.lasting();
        let source = Package { azure: self.clone(), request, hashed };
        Ok(Resuming::wrap(response, source, location, self.resumes.clone()))
    }

    /// Fetches bytes from a blob host: status 200, or 206 if `range` was given and obeyed.
    pub async fn download(
        &self,
        url: &SignedUrl,
        range: Option<HeaderValue>,
        asker: Asker,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let mut request = blob_request(url, asker, None);
        request.headers.extend(range.map(|range| (RANGE, range)));
        self.fetch_blob(&request).await
    }

    async fn fetch_blob(&self, request: &UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let response = self.upstream.fetch(request).await?;
        let ranged = request.headers.contains_key(RANGE);
        let (host, status) = (request.target.whom(), response.status);
        match status {
            StatusCode::OK => Ok(response),
            StatusCode::PARTIAL_CONTENT if ranged => Ok(response),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Err(UpstreamError::Link { host, status }),
            _ => Err(UpstreamError::Download { host, status }),
        }
    }

    async fn follow(&self, mut request: UpstreamRequest, expect: Expect) -> Result<Located, UpstreamError> {
        for _ in 0..=MAX_HOPS {
            let response = self.upstream.fetch(&request).await?;
            let context =
                Context { sites: &self.sites, from: &request.target, expect, now: self.clock.now() };
            match classify(context, response).await? {
                Step::Success(response) => return Ok(Located::Direct(response)),
                Step::Blob(location) => return Ok(Located::Redirect(location)),
                Step::Refused(refused) => return Ok(Located::Refused(refused)),
                Step::Hop(target) => request.target = target,
            }
        }
        Err(UpstreamError::Redirect(format!("more than {MAX_HOPS} in a row")))
    }
}

// === impl Package ===

#[async_trait]
impl Source for Package {
    async fn open(&self, url: &SignedUrl, part: Option<Part>) -> Result<UpstreamResponse, UpstreamError> {
        let mut request = blob_request(url, self.request.asker.clone(), trace_of(&self.request));
        (request.deadline, request.fresh) = (Some(Instant::now() + REST_PATIENCE), true);
        request.hashed = self.hashed;
        if let Some(Part { first, tag }) = part {
            let range = HeaderValue::try_from(format!("bytes={first}-"));
            let range = range.map_err(|error| UpstreamError::Request(error.to_string()))?;
            request.headers.insert(RANGE, range);
            request.headers.extend(tag.map(|tag| (IF_RANGE, tag)));
        }
        self.azure.fetch_blob(&request).await
    }

    async fn relocate(&self) -> Result<BlobLocation, UpstreamError> {
        let mut request = self.request.clone();
        request.deadline = Some(Instant::now() + REST_PATIENCE);
        let host = request.target.whom();
        match self.azure.locate(request).await? {
            Located::Redirect(location) => Ok(location),
            Located::Direct(response) => Err(UpstreamError::Download { host, status: response.status }),
            Located::Refused(refused) => {
                Err(UpstreamError::Download { host, status: refused.refusal().status })
            }
        }
    }
}

/// Which span asks. A blob host is not told; the gate notes it.
fn trace_of(request: &UpstreamRequest) -> Option<HeaderValue> {
    request.headers.get(TRACEPARENT).cloned()
}

fn blob_request(url: &SignedUrl, asker: Asker, trace: Option<HeaderValue>) -> UpstreamRequest {
    let mut request = UpstreamRequest::get(Target::Blob(url.clone()), asker);
    request.work = Work::Download;
    request.headers.insert(ACCEPT, OCTET_STREAM);
    request.headers.extend(trace.map(|trace| (TRACEPARENT, trace)));
    request
}
