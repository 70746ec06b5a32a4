//! `[audit]`: another registry that answers `npm audit`, and what it must not hear of.

use std::{fmt, str::FromStr};

use super::{
    keys::Keys,
    upstream::{Base, Origin, Scheme},
};
use crate::ident::NpmName;

/// Who answers `npm audit` where the service does not (facts §3, §9.15).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditSettings {
    /// Another npm registry, asked without a credential. `None`: only the service is asked.
    pub upstream: Option<RegistryUrl>,
    /// Scopes whose packages are never named there.
    pub private_scopes: Vec<PrivateScope>,
    /// Further packages that are never named there.
    pub private_names: Vec<PrivateName>,
}

/// The base URL of an npm registry, over http or https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryUrl(Base);

/// A scope of npm packages, written with its `@`; compared without case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateScope(String);

/// A name of an npm package; compared without case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateName(NpmName);

// === impl AuditSettings ===

impl AuditSettings {
    pub(super) fn read(mut keys: Keys<'_>) -> Self {
        let default = Self::default();
        let section = Self {
            upstream: keys.optional("upstream", default.upstream),
            private_scopes: keys.list("private_scopes", default.private_scopes),
            private_names: keys.list("private_names", default.private_names),
        };
        keys.finish();
        section
    }

    /// Whether a package must not be named to the other registry. A name that no registry has ever allowed is
    /// compared all the same: it comes from a lockfile, where anything can stand.
    pub fn is_private(&self, name: &str) -> bool {
        let scope = name.split_once('/').map_or("", |(scope, _)| scope);
        self.private_scopes.iter().any(|private| private.0.eq_ignore_ascii_case(scope))
            || self.private_names.iter().any(|private| private.0.as_str().eq_ignore_ascii_case(name))
    }
}

// === impl RegistryUrl ===

impl RegistryUrl {
    /// Where the registry's paths begin.
    pub fn base(&self) -> &Base {
        &self.0
    }
}

impl FromStr for RegistryUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str =
            "must be http:// or https://, a host, perhaps a port and a path; no user, query or fragment";
        let uri: http::Uri = text.parse().map_err(|_| RULE)?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => return Err(RULE),
        };
        let authority = uri.authority().ok_or(RULE)?;
        if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
            return Err(RULE);
        }
        let port = authority.port_u16().unwrap_or(scheme.default_port());
        let origin = Origin { scheme, host: authority.host().to_lowercase(), port };
        Ok(Self(Base { origin, prefix: uri.path().trim_end_matches('/').to_owned() }))
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/", self.0.origin, self.0.prefix)
    }
}

// === impl PrivateScope ===

impl FromStr for PrivateScope {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scoped = text.starts_with('@') && NpmName::parse(&format!("{text}/a")).is_ok();
        if scoped { Ok(Self(text.to_owned())) } else { Err("must be a scope such as \"@contoso\"") }
    }
}

impl fmt::Display for PrivateScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl PrivateName ===

impl FromStr for PrivateName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        NpmName::parse(text).map(Self).map_err(|error| error.to_string())
    }
}

impl fmt::Display for PrivateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{AuditSettings, PrivateScope, RegistryUrl};

    #[test]
    fn a_registry_is_read_and_written_with_its_path() {
        let rows = [
            ("https://registry.example.com", Some("https://registry.example.com/")),
            ("https://Registry.Example.com/npm/", Some("https://registry.example.com/npm/")),
            ("http://127.0.0.1:8080/a/b", Some("http://127.0.0.1:8080/a/b/")),
            ("registry.example.com", None),
            ("ftp://registry.example.com/", None),
            ("https://user:secret@registry.example.com/", None),
            ("https://registry.example.com/?a=b", None),
            ("https://registry.example.com/#a", None),
            ("https:///npm", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let read = text.parse::<RegistryUrl>().ok().map(|url| url.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn private_packages_are_known_by_scope_or_name_in_any_case() {
        let settings = AuditSettings {
            upstream: None,
            private_scopes: vec!["@contoso".parse().unwrap()],
            private_names: vec!["secret-tool".parse().unwrap(), "@mixed/one".parse().unwrap()],
        };
        let rows = [
            ("@contoso/a", true),
            ("@Contoso/B", true),
            ("@contoso/a/b", true),
            ("secret-tool", true),
            ("Secret-Tool", true),
            ("@mixed/one", true),
            ("@mixed/two", false),
            ("@contosox/a", false),
            ("contoso", false),
            ("secret-tools", false),
            ("", false),
        ];
        for (name, expected) in rows {
            assert_eq!(settings.is_private(name), expected, "{name}");
        }
        for text in ["contoso", "@", "@a/b", "@a b", ""] {
            assert!(text.parse::<PrivateScope>().is_err(), "{text}");
        }
    }
}
