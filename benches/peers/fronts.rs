//! The gate and its peers, each in front of the same simulated service.

use std::{env, fs, net::SocketAddr, path::Path};

use feedgate_simulator::{Listener, Simulator};

use crate::{
    Failure,
    content::{FEED, NPM},
    process::{LOAD_CORE, Process, SERVER_CORE, configure, free_address},
};

/// Names another build of the gate, to be measured instead of this one.
pub const GATE: &str = "PEERS_GATE";
const NGINX: &str = "/usr/sbin/nginx";
const VARNISH: &str = "/usr/sbin/varnishd";

/// What may stand in front of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// feedgate.
    Gate,
    /// nginx with ready bytes: a second one behind it rewrites and compresses once.
    Nginx,
    /// nginx that rewrites and compresses each answer.
    NginxRewriting,
    /// Varnish in memory, over the same second nginx.
    Varnish,
    /// Verdaccio.
    Verdaccio,
}

/// A running server and what stands behind it.
pub struct Front {
    /// Which.
    pub kind: Kind,
    /// The server that is measured.
    pub process: Process,
    registry: String,
    _origin: Option<Process>,
    _folder: tempfile::TempDir,
}

// === impl Kind ===

impl Kind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gate => "feedgate",
            Self::Nginx => "nginx, ready bytes",
            Self::NginxRewriting => "nginx, rewriting each",
            Self::Varnish => "Varnish",
            Self::Verdaccio => "Verdaccio",
        }
    }
}

// === impl Front ===

impl Front {
    /// Starts a front with an empty store.
    pub fn start(kind: Kind, simulator: &Simulator) -> Result<Self, Failure> {
        // On a disk, wherever clients work.
        let folder = tempfile::tempdir_in(env::temp_dir())?;
        let listen = free_address()?;
        let path = folder.path();
        let (process, origin) = match kind {
            Kind::Gate => (gate(simulator, path, listen)?, None),
            Kind::Nginx => {
                let (address, origin) = second_nginx(simulator, path)?;
                let values = [("host", "$http_host"), ("coding", "$coding"), ("filters", "")];
                (nginx_cache(path, listen, &address.to_string(), &values)?, Some(origin))
            }
            Kind::NginxRewriting => {
                let service = simulator.authority(Listener::Pkgs);
                let filters = format!(
                    "sub_filter_types application/json; sub_filter_once off; \
                     sub_filter \"http://{service}\" \"http://$http_host\"; \
                     gzip on; gzip_http_version 1.0; gzip_types application/json;"
                );
                let values = [("host", service.as_str()), ("coding", "\"\""), ("filters", &filters)];
                (nginx_cache(path, listen, &service, &values)?, None)
            }
            Kind::Varnish => {
                let (address, origin) = second_nginx(simulator, path)?;
                (varnish(path, listen, address)?, Some(origin))
            }
            Kind::Verdaccio => (verdaccio(simulator, path, listen)?, None),
        };
        let registry = if kind == Kind::Verdaccio { String::new() } else { format!("{NPM}/") };
        let registry = format!("http://{listen}/{registry}");
        Ok(Self { kind, process, registry, _origin: origin, _folder: folder })
    }

    /// The URL of its npm registry, with a slash at its end.
    pub fn registry(&self) -> &str {
        &self.registry
    }
}

