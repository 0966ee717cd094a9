//! Whether mail is taken. Pure.

use crate::intake::policy::Space;
use crate::registry::Completeness;

/// What `/readyz` looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) stopping: bool,
    pub(super) log_failed: bool,
    pub(super) space: Space,
    pub(super) completeness: Completeness,
    pub(super) all_sites_held: bool,
}

/// Why mail had better be handed in elsewhere, most serious first; empty: it is taken here. That the queue of earlier
/// starts is still being read is no reason: new mail flows meanwhile.
pub(super) fn reasons(facts: &Facts) -> Vec<&'static str> {
    let damaged = facts.completeness == Completeness::SitesAreMissing || facts.all_sites_held;
    let all = [
        (
            facts.log_failed,
            "the log has failed: the controller ends, start it again",
        ),
        (facts.stopping, "stopping"),
        (
            facts.space == Space::Short,
            "space is short: mail is answered 452 until the disk has room",
        ),
        (
            damaged,
            "the registry is damaged: `ddadm status` names the records, `ddadm registry apply` repairs it",
        ),
    ];
    let all = all.into_iter().filter(|(holds, _)| *holds);
    all.map(|(_, reason)| reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Facts = Facts {
        stopping: false,
        log_failed: false,
        space: Space::Enough,
        completeness: Completeness::Complete,
        all_sites_held: false,
    };

    #[test]
    fn whatever_keeps_mail_from_being_taken_is_named() {
        assert!(reasons(&WELL).is_empty());
        for (facts, word) in [
            (
                Facts {
                    stopping: true,
                    ..WELL
                },
                "stopping",
            ),
            (
                Facts {
                    log_failed: true,
                    ..WELL
                },
                "the log has failed",
            ),
            (
                Facts {
                    space: Space::Short,
                    ..WELL
                },
                "space is short",
            ),
            (
                Facts {
                    completeness: Completeness::SitesAreMissing,
                    ..WELL
                },
                "the registry is damaged",
            ),
            (
                Facts {
                    all_sites_held: true,
                    ..WELL
                },
                "the registry is damaged",
            ),
        ] {
            let reasons = reasons(&facts);
            assert_eq!(reasons.len(), 1, "{facts:?}");
            assert!(reasons[0].starts_with(word), "{reasons:?}");
        }
    }
}
