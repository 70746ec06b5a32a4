//! How far a forwarded request came, so that the handlers hear of a write once, and of a refused one never.
//!
//! A write that the service did not refuse may have changed what is stored: one that it confirmed, one that it
//! answered with a failure of its own, and one of which no answer came. Nothing else is decided here; what a write
//! changes is the handlers' business.

/// How far a forwarded request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Nothing went to the service.
    #[default]
    Unsent,
    /// The service may have it, and has not answered.
    Sent {
        /// Whether it was sent before, on a connection that broke: the answer to this time says nothing of that.
        again: bool,
    },
    /// The service refused it.
    Refused,
    /// The handlers were told of it.
    Told,
}

// === impl Progress ===

impl Progress {
    /// The request starts on its way.
    pub fn send(&mut self) {
        *self = match *self {
            Self::Unsent => Self::Sent { again: false },
            Self::Sent { .. } => Self::Sent { again: true },
            over @ (Self::Refused | Self::Told) => over,
        };
    }

    /// The service answered. Whether the handlers are to be told now, before the answer goes on.
    pub fn answer(&mut self, refused: bool) -> bool {
        if refused && *self == (Self::Sent { again: false }) {
            *self = Self::Refused;
        }
        self.end()
    }

    /// No answer will come. Whether the handlers are to be told now.
    pub fn end(&mut self) -> bool {
        let open = self.is_open();
        if open {
            *self = Self::Told;
        }
        open
    }

    /// Whether the service may have it, and has not answered.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Sent { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;

    /// Plays the steps (`s`end, `r`efused, `a`nswered, `e`nd) and counts how often the handlers are told.
    fn told(steps: &str) -> usize {
        let mut progress = Progress::default();
        let step = |letter: &char| match letter {
            's' => {
                progress.send();
                false
            }
            'r' => progress.answer(true),
            'a' => progress.answer(false),
            _ => progress.end(),
        };
        steps.chars().filter(step).count()
    }

    #[test]
    fn the_handlers_are_told_once_of_what_was_not_refused() {
        let rows = [
            ("", 0),
            ("e", 0),
            ("s", 0),
            ("se", 1),
            ("see", 1),
            ("sa", 1),
            ("sae", 1),
            ("sr", 0),
            ("sre", 0),
            ("ssr", 1),
            ("ssre", 1),
            ("ssa", 1),
            ("sase", 1),
            ("srse", 0),
        ];
        for (steps, expected) in rows {
            assert_eq!(told(steps), expected, "{steps}");
        }
    }
}
