//! The tests of whole processes, a module for each claim. They are one program, so that what they stand on is linked
//! and optimised once; but the flood of the control port runs alone.

// The main job.
mod answers;
mod big_message;
mod handoff;
mod home_servers;
mod pipelining;
mod real_homes;
mod return_of_a_site;
mod silence;
mod told;
mod zoo;

// Nothing is lost.
mod clock;
mod damage;
mod dsn;
mod failing_disk;
mod full_disk;
mod kill;
mod kill_loop;
mod last_days;
mod odd_addresses;
mod old_news;
mod one_controller;
mod power_cut;
mod smarthost;

// Nothing reaches the wrong host.
mod addresses;
mod authority;
mod certificate_matrix;
mod client_certificate;
mod family;
mod hand_over;
mod lmtp;
mod rights;
mod shown;
mod site_check;
mod tls_on_connect;
mod wrong_host;

// Agents.
mod agent_identity;
mod agents;
mod foreign_agent;

// The doors of members, and the portal.
mod doors;
mod etrn;
mod portal;
mod portal_pages;
mod strangers;
mod wakers;

// Operators.
mod admin;
mod admins;
mod listeners;
mod log_lines;
mod many_sites;
mod open_files;
mod operator;
mod restore;
mod service;
mod unheard;
mod watching;
mod wrong_inputs;

// What all these stand on.
mod harness;
