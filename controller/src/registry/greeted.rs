//! What is written when an agent comes, and when it has left in order:
//! docs/decisions/0100-what-a-machine-that-went-down-takes-along.md,
//! docs/decisions/0111-an-agent-that-has-left-in-order.md
//!
//! # Invariants
//! - That a machine went down is said at each Hello until dispatch has heard it, for the record says it only once.
//! - Dispatch does not hear of an agent while its record says that it has left, or is about to say so.
//! - No agent is shut out because nothing can be written, but one whose record says that it has left: without agents the
//!   queue does not become shorter. That word is written only where there is room to take it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dd_proto::name::AgentName;

use super::agents::{AgentRecord, Left};
use super::editor::Editor;
use super::{Change, ChangeError, record, unknown};
use crate::dispatch::Machine;
use crate::store::Remembered;

/// Agents that have said Hello and of which dispatch has not heard yet. A call may end in between: then it hears of the
/// next Hello.
#[derive(Debug, Clone, Default)]
pub(super) struct Greeted(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    coming: BTreeMap<AgentName, Machine>,
    /// Whose record is about to say that they have left.
    leaving: BTreeSet<AgentName>,
}

impl Greeted {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of its machine in all, with this.
    fn add(&self, name: &AgentName, machine: Machine) -> Machine {
        let mut inner = self.lock();
        let known = inner.coming.entry(name.clone()).or_insert(machine);
        if machine == Machine::Rebooted {
            *known = machine;
        }
        *known
    }

    /// From now on a Hello of the agent waits for the change that is being made. False where one is on its way already.
    pub(super) fn begins_to_leave(&self, name: &AgentName) -> bool {
        let mut inner = self.lock();
        let leaves = !inner.coming.contains_key(name);
        if leaves {
            inner.leaving.insert(name.clone());
        }
        leaves
    }

    /// Its record says so, or will not.
    pub(super) fn has_left(&self, name: &AgentName) {
        self.lock().leaving.remove(name);
    }

    fn is_leaving(&self, name: &AgentName) -> bool {
        self.lock().leaving.contains(name)
    }
}

impl AgentRecord {
    /// Whether something has to be written when it says Hello under this boot of its machine.
    fn is_new_to(&self, boot_id: &str) -> bool {
        self.has_used_token() || self.boot_id != boot_id || self.left == Left::InOrder
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
    /// There is no such agent; or its record says that it has left, and nothing else can be written there.
    pub async fn greet(&self, name: &AgentName, boot_id: &str) -> Result<Machine, ChangeError> {
        // Before the record is looked at, so that it is not forgotten in between that the agent is there.
        let machine = self.greeted.add(name, Machine::AsBefore);
        let agent = self.registry.agent(name);
        let is_known = agent.is_some_and(|agent| !agent.is_new_to(boot_id));
        if is_known && !self.greeted.is_leaving(name) {
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
        self.greeted.lock().coming.remove(name);
    }
}

impl Change {
    /// What cannot be written is not remembered over a restart. The next Hello tries it again. But one that is written as
    /// gone must not get mail: the next start would believe that it has none.
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
        greeted.left = Left::No;
        if let Err(error) = self.put_agent(greeted).await {
            if agent.left == Left::InOrder {
                return Err(error);
            }
            tracing::warn!(target: "agent", agent = %name, %error, "that the agent has attached cannot be remembered: it works all the same, and the next start may know nothing of it");
        }
        Ok(machine)
    }

    /// Remembers who has left in order: what its machine does until it is back concerns no mail, and no start waits for it.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn agents_left(&self) -> Result<(), ChangeError> {
        for name in self.dispatch.agents_that_left().await {
            let agent = self.registry.agent(&name);
            // Without a boot id in its record an older program would let it in and leave the record as it is.
            let agent = agent.filter(|agent| !agent.boot_id.is_empty());
            let Some(agent) = agent else { continue };
            if !self.greeted.begins_to_leave(&name) {
                continue;
            }
            let left = self.agent_left(&agent).await;
            self.greeted.has_left(&name);
            left?;
        }
        Ok(())
    }

    /// No Hello of it passes meanwhile.
    async fn agent_left(&self, agent: &AgentRecord) -> Result<(), ChangeError> {
        // One that passed before is known to dispatch by now.
        if !self.dispatch.agents_that_left().await.contains(&agent.name) {
            return Ok(());
        }
        let left = AgentRecord {
            boot_id: String::new(),
            left: Left::InOrder,
            ..agent.clone()
        };
        let key = left.name.to_string();
        let records = vec![(key, Some(record::encode_agent(&left)))];
        // What is held back on a full disk stays, so that this can be taken back.
        match self.store.remember(record::AGENT, records).await? {
            Remembered::Written => {
                tracing::info!(target: "agent", agent = %agent.name, "agent has left in order: no start waits for it");
                self.show_agent(left);
            }
            Remembered::NoRoom => {
                tracing::warn!(target: "agent", agent = %agent.name, "that the agent has left in order cannot be written: the disk has no room, so the next start waits for it");
            }
        }
        Ok(())
    }
}
