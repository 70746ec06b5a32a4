//! Every format in the form that its package manager writes, what each refuses, and any text at all.

use std::fmt::Write as _;

use proptest::{collection::vec, prelude::*, prop_assert, proptest, sample::select};

use super::{Lockfile, needs, read};
use crate::{
    config::changes::FeedName,
    ident::{FeedRef, Name},
};

/// A SHA-512 in base64.
const HASH: &str = "q+4FECebyATw0LfNzc4M0bFVvPzwGa8Cq8xPPl9QFtBqxPb/Yd6SUBA+3DqUiLJDmIBLlIHTqKvRZqgVFBkjMA==";
const OTHER: &str =
    "x+4FECebyATw0LfNzc4M0bFVvPzwGa8Cq8xPPl9QFtBqxPb/Yd6SUBA+3DqUiLJDmIBLlIHTqKvRZqgVFBkjMA==";
const FEED: &str = "https://pkgs.dev.azure.com/contoso/_packaging/main/npm/registry";

/// `name@version`, a `?` when it is optional, the algorithm of its integrity; and what is foreign, in parentheses.
fn shown(lockfile: &Lockfile) -> String {
    let packages = lockfile.packages.iter().map(|locked| {
        let mark = if locked.optional { "?" } else { "" };
        let integrity = locked.integrity.as_ref().map(ToString::to_string).unwrap_or_default();
        let algorithm = integrity.split_once('-').map_or(String::new(), |(name, _)| format!(" {name}"));
        format!("{}{mark}{algorithm}", locked.package)
    });
    let foreign = lockfile.foreign.iter().map(|foreign| format!("({} {})", foreign.name, foreign.source));
    packages.chain(foreign).collect::<Vec<_>>().join(", ")
}

fn check(name: &str, text: &str, expected: &str) {
    let text = text.replace("HASH", HASH).replace("OTHER", OTHER).replace("FEED", FEED);
    let lockfile = read(name, text.as_bytes()).unwrap();
    assert_eq!(shown(&lockfile), expected, "{name}");
    // A name that tells nothing: the content does.
    let renamed = read("lockfile.of-a-branch", text.as_bytes()).unwrap();
    assert_eq!(renamed, lockfile, "{name}, renamed");
}

fn refuse(name: &str, text: &str, expected: &str) {
    let error = read(name, text.replace("HASH", HASH).as_bytes()).unwrap_err().to_string();
    let (place, rule) = expected.split_once(' ').unwrap();
    assert!(error.starts_with(&format!("{name}:{place}: ")) && error.contains(rule), "{expected}: {error}");
}

