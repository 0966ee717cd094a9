//! What a removed site leaves in the world: certificates of an own authority, which prove a name that is nobody's now.

use std::collections::BTreeSet;

use dd_proto::name::SiteName;
use jiff::Timestamp;

use super::{Change, ChangeError};

impl Change {
    /// Under the lock of a change: revokes every certificate of the site that has not ended. A list that cannot be made
    /// keeps nobody from removing a site: the revocation is on record, and [`Change::keep_authorities`] tries again.
    pub(super) async fn revoke_all_of(
        &self,
        site: &SiteName,
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let issued = self.registry.all_issued();
        let valid = issued
            .iter()
            .filter(|it| it.site == *site && it.revoked.is_none() && it.not_after >= now);
        let mut authorities = BTreeSet::new();
        for certificate in valid {
            let mut revoked = (**certificate).clone();
            revoked.revoked = Some(now);
            authorities.insert(revoked.authority.clone());
            let what = format!(
                "certificate {} of site {site} revoked with the site",
                revoked.serial_text()
            );
            self.put_issued(revoked).await?;
            self.audit.record(now, who, &what);
        }
        for name in authorities {
            let Some(authority) = self.registry.authority(&name) else {
                continue;
            };
            if let Err(error) = self.renew_lists(&authority, who, now).await {
                tracing::error!(authority = %name, %error, "the certificates of a removed site are revoked, but the list that says so cannot be made yet");
            }
        }
        Ok(())
    }
}
