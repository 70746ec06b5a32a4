//! [`Azure`]: the operations that handlers need of the service, with redirects followed.
//!
//! A redirect within the service is followed with the credential, one to a blob host without. Nothing is
//! repeated here: whether to ask again is the caller's decision, which knows of stored copies.

use std::sync::Arc;

use http::{
    HeaderValue, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, RANGE},
};

use super::{
    Answer, Expect, Refused, Target, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse,
    answer::{Context, Step, classify},
    sites::{BlobLocation, Sites},
};
use crate::{clock::Clock, config::upstream::Upstream as Settings, ident::Name, redact::SignedUrl};

/// Most redirects within the service for one request. One is usual (REST content to the protocol route,
/// facts §4.2); more than a few is a loop.
const MAX_HOPS: usize = 5;
/// What a fetch of bytes must accept: with anything else the service was seen to answer 400 (facts §3.3).
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The service.
#[derive(Clone)]
pub struct Azure {
    upstream: Arc<dyn Upstream>,
    sites: Arc<Sites>,
    clock: Clock,
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
    pub fn new(upstream: Arc<dyn Upstream>, settings: &Settings, clock: Clock) -> Self {
        Self { upstream, sites: Arc::new(Sites::new(settings)), clock }
    }

    /// Whether `org` is a collection of a server of one's own, which has one host for everything.
    pub fn is_server(&self, org: &Name) -> bool {
        self.sites.server(org).is_some()
    }

    /// Fetches a document. It comes as the service encodes it (gzip or plain): read it with
    /// [`super::body::read_document`]. A document that is kept as a blob is fetched from there.
    pub async fn document(
        &self,
        mut request: UpstreamRequest,
        expect: Expect,
    ) -> Result<Answer, UpstreamError> {
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        match self.follow(request, expect).await? {
            Located::Direct(response) => Ok(Answer::Success(response)),
            Located::Redirect(location) => self.download(&location.url, None).await.map(Answer::Success),
            Located::Refused(refused) => Ok(Answer::Refused(refused)),
        }
    }

    /// Asks where the bytes of a package are. For the service this counts as the download.
    pub async fn locate(&self, mut request: UpstreamRequest) -> Result<Located, UpstreamError> {
        request.headers.insert(ACCEPT, OCTET_STREAM);
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.follow(request, Expect::Bytes).await
    }

    /// Fetches bytes from a blob host: status 200, or 206 if `range` was given and obeyed.
    ///
    /// [`UpstreamError::Link`] means that the signed URL is not (or no longer) good: locate again, once.
    /// Any other status is [`UpstreamError::Download`].
    pub async fn download(
        &self,
        url: &SignedUrl,
        range: Option<HeaderValue>,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let mut request = UpstreamRequest::get(Target::Blob(url.clone()));
        request.headers.insert(ACCEPT, OCTET_STREAM);
        let ranged = range.is_some();
        request.headers.extend(range.map(|range| (RANGE, range)));
        let response = self.upstream.fetch(&request).await?;
        let (host, status) = (url.authority().to_owned(), response.status);
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
