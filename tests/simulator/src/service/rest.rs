//! Package-type REST of the pkgs host (`_apis/packaging`, facts §5.2). Only access is checked so far: every route that a
//! caller may reach answers as a route that does not exist.

use super::error::Refusal;
use super::reply::Reply;
use super::visit::Visit;
use crate::wire::request::decode;

pub(crate) fn answer(visit: &Visit<'_>) -> Result<Reply, Refusal> {
    let rest: Vec<String> = visit.location.rest.iter().map(|segment| decode(segment)).collect();
    if let [_, _, feed, ..] = &rest[..] {
        let world = visit.service.world.read();
        visit.find_feed(&world.organisations[visit.organisation], feed)?;
    }
    Err(Refusal::NoRoute)
}