#[test]
fn npm_version_1_nests_its_packages() {
    let text = r#"{ "name": "app", "version": "1.0.0", "lockfileVersion": 1, "requires": true, "dependencies": {
        "left-pad": { "version": "1.3.0", "resolved": "FEED/left-pad/-/left-pad-1.3.0.tgz", "integrity": "sha512-HASH",
            "requires": { "b": "^2" },
            "dependencies": { "b": { "version": "2.0.0", "integrity": "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "dev": true } } },
        "alias": { "version": "npm:@scope/real@1.0.0-rc.1", "integrity": "sha512-HASH", "optional": true },
        "inside": { "version": "1.0.0", "bundled": true },
        "here": { "version": "file:../here" },
        "url": { "version": "https://r.example/@scope/url/-/url-1.2.3.tgz", "integrity": "sha512-HASH" },
        "git": { "version": "git+ssh://git@example.com/a.git#1f", "from": "a@1" }
    } }"#;
    let expected = "left-pad@1.3.0 sha512, @scope/real@1.0.0-rc.1? sha512, @scope/url@1.2.3 sha512, b@2.0.0 sha1, \
                    (git git+ssh://git@example.com/a.git#1f)";
    check("package-lock.json", text, expected);
}

#[test]
fn npm_versions_2_and_3_list_folders() {
    for version in [2, 3] {
        let text = r#"{ "name": "app", "lockfileVersion": NUMBER, "packages": {
            "": { "name": "app", "workspaces": ["packages/*"] },
            "node_modules/left-pad": { "version": "1.3.0", "resolved": "FEED/left-pad/-/left-pad-1.3.0.tgz",
                "integrity": "sha512-HASH" },
            "node_modules/left-pad/node_modules/@scope/b": { "version": "2.0.0", "devOptional": true },
            "node_modules/copy/node_modules/left-pad": { "version": "1.3.0",
                "resolved": "FEED/left-pad/-/left-pad-1.3.0.tgz", "integrity": "sha512-HASH" },
            "node_modules/alias": { "name": "real", "version": "1.0.0" },
            "node_modules/inside": { "version": "1.0.0", "inBundle": true },
            "node_modules/ours": { "resolved": "packages/ours", "link": true },
            "node_modules/peer": { "optional": true, "peer": true },
            "packages/ours": { "version": "1.0.0" },
            "node_modules/bare": { "resolved": "git+ssh://git@example.com/bare.git#1f" },
            "node_modules/local": { "resolved": "file:local.tgz", "integrity": "sha512-HASH" },
            "node_modules/url": { "resolved": "https://r.example/url/-/url-1.2.3.tgz", "integrity": "sha512-HASH" },
            "node_modules/odd": { "resolved": "https://r.example/odd/-/else.tgz" },
            "node_modules/tar": { "version": "1.0.0", "resolved": "https://example.com/tar.tgz", "integrity": "sha512-HASH" }
        } }"#;
        let expected = "left-pad@1.3.0 sha512, @scope/b@2.0.0?, real@1.0.0, url@1.2.3 sha512, (bare git+ssh://git@example.com/bare.git#1f), \
             (odd https://r.example/odd/-/else.tgz), (tar https://example.com/tar.tgz)";
        check("npm-shrinkwrap.json", &text.replace("NUMBER", &version.to_string()), expected);
    }
}

#[test]
fn pnpm_6_and_9_list_packages_with_their_peers() {
    let six = "lockfileVersion: '6.0'\nsettings:\n  autoInstallPeers: true\ndependencies:\n  left-pad:\n    specifier: ^1\n\
               \x20   version: 1.3.0\npackages:\n  /left-pad@1.3.0:\n    resolution: {integrity: sha512-HASH}\n    dev: false\n\
               \x20 /@scope/b@2.0.0(react@18.0.0)(x@1.0.0(y@2.0.0)):\n    resolution: {integrity: sha512-HASH, tarball: FEED/@scope/b/-/b-2.0.0.tgz}\n    optional: true\n\
               \x20 file:packages/ours:\n    resolution: {directory: packages/ours, type: directory}\n    name: ours\n    version: 1.0.0\n\
               \x20 github.com/a/b/0123:\n    resolution: {tarball: https://codeload.example/a/b/tar.gz/0123}\n    name: b\n    version: 1.0.0\n";
    let expected =
        "left-pad@1.3.0 sha512, @scope/b@2.0.0? sha512, (b https://codeload.example/a/b/tar.gz/0123)";
    check("pnpm-lock.yaml", six, expected);
    let nine = "---\nlockfileVersion: '9.0'\npackages:\n  '@pnpm/exe@11.0.0':\n    resolution: {integrity: sha512-HASH}\n\
                snapshots:\n  '@pnpm/exe@11.0.0': {}\n---\nlockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies: {}\n\
                packages:\n  left-pad@1.3.0:\n    resolution: {integrity: sha512-HASH}\n    deprecated: use something else\n\
                \x20 '@scope/b@2.0.0':\n    resolution: {integrity: sha512-HASH}\n    os: [linux]\n\
                \x20 c@3.0.0:\n    resolution: {integrity: sha512-HASH}\n\
                \x20 g@https://git.example/g.git:\n    resolution: {commit: '0123', repo: https://git.example/g.git, type: git}\n    version: 1.0.0\n\
                snapshots:\n  left-pad@1.3.0: {}\n  '@scope/b@2.0.0(c@3.0.0)':\n    optional: true\n\
                \x20 c@3.0.0(left-pad@1.3.0):\n    optional: true\n  c@3.0.0:\n    dependencies:\n      left-pad: 1.3.0\n";
    let expected = "@pnpm/exe@11.0.0 sha512, left-pad@1.3.0 sha512, @scope/b@2.0.0? sha512, c@3.0.0 sha512, \
                    (g https://git.example/g.git)";
    check("pnpm-lock.yaml", nine, expected);
}

