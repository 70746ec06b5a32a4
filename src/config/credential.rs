//! Where a secret comes from: the file names an environment variable or a file, and never holds the secret itself.

use std::{collections::BTreeMap, io, path::PathBuf};

use super::keys::Keys;
use crate::redact::Secret;

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The value of an environment variable at the start.
    Variable(Secret<String>),
    /// The content of a file at each use, without the white space around it.
    File(PathBuf),
}

// === impl Credential ===

impl Credential {
    /// Reads the pair of keys `variable` and `file`, of which at most one may be given.
    pub(super) fn read_keys(
        keys: &mut Keys<'_>,
        [variable_key, file_key]: [&str; 2],
        environment: &BTreeMap<String, String>,
    ) -> Option<Self> {
        let variable: Option<String> = keys.optional(variable_key, None);
        let file: Option<String> = keys.optional(file_key, None);
        if let (Some(_), Some(file)) = (&variable, &file) {
            let rule = format!("must not be given besides `{variable_key}`");
            keys.problem(file_key, format!("\"{file}\""), rule);
        }
        let Some(variable) = variable else { return file.map(|file| Self::File(file.into())) };
        let value = environment.get(&variable).filter(|value| !value.trim().is_empty());
        if value.is_none() {
            let rule = "must name an environment variable that is set".to_owned();
            keys.problem(variable_key, format!("\"{variable}\""), rule);
        }
        value.map(|value| Self::Variable(Secret::new(value.trim().to_owned())))
    }

    /// The secret as it is now.
    ///
    /// # Errors
    /// When the file cannot be read or holds nothing.
    pub async fn read(&self) -> io::Result<Secret<String>> {
        let path = match self {
            Self::Variable(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
        };
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let text = tokio::fs::read_to_string(path).await.map_err(told)?;
        match text.trim() {
            "" => Err(told(io::Error::new(io::ErrorKind::InvalidData, "the file holds nothing"))),
            secret => Ok(Secret::new(secret.to_owned())),
        }
    }
}
