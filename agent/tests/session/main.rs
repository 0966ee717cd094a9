//! Sessions with sites, from outside: one program, so that what they stand on is linked and optimised once.

mod addresses;
mod check;
mod dialogues;
mod in_doubt;
mod lanes;
mod late_dot;
mod limits;
mod loopback;
mod name_service;
mod names;
mod no_mail_before_proof;
mod parameters;
mod silence;
mod support;
mod transitions;
mod turns;