#[test]
fn yarn_classic_has_a_format_of_its_own() {
    let text = "# THIS IS AN AUTOGENERATED FILE. DO NOT EDIT THIS FILE DIRECTLY.\n# yarn lockfile v1\n\n\n\
        \"@scope/a@>=1, <3\", \"@scope/a@^1.1.0\":\n  version \"1.1.0\"\n  resolved \"FEED/@scope/a/-/a-1.1.0.tgz#a9993e364706816aba3e25717850c26c9cd0d89d\"\n\
        \x20 integrity sha512-HASH\n  dependencies:\n    left-pad \"^1.3.0\"\n\n\
        left-pad@^1.3.0, left-pad@~1.3.0:\n  version \"1.3.0\"\n  resolved \"FEED/left-pad/-/left-pad-1.3.0.tgz#a9993e364706816aba3e25717850c26c9cd0d89d\"\n\n\
        \"alias@npm:real@^1.0.0\":\n  version \"1.0.0\"\n  resolved \"FEED/real/-/real-1.0.0.tgz\"\n\n\
        \"ours@file:../ours\":\n  version \"0.0.0\"\n\n\
        \"g@git+https://git.example/g.git\":\n  version \"1.0.0\"\n  resolved \"git+https://git.example/g.git#0123\"\n";
    let expected =
        "@scope/a@1.1.0 sha512, left-pad@1.3.0 sha1, real@1.0.0, (g git+https://git.example/g.git#0123)";
    check("yarn.lock", text, expected);
    check("yarn.lock", &text.replace('\n', "\r\n"), expected);
}

#[test]
fn yarn_berry_names_packages_by_their_resolution() {
    let text = "# This file is generated by running \"yarn install\" inside your project.\n\n__metadata:\n  version: 8\n  cacheKey: 10c0\n\n\
        \"@scope/a@npm:^1.0.0, @scope/a@npm:^1.1.0\":\n  version: 1.1.0\n  resolution: \"@scope/a@npm:1.1.0\"\n  dependencies:\n    b: \"npm:2\"\n\
        \x20 checksum: 10c0/0123\n  languageName: node\n  linkType: hard\n\n\
        \"alias@npm:real@1\":\n  version: 1.0.0\n  resolution: \"real@npm:1.0.0::__archiveUrl=https%3A%2F%2Fr.example%2Freal%2F-%2Freal-1.0.0.tgz\"\n  conditions: os=linux & cpu=x64\n  languageName: node\n  linkType: hard\n\n\
        \"app@workspace:.\":\n  version: 0.0.0-use.local\n  resolution: \"app@workspace:.\"\n  languageName: unknown\n  linkType: soft\n\n\
        \"c@patch:c@npm%3A1.0.0#./c.patch\":\n  version: 1.0.0\n  resolution: \"c@patch:c@npm%3A1.0.0#./c.patch::version=1.0.0\"\n  languageName: node\n  linkType: hard\n\n\
        \"g@https://git.example/g.git\":\n  version: 1.0.0\n  resolution: \"g@https://git.example/g.git#commit=0123\"\n  languageName: node\n  linkType: hard\n\n\
        \"u@FEED/u/-/u-1.2.3.tgz\":\n  version: 1.2.3\n  resolution: \"u@FEED/u/-/u-1.2.3.tgz\"\n  languageName: node\n  linkType: hard\n\n\
        \"v@https://r.example/v/-/v-1.2.3.tgz\":\n  version: 1.2.3\n  resolution: \"v@https://r.example/v/-/v-1.2.3.tgz\"\n  languageName: node\n  linkType: hard\n";
    let expected = "@scope/a@1.1.0, real@1.0.0?, u@1.2.3, (g https://git.example/g.git#commit=0123), \
                    (v https://r.example/v/-/v-1.2.3.tgz)";
    check("yarn.lock", text, expected);
}

