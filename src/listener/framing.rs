//! Why a request is refused before anybody asks what it is for.

/// Why a request is refused for its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramingError {
    /// Status to answer with.
    pub status: u16,
    /// Code of the error.
    pub code: &'static str,
    /// The rule that it breaks.
    pub rule: &'static str,
}

/// The refusal of a body that is announced as too large, or turns out to be (RFC 9110 §15.5.14).
pub const TOO_LARGE: FramingError = FramingError {
    status: 413,
    code: "too_large",
    rule: "the body is larger than this gate takes (listen.max_body)",
};
/// The refusal of a request that did not come in time (RFC 9110 §15.5.9).
pub const TOO_SLOW: FramingError =
    FramingError { status: 408, code: "too_slow", rule: "the request did not come in time" };

// === impl FramingError ===

impl FramingError {
    /// A request that two parsers could read in two ways, or none can (400).
    pub const fn ambiguous(rule: &'static str) -> Self {
        Self { status: 400, code: "framing", rule }
    }

    /// A request to no host that there can be (400).
    pub const fn host(rule: &'static str) -> Self {
        Self { status: 400, code: "host", rule }
    }

    /// A method that the gate has no use for (405).
    pub const fn method(rule: &'static str) -> Self {
        Self { status: 405, code: "framing", rule }
    }

    /// A head beyond a limit: 414 for its request line, 431 for the rest (RFC 9110 §15.5.15, RFC 6585 §5).
    pub const fn large_head(status: u16, rule: &'static str) -> Self {
        Self { status, code: "head_too_large", rule }
    }
}

impl std::fmt::Display for FramingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.rule)
    }
}

impl std::error::Error for FramingError {}
