//! nginx in front of the simulated service, for comparison; `benches/peers/nginx-throttle.conf` is its configuration.

use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};

use feedgate_simulator::{Listener, Simulator};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

const TEMPLATE: &str = include_str!("../../benches/peers/nginx-throttle.conf");
/// Where Debian puts it, which is not always on the path.
const PROGRAMS: [&str; 3] = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
const START: Duration = Duration::from_secs(10);

/// A running nginx; it ends with the value.
pub struct Nginx {
    url: String,
    child: Child,
    _folder: tempfile::TempDir,
}

// === impl Nginx ===

impl Nginx {
    /// Starts it with an empty cache; `None` if it is not installed.
    pub async fn start(simulator: &Simulator) -> Option<Self> {
        let program = PROGRAMS.into_iter().find(|program| Path::new(program).exists())?;
        let folder = tempfile::tempdir().unwrap();
        // Free a moment ago; nginx cannot be told to choose a port itself.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let blobs = simulator.blob_authority();
        let configuration = [
            ("folder", folder.path().display().to_string()),
            ("listen", listen.to_string()),
            ("service", simulator.authority(Listener::Pkgs)),
            ("blobs", blobs.replace("localhost", "127.0.0.1")),
            ("blob_host", blobs),
        ]
        .iter()
        .fold(TEMPLATE.to_owned(), |text, (key, value)| text.replace(&format!("{{{{{key}}}}}"), value));
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file).arg("-g").arg("master_process off;");
        let child = command.stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let deadline = Instant::now() + START;
        while TcpStream::connect(listen).await.is_err() {
            assert!(Instant::now() < deadline, "nginx did not start");
            sleep(Duration::from_millis(20)).await;
        }
        Some(Self { url: format!("http://{listen}"), child, _folder: folder })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        drop(self.child.start_kill());
    }
}