#[test]
fn bun_writes_lists_with_trailing_commas() {
    let text = r#"{
      "lockfileVersion": 1,
      // Bun's own.
      "workspaces": { "": { "name": "app", "dependencies": { "left-pad": "^1.3.0", }, }, },
      "packages": {
        "left-pad": ["left-pad@1.3.0", "FEED/left-pad/-/left-pad-1.3.0.tgz", {}, "sha512-HASH"],
        "alias": ["@scope/real@1.0.0", "", { "os": "linux", "cpu": "x64" }, "sha512-HASH"],
        "left-pad/inside": ["inside@1.0.0", "", { "bundled": true }, "sha512-HASH"],
        "ours": ["ours@workspace:packages/ours"],
        "g": ["g@github:a/g#0123", {}, "a-g-0123"],
        "local": ["local@./local.tgz", {}],
        "local-2": ["local-2@../local.tgz", {}, "sha512-HASH"],
        "u": ["u@FEED/u/-/u-1.2.3.tgz", { "dependencies": { "left-pad": "1" } }, "sha512-HASH"],
        "v": ["v@https://r.example/v/-/v-1.2.3.tgz", {}],
      }
    }"#;
    let expected = "left-pad@1.3.0 sha512, @scope/real@1.0.0? sha512, u@1.2.3 sha512, (g github:a/g#0123), \
                    (v https://r.example/v/-/v-1.2.3.tgz)";
    check("bun.lock", text, expected);
}

#[test]
fn nuget_has_three_formats() {
    let lock = r#"{ "version": 1, "dependencies": {
        "net8.0": {
            "Newtonsoft.Json": { "type": "Direct", "requested": "[13.0.1, )", "resolved": "13.0.1", "contentHash": "HASH" },
            "contoso.web": { "type": "Project", "dependencies": { "Newtonsoft.Json": "13.0.1" } } },
        "net8.0/linux-x64": {
            "Newtonsoft.Json": { "type": "Direct", "resolved": "13.0.1", "contentHash": "HASH" },
            "Native": { "type": "Transitive", "resolved": "1.0", "contentHash": "OTHER" } }
    } }"#;
    let expected = "newtonsoft.json@13.0.1 sha512, native@1.0.0 sha512";
    check("packages.lock.json", lock, expected);
    check("packages.lock.json", &format!("\u{feff}{lock}"), expected);
    let config = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<packages>\r\n  <package id=\"Newtonsoft.Json\" \
                  version=\"13.0.1\" targetFramework=\"net472\" />\r\n<!-- x -->\r\n  <package id='A' version='1.0.0.0' developmentDependency='true'/>\r\n</packages>\r\n";
    check("packages.config", config, "newtonsoft.json@13.0.1, a@1.0.0");
    let assets = r#"{ "version": 3, "targets": { "net8.0": {} }, "libraries": {
        "Newtonsoft.Json/13.0.1": { "sha512": "HASH", "type": "package", "path": "newtonsoft.json/13.0.1", "files": [] },
        "Contoso.Web/1.0.0": { "type": "project", "path": "../web.csproj" } },
        "project": { "frameworks": { "net8.0": { "downloadDependencies": [
            { "name": "Microsoft.AspNetCore.App.Ref", "version": "[8.0.1, 8.0.1]" } ] } } } }"#;
    check("project.assets.json", assets, "newtonsoft.json@13.0.1 sha512, microsoft.aspnetcore.app.ref@8.0.1");
}

