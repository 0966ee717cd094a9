//! Sites that ask for what only newer agents know: an alarm, where there are none of those.
//!
//! # Not here
//! Which agents know what ([`dd_proto::feature`]), and that no other one gets the site's mail ([`crate::dispatch`]).

use dd_proto::name::SiteName;

use crate::dispatch::SiteState;

/// Sites whose mail none of the agents can carry, for all are of an older version.
pub(super) fn alarms(
    sites: &[SiteState],
    most: usize,
    queued: impl Fn(&SiteName) -> u64,
) -> Vec<String> {
    let alarm = |site: &SiteState| {
        let (name, asked_by) = (&site.site, site.unknown_to_agents?.asked_by());
        let waits = match queued(name) {
            0 => "mail that comes waits",
            _ => "its mail waits",
        };
        Some(format!(
            "all agents that could carry the mail of the site {name} are too old for {asked_by}, and {waits}: upgrade an agent, or change what the site asks for"
        ))
    };
    let sites = sites.iter().filter(|site| site.state != "held");
    sites.filter_map(alarm).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dd_proto::feature::Feature;

    #[test]
    fn a_site_for_which_all_agents_are_too_old_is_an_alarm_with_what_it_asks_for() {
        let site = |name: &str, unknown_to_agents| SiteState {
            site: name.parse().unwrap(),
            state: "ready",
            why: None,
            agents_differ: false,
            keeps_refused: false,
            refuses_all: false,
            still_for: None,
            unknown_to_agents,
        };
        let sites = [
            site("home", Some(Feature::Lmtp)),
            site("shed", None),
            site("smarthost", Some(Feature::Login)),
        ];
        let alarms = alarms(&sites, 100, |name| u64::from(name.as_str() == "home"));
        let all = "all agents that could carry the mail of the site";
        let how = "upgrade an agent, or change what the site asks for";
        assert_eq!(
            alarms,
            [
                format!("{all} home are too old for --lmtp, and its mail waits: {how}"),
                format!(
                    "{all} smarthost are too old for `smarthost_user`, and mail that comes waits: {how}"
                ),
            ]
        );
    }
}
