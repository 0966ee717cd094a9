//! What a member wakes its site up with. Each is printed once, where it is made up; the controller keeps a hash.

use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::pb::wake_secret_request::Change;
use serde::Serialize;

use crate::client::Controller;
use crate::failure::Failure;
use crate::output::{Answer, present};

#[derive(Debug, Serialize)]
struct Password {
    name: String,
    /// None: it was given.
    password: Option<String>,
}

#[derive(Debug, Serialize)]
struct WakeSecret {
    url: Option<String>,
    secret: Option<String>,
}

/// An empty one is made up.
pub(super) async fn password(
    name: &SiteName,
    password: String,
    controller: &Controller,
) -> Result<Answer, Failure> {
    let request = pb::SitePasswordRequest {
        name: name.to_string(),
        password,
    };
    let set = controller.sites().await?.password(request).await;
    Ok(password_answer(controller.one(set)?))
}

fn password_answer(set: pb::SitePassword) -> Answer {
    let view = Password {
        name: set.name,
        password: present(set.password),
    };
    // Made up, it is the whole line: it goes into a pipe or a letter.
    let text = match &view.password {
        Some(password) => format!("{password}\n"),
        None => format!("{}: password set\n", view.name),
    };
    Answer::new(&view, text)
}

pub(super) async fn wake_secret(
    name: &SiteName,
    controller: &Controller,
) -> Result<Answer, Failure> {
    let made = change(name, Change::Unspecified, controller).await?;
    Ok(made_answer(made))
}

fn made_answer(made: pb::WakeSecretResponse) -> Answer {
    let text = format!("{}\n", made.url);
    let view = WakeSecret {
        url: present(made.url),
        secret: present(made.secret),
    };
    Answer::new(&view, text)
}

pub(super) async fn revoke_wake_secret(
    name: &SiteName,
    controller: &Controller,
) -> Result<Answer, Failure> {
    change(name, Change::Revoke, controller).await?;
    Ok(revoked_answer(name))
}

fn revoked_answer(name: &SiteName) -> Answer {
    let none = WakeSecret {
        url: None,
        secret: None,
    };
    Answer::new(&none, format!("{name}: no URL wakes it up any more\n"))
}

async fn change(
    name: &SiteName,
    change: Change,
    controller: &Controller,
) -> Result<pb::WakeSecretResponse, Failure> {
    let request = pb::WakeSecretRequest {
        name: name.to_string(),
        change: change.into(),
    };
    let changed = controller.sites().await?.wake_secret(request).await;
    controller.one(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_only_where_it_was_made_up() {
        let set = |password: &str| pb::SitePassword {
            name: "home".into(),
            password: password.into(),
        };
        let (made, given) = (password_answer(set("abcd2345")), password_answer(set("")));
        insta::assert_snapshot!(format!("{}{}", made.both(), given.both()));
    }

    #[test]
    fn a_wake_up_secret_is_a_url() {
        let made = made_answer(pb::WakeSecretResponse {
            url: "https://mail.example.net:8443/wake/AAAA".into(),
            secret: "AAAA".into(),
        });
        let revoked = revoked_answer(&"home".parse().unwrap());
        insta::assert_snapshot!(format!("{}{}", made.both(), revoked.both()));
    }
}
