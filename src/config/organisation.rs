//! `[[organisation]]`: with whose credential an organisation is asked, and where the gate has its own from.

use std::{collections::BTreeMap, net::SocketAddr};

use toml::Table;

use super::{
    Config, access,
    credential::Credential,
    keys::{Findings, Keys, Problem},
    listener::Forwarded,
    mount::{Admission, Mount},
    text_enum::text_enum,
};
use crate::ident::Name;

/// The name of the tables.
const TABLE: &str = "organisation";
/// The name of the tables of listeners.
const LISTENER: &str = "listener";

/// An organisation for which something is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// Which; compared without case.
    pub name: Name,
    /// With whose credential it is asked for feeds that say nothing else.
    pub access: AccessMode,
    /// The gate's own credential.
    pub credential: Option<GateCredential>,
}

/// A credential of the gate itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateCredential {
    /// Where it is from.
    pub source: Source,
    /// How it is sent.
    pub scheme: Scheme,
}

/// Where a credential of the gate is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A variable, or a file that is read again when it changes.
    Kept(Credential),
    /// What a program prints: its path and its arguments. No shell is between.
    Command(Vec<String>),
}

text_enum! {
    /// With whose credential the service is asked.
    pub enum AccessMode {
        /// The caller's own.
        Passthrough = "passthrough",
        /// The gate's, for callers with a gate token or from a listed network.
        Gateway = "gateway",
    }
}

text_enum! {
    /// How a credential is sent (facts §6).
    pub enum Scheme {
        /// As the password of Basic: a personal access token.
        Basic = "basic",
        /// As a bearer token: Entra.
        Bearer = "bearer",
    }
}

// === impl Organisation ===

impl Organisation {
    pub(super) fn read_all(
        root: &mut Table,
        findings: &mut Findings,
        environment: &BTreeMap<String, String>,
    ) -> Vec<Self> {
        let read = |keys: Keys<'_>| Self::read(keys, environment);
        Keys::each_once(root, TABLE, findings, ("name", |one| &one.name), read)
    }

    fn read(mut keys: Keys<'_>, environment: &BTreeMap<String, String>) -> Option<Self> {
        let name = keys.required("name", |text| Name::parse(text).map_err(|error| error.to_string()));
        let access = keys.parsed("access", AccessMode::Passthrough);
        let credential = GateCredential::read(&mut keys, environment);
        keys.finish();
        Some(Self { name: name?, access, credential })
    }
}

// === impl GateCredential ===

impl GateCredential {
    /// Reads the keys of a credential in any table that may have one.
    pub(super) fn read(keys: &mut Keys<'_>, environment: &BTreeMap<String, String>) -> Option<Self> {
        let kept = Credential::read_keys(keys, ["credential_env", "credential_file"], environment);
        let command: Vec<String> = keys.list("credential_command", Vec::new());
        if kept.is_some() && !command.is_empty() {
            let rule = "must not be given besides `credential_env` or `credential_file`".to_owned();
            keys.problem("credential_command", format!("{command:?}"), rule);
        }
        let scheme = keys.parsed("scheme", Scheme::Basic);
        let command = Some(Source::Command(command)).filter(|_| kept.is_none());
        let source = kept.map(Source::Kept).or(command.filter(Source::is_given));
        source.map(|source| Self { source, scheme })
    }
}

// === impl Source ===

impl Source {
    fn is_given(&self) -> bool {
        !matches!(self, Self::Command(command) if command.is_empty())
    }
}

