//! NuGet package files (zip with a nuspec): writing generated ones, reading the nuspec of real ones.
//!
//! The nuspec reader finds elements by name in well-formed XML as NuGet's tools write it. It is no XML parser:
//! CDATA and entities beyond the five named ones don't occur there.

use std::fmt::Write as _;
use std::io::{self, Cursor, Read, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const CONTENT_TYPES: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
  <Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml" />
  <Default Extension="psmdcp" ContentType="application/vnd.openxmlformats-package.core-properties+xml" />
  <Default Extension="nuspec" ContentType="application/octet" />
  <Default Extension="txt" ContentType="application/octet" />
  <Default Extension="bin" ContentType="application/octet" />
  <Default Extension="_" ContentType="application/octet" />
  <Override PartName="/lib/net45/_._" ContentType="application/octet" />
</Types>
"#;

/// The part of a nuspec that the service's documents show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nuspec {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) authors: String,
    pub(crate) description: String,
    pub(crate) title: String,
    pub(crate) summary: String,
    pub(crate) tags: String,
    pub(crate) project_url: String,
    pub(crate) license_url: String,
    pub(crate) icon_url: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A dependency of a NuGet package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) id: String,
    pub(crate) range: String,
    pub(crate) framework: Option<String>,
}

/// Packs a nuspec and `files` (path, bytes) as `nuget pack` would.
pub(crate) fn write(nuspec: &Nuspec, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let name = format!("{}.nuspec", nuspec.id);
    let relations = relations(&name);
    let own = [
        ("_rels/.rels", relations.into_bytes()),
        (name.as_str(), nuspec.to_xml().into_bytes()),
        ("[Content_Types].xml", CONTENT_TYPES.as_bytes().to_vec()),
    ];
    let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.clone()));
    for (path, bytes) in own.into_iter().chain(files) {
        let method =
            if path.ends_with(".bin") { CompressionMethod::Stored } else { CompressionMethod::Deflated };
        let options = SimpleFileOptions::default().compression_method(method);
        archive.start_file(path, options).expect("memory does not fail");
        archive.write_all(&bytes).expect("memory does not fail");
    }
    archive.finish().expect("memory does not fail").into_inner()
}

/// The nuspec's text inside a nupkg.
pub(crate) fn read_nuspec(nupkg: impl Read + Seek) -> io::Result<String> {
    let mut archive = ZipArchive::new(nupkg).map_err(io::Error::other)?;
    let name = archive.file_names().find(|name| !name.contains('/') && name.ends_with(".nuspec"));
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no nuspec"))?.to_owned();
    let mut bytes = Vec::new();
    archive.by_name(&name).map_err(io::Error::other)?.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    Ok(text.strip_prefix('\u{FEFF}').map_or(text.clone(), str::to_owned))
}

fn relations(nuspec_name: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
  <Relationship Type="http://schemas.microsoft.com/packaging/2010/07/manifest" Target="/{nuspec_name}" Id="R1" />
</Relationships>
"#
    )
}

// === impl Nuspec ===

impl Nuspec {
    /// The nuspec file of a generated package.
    pub(crate) fn to_xml(&self) -> String {
        let mut xml = String::from(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
             <package xmlns=\"http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd\">\n  <metadata>\n",
        );
        let elements = [
            ("id", &self.id),
            ("version", &self.version),
            ("authors", &self.authors),
            ("description", &self.description),
            ("tags", &self.tags),
        ];
        for (element, text) in elements {
            let _ = writeln!(xml, "    <{element}>{}</{element}>", escape(text));
        }
        if !self.dependencies.is_empty() {
            xml.push_str("    <dependencies>\n");
            for Dependency { id, range, .. } in &self.dependencies {
                let _ =
                    writeln!(xml, "      <dependency id=\"{}\" version=\"{}\" />", escape(id), escape(range));
            }
            xml.push_str("    </dependencies>\n");
        }
        xml.push_str("  </metadata>\n</package>\n");
        xml
    }

    /// Reads the text of a nuspec file. Missing elements are empty.
    pub(crate) fn parse(xml: &str) -> Self {
        let text = |element: &str| element_text(xml, element).unwrap_or_default();
        Self {
            id: text("id"),
            version: text("version"),
            authors: text("authors"),
            description: text("description"),
            title: text("title"),
            summary: text("summary"),
            tags: text("tags"),
            project_url: text("projectUrl"),
            license_url: text("licenseUrl"),
            icon_url: text("iconUrl"),
            dependencies: dependencies(xml),
        }
    }
}

fn dependencies(xml: &str) -> Vec<Dependency> {
    let mut framework = None;
    let mut found = Vec::new();
    for tag in xml.split('<').skip(1) {
        if tag.starts_with("group") {
            framework = attribute(tag, "targetFramework");
        } else if tag.starts_with("/group") {
            framework = None;
        } else if tag.starts_with("dependency ") {
            let (id, range) = (attribute(tag, "id"), attribute(tag, "version"));
            let framework = framework.clone();
            found.push(Dependency {
                id: id.unwrap_or_default(),
                range: range.unwrap_or_default(),
                framework,
            });
        }
    }
    found
}

fn element_text(xml: &str, element: &str) -> Option<String> {
    let start = xml.find(&format!("<{element}>"))? + element.len() + 2;
    let length = xml[start..].find(&format!("</{element}>"))?;
    Some(unescape(xml[start..start + length].trim()))
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let length = tag[start..].find('"')?;
    Some(unescape(&tag[start..start + length]))
}

/// Text as it stands in XML, in elements and in attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn unescape(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_nupkg_reads_back() {
        let dependencies =
            vec![Dependency { id: "Contoso.Core".into(), range: "[1.0,2.0)".into(), framework: None }];
        let nuspec = Nuspec {
            id: "Contoso.Utility".into(),
            version: "1.0".into(),
            authors: "A & B".into(),
            dependencies,
            ..Nuspec::default()
        };
        let packed = write(&nuspec, &[("lib/net45/_._".into(), Vec::new())]);
        assert_eq!(packed, write(&nuspec, &[("lib/net45/_._".into(), Vec::new())]));
        let text = read_nuspec(Cursor::new(packed)).unwrap();
        assert_eq!(Nuspec::parse(&text), nuspec);
    }

    #[test]
    fn dependency_groups_keep_their_framework() {
        let xml = r#"<dependencies><group targetFramework=".NETStandard2.0"><dependency id="A" version="1.0" />
            </group><group targetFramework="net45" /></dependencies>"#;
        let found = dependencies(xml);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].framework.as_deref(), Some(".NETStandard2.0"));
    }
}