fn gate(simulator: &Simulator, folder: &Path, listen: SocketAddr) -> Result<Process, Failure> {
    let file = folder.join("feedgate.toml");
    // The peers write no log either, and do not ask for a day and longer whether a packument has changed.
    let text = format!(
        "listen.address = \"{listen}\"\nlisten.threads = 1\nadmin.address = \"127.0.0.1:0\"\nlog.level = \"warn\"\n\
         store.path = \"{}\"\nstore.free_reserve = \"0B\"\nupstream.pkgs = \"{}/{{org}}\"\n\
         upstream.feeds = \"{}/{{org}}\"\nupstream.blob_hosts = [\"http://{}\"]\n\
         metadata.packument.fresh = \"1d\"\n",
        folder.join("store").display(),
        simulator.pkgs_url(),
        simulator.feeds_url(),
        simulator.blob_authority(),
    );
    fs::write(&file, text)?;
    let file = file.display().to_string();
    let program = env::var(GATE).unwrap_or_else(|_| env!("CARGO_BIN_EXE_feedgate").to_owned());
    Process::start(SERVER_CORE, &[&program, "serve", "--config", &file], listen)
}

fn second_nginx(simulator: &Simulator, folder: &Path) -> Result<(SocketAddr, Process), Failure> {
    let folder = folder.join("origin");
    fs::create_dir(&folder)?;
    let listen = free_address()?;
    let blobs = simulator.blob_authority();
    let values = [
        ("service", simulator.authority(Listener::Pkgs)),
        ("blobs", blobs.replace("localhost", "127.0.0.1")),
        ("blob_host", blobs),
    ];
    let values = values.each_ref().map(|(key, value)| (*key, value.as_str()));
    let process = nginx(LOAD_CORE, include_str!("nginx-origin.conf"), &folder, listen, &values)?;
    Ok((listen, process))
}

fn nginx_cache(
    folder: &Path,
    listen: SocketAddr,
    origin: &str,
    values: &[(&str, &str)],
) -> Result<Process, Failure> {
    let values = [&[("origin", origin)], values].concat();
    nginx(SERVER_CORE, include_str!("nginx-cache.conf"), folder, listen, &values)
}

fn nginx(
    core: &str,
    template: &str,
    folder: &Path,
    listen: SocketAddr,
    values: &[(&str, &str)],
) -> Result<Process, Failure> {
    let (file, place, address) =
        (folder.join("nginx.conf"), folder.display().to_string(), listen.to_string());
    let values = [&[("folder", place.as_str()), ("listen", &address)], values].concat();
    configure(template, &values, &file)?;
    let file = file.display().to_string();
    Process::start(core, &[NGINX, "-p", &place, "-c", &file, "-e", "stderr"], listen)
}

fn varnish(folder: &Path, listen: SocketAddr, origin: SocketAddr) -> Result<Process, Failure> {
    let file = folder.join("peers.vcl");
    let port = origin.port().to_string();
    configure(include_str!("varnish.vcl"), &[("origin_port", &port)], &file)?;
    let (listen_text, file) = (listen.to_string(), file.display().to_string());
    let work = folder.join("varnish").display().to_string();
    let command = [VARNISH, "-F", "-a", &listen_text, "-f", &file, "-s", "malloc,512m", "-n", &work];
    Process::start(SERVER_CORE, &command, listen)
}

fn verdaccio(simulator: &Simulator, folder: &Path, listen: SocketAddr) -> Result<Process, Failure> {
    let program = tools()?.join("verdaccio");
    let file = folder.join("config.yaml");
    let (place, address) = (folder.display().to_string(), listen.to_string());
    let registry = simulator.npm_url(FEED);
    let values = [("folder", place.as_str()), ("listen", &address), ("registry", &registry)];
    configure(include_str!("verdaccio.yaml"), &values, &file)?;
    let (program, file) = (program.display().to_string(), file.display().to_string());
    Process::start(SERVER_CORE, &[&program, "--config", &file], listen)
}

/// Where `deploy/setup --peers` puts what is not in Debian; the same rule as there.
fn tools() -> Result<std::path::PathBuf, Failure> {
    let own = env::var_os("FEEDGATE_TOOLS").map(std::path::PathBuf::from);
    let tools = own.or_else(|| env::home_dir().map(|home| home.join(".cache/feedgate/tools")));
    Ok(tools.ok_or("neither FEEDGATE_TOOLS nor HOME is set")?.join("bin"))
}
