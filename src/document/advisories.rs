//! The question of `npm audit`, without what another registry must not hear of.
//!
//! Two forms: the bulk one is an object of names with their versions; the older one is a tree of dependencies like
//! that of a lockfile, with names in four places (`requires`, `dependencies`, `install`, `remove`) and, at its root,
//! the project's own name. A tree is built here, for a question has at most some megabytes.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::DocumentError;
use crate::{config::AuditSettings, route::Audit};

/// The public part of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What may be asked.
    pub body: Bytes,
    /// How many packages it names.
    pub asked: usize,
    /// How many packages were left out.
    pub withheld: usize,
}

/// Takes everything private out of a question.
///
/// # Errors
/// [`DocumentError::Json`] if it is not JSON, [`DocumentError::Shape`] if it is no object.
pub fn public_part(audit: Audit, body: &[u8], settings: &AuditSettings) -> Result<Question, DocumentError> {
    let question = serde_json::from_slice(body).map_err(|error| DocumentError::Json(error.to_string()))?;
    let Value::Object(mut question) = question else {
        return Err(DocumentError::Shape("an audit asks with an object".to_owned()));
    };
    let mut sieve = Sieve { settings, asked: 0, withheld: 0 };
    match audit {
        Audit::Bulk => sieve.bulk(&mut question),
        Audit::Quick | Audit::Full => sieve.root(&mut question),
    }
    let Sieve { asked, withheld, .. } = sieve;
    Ok(Question { body: Value::Object(question).to_string().into(), asked, withheld })
}

/// The answer to a question that names no package, in the form of `audit`.
pub fn empty_report(audit: Audit) -> Bytes {
    let report = match audit {
        Audit::Bulk => json!({}),
        Audit::Quick | Audit::Full => json!({
            "actions": [],
            "advisories": {},
            "muted": [],
            "metadata": {
                "vulnerabilities": { "info": 0, "low": 0, "moderate": 0, "high": 0, "critical": 0 },
                "dependencies": 0,
                "devDependencies": 0,
                "optionalDependencies": 0,
                "totalDependencies": 0,
            },
        }),
    };
    report.to_string().into()
}

/// Goes over a question, and counts.
struct Sieve<'s> {
    settings: &'s AuditSettings,
    asked: usize,
    withheld: usize,
}

// === impl Sieve ===

impl Sieve<'_> {
    fn bulk(&mut self, names: &mut Map<String, Value>) {
        names.retain(|name, _| !self.is_private(name));
        self.asked = names.len();
    }

    fn root(&mut self, root: &mut Map<String, Value>) {
        // No advisory is about the project itself, and its name is nobody's business.
        root.shift_remove("name");
        self.node(root);
        for member in ["install", "remove"] {
            if let Some(Value::Array(specs)) = root.get_mut(member) {
                specs.retain(|spec| {
                    !spec.as_str().is_some_and(|spec| self.settings.is_private(name_of(spec)))
                });
            }
        }
    }

    fn node(&mut self, node: &mut Map<String, Value>) {
        if let Some(Value::Object(requires)) = node.get_mut("requires") {
            requires.retain(|name, _| !self.settings.is_private(name));
        }
        if let Some(Value::Object(dependencies)) = node.get_mut("dependencies") {
            *dependencies = self.dependencies(std::mem::take(dependencies));
        }
    }

    /// A private package goes; one that has packages of its own in it stays as a place for these, under a name
    /// that no registry allows (it begins with an underscore).
    fn dependencies(&mut self, dependencies: Map<String, Value>) -> Map<String, Value> {
        let mut public = Map::new();
        for (name, mut dependency) in dependencies {
            let private = self.is_private(&name);
            if let Value::Object(node) = &mut dependency {
                self.node(node);
            }
            if !private {
                self.asked += 1;
                public.insert(name, dependency);
            } else if let Some(inside) = inside_of(&mut dependency) {
                let place = format!("_private-{}", self.withheld);
                public.insert(place, json!({ "version": "0.0.0", "dependencies": inside }));
            }
        }
        public
    }

    fn is_private(&mut self, name: &str) -> bool {
        let private = self.settings.is_private(name);
        self.withheld += usize::from(private);
        private
    }
}

