//! How the most generous reader would take a path: for tests, and for the fuzzed rule of routes.

/// Path segments as the most generous reader would see them: decoded until nothing changes, backslashes as slashes,
/// dot segments resolved (RFC 3986 §5.2.4), dots and spaces at the end cut off.
pub fn generously_read(path: &str) -> Vec<String> {
    let mut text = path.split('?').next().unwrap_or_default().to_owned();
    loop {
        let next = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if next == text {
            break;
        }
        text = next;
    }
    let mut segments = Vec::new();
    for segment in text.split(['/', '\\']).filter(|segment| !segment.is_empty()) {
        match segment.trim_end_matches([' ', '.']) {
            "" if segment.trim_end() == "." => {}
            "" => drop(segments.pop()),
            _ => segments.push(segment.to_lowercase()),
        }
    }
    segments
}
