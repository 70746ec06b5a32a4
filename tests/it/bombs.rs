//! Answers that unfold to far more than they are.

use std::io::Write as _;

use feedgate_simulator::{Simulator, client};
use flate2::{Compression, Crc, write::DeflateEncoder};

use crate::{
    process::Process,
    scripted::{Service, answer, json},
    support::contoso,
};

/// What the bomb unfolds to, in bytes: 2^30.
const DOUBLINGS: u32 = 10;
const PIECE: usize = 1 << 20;
/// Documents of each kind, and a route that the gate does not know.
const PATHS: [(&str, &str); 8] = [
    ("_packaging/main/npm/registry/left-pad", "application/json"),
    ("_packaging/main/npm/registry/@scope%2fwide", "application/json"),
    ("_packaging/main/nuget/v3/index.json", "application/json"),
    ("_packaging/main/nuget/v3/flat2/contoso.utility/index.json", "application/json"),
    ("_packaging/main/nuget/v3/registrations2-semver2/contoso.utility/index.json", "application/json"),
    ("_packaging/main/nuget/v2/FindPackagesById()?id='Contoso.Utility'", "application/atom+xml"),
    ("_apis/packaging/feeds/main/nuget/packages/contoso.utility/versions/1.0.0", "application/json"),
    ("_packaging/main/pypi/simple/left-pad", "application/json"),
];

/// One gzip member of 2^30 zeros, in about a megabyte: the most that deflate can do.
fn bomb() -> Vec<u8> {
    let zeros = vec![0; PIECE];
    // A piece that ends at a whole byte and refers to nothing before it may follow itself.
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&zeros).unwrap();
    encoder.flush().unwrap();
    let piece = encoder.get_ref().clone();
    let mut sum = Crc::new();
    sum.update(&zeros);
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    for _ in 0..1 << DOUBLINGS {
        bomb.extend_from_slice(&piece);
    }
    for _ in 0..DOUBLINGS {
        let mut half = Crc::new();
        half.combine(&sum);
        sum.combine(&half);
    }
    // An empty last block of fixed codes, the sum and the length.
    bomb.extend_from_slice(&[3, 0]);
    bomb.extend_from_slice(&sum.sum().to_le_bytes());
    bomb.extend_from_slice(&(1_u32 << 30).to_le_bytes());
    bomb
}

#[test]
fn the_bomb_is_a_whole_gzip_member() {
    let (bomb, mut content) = (bomb(), vec![0; PIECE]);
    assert!(bomb.len() < 2 << 20, "{}", bomb.len());
    let mut decoder = flate2::read::GzDecoder::new(&bomb[..]);
    for _ in 0..4 {
        std::io::Read::read_exact(&mut decoder, &mut content).unwrap();
        assert!(content.iter().all(|byte| *byte == 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_bombs_of_a_gigabyte_are_refused_within_64_megabytes() {
    let simulator = Simulator::builder().organisation(contoso()).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(|_| json("{}")).await;
    let server = format!(
        "retry.attempts = 1\noutage.failures = 1000\n[[server]]\ncollection = \"bomb\"\nurl = \"http://{}/tfs/bomb\"\n",
        service.address
    );
    let gate = Process::start_with(&simulator, folder.path(), &server).await;
    let get = async |path: &str| {
        let url = gate.url(&format!("bomb/{path}"));
        client::get(&url, &[("Authorization", &client::basic("any", "pat"))]).await.unwrap()
    };
    // The first answer brings what any answer needs.
    assert_eq!(get("_apis/harmless").await.status, 200);
    let (before, bomb) = (gate.memory("VmHWM"), std::sync::Arc::new(bomb()));
    for (path, kind) in PATHS {
        for status in ["200 OK", "500 Oops"] {
            let bomb = std::sync::Arc::clone(&bomb);
            let headers = format!("Content-Type: {kind}\r\nContent-Encoding: gzip\r\n");
            service.play(move |_| answer(status, &headers, bomb.as_slice()));
            let refused = get(path).await;
            assert!(refused.status >= 500, "{status} {path}: {} {}", refused.status, refused.body.len());
            assert!(refused.body.len() < 1 << 20, "{status} {path}: {}", refused.body.len());
        }
    }
    let grown = gate.memory("VmHWM") - before;
    eprintln!("peak memory grew by {} KiB over {} KiB", grown >> 10, before >> 10);
    assert!(grown < 64_000_000, "{grown}");
    service.play(|_| json("{\"name\":\"left-pad\",\"versions\":{}}"));
    assert_eq!(get(PATHS[0].0).await.status, 200);
    assert_eq!(gate.terminate().await, Some(0));
}
