//! A build farm that asks for thousands of packages at once.

use feedgate_simulator::{Simulator, Strain};

use super::{Figures, Nginx, Pulled, RATE, credential, limit, organisation, pull, service, tarball};
use crate::support::Scene;

/// What stands between the clients and the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// The gate with its defaults.
    Gate,
    /// nginx with `proxy_cache`.
    Nginx,
    /// Nothing.
    Nothing,
    /// Nothing, and the service has no limits.
    Unlimited,
}

/// So many distinct tarballs, cold, one API request each, asked for by so many clients with one credential.
/// `None` if the front is not installed.
pub async fn burst(front: Front, clients: usize, tarballs: usize) -> Option<Figures> {
    let simulator = service(organisation(tarballs, 1)).await;
    if front != Front::Unlimited {
        limit(&simulator);
    }
    let paths: Vec<_> = (0..tarballs).map(tarball).collect();
    let (pulled, strain) = match front {
        Front::Gate => {
            let scene = Scene::with(simulator, "");
            let pulled = pull(scene.url("").trim_end_matches('/'), &paths, clients, &credential(0)).await;
            (pulled, Strain::of(&scene.simulator.requests()))
        }
        Front::Nginx => {
            let nginx = Nginx::start(&simulator).await?;
            run(nginx.url(), &simulator, &paths, clients).await
        }
        Front::Nothing | Front::Unlimited => run(&simulator.pkgs_url(), &simulator, &paths, clients).await,
    };
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    Some(Figures { pulled, strain, ideal: tarballs as f64 / RATE as f64 })
}

async fn run(base: &str, simulator: &Simulator, paths: &[String], clients: usize) -> (Pulled, Strain) {
    let pulled = pull(base, paths, clients, &credential(0)).await;
    (pulled, Strain::of(&simulator.requests()))
}