/// A file's name, its text, the line of the mistake and the rule.
const MISTAKES: [(&str, &str, &str); 30] = [
    ("x.json", "{}", "1 is no lockfile that is known"),
    ("bun.lockb", "#!/usr/bin/env bun", "1 --save-text-lockfile"),
    ("package-lock.json", "", "1 is empty"),
    ("package-lock.json", "{\n\"lockfileVersion\": 3,\n}", "2 is not JSON"),
    ("package-lock.json", "[]", "1 must be a table"),
    ("package-lock.json", "{\n\"lockfileVersion\": 4 }", "2 must be 1, 2 or 3"),
    ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":[]}", "1 `packages` must be a table"),
    (
        "package-lock.json",
        "{\"lockfileVersion\":3,\n\"packages\":{\n\"node_modules/a\":{\"version\":\"1\"}}}",
        "3 a: version",
    ),
    (
        "package-lock.json",
        "{\"lockfileVersion\":3,\n\"packages\":{\n\"node_modules/a b\":{\"version\":\"1.0.0\"}}}",
        "3 npm name",
    ),
    (
        "package-lock.json",
        "{\"lockfileVersion\":3,\"packages\":{\n\"node_modules/a\":{\"version\":\"1.0.0\",\"integrity\":\"sha512-AAAA\"}}}",
        "2 a: integrity \"sha512-AAAA\" has 3 bytes, not 64",
    ),
    ("package-lock.json", "{\"dependencies\":{\n\"a\":{}}}", "2 a has no version"),
    ("pnpm-lock.yaml", "", "1 is empty"),
    ("pnpm-lock.yaml", "lockfileVersion: 5.4\n", "1 must be 6 or 9"),
    ("pnpm-lock.yaml", "a: &a [1]\nb: *a\n", "1 has an anchor"),
    ("pnpm-lock.yaml", "a: [1\nb: {", "2 is not YAML"),
    ("pnpm-lock.yaml", "lockfileVersion: '9.0'\npackages:\n  a@1.0.0: {}\n", "3 has no `resolution`"),
    ("yarn.lock", "# yarn lockfile v1\n  version \"1\"\n", "2 is a field of no package"),
    ("yarn.lock", "<<<<<<< HEAD\n", "1 is not `name@range"),
    ("yarn.lock", "a@1:\n  version \"1\n", "2 is not a text in quotes"),
    ("yarn.lock", "a@1:\n  resolved \"x\"\n", "1 a has no version"),
    ("yarn.lock", "__metadata:\n  version: 8\n\"a@npm:1\":\n  version: 1.0.0\n", "4 has no `resolution`"),
    ("bun.lock", "{\n\"lockfileVersion\": 2,}", "2 must be 0 or 1"),
    ("bun.lock", "{\"lockfileVersion\": 1,\n\"packages\": {\n\"a\": [\"a@1.0.0\"],}}", "3 at least three"),
    (
        "packages.lock.json",
        "{\"dependencies\":{\"net8.0\":{\n\"A\":{\"type\":\"Direct\"}}}}",
        "2 A: has no `resolved`",
    ),
    (
        "packages.lock.json",
        "{\"dependencies\":{\"net8.0\":{\n\"A\":{\"resolved\":\"x\"}}}}",
        "2 NuGet version",
    ),
    ("packages.config", "<packages>\n<package id='A'/></packages>", "2 needs `id` and `version`"),
    ("packages.config", "<packages>\n<package id=1/>", "2 is not XML"),
    ("packages.config", "<!DOCTYPE x [<!ENTITY a 'b'>]><packages/>", "1 is not XML"),
    ("packages.config", "<configuration/>", "1 must be `packages`"),
    ("project.assets.json", "{\"libraries\":{\n\"A\":{\"type\":\"package\"}}}", "2 is not `id/version`"),
];

#[test]
fn every_mistake_names_file_line_and_rule() {
    for (name, text, expected) in MISTAKES {
        refuse(name, text, expected);
    }
    let error = read("yarn.lock", b"a\n\xff").unwrap_err().to_string();
    assert_eq!(error, "yarn.lock:2: is not UTF-8");
    let nested = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    refuse("pnpm-lock.yaml", &nested, "1 is nested");
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    refuse("pnpm-lock.yaml", &nested, "1 recursion limit");
    refuse("package-lock.json", &nested, "1 nesting");
    let error = read("yarn.lock", &vec![b'#'; super::MAX_BYTES + 1]).unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");
}

fn feed() -> FeedRef {
    let FeedRef { org, project, feed, .. } = "contoso/web/main".parse::<FeedName>().unwrap().feed().clone();
    FeedRef::new(org, project, feed, Some(Name::parse("Release").unwrap()))
}

