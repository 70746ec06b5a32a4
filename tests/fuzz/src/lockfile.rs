//! A lockfile gives packages or a mistake with its place; what it makes a build ask for is in a feed.
//!
//! Input: a byte for the file's name, and its content. libFuzzer's limits on time and memory are a part of the rule:
//! nothing that a file can say makes its reader work for long.

use feedgate::{
    ident::{FeedRef, Name},
    lockfile::{needs, read},
    route::{Target, parse},
};

const NAMES: [&str; 8] = [
    "package-lock.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "packages.lock.json",
    "packages.config",
    "project.assets.json",
    "renamed",
];
/// The longest rule that a mistake tells.
const LONGEST_RULE: usize = 2000;

/// Checks the rule for one input.
pub fn check(input: &[u8]) {
    let Some((&choice, content)) = input.split_first() else { return };
    let name = NAMES[usize::from(choice & 7)];
    match read(name, content) {
        Err(error) => {
            let lines = 1 + content.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
            assert!(error.file == name && (1..=lines).contains(&error.line), "{error} of {lines} lines");
            assert!(!error.rule.is_empty() && error.rule.len() <= LONGEST_RULE, "{error}");
        }
        Ok(lockfile) => {
            assert!(lockfile.packages.len() + lockfile.foreign.len() <= content.len());
            let name = |text| Name::parse(text).expect("a name");
            let feed = FeedRef::new(name("contoso"), Some(name("web")), name("main"), Some(name("Release")));
            let needs = needs(&lockfile, Some(&feed)).expect("there is a feed");
            assert!(needs.len() <= 2 * lockfile.packages.len() + 1);
            for need in needs {
                let route = parse(None, &need.path).unwrap_or_else(|error| panic!("{}: {error}", need.path));
                let known = matches!(route.target, Target::Document(_) | Target::Package(_));
                assert!(known && route.target.feed().is_some(), "{}", need.path);
                assert_eq!(format!("/{}{}", route.org, route.target.upstream_path()), need.path);
            }
        }
    }
}