/// What must hold between sections: the gate has a credential wherever it is to use one, and not everybody may use it.
pub(super) fn check(config: &Config, findings: &mut Findings) {
    let mut problem = |key: String, value: String, rule: &str| {
        findings.problems.push(Problem { key, value, rule: rule.to_owned() });
    };
    let needs = "needs `credential_env`, `credential_file` or `credential_command` of the organisation";
    for (index, one) in config.organisations.iter().enumerate() {
        if one.access == AccessMode::Gateway && one.credential.is_none() {
            problem(format!("{TABLE}[{index}].access"), format!("\"{}\"", one.access), needs);
        }
    }
    let mut gateway = config.organisations.iter().any(|one| one.access == AccessMode::Gateway);
    for (index, one) in config.feeds.iter().enumerate() {
        let Some(mode @ AccessMode::Gateway) = one.access else { continue };
        gateway = true;
        let org = &one.name.feed().org;
        let own = config.organisations.iter().find(|organisation| organisation.name == *org);
        if own.is_none_or(|organisation| organisation.credential.is_none()) {
            problem(format!("feed[{index}].access"), format!("\"{mode}\""), needs);
        }
    }
    gateway |= config.mounts.iter().any(|mount| matches!(mount.access, Admission::Gateway(_)));
    let asks = config.access.tokens.is_some() || !config.access.networks.is_empty() || config.access.open;
    let far = far(config);
    let lent = |mount: &Mount| mount.credential.is_some() && mount.access == Admission::Open;
    for (index, _) in config.mounts.iter().enumerate().filter(|(_, mount)| lent(mount)) {
        if !far.is_empty() && !config.access.open {
            let rule = "must be \"gateway\" beside a credential, which would be open to the network: a listener's \
                        address is not loopback, or there are proxies in front of it";
            problem(format!("mount[{index}].access"), format!("\"{}\"", Admission::OPEN), rule);
        }
    }
    let all = config.access.networks.iter().find(|network| network.prefix_len() == 0);
    if let Some(all) = all.filter(|_| gateway && !far.is_empty() && !config.access.open) {
        let rule = format!(
            "must leave somebody out, since the gate's own credentials would be open to the network; or set `access.open` \
             to \"{}\"",
            access::OPEN
        );
        problem("access.networks".to_owned(), format!("\"{all}\""), &rule);
    }
    for (key, value, rule) in far.into_iter().filter(|_| gateway && !asks) {
        let rule = format!(
            "must be {rule}, since the gate's own credentials would be open to the network: set \
             `access.tokens` or `access.networks`, or `access.open` to \"{}\"",
            access::OPEN
        );
        problem(key, format!("\"{value}\""), &rule);
    }
}

/// By which listeners callers may come that are not on this machine: key, value, and what that must be for no other to
/// come. A listener on loopback that hears of proxies has them in front of it, and whoever they speak for behind those.
fn far(config: &Config) -> Vec<(String, String, &'static str)> {
    let by_address = |key, address: SocketAddr| {
        (!is_local(address)).then(|| (key, address.to_string(), "a loopback address"))
    };
    let listeners = config.listeners.iter().enumerate().filter_map(|(index, one)| {
        let behind = || {
            let key = format!("{LISTENER}[{index}].forwarded");
            (one.forwarded != Forwarded::None).then(|| (key, one.forwarded.to_string(), "\"none\""))
        };
        by_address(format!("{LISTENER}[{index}].address"), one.address).or_else(behind)
    });
    by_address("listen.address".to_owned(), config.listen.address).into_iter().chain(listeners).collect()
}

fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{AccessMode, Scheme, Source};
    use crate::config::{Config, ConfigError, Credential, access::OPEN};

    fn config(text: &str) -> Result<Config, Vec<String>> {
        let environment = BTreeMap::from([("PAT".to_owned(), "planted".to_owned())]);
        match Config::parse(text, &environment) {
            Ok(loaded) => {
                assert!(!loaded.settings.to_toml().contains("planted"));
                assert!(!format!("{:?}", loaded.config).contains("planted"));
                Ok(loaded.config)
            }
            Err(ConfigError::Invalid(problems)) => Err(problems.iter().map(ToString::to_string).collect()),
            Err(other) => panic!("{other}"),
        }
    }

    const GATEWAY: &str =
        "[[organisation]]\nname = \"contoso\"\naccess = \"gateway\"\ncredential_env = \"PAT\"\n";

    #[test]
    fn a_credential_comes_from_a_variable_a_file_or_a_command() {
        let of = |lines: &str| {
            let text = format!("[[organisation]]\nname = \"contoso\"\n{lines}\n");
            config(&text).unwrap().organisations.remove(0).credential.unwrap()
        };
        assert!(matches!(of("credential_env = \"PAT\"").source, Source::Kept(Credential::Variable(_))));
        let file = of("credential_file = \"/run/token\"\nscheme = \"bearer\"");
        assert_eq!(file.source, Source::Kept(Credential::File("/run/token".into())));
        assert_eq!(file.scheme, Scheme::Bearer);
        let command = of("credential_command = [\"az\", \"account\"]").source;
        assert_eq!(command, Source::Command(vec!["az".to_owned(), "account".to_owned()]));
    }

    #[test]
    fn a_credential_that_would_be_open_to_the_network_is_refused() {
        let listen = |address: &str, more: &str| {
            config(&format!("access.open = \"\"\n{more}\nlisten.address = \"{address}\"\n{GATEWAY}"))
        };
        let words = format!("access.open = \"{OPEN}\"\nlisten.address = \"0.0.0.0:80\"\n{GATEWAY}");
        assert!(config(&words).unwrap().access.open);
        for local in ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(listen(local, "").unwrap().organisations[0].access, AccessMode::Gateway);
        }
        let another = "[[listener]]\naddress = \"0.0.0.0:81\"\n";
        let problems = config(&format!("{another}{GATEWAY}")).unwrap_err();
        assert!(problems[0].starts_with("`listener[0].address` must be a loopback address"), "{problems:#?}");
        let proxied = "[[listener]]\naddress = \"127.0.0.1:81\"\nforwarded = \"x-forwarded\"\ntrusted = [\"::1/128\"]\n";
        let problems = config(&format!("{proxied}{GATEWAY}")).unwrap_err();
        assert!(problems[0].starts_with("`listener[0].forwarded` must be \"none\", since"), "{problems:#?}");
        assert!(config(&format!("access.tokens = \"tokens\"\n{proxied}{GATEWAY}")).is_ok());
        for more in ["access.tokens = \"tokens\"", "access.networks = [\"10.0.0.0/8\", \"fd00::/8\"]"] {
            assert!(listen("0.0.0.0:80", more).is_ok(), "{more}");
        }
        for all in ["0.0.0.0/0", "::/0"] {
            let networks = format!("access.networks = [\"10.0.0.0/8\", \"{all}\"]");
            let problems = listen("0.0.0.0:80", &networks).unwrap_err();
            assert!(problems[0].starts_with("`access.networks` must leave somebody out"), "{problems:#?}");
            assert!(problems[0].contains(OPEN) && problems[0].contains(all), "{problems:#?}");
            assert!(listen("127.0.0.1:80", &networks).is_ok());
            let words =
                format!("access.open = \"{OPEN}\"\nlisten.address = \"0.0.0.0:80\"\n{networks}\n{GATEWAY}");
            assert!(config(&words).is_ok());
        }
        for open in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80"] {
            let problems = listen(open, "").unwrap_err();
            assert!(
                problems[0].starts_with("`listen.address` must be a loopback address")
                    && problems[0].contains(OPEN)
                    && problems[0].ends_with(&format!("got \"{open}\"")),
                "{problems:#?}"
            );
        }
    }

    #[test]
    fn every_mistake_is_reported() {
        let text = "access.networks = [\"10.0.0.0/99\"]\naccess.open = \"yes\"\naccess.network_rights = \"all\"\n\
                    [[organisation]]\nname = \"a\"\naccess = \"gateway\"\n\
                    [[organisation]]\nname = \"A\"\naccess = \"maybe\"\ncredential_env = \"NONE\"\n\
                    [[organisation]]\nname = \"b\"\ncredential_file = \"x\"\ncredential_command = [\"y\"]\nscheme = \"ntlm\"\n\
                    [[feed]]\nname = \"c/main\"\naccess = \"gateway\"\n";
        let problems = config(text).unwrap_err();
        for part in [
            "`access.networks`",
            "`access.open` must be empty or",
            "`access.network_rights` must be one of read, write",
            "`organisation[0].access` needs `credential_env`",
            "`organisation[1].name` is there twice",
            "`organisation[1].access` must be one of passthrough, gateway",
            "`organisation[1].credential_env` must name an environment variable that is set",
            "`organisation[2].credential_command` must not be given besides",
            "`organisation[2].scheme` must be one of basic, bearer",
            "`feed[0].access` needs `credential_env`",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part} not in {problems:#?}");
        }
        assert_eq!(problems.len(), 10, "{problems:#?}");
    }
}
