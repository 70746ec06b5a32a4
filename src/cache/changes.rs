//! How far the changes of a feed were read, kept on disk: what changes while the gate is down is noticed at its start.

use crate::{
    disk::{Database, Tree, TreeName, off_thread},
    document::changes::Token,
};

/// Version byte of the stored form.
const VERSION: u8 = 1;

/// Feeds by their identity → token.
pub struct ChangeTokens {
    tree: Tree,
}

// === impl ChangeTokens ===

impl ChangeTokens {
    /// Over what `database` keeps.
    pub fn new(database: &Database) -> Self {
        Self { tree: database.tree(TreeName::Change) }
    }

    /// How far `feed` (its key without a view) was read.
    pub fn get(&self, feed: &str) -> Option<Token> {
        let stored = self.tree.get(feed.as_bytes()).ok().flatten()?;
        let (version, token) = stored.split_first()?;
        let token = i64::from_be_bytes(token.try_into().ok()?);
        (*version == VERSION).then_some(Token(token))
    }

    /// Everything up to `token` was taken note of. A token that is lost costs a second look, no more.
    pub async fn put(&self, feed: &str, token: Token) {
        let (tree, key) = (self.tree.clone(), feed.to_owned());
        let mut stored = vec![VERSION];
        stored.extend_from_slice(&token.0.to_be_bytes());
        let write = move || tree.insert(key.as_bytes(), &stored);
        if let Err(error) = off_thread("write token", write).await.and_then(|written| written) {
            tracing::warn!(%error, feed, "token of a feed's changes not stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ChangeTokens, Token};
    use crate::disk::{Database, DatabaseSettings, StoreDirectory};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_token_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
            Database::open(StoreDirectory::open(folder.path()).unwrap(), &settings).unwrap().database
        };
        {
            let tokens = ChangeTokens::new(&open());
            assert_eq!(tokens.get("contoso/-/main"), None);
            tokens.put("contoso/-/main", Token(5)).await;
            tokens.put("contoso/-/main", Token(i64::MAX)).await;
        }
        let tokens = ChangeTokens::new(&open());
        assert_eq!(tokens.get("contoso/-/main"), Some(Token(i64::MAX)));
        assert_eq!(tokens.get("contoso/-/other"), None);
    }
}
