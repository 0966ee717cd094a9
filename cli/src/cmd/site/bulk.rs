//! `ddadm site set`: a change of one site, or the same of several.

use std::io::Read;

use dd_proto::name::SiteName;
use dd_proto::pb;
use serde_json::json;

use crate::args::site::Set;
use crate::client::Controller;
use crate::cmd::many;
use crate::cmd::site::{all, one, password, show, spec};
use crate::failure::Failure;
use crate::output::Answer;

/// One site, or several one after the other.
pub(super) async fn set(
    set: &Set,
    controller: &Controller,
    stdin: &mut dyn Read,
) -> Result<Answer, Failure> {
    spec::check_change(set)?;
    if set.name.is_none() {
        may_be_shared(set)?;
    }
    let password = password::asked(&set.flags, stdin)?;
    let sites = match &set.name {
        Some(name) => vec![name.clone()],
        None => names(set, &all(controller).await?),
    };
    let setting = async |name: &SiteName| set_site(name, set, password.clone(), controller).await;
    match (&set.name, sites.is_empty()) {
        (None, true) => Ok(none()),
        (None, false) => Ok(array(many::each(&sites, setting).await?, sites.len())),
        (Some(_), _) => many::each(&sites, setting).await,
    }
}

async fn set_site(
    name: &SiteName,
    set: &Set,
    password: Option<String>,
    controller: &Controller,
) -> Result<Answer, Failure> {
    let proof = if spec::touches_proof(&set.flags) {
        let now = show(name, controller).await?.site.unwrap_or_default();
        spec::changed_proof(&set.flags, &now.spec.unwrap_or_default())?
    } else {
        None
    };
    let request = pb::SiteSpec {
        proof,
        password,
        clear: spec::cleared(&set.clear),
        ..spec::plain(name, &set.flags)
    };
    let changed = controller.sites().await?.set(request).await;
    let changed = controller.one(changed)?;
    match set.name {
        Some(_) => Ok(one(changed)),
        None => Ok(line(changed)),
    }
}

/// # Errors
/// What is to be set can belong to one site only.
fn may_be_shared(set: &Set) -> Result<(), Failure> {
    match of_one_site(set) {
        None => Ok(()),
        Some(flag) => Err(Failure::Usage(format!(
            "{flag} belongs to one site: name it, `ddadm site set NAME {flag} …`"
        ))),
    }
}

/// The sites that are meant, in order.
fn names(set: &Set, all: &[pb::SiteStatus]) -> Vec<SiteName> {
    let specs = all.iter().filter_map(|it| it.site.as_ref()?.spec.as_ref());
    let names = specs.filter_map(|spec| spec.name.parse::<SiteName>().ok());
    let pattern = set.matching.as_ref();
    names
        .filter(|name| pattern.is_none_or(|it| it.matches(name.as_str())))
        .collect()
}

/// The first flag that two sites cannot share, or had better not.
fn of_one_site(set: &Set) -> Option<&'static str> {
    let flags = &set.flags;
    [
        (!flags.domain.is_empty(), "--domain"),
        (!flags.host.is_empty(), "--host"),
        (!flags.address.is_empty(), "--address"),
        (!flags.fingerprint.is_empty(), "--fingerprint"),
        (flags.cert_name.is_some(), "--cert-name"),
        (flags.proof.is_some(), "--proof"),
        (!flags.recipient.is_empty(), "--recipient"),
        (flags.password_stdin, "--password-stdin"),
    ]
    .into_iter()
    .find_map(|(is_given, flag)| is_given.then_some(flag))
}

/// One of several that were changed: a line.
fn line(status: pb::SiteStatus) -> Answer {
    let site = status.site.unwrap_or_default();
    let name = site.spec.unwrap_or_default().name;
    let mut text = format!("{name}: set (version {})\n", site.version);
    for warning in &status.warnings {
        text.push_str(&format!("{name}: {warning}\n"));
    }
    let version = site.version;
    Answer::new(
        &json!({"name": name, "version": version, "warnings": status.warnings}),
        text,
    )
}

/// An array, also of one: scripts do not know how many match.
fn array(answer: Answer, sites: usize) -> Answer {
    match sites {
        1 => Answer::new(&[answer.value()], answer.text().to_owned()),
        _ => answer,
    }
}

fn none() -> Answer {
    Answer::new(&json!([]), "no site matches\n".to_owned())
}
