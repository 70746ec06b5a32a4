//! What the service has: documents and packages of given sizes, with the proportions of real ones.

use feedgate_simulator::{Feed, NpmPackage, NpmVersion, Organisation, Scope, Token};
use serde_json::{Value, json};

/// A PAT that may read.
pub const PAT: &str = "pat-of-a-reader";
/// The npm registry, below a front's address.
pub const NPM: &str = "contoso/_packaging/main/npm/registry";
/// The same feed for the simulator.
pub const FEED: &str = "contoso/main";
/// The version that each package with a tarball of a given size has.
pub const VERSION: &str = "1.0.0";

/// Packages with a packument of this name and about this many bytes.
const TYPICAL: [(&str, usize); 4] =
    [("doc-8k", 8_000), ("doc-100k", 100_000), ("doc-900k", 900_000), ("doc-40m", 40_000_000)];
/// What a version of a typical packument takes, in bytes.
const TYPICAL_VERSION: usize = 3_250;
/// Versions of the packument that is nearly all abbreviated form.
const LEAN_VERSIONS: usize = 220;
/// Packages named `many-0` and so on, with a tarball of 50 KB each.
pub const MANY: usize = 4_000;
/// Packages with a tarball of this name and about this many bytes.
const TARBALLS: [(&str, usize); 2] = [("blob-50k", 50_000), ("blob-5m", 5_800_000)];

/// How many versions earlier than the one that is installed a package of a real tree has: the means of twelve parts of as
/// many packages, counted in the public registry (94 packages of a web team's tree).
const EARLIER: [usize; 12] = [3, 4, 6, 9, 13, 23, 29, 35, 42, 63, 109, 517];

/// The organisation that everything stands in.
pub fn organisation(feed: Feed) -> Organisation {
    let token = Token::pat(PAT).label("reader").scope(Scope::Read);
    Organisation::new("contoso").token(token).feed(feed)
}

/// The feed of documents and packages, readable for everybody: not every peer can sign in.
pub fn feed() -> Feed {
    let feed = (0..MANY).fold(Feed::new("main").public(), |feed, number| {
        feed.npm(NpmPackage::new(&format!("many-{number}")).version(VERSION, NpmVersion::new().size(50_000)))
    });
    let feed = TYPICAL.iter().fold(feed, |feed, (name, length)| feed.npm(typical(name, *length)));
    let feed = feed.npm(lean("doc-lean"));
    TARBALLS.iter().fold(feed, |feed, (name, length)| {
        feed.npm(NpmPackage::new(name).version(VERSION, NpmVersion::new().size(*length)))
    })
}

/// A packument of about `length` bytes of which some 15 % are the abbreviated form.
fn typical(name: &str, length: usize) -> NpmPackage {
    let count = length.div_ceil(TYPICAL_VERSION);
    let mut noise = Noise(length as u64);
    (0..count).fold(with_readme(name, count), |package, patch| {
        package.version(&format!("1.0.{patch}"), typical_version(name, &mut noise))
    })
}

/// What a package had before the version that real clients install: as many versions as a real one may have, none of
/// which a range asks for.
pub fn earlier(name: &str) -> NpmPackage {
    // FNV-1a: any hash will do that gives a name the same number each time.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let count = usize::try_from(hash % EARLIER.len() as u64).map_or(1, |part| EARLIER[part]);
    let mut noise = Noise(hash | 1);
    (0..count).fold(with_readme(name, count), |package, build| {
        package.version(&format!("0.0.0-build.{build}"), typical_version(name, &mut noise))
    })
}

fn with_readme(name: &str, versions: usize) -> NpmPackage {
    let readme =
        "A paragraph of the readme, which is much the same for every package.\n\n".repeat(versions.min(300));
    NpmPackage::new(name).field("readme", json!(readme))
}

/// A version with the fields of a real one. What does not repeat from version to version (hashes, signatures) does not
/// compress in real ones either.
fn typical_version(name: &str, noise: &mut Noise) -> NpmVersion {
    NpmVersion::new()
        .dependency("left-pad", "^1.3.0")
        .field("gitHead", json!(noise.hex(40)))
        .field("scripts", scripts())
        .field("repository", json!({ "type": "git", "url": format!("git+ssh://git@example.com/{name}.git") }))
        .field("maintainers", people())
        .field("contributors", people())
        .field("_npmUser", json!({ "name": "builder", "email": "builder@example.com" }))
        .field(
            "_npmOperationalInternal",
            json!({ "host": "s3", "tmp": format!("tmp/{name}_{}", noise.hex(24)) }),
        )
        .field("keywords", json!(["build", "cache", "package", "registry", "proxy", "artifact"]))
        .field("npm-signature", json!(noise.hex(384)))
        .field("jest", json!({ "testMatch": ["**/*.test.js"], "coverageThreshold": { "global": 90 } }))
}

/// A packument of which nearly all is the abbreviated form.
fn lean(name: &str) -> NpmPackage {
    (0..LEAN_VERSIONS).fold(NpmPackage::new(name), |package, patch| {
        package.version(&format!("1.0.{patch}"), NpmVersion::new().dependency("left-pad", "^1.3.0"))
    })
}

fn scripts() -> Value {
    let scripts =
        ["build", "test", "lint", "format", "release", "coverage", "types", "docs", "bench", "clean"];
    scripts
        .iter()
        .map(|name| ((*name).to_owned(), json!(format!("run-s {name}:prepare {name}:main {name}:check"))))
        .collect()
}

fn people() -> Value {
    ["ada", "grace", "edsger", "barbara", "donald", "frances", "ken"]
        .iter()
        .map(|name| json!({ "name": name, "email": format!("{name}@example.com"), "url": format!("https://{name}.example.com") }))
        .collect()
}

/// Digits that do not compress (xorshift).
struct Noise(u64);

impl Noise {
    fn hex(&mut self, digits: usize) -> String {
        let mut digit = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            char::from_digit((self.0 >> 60) as u32, 16).unwrap_or('0')
        };
        (0..digits).map(|_| digit()).collect()
    }
}
