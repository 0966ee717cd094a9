//! The registry as a file, which people write and programs cut off.

use std::collections::BTreeSet;
use std::sync::Arc;

use dd_controller::config::SiteDefaults;
use dd_controller::registry::agents::AgentRecord;
use dd_controller::registry::authorities::Authority;
use dd_controller::registry::check::{Surroundings, check};
use dd_controller::registry::file::{File, read, write};
use dd_proto::name::{AgentName, AuthorityName};
use dd_proto::pb;

/// What is refused names a line that is there; what is taken is written out as a file that says the same.
pub fn registry_file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let file = match read(text) {
        Ok(file) => file,
        Err(error) => {
            assert!(
                (1..=text.lines().count().max(1) + 1).contains(&error.line),
                "{error}"
            );
            return;
        }
    };
    let sites = sites(&file);
    let agents = agents(&file);
    let authorities = authorities(&file);
    let written = write(&sites, &agents, &authorities);
    let again = match read(&written) {
        Ok(again) => again,
        Err(error) => panic!("{error}\n{written}"),
    };
    for site in &sites {
        assert_eq!(
            again.sites[&site.name].value.change,
            pb::SiteSpec::from(&**site)
        );
    }
    for agent in &agents {
        let said = &again.agents[&agent.name].value;
        assert_eq!((&said.addresses, said.from), (&agent.addresses, agent.from));
        assert_eq!(said.key, agent.key);
    }
    for authority in &authorities {
        let said = &again.authorities[&authority.name].value;
        assert_eq!(said.certificates, authority.certificates);
        assert_eq!(said.revocation_lists, authority.revocation_lists);
        assert_eq!(said.origin, authority.origin);
    }
}

/// Those that could be added.
fn sites(file: &File) -> Vec<Arc<dd_proto::site::Site>> {
    let authorities: BTreeSet<&AuthorityName> = file.authorities.keys().collect();
    let known: BTreeSet<&AgentName> = file.agents.keys().collect();
    let around = Surroundings {
        defaults: SiteDefaults::default(),
        has_authority: &|name| authorities.contains(name),
        own_authorities: &std::collections::BTreeSet::new,
        has_agent: &|name| known.contains(name),
        owner: &|_| None,
    };
    let checked = file.sites.iter().filter_map(|(name, entry)| {
        let spec = pb::SiteSpec {
            name: name.to_string(),
            ..entry.value.change.clone()
        };
        check(&spec, &around).ok()
    });
    checked.map(Arc::new).collect()
}

fn agents(file: &File) -> Vec<Arc<AgentRecord>> {
    let said = file.agents.iter();
    said.map(|(name, entry)| {
        Arc::new(AgentRecord {
            addresses: entry.value.addresses.clone(),
            from: entry.value.from,
            drain: entry.value.drain.unwrap_or_default(),
            key: entry.value.key,
            ..AgentRecord::new(name.clone())
        })
    })
    .collect()
}

fn authorities(file: &File) -> Vec<Arc<Authority>> {
    let said = file.authorities.iter();
    said.map(|(name, entry)| {
        Arc::new(Authority {
            name: name.clone(),
            version: 1,
            certificates: entry.value.certificates.clone(),
            revocation_lists: entry.value.revocation_lists.clone(),
            origin: entry.value.origin.clone(),
        })
    })
    .collect()
}