/// The dependencies inside of a package, when there are any.
fn inside_of(dependency: &mut Value) -> Option<Value> {
    let inside = dependency.get_mut("dependencies").map(Value::take)?;
    inside.as_object().is_some_and(|inside| !inside.is_empty()).then_some(inside)
}

/// The name in `name@version`; a scope begins with `@` too.
fn name_of(spec: &str) -> &str {
    let end = spec.char_indices().skip(1).find(|(_, letter)| *letter == '@').map_or(spec.len(), |(at, _)| at);
    &spec[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{empty_report, public_part};
    use crate::{config::AuditSettings, route::Audit};

    fn settings() -> AuditSettings {
        AuditSettings {
            upstream: None,
            private_scopes: vec!["@contoso".parse().unwrap()],
            private_names: vec!["secret-tool".parse().unwrap()],
        }
    }

    fn check(audit: Audit, question: &Value, expected: &Value, asked: usize, withheld: usize) {
        let made = public_part(audit, question.to_string().as_bytes(), &settings()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&made.body).unwrap(), *expected);
        assert_eq!((made.asked, made.withheld), (asked, withheld));
    }

    #[test]
    fn a_bulk_question_keeps_public_names_only() {
        let question =
            json!({ "a": ["1.0.0"], "@contoso/x": ["2.0.0"], "secret-tool": ["3.0.0"], "@b/c": [] });
        check(Audit::Bulk, &question, &json!({ "a": ["1.0.0"], "@b/c": [] }), 2, 2);
        check(Audit::Bulk, &json!({ "@contoso/x": [] }), &json!({}), 0, 1);
        check(Audit::Bulk, &json!({}), &json!({}), 0, 0);
    }

    #[test]
    fn a_tree_loses_private_names_everywhere_and_keeps_what_is_public_below_them() {
        let question = json!({
            "name": "our-shop", "version": "1.2.3",
            "install": ["a@1.0.0", "@contoso/x@2.0.0", "secret-tool"], "remove": ["@b/c"],
            "metadata": { "node_version": "v24" },
            "requires": { "a": "^1.0.0", "@contoso/x": "^2.0.0" },
            "dependencies": {
                "a": { "version": "1.0.0", "requires": { "secret-tool": "1" } },
                "@Contoso/x": {
                    "version": "2.0.0", "integrity": "sha512-x", "requires": { "b": "1" },
                    "dependencies": {
                        "b": { "version": "1.0.0" },
                        "secret-tool": { "version": "9.9.9", "dependencies": {} }
                    }
                },
                "secret-tool": { "version": "3.0.0" }
            }
        });
        let expected = json!({
            "version": "1.2.3", "install": ["a@1.0.0"], "remove": ["@b/c"],
            "metadata": { "node_version": "v24" },
            "requires": { "a": "^1.0.0" },
            "dependencies": {
                "a": { "version": "1.0.0", "requires": {} },
                "_private-2": { "version": "0.0.0", "dependencies": { "b": { "version": "1.0.0" } } }
            }
        });
        check(Audit::Quick, &question, &expected, 2, 3);
        check(Audit::Full, &question, &expected, 2, 3);
    }

    #[test]
    fn what_is_no_question_is_refused() {
        for body in [&b""[..], b"[]", b"7", b"{\"a\":", b"\xff"] {
            assert!(public_part(Audit::Bulk, body, &settings()).is_err(), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn an_empty_report_has_the_form_of_the_question() {
        assert_eq!(empty_report(Audit::Bulk), "{}");
        let full: Value = serde_json::from_slice(&empty_report(Audit::Quick)).unwrap();
        assert_eq!(full["metadata"]["vulnerabilities"]["critical"], 0);
    }
}
