//! What is written when an agent comes, and when it has left in order:
//! docs/decisions/0100-what-a-machine-that-went-down-takes-along.md

use dd_proto::name::AgentName;

use super::agents::AgentRecord;
use super::{Change, ChangeError, unknown};
use crate::dispatch::Machine;

impl AgentRecord {
    /// Whether something has to be written when it says Hello under this boot of its machine.
    pub(super) fn is_new_to(&self, boot_id: &str) -> bool {
        self.has_used_token() || self.boot_id != boot_id
    }
}

impl Change {
    /// An agent has said Hello, under this boot of its machine. A token that was used is spent.
    ///
    /// # Errors
    /// There is no such agent.
    pub(super) async fn greet_agent(
        &self,
        name: &AgentName,
        boot_id: &str,
    ) -> Result<Machine, ChangeError> {
        let agent = self
            .registry
            .agent(name)
            .ok_or_else(|| unknown("agent", name))?;
        if !agent.is_new_to(boot_id) {
            return Ok(Machine::AsBefore);
        }
        let mut greeted = (*agent).clone();
        if greeted.has_used_token() {
            greeted.token = None;
        }
        boot_id.clone_into(&mut greeted.boot_id);
        self.put_agent(greeted).await?;
        Ok(match agent.boot_id.is_empty() || agent.boot_id == boot_id {
            true => Machine::AsBefore,
            false => Machine::Rebooted,
        })
    }

    /// Remembers who has left in order: what its machine does until it is back concerns no mail.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn agents_left(&self) -> Result<(), ChangeError> {
        for name in self.dispatch.agents_that_left().await {
            let agent = self.registry.agent(&name);
            if let Some(agent) = agent.filter(|agent| !agent.boot_id.is_empty()) {
                self.put_agent(AgentRecord {
                    boot_id: String::new(),
                    ..(*agent).clone()
                })
                .await?;
            }
        }
        Ok(())
    }
}
