//! What a member is told whose machine answered at the address of somebody else's name.
//!
//! # Invariants
//! Whose name it was is not said: that member has a right not to be known to this one.

use super::language::Language;
use crate::dispatch::Stray;

/// One sentence about the newest sighting.
pub(super) fn notice(strays: &[Stray], language: Language) -> Option<String> {
    let newest = strays.first()?;
    let (address, at) = (&newest.address, language.moment(newest.at));
    Some(match language {
        Language::German => format!(
            "Der Name eines anderen Mitglieds zeigt noch auf eine Adresse, die jetzt Ihre ist ({address}, zuletzt {at}). Unsere Rechner haben Ihren Server am Zertifikat erkannt und ohne Mail wieder aufgelegt. Sie müssen nichts tun."
        ),
        Language::English => format!(
            "Another member's name still points to an address that is yours now ({address}, last on {at}). Our machines knew your server by its certificate and hung up without any mail. There is nothing you need to do."
        ),
    })
}