fn asked(name: &str, text: &str, feed: Option<&FeedRef>) -> String {
    let lockfile = read(name, text.replace("FEED", FEED).as_bytes()).unwrap();
    needs(&lockfile, feed).unwrap().into_iter().fold(String::new(), |mut all, need| {
        let _ = writeln!(all, "{} {}", need.path, need.label);
        all
    })
}

#[test]
fn what_a_build_asks_for_is_where_its_client_will_look() {
    let lock = r#"{ "lockfileVersion": 3, "packages": {
        "node_modules/a": { "version": "1.0.0", "resolved": "FEED/a/-/a-1.0.0.tgz" },
        "node_modules/b": { "version": "1.0.0", "resolved": "https://registry.example/@x%2fb/-/b-1.0.0.tgz" },
        "node_modules/c": { "version": "1.0.0" } } }"#;
    let expected = "/contoso/_packaging/main/npm/registry/a/-/a-1.0.0.tgz a@1.0.0\n\
                    /contoso/web/_packaging/main@Release/npm/registry/b/-/b-1.0.0.tgz b@1.0.0\n\
                    /contoso/web/_packaging/main@Release/npm/registry/c packument of c\n\
                    /contoso/web/_packaging/main@Release/npm/registry/c/-/c-1.0.0.tgz c@1.0.0\n";
    assert_eq!(asked("package-lock.json", lock, Some(&feed())), expected);
    let odd = r#"{ "lockfileVersion": 3, "packages": {
        "node_modules/a": { "version": "1.0.0", "resolved": "https://registry.example/a/-/a,b.tgz" } } }"#;
    let expected = "/contoso/web/_packaging/main@Release/npm/registry/a/-/a-1.0.0.tgz a@1.0.0\n";
    assert_eq!(asked("package-lock.json", odd, Some(&feed())), expected);
    let config = "<packages><package id='A' version='1.0'/></packages>";
    let expected = "/contoso/web/_packaging/main@Release/nuget/v3/index.json service index\n\
                    /contoso/web/_packaging/main@Release/nuget/v3/flat2/a/index.json versions of a\n\
                    /contoso/web/_packaging/main@Release/nuget/v3/flat2/a/1.0.0/a.1.0.0.nupkg a@1.0.0\n";
    assert_eq!(asked("packages.config", config, Some(&feed())), expected);
    let lockfile = read("packages.config", config.as_bytes()).unwrap();
    assert!(needs(&lockfile, None).unwrap_err().to_string().starts_with("a@1.0.0 is locked without a feed"));
}

/// Pieces of every format, to be put together at random.
const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\n",
    "  ",
    "    ",
    "\"packages\"",
    "\"lockfileVersion\": 3",
    "\"dependencies\"",
    "\"version\": \"1.0.0\"",
    "\"node_modules/a\"",
    "\"resolved\"",
    "lockfileVersion: '9.0'",
    "packages:",
    "a@1.0.0:",
    "resolution: {integrity: ",
    "sha512-",
    "__metadata:",
    "# yarn lockfile v1\n",
    "version \"1.0.0\"",
    "\"@a/b@^1\":",
    "resolution: \"a@npm:1.0.0\"",
    "<packages>",
    "<package id='a' version='1'/>",
    "</packages>",
    "&a ",
    "*a",
    "!!str ",
    "? ",
    "- ",
    "| \n",
    "é",
    "\\",
    "@",
    "\t",
    "'",
];
const NAMES: [&str; 8] = [
    "package-lock.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "packages.lock.json",
    "packages.config",
    "project.assets.json",
    "other",
];

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(
        name in select(&NAMES[..]),
        pieces in vec(prop_oneof![4 => select(&PIECES[..]).prop_map(str::to_owned), 1 => ".{0,8}"], 0..60),
    ) {
        match read(name, pieces.concat().as_bytes()) {
            Ok(lockfile) => { let _ = needs(&lockfile, Some(&feed())); }
            Err(error) => prop_assert!(error.line >= 1 && error.file == name),
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(name in select(&NAMES[..]), bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(name, &bytes);
    }
}
