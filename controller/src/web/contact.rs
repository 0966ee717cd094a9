//! Whom the provider writes to about the site, changed by the member: with the password once more, for whoever finds a
//! browser signed in must not turn the warnings away from the member.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use dd_proto::path::Mailbox;
use dd_proto::pb;

use super::client::Client;
use super::portal::{Visitor, to_start};
use super::sent::Sent;
use super::session::Notice;
use super::{Web, now};
use crate::wakeup::Door;
use crate::wakeup::members::SignIn;

/// As `ddadm site set --contact` does it, and `--clear contact` where the field is empty.
pub(super) async fn set(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    Sent {
        visitor, fields, ..
    }: Sent,
) -> Response {
    let name = visitor.site.name.as_str();
    let password = fields.get("current").unwrap_or_default().to_owned();
    let members = web.wakeup.members();
    let signing_in = members.sign_in(name, password, client, Door::Portal);
    let asked = change(name, fields.get("contact").unwrap_or_default());
    let notice = match (signing_in.await, asked) {
        (SignIn::As(_), Some(asked)) => make(&web, &visitor, asked).await,
        (SignIn::As(_), None) => Notice::BadContact,
        (SignIn::Wrong, _) => Notice::WrongPassword,
        (SignIn::TooOften(_) | SignIn::Busy, _) => Notice::NotNow,
    };
    web.sessions().say(&visitor.id, notice);
    to_start()
}

async fn make(web: &Web, visitor: &Visitor, asked: pb::SiteSpec) -> Notice {
    let (done, who) = (done(&asked), visitor.who());
    let setting = web
        .editor
        .change(move |change| async move { change.set_site(&asked, None, &who, now()).await });
    visitor.told(setting.await, done)
}

/// What is asked for; None: that is no address.
fn change(name: &str, contact: &str) -> Option<pb::SiteSpec> {
    let name = name.to_owned();
    match contact.trim() {
        "" => Some(pb::SiteSpec {
            name,
            clear: vec!["contact".to_owned()],
            ..pb::SiteSpec::default()
        }),
        contact => Some(pb::SiteSpec {
            name,
            contact: Some(contact.parse::<Mailbox>().ok()?.to_string()),
            ..pb::SiteSpec::default()
        }),
    }
}

fn done(change: &pb::SiteSpec) -> Notice {
    match change.contact {
        Some(_) => Notice::ContactChanged,
        None => Notice::ContactGone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_an_address_or_none() {
        let contact = |text| change("home", text).map(|it| (it.contact, it.clear));
        let set = |address: &str| Some((Some(address.to_owned()), Vec::new()));
        assert_eq!(contact("me@home.example"), set("me@home.example"));
        assert_eq!(contact("  me@home.example\n"), set("me@home.example"));
        assert_eq!(contact(" "), Some((None, vec!["contact".to_owned()])));
        for bad in [
            "me",
            "me@",
            "@home.example",
            "a b@home.example",
            "me@home.example\r\nBcc: x@y.example",
        ] {
            assert_eq!(contact(bad), None, "{bad}");
        }
    }
}
