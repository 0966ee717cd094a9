//! What the site's server does with commands that travel together, as far as it has shown.
//!
//! PIPELINING is offered by servers that lose lines all the same: they take one line of what they read, throw away what
//! stands behind a final dot, or answer it with 503. So the first group is sent with care, and one that comes to nothing
//! is sent again, one command at a time.

/// How a server bears one way of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Bears {
    #[default]
    Untried,
    Yes,
    /// It lost some of it.
    No,
}

/// What is known of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Together {
    /// MAIL, RCPT and DATA in one group (RFC 2920).
    pub group: Bears,
    /// The next message's envelope behind a final dot.
    pub behind_dot: Bears,
}

impl Together {
    /// As an assignment says it.
    pub fn of_order(one_at_a_time: bool, nothing_behind_dot: bool) -> Self {
        let said = |lost| match lost {
            true => Bears::No,
            false => Bears::Untried,
        };
        Self {
            group: said(one_at_a_time),
            behind_dot: said(nothing_behind_dot),
        }
    }

    /// With what else was learnt. A loss counts more than what went well before it.
    pub fn and(self, other: Self) -> Self {
        Self {
            group: self.group.max(other.group),
            behind_dot: self.behind_dot.max(other.behind_dot),
        }
    }

    /// What of this is worse than was known.
    pub fn beyond(self, known: Self) -> Self {
        let worse = |now: Bears, known: Bears| match now > known {
            true => now,
            false => Bears::Untried,
        };
        Self {
            group: worse(self.group, known.group),
            behind_dot: worse(self.behind_dot, known.behind_dot),
        }
    }

    /// What went well.
    pub fn without_losses(self) -> Self {
        let well = |it| match it {
            Bears::No => Bears::Untried,
            it => it,
        };
        Self {
            group: well(self.group),
            behind_dot: well(self.behind_dot),
        }
    }

    pub fn has_lost(self) -> bool {
        self.group == Bears::No || self.behind_dot == Bears::No
    }
}
