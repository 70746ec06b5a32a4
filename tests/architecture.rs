//! Holds `src` to its layers and to the rules that no lint checks.
//!
//! Reads the source as text, without comments and literals: enough for paths and braces, and nothing to build.
//! Test code (`#[cfg(test)]` modules and their files) may do what it likes. All offences are listed at once.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Modules by layer, lowest first; one imports only from lower layers and from itself.
const LAYERS: [&[&str]; 10] = [
    &["ident", "clock", "lanes", "patience", "redact"],
    &["config", "route", "disk"],
    &["throttle", "blob", "document", "guard", "policy", "lockfile", "listener", "trace"],
    &["archive", "upstream", "cache"],
    &["access"],
    &["handler"],
    &["proxy", "admin"],
    &["app"],
    &["cli"],
    &["main"],
];
/// What only some files, by the beginning of their path, may name.
const RESERVED: [(&str, &[&str]); 4] = [
    ("pingora", &["src/proxy/", "src/admin/", "src/app/", "src/listener/", "src/upstream/"]),
    (
        "moka::",
        &[
            "src/blob/hot.rs",
            "src/cache/identities.rs",
            "src/cache/memory.rs",
            "src/cache/negative.rs",
            "src/access/attempts.rs",
            "src/cache/packages.rs",
            "src/cache/sightings.rs",
            "src/access/verdicts.rs",
            "src/proxy/fast_path.rs",
            "src/proxy/fast_path/filed.rs",
        ],
    ),
    ("sled::", &["src/disk/"]),
    ("SystemTime::now", &["src/clock.rs"]),
];
const PANICS: [&str; 2] = [".unwrap()", ".expect("];
const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 60;

#[test]
fn every_file_keeps_to_its_layer_and_to_the_rules() {
    let files = rust_files(Path::new("src"));
    assert!(files.len() > LAYERS.len(), "only {} files found: run in the package's folder", files.len());
    let found: Vec<String> =
        files.iter().flat_map(|file| offences(file, &fs::read_to_string(file).unwrap())).collect();
    assert!(found.is_empty(), "{} offences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_front_page_names_every_module_with_its_layer() {
    let front = fs::read_to_string("src/lib.rs").unwrap();
    let table = front.lines().filter_map(|line| line.strip_prefix("//! | ")?.split_once(" | [`"));
    let table: BTreeSet<_> = table.map(|(layer, rest)| (name_at(rest), layer.to_owned())).collect();
    let declared = front.lines().filter_map(|line| line.strip_prefix("pub mod "));
    let layered =
        |name: &str| (name.to_owned(), level(name).map_or("none".into(), |level| level.to_string()));
    let declared: BTreeSet<_> = declared.map(|name| layered(name.trim_end_matches(';'))).collect();
    let expected: BTreeSet<_> =
        LAYERS.concat().into_iter().filter(|name| *name != "main").map(layered).collect();
    assert_eq!(
        (&table, &declared),
        (&expected, &expected),
        "the table, the modules; and what they should be"
    );
}

#[test]
fn each_rule_finds_what_it_forbids_and_nothing_else() {
    let check = |file: &str, code: &str, expected: &[&str]| {
        assert_eq!(offences(Path::new(file), &format!("//! x\n{code}")), expected, "{file}: {code}");
    };
    check(
        "src/cache/a.rs",
        "use crate::{\n    blob::{Hot, handler},\n    cache, app::Gate,\n};",
        &["src/cache/a.rs:4: cache (layer 3) imports app (layer 7)"],
    );
    check(
        "src/cache/a/b.rs",
        "use super::super::super::upstream::X;",
        &["src/cache/a/b.rs:2: cache (layer 3) imports upstream (layer 3)"],
    );
    check("src/redact.rs", "use crate::Gate;", &["src/redact.rs:2: Gate is in no layer"]);
    check("src/route/a.rs", "// crate::app\nlet a = (\"crate::app \\\" {\", 'x', '\"', r#\"sled::\"#);", &[]);
    check(
        "src/blob/a.rs",
        "use moka::sync;\nlet b: pingora_core::X = a\n    .unwrap();",
        &[
            "src/blob/a.rs:3: pingora belongs elsewhere",
            "src/blob/a.rs:2: moka:: belongs elsewhere",
            "src/blob/a.rs:4: .unwrap() outside tests",
        ],
    );
    check(
        "src/blob/a.rs",
        "#[cfg(test)]\nmod t;\nx.expect(y);\n#[cfg(test)]\nmod u {\nx.unwrap();\n}",
        &["src/blob/a.rs:4: .expect( outside tests"],
    );
    check("src/blob/tests/a.rs", "x.unwrap();", &[]);
    check(
        "src/app.rs",
        &format!("fn a(b: [u8; 2]) {{\n{}}}", "b();\n".repeat(59)),
        &["src/app.rs:2: a function of 61 lines"],
    );
    check("src/app.rs", &"\n".repeat(500), &["src/app.rs:1: a file of 501 lines"]);
    assert_eq!(offences(Path::new("src/app.rs"), "mod a;"), ["src/app.rs:1: does not open with //!"]);
}

fn offences(path: &Path, text: &str) -> Vec<String> {
    let file = path.display().to_string();
    let opening = (!text.starts_with("//!")).then(|| (0, "does not open with //!".to_owned()));
    let code = if is_test_file(path) { String::new() } else { shipped(&plain(text)) };
    let mut found: Vec<(usize, String)> = opening.into_iter().chain(imports(&file, &code)).collect();
    for (word, homes) in RESERVED {
        if !homes.iter().any(|home| file.starts_with(home)) {
            found.extend(words(&code, word).map(|at| (at, format!("{word} belongs elsewhere"))));
        }
    }
    for word in PANICS {
        found.extend(code.match_indices(word).map(|(at, _)| (at, format!("{word} outside tests"))));
    }
    found.extend(long_functions(&code));
    let lines = code.matches('\n').count() + 1;
    found.extend((lines > FILE_LINES).then(|| (0, format!("a file of {lines} lines"))));
    let line = |at: usize| 1 + code.get(..at).unwrap_or_default().matches('\n').count();
    found.into_iter().map(|(at, what)| format!("{file}:{}: {what}", line(at))).collect()
}

/// Whatever `crate::…`, or enough of `super::`, names above the file's own layer.
fn imports(file: &str, code: &str) -> Vec<(usize, String)> {
    let place = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let own = name_at(place);
    let climb = "super::".repeat(place.split('/').count());
    let roots = ["crate::", "feedgate::", &climb];
    let starts = roots.iter().flat_map(|root| words(code, root).map(|at| at + root.len()));
    let names = starts.flat_map(|at| if code[at..].starts_with('{') { group(code, at) } else { vec![at] });
    let offence = |at: usize| {
        let name = name_at(&code[at..]);
        match (level(&own), level(&name)) {
            (Some(here), Some(there)) if there < here || own == name => None,
            (Some(here), Some(there)) => {
                Some((at, format!("{own} (layer {here}) imports {name} (layer {there})")))
            }
            (Some(_), None) => Some((at, format!("{name} is in no layer"))),
            (None, _) => (own != "lib").then(|| (at, format!("{own} is in no layer"))),
        }
    };
    names.filter_map(offence).collect()
}

/// Where the items of the `{…}` at `open` begin; nested groups belong to their item.
fn group(code: &str, open: usize) -> Vec<usize> {
    let inside = open + 1..closing(code, open);
    let outer = |at: &usize| code[open..*at].matches('{').count() == code[open..*at].matches('}').count() + 1;
    let commas = code[inside.clone()].match_indices(',').map(|(at, _)| inside.start + at + 1).filter(outer);
    let starts = [inside.start].into_iter().chain(commas);
    let first = |at: usize| Some(at + code[at..inside.end].find(|letter: char| !letter.is_whitespace())?);
    starts.filter_map(first).collect()
}

fn long_functions(code: &str) -> Vec<(usize, String)> {
    let measure = |at: usize| {
        let arguments = at + code[at..].find('(')?;
        let ending = arguments + code[arguments..].find(['{', ';'])?;
        let nested = code[at..ending].matches('[').count() > code[at..ending].matches(']').count();
        let open = if nested { ending + code[ending..].find('{')? } else { ending };
        let lines = code[at..closing(code, open)].matches('\n').count() + 1;
        (lines > FUNCTION_LINES).then(|| (at, format!("a function of {lines} lines")))
    };
    words(code, "fn ").filter_map(measure).collect()
}

/// Where the brace at `open` is closed; `open` itself when there is none.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    let end = code[open..].char_indices().find(|(_, letter)| {
        depth += i32::from(*letter == '{') - i32::from(*letter == '}');
        depth == 0
    });
    open + end.map_or(0, |(at, _)| at)
}

