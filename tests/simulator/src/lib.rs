//! A seeded simulator of Azure Artifacts for tests, benches and the demo.
//!
//! In-process and asynchronous, over real sockets: a pkgs host, a feeds host and, under another host name, a blob
//! host. Content (real tarballs and nupkgs), GUIDs and correlation ids follow from one seed. It speaks HTTP/1.1 by its
//! own hand, so that every way of breaking an answer is possible, and logs what it was asked.
//!
//! ```
//! use feedgate_simulator::{Feed, NpmPackage, NpmVersion, Organisation, Simulator, client};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let package = NpmPackage::new("left-pad").version("1.3.0", NpmVersion::new().size(4096));
//! let contoso = Organisation::new("contoso").feed(Feed::new("main").public().npm(package));
//! let simulator = Simulator::builder().seed(7).organisation(contoso).start().await?;
//!
//! let url = format!("{}left-pad", simulator.npm_url("contoso/main"));
//! let packument = client::get(&url, &[]).await?;
//! assert_eq!(packument.status, 200);
//! assert_eq!(simulator.requests().len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Code map
//! - `content`: what a test describes, and the files made of it; `world`: the service's state.
//! - `service`: requests to replies, one file per protocol, `rest` and `feeds` for the REST of the two hosts; `wire`:
//!   replies to bytes, and faults.
//! - `builder`, `simulator`: the handle; `fault`, `throttle`, `pace`, `log`, `strain`: what a test can order and ask.
//! - [`ConnectProxy`]: a small HTTP proxy.
//! - [`client`]: a small HTTP client that reports what really came.
//!
//! # Left out
//! HTTP/2, the service's scheduling and replication, and its exact wording where nobody has written it down.

mod builder;
pub mod client;
pub mod clients;
mod clock;
mod content;
mod fault;
mod hub;
mod log;
mod pace;
mod proxy;
mod service;
mod simulator;
mod strain;
mod throttle;
mod wire;
mod world;

pub use builder::Builder;
pub use content::artifact::Digests;
pub use content::npm::{NpmPackage, NpmVersion};
pub use content::nuget::{NugetPackage, NugetVersion};
pub use content::organisation::{Feed, Organisation, Scope, Token};
pub use fault::{Fault, FaultKind, Matcher, Times};
pub use log::{Listener, Logged, Violation, ViolationKind};
pub use pace::Pace;
pub use proxy::{Asked, Conduct, ConnectProxy};
pub use service::error::SignIn;
pub use simulator::Simulator;
pub use strain::{CROSSING, Strain};
pub use throttle::{Throttle, ThrottleForm};
