//! What is written when an agent comes, and when it has left in order:
//! docs/decisions/0100-what-a-machine-that-went-down-takes-along.md
//!
//! # Invariants
//! - That a machine went down is said at each Hello until dispatch has heard it, for the record says it only once.
//! - No agent is shut out because nothing can be written: without agents the queue does not become shorter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dd_proto::name::AgentName;

use super::agents::AgentRecord;
use super::editor::Editor;
use super::{Change, ChangeError, unknown};
use crate::dispatch::Machine;

/// Agents that have said Hello and of which dispatch has not heard yet. A call may end in between: then it hears of the
/// next Hello.
#[derive(Debug, Clone, Default)]
pub(super) struct Greeted(Arc<Mutex<BTreeMap<AgentName, Machine>>>);

impl Greeted {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentName, Machine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of its machine in all, with this.
    fn add(&self, name: &AgentName, machine: Machine) -> Machine {
        let mut greeted = self.lock();
        let known = greeted.entry(name.clone()).or_insert(machine);
        if machine == Machine::Rebooted {
            *known = machine;
        }
        *known
    }

    fn is_on_its_way(&self, name: &AgentName) -> bool {
        self.lock().contains_key(name)
    }
}

impl AgentRecord {
    /// Whether something has to be written when it says Hello under this boot of its machine.
    fn is_new_to(&self, boot_id: &str) -> bool {
        self.has_used_token() || self.boot_id != boot_id
    }

    fn machine(&self, boot_id: &str) -> Machine {
        match self.boot_id.is_empty() || self.boot_id == boot_id {
            true => Machine::AsBefore,
            false => Machine::Rebooted,
        }
    }
}

impl Editor {
    /// The agent attaches, under this boot of its machine: that is remembered, and a token that was used is spent. Most
    /// say nothing new, and wait for no other change. Once dispatch has heard of it, [`Editor::is_attached`] is called.
    ///
    /// # Errors
    /// There is no such agent.
    pub async fn greet(&self, name: &AgentName, boot_id: &str) -> Result<Machine, ChangeError> {
        // Before the record is looked at, so that it is not forgotten in between that the agent is there.
        let machine = self.greeted.add(name, Machine::AsBefore);
        let agent = self.registry.agent(name);
        if agent.is_some_and(|agent| !agent.is_new_to(boot_id)) {
            return Ok(machine);
        }
        let (agent, boot_id) = (name.clone(), boot_id.to_owned());
        let greeting =
            self.change(move |change| async move { change.greet_agent(&agent, &boot_id).await });
        let greeting = greeting.await;
        if greeting.is_err() {
            self.is_attached(name);
        }
        greeting
    }

    /// Dispatch knows of the Hello.
    pub fn is_attached(&self, name: &AgentName) {
        self.greeted.lock().remove(name);
    }
}

impl Change {
    /// What cannot be written is not remembered over a restart. The next Hello tries it again.
    async fn greet_agent(&self, name: &AgentName, boot_id: &str) -> Result<Machine, ChangeError> {
        let agent = self
            .registry
            .agent(name)
            .ok_or_else(|| unknown("agent", name))?;
        let machine = self.greeted.add(name, agent.machine(boot_id));
        if !agent.is_new_to(boot_id) {
            return Ok(machine);
        }
        let mut greeted = (*agent).clone();
        if greeted.has_used_token() {
            greeted.token = None;
        }
        boot_id.clone_into(&mut greeted.boot_id);
        if let Err(error) = self.put_agent(greeted).await {
            tracing::warn!(target: "agent", agent = %name, %error, "that the agent has attached cannot be remembered: it works all the same, and the next start may know nothing of it");
        }
        Ok(machine)
    }

    /// Remembers who has left in order: what its machine does until it is back concerns no mail.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn agents_left(&self) -> Result<(), ChangeError> {
        for name in self.dispatch.agents_that_left().await {
            let agent = self.registry.agent(&name);
            let Some(agent) = agent.filter(|agent| !agent.boot_id.is_empty()) else {
                continue;
            };
            if self.greeted.is_on_its_way(&name) {
                continue;
            }
            self.put_agent(AgentRecord {
                boot_id: String::new(),
                ..(*agent).clone()
            })
            .await?;
            // It may have come back meanwhile, and found its boot id in the record.
            if self.greeted.is_on_its_way(&name) || !self.has_left(&name).await {
                self.put_agent((*agent).clone()).await?;
            }
        }
        Ok(())
    }

    async fn has_left(&self, name: &AgentName) -> bool {
        self.dispatch.agents_that_left().await.contains(name)
    }
}
