//! From the head of a request, as Pingora read it, to what it means.

use http::Version;
use pingora::proxy::Session;

use super::{
    Edge, RequestContext,
    error_reply::{self, ErrorReply},
    intake::{Head, IntakeError},
};
use crate::{
    handler::{MountRequest, Request, RouteClass},
    listener::Facts,
    trace::Trace,
};

/// What a request's head means.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Understood {
    /// Something below a mount.
    Mounted(MountRequest),
    /// Anything else.
    Request(Request),
}

// === impl Edge ===

impl Edge {
    /// What the head of a request means.
    #[expect(clippy::result_large_err, reason = "an error is an answer, made once and sent")]
    pub(super) fn understand(
        &self,
        session: &Session,
        context: &mut RequestContext,
    ) -> Result<Understood, ErrorReply> {
        let head = session.req_header();
        let facts = Facts::of(session.as_downstream());
        if let Some(refused) = facts.and_then(|facts| facts.refused(&head.headers)) {
            return Err(error_reply::of_framing(refused, &context.id));
        }
        let asker = facts.map(|facts| facts.asker(&head.headers));
        context.client = asker.map(|asker| asker.address);
        context.trace = self.spans.of(&head.headers);
        let parts = Head {
            method: &head.method,
            uri: &head.uri,
            raw_path: head.raw_path(),
            headers: &head.headers,
            http1: head.version <= Version::HTTP_11,
            asker,
        };
        if let Some(request) = self.intake.mounted(parts).map_err(|error| refused(error, &context.id))? {
            return Ok(Understood::Mounted(request));
        }
        let mut request = self.intake.read(parts).map_err(|error| refused(error, &context.id))?;
        context.class = RouteClass::of(&request.route.target);
        context.caller = Some(*request.caller.id());
        Trace::continue_in(context.trace.as_ref(), &mut request.headers);
        Ok(Understood::Request(request))
    }
}

fn refused(error: IntakeError, id: &str) -> ErrorReply {
    match error {
        IntakeError::Framing(error) => error_reply::of_framing(error, id),
        IntakeError::Route(error) => error_reply::of_route(&error, id),
        IntakeError::Host => error_reply::of_host(id),
    }
}
