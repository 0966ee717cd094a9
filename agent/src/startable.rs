//! Whether a start would succeed: what `--check` says. Nothing is made or changed.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use dd_proto::writable;
use dd_service::format;

use crate::config::Config;
use crate::identity::Identity;

/// `joins`: it is given a token.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(config: &Config, joins: bool) -> anyhow::Result<()> {
    let directory = &config.state_dir;
    format::look(directory, crate::OWNER, crate::FORMAT)?;
    writable::directory(directory).with_context(|| {
        let directory = directory.display();
        format!("the state directory {directory} cannot be used")
    })?;
    for &address in &config.addresses {
        TcpListener::bind(SocketAddr::new(address, 0)).with_context(|| {
            format!("the outbound address {address} cannot be bound: expected one of this machine")
        })?;
    }
    let kept = Identity::load(directory)?;
    anyhow::ensure!(
        kept.is_some() || joins,
        "there is no certificate yet, and no token to get one: name the file with --join-file, `ddadm agent add` prints what is in it"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn said(state: &Path, address: &str) -> String {
        said_with_token(state, address, true)
    }

    fn said_with_token(state: &Path, address: &str, joins: bool) -> String {
        let text = format!(
            "name = \"out1\"\nstate_dir = \"{}\"\ncontroller = \"https://c.example:7443\"\n\
             addresses = [\"{address}\"]\nhelo = \"out1.example.net\"\n",
            state.display()
        );
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), text).unwrap();
        let config = Config::read(path.path()).unwrap();
        check(&config, joins).map_or_else(|error| format!("{error:#}"), |()| "ok".to_owned())
    }

    #[test]
    fn what_would_keep_an_agent_from_starting_is_found() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        assert_eq!(said(&state, "127.0.0.1"), "ok");
        assert!(!state.exists(), "a check makes nothing");
        let no_token = said_with_token(&state, "127.0.0.1", false);
        assert!(
            no_token.contains("name the file with --join-file"),
            "{no_token}"
        );
        let unbound = said(&state, "192.0.2.1");
        assert!(
            unbound.starts_with("the outbound address 192.0.2.1 cannot be bound"),
            "{unbound}"
        );
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        let no_state = said(&file.join("state"), "127.0.0.1");
        assert!(no_state.starts_with("the state directory "), "{no_state}");
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("credentials"), "nothing").unwrap();
        let damaged = said(&state, "127.0.0.1");
        assert!(damaged.contains("credentials is damaged"), "{damaged}");
    }
}
