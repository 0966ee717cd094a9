//! What a member proves itself with, changed by the member.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use dd_proto::unshown::Unshown;

use super::client::Client;
use super::portal::{Visitor, to_start};
use super::sent::Sent;
use super::session::Notice;
use super::{Web, now};
use crate::credentials::{PasswordError, generate_wake_secret, wake_digest};
use crate::registry::sites::Credential;
use crate::wakeup::Door;
use crate::wakeup::members::SignIn;

pub(super) async fn password(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    Sent {
        visitor, fields, ..
    }: Sent,
) -> Response {
    let given = |name: &str| fields.get(name).unwrap_or_default().to_owned();
    let name = visitor.site.name.as_str();
    let signing_in = web
        .wakeup
        .members()
        .sign_in(name, given("current"), client, Door::Portal);
    let notice = match signing_in.await {
        SignIn::As(_) if given("new") != given("again") => Notice::PasswordsDiffer,
        SignIn::As(_) => set_password(&web, &visitor, given("new")).await,
        SignIn::Wrong => Notice::WrongPassword,
        SignIn::TooOften(_) | SignIn::Busy => Notice::NotNow,
    };
    web.sessions().say(&visitor.id, notice);
    to_start()
}

async fn set_password(web: &Web, visitor: &Visitor, password: String) -> Notice {
    let hash = match web.passwords.hash(password).await {
        Ok(hash) => hash,
        Err(PasswordError::Unfit) => return Notice::UnfitPassword,
        Err(_) => return Notice::NotNow,
    };
    let credential = Credential::Password(hash.clone());
    let notice = set(web, visitor, credential, Notice::PasswordChanged).await;
    if notice == Notice::PasswordChanged {
        web.sessions().keep(&visitor.id, &hash);
    }
    notice
}

pub(super) async fn wake_secret(
    State(web): State<Arc<Web>>,
    Sent {
        visitor, fields, ..
    }: Sent,
) -> Response {
    let notice = match fields.get("do") {
        Some("revoke") => {
            set(
                &web,
                &visitor,
                Credential::NoWakeSecret,
                Notice::WakeRevoked,
            )
            .await
        }
        _ => {
            let secret = generate_wake_secret(&mut rand::rng());
            let url = format!("{}/wake/{secret}", web.origin);
            let credential = Credential::WakeSecret(wake_digest(&secret));
            set(&web, &visitor, credential, Notice::WakeUrl(Unshown(url))).await
        }
    };
    web.sessions().say(&visitor.id, notice);
    to_start()
}

async fn set(web: &Web, visitor: &Visitor, credential: Credential, done: Notice) -> Notice {
    let (name, who) = (visitor.site.name.clone(), visitor.who());
    let setting = web.editor.change(move |change| async move {
        change
            .set_credential(name.as_str(), credential, &who, now())
            .await
    });
    visitor.told(setting.await, done)
}