/// Positions of `word` where no longer name ends with it.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let begins =
        |at: usize| !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || "_:".contains(letter));
    code.match_indices(word).map(|(at, _)| at).filter(move |at| begins(*at))
}

fn name_at(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

fn level(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

fn is_test_file(path: &Path) -> bool {
    let files = ["tests.rs", "conformance.rs", "properties.rs"];
    files.iter().any(|file| path.ends_with(file)) || path.iter().any(|folder| folder == "tests")
}

/// The code before the first test module; test modules in files of their own only leave their declaration.
fn shipped(code: &str) -> String {
    let lines: Vec<&str> = code.lines().collect();
    let inline = |pair: &[&str]| pair[0].trim() == "#[cfg(test)]" && !pair[1].trim_end().ends_with(';');
    let end = lines.windows(2).position(inline).unwrap_or(lines.len());
    lines[..end].join("\n")
}

/// The code without comments and literals, line for line.
fn plain(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let (skipped, after) = rest.split_at(not_code(rest).unwrap_or(0));
        code.extend(skipped.chars().filter(|letter| *letter == '\n'));
        rest = after;
        if skipped.is_empty() {
            code.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    code
}

/// How long the comment, string or character is with which `text` begins.
fn not_code(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r').map(|rest| rest.len() - rest.trim_start_matches('#').len());
    let raw = hashes.filter(|hashes| text[1 + hashes..].starts_with('"'));
    if text.starts_with("//") {
        Some(text.find('\n').unwrap_or(text.len()))
    } else if text.starts_with("/*") {
        Some(text.find("*/")? + 2)
    } else if let Some(hashes) = raw {
        let end = format!("\"{}", "#".repeat(hashes));
        Some(hashes + 2 + text[hashes + 2..].find(&end)? + end.len())
    } else if text.starts_with('"') || text.starts_with("'\\") {
        let mut escaped = false;
        let quote = text.chars().next();
        let end = text[1..].char_indices().find(|(_, letter)| {
            let ends = !escaped && Some(*letter) == quote;
            escaped = !escaped && *letter == '\\';
            ends
        });
        end.map(|(at, _)| at + 2)
    } else {
        // A character, and not a lifetime.
        let letter = text.strip_prefix('\'')?.chars().next()?.len_utf8();
        text[1 + letter..].starts_with('\'').then_some(letter + 2)
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
