//! Paths that belong to a mount: looked for before any organisation, in the order of the configuration.

use super::{
    RouteError,
    path::{CanonicalPath, Rule, split_authority},
};

/// The mounts' paths; each starts and ends with `/`.
#[derive(Debug, Clone, Default)]
pub struct MountPaths(Vec<String>);

/// A path below a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Which mount, by its place in the configuration.
    pub index: usize,
    /// Path and query below it as they came; starts with `/`.
    pub path: String,
}

// === impl MountPaths ===

impl MountPaths {
    /// Mounts in the order in which they are looked for.
    pub fn new(paths: impl IntoIterator<Item = String>) -> Self {
        Self(paths.into_iter().collect())
    }

    /// The mount that a request target, in origin or absolute form, lies below; `None` when that is none.
    ///
    /// # Errors
    /// The target lies below one, and could be read in more than one way (a dot segment, a doubly encoded character),
    /// or holds what no request line may.
    pub fn find(&self, target: &str) -> Result<Option<Mounted>, RouteError> {
        let Some((_, text)) = split_authority(target) else { return Ok(None) };
        let below = |path: &String| text.strip_prefix(path.as_str());
        let found = self.0.iter().enumerate().find_map(|(index, path)| Some((index, below(path)?)));
        let Some((index, rest)) = found else { return Ok(None) };
        let path = CanonicalPath::parse(text)?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(path.refuse(Rule::Encoding("it has a character that must be percent-encoded")));
        }
        Ok(Some(Mounted { index, path: format!("/{rest}") }))
    }
}

#[cfg(test)]
mod tests {
    use super::{MountPaths, Mounted};
    use crate::route::RouteError;

    #[test]
    fn the_first_mount_that_a_path_lies_below_is_meant() {
        let paths = MountPaths::new(["/a/b/", "/a/", "/ü/"].map(str::to_owned));
        let rows = [
            ("/a/b/c?d=/a/", Some((0, "/c?d=/a/"))),
            ("/a/b/", Some((0, "/"))),
            ("/a/b", Some((1, "/b"))),
            ("/a//c/", Some((1, "//c/"))),
            ("http://gate/a/%2Fx", Some((1, "/%2Fx"))),
            ("/a", None),
            ("/A/b", None),
            ("/contoso/_packaging", None),
            ("*", None),
        ];
        for (target, expected) in rows {
            let found = paths.find(target).unwrap();
            let expected = expected.map(|(index, path)| Mounted { index, path: path.to_owned() });
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        let paths = MountPaths::new(["/a/".to_owned()]);
        for target in [
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/..;/b",
            "/a/..;x=y/b",
            "/a/.%2e%3Bx/b",
            "/a/x/.;/b",
            "/a/%252e",
            "/a/b\\c",
            "/a/ü",
            "/a/b c",
            "/a/b#c",
        ] {
            let refused = paths.find(target);
            assert!(
                matches!(refused, Err(RouteError::Escape(..) | RouteError::Encoding(..))),
                "{target}: {refused:?}"
            );
        }
        assert_eq!(paths.find("/b/../a/"), Ok(None), "left to the routes of organisations");
    }
}
