//! One file for each noun: arguments in, a call, an answer out.

pub(crate) mod admin;
pub(crate) mod agent;
pub(crate) mod audit;
pub(crate) mod ca;
pub(crate) mod cert;
pub(crate) mod clock;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod content;
pub(crate) mod etrn;
pub(crate) mod man;
pub(crate) mod many;
pub(crate) mod queue;
pub(crate) mod registry;
pub(crate) mod report;
pub(crate) mod site;
pub(crate) mod status;
pub(crate) mod watch;
