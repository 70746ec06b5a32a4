//! What a test says about organisations, feeds and the credentials that open them.

use std::path::{Path, PathBuf};

use super::npm::NpmPackage;
use super::nuget::NugetPackage;

/// An organisation with its feeds and credentials.
#[derive(Clone, Debug)]
pub struct Organisation {
    pub(crate) name: String,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) tokens: Vec<Token>,
}

/// A feed of an organisation, or of a project of it.
#[derive(Clone, Debug)]
pub struct Feed {
    pub(crate) name: String,
    pub(crate) project: Option<String>,
    pub(crate) public: bool,
    pub(crate) views: Vec<String>,
    pub(crate) npm: Vec<NpmPackage>,
    pub(crate) nuget: Vec<NugetPackage>,
    pub(crate) npm_folders: Vec<PathBuf>,
    pub(crate) nuget_folders: Vec<PathBuf>,
}

/// A credential of an organisation: a PAT (Basic, any user name) or a bearer token.
#[derive(Clone, Debug)]
pub struct Token {
    pub(crate) secret: String,
    pub(crate) bearer: bool,
    pub(crate) label: String,
    pub(crate) scope: Scope,
    pub(crate) feeds: Option<Vec<String>>,
}

/// What a credential may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Reads what the feeds hold.
    Read,
    /// Is known, and may not read: 403.
    ReadForbidden,
    /// Was valid once: 401 (or a sign-in page, on `_apis` routes).
    Expired,
    /// Reads, publishes, and saves versions from upstream sources by downloading them.
    ReadWrite,
}

// === impl Organisation ===

impl Organisation {
    /// An organisation without feeds.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), feeds: Vec::new(), tokens: Vec::new() }
    }

    /// Adds a feed.
    pub fn feed(mut self, feed: Feed) -> Self {
        self.feeds.push(feed);
        self
    }

    /// Adds a credential.
    pub fn token(mut self, token: Token) -> Self {
        self.tokens.push(token);
        self
    }
}

// === impl Feed ===

impl Feed {
    /// An empty, private, organisation-scoped feed with the views `local`, `prerelease` and `release`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            project: None,
            public: false,
            views: ["local", "prerelease", "release"].map(str::to_owned).to_vec(),
            npm: Vec::new(),
            nuget: Vec::new(),
            npm_folders: Vec::new(),
            nuget_folders: Vec::new(),
        }
    }

    /// Scopes the feed to a project; without the project in the URL it is then not found.
    pub fn project(mut self, project: &str) -> Self {
        self.project = Some(project.to_owned());
        self
    }

    /// Lets anonymous callers read saved versions.
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// Adds a view beside the three usual ones.
    pub fn view(mut self, view: &str) -> Self {
        self.views.push(view.to_owned());
        self
    }

    /// Adds an npm package.
    pub fn npm(mut self, package: NpmPackage) -> Self {
        self.npm.push(package);
        self
    }

    /// Adds a NuGet package.
    pub fn nuget(mut self, package: NugetPackage) -> Self {
        self.nuget.push(package);
        self
    }

    /// Adds every `*.tgz` of a folder (not of its subfolders) as an npm package version.
    pub fn npm_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.npm_folders.push(folder.as_ref().to_owned());
        self
    }

    /// Adds every `*.nupkg` of a folder (not of its subfolders) as a NuGet package version.
    pub fn nuget_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.nuget_folders.push(folder.as_ref().to_owned());
        self
    }
}

// === impl Token ===

impl Token {
    /// A personal access token: the password of Basic, whatever the user name. The label starts as the secret's own
    /// text; set another with [`Token::label`].
    pub fn pat(secret: &str) -> Self {
        Self::new(secret, false)
    }

    /// A bearer token.
    pub fn bearer(secret: &str) -> Self {
        Self::new(secret, true)
    }

    fn new(secret: &str, bearer: bool) -> Self {
        let (secret, label) = (secret.to_owned(), secret.to_owned());
        Self { secret, bearer, label, scope: Scope::Read, feeds: None }
    }

    /// The name by which the log and [`crate::Simulator::set_scope`] know the credential.
    pub fn label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// What it may do; [`Scope::Read`] unless said.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Narrows the credential to a feed (by name; call again for more). Other feeds answer 403.
    pub fn only(mut self, feed: &str) -> Self {
        self.feeds.get_or_insert_default().push(feed.to_owned());
        self
    }
}
