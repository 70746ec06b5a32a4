//! Correlation ids and the headers that every reply of the pkgs and feeds hosts carries (facts §8).

use uuid::Uuid;

use super::reply::Reply;
use super::visit::user_guid;
use crate::clock;
use crate::content::seed::Seed;
use crate::world::Caller;

const P3P: &str = "CP=\"CAO DSP COR ADMa DEV CONo TELo CUR PSA PSD TAI IVDo OUR SAMi BUS DEM NAV STA UNI COM INT PHY ONL FIN PUR LOC CNT\"";
const EXPOSED: &str =
    "Request-Context, ActivityId, X-TFS-Session, X-MS-ContinuationToken, X-VSS-GlobalMessage, ETag";

/// The ids of one request, drawn from the seed and the request's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    pub(crate) activity: Uuid,
    pub(crate) session: Uuid,
    process: Uuid,
    deployment: Uuid,
}

// === impl Ids ===

impl Ids {
    pub(crate) fn of(seed: Seed, number: u64) -> Self {
        let mut noise = seed.noise("ids");
        let (process, deployment) = (noise.guid(), noise.guid());
        let mut noise = Seed(seed.0 ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).noise("request");
        Self { activity: noise.guid(), session: noise.guid(), process, deployment }
    }

    /// Adds what the service's front end adds to every reply.
    pub(crate) fn stamp(&self, reply: Reply, caller: Option<&Caller>) -> Reply {
        let reply = reply
            .header("Cache-Control", "no-cache")
            .header("Pragma", "no-cache")
            .header("Expires", "-1")
            .header("Vary", "Accept-Encoding")
            .header("P3P", P3P)
            .header("X-TFS-ProcessId", self.process.to_string())
            .header("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
            .header("ActivityId", self.activity.to_string())
            .header("X-TFS-Session", self.session.to_string())
            .header("X-VSS-E2EID", self.activity.to_string())
            .header("X-VSS-SenderDeploymentId", self.deployment.to_string())
            .header("X-FRAME-OPTIONS", "SAMEORIGIN")
            .header("Request-Context", format!("appId=cid-v1:{}", self.process))
            .header("Access-Control-Expose-Headers", EXPOSED)
            .header("X-Content-Type-Options", "nosniff")
            .header("X-Cache", "CONFIG_NOCACHE")
            .header(
                "X-MSEdge-Ref",
                format!("Ref A: {} Ref B: SIM01 Ref C: {}", self.session.simple(), clock::iso(clock::now())),
            )
            .header("Date", clock::http_date(clock::now()));
        match caller {
            Some(Caller::Known(token)) => {
                let user = user_guid(&token.label);
                reply.header("X-VSS-UserData", format!("{user}:{}@example.com", token.label))
            }
            _ => reply,
        }
    }
}
