//! `ddadm man`: the manual pages of all three programs and of their configuration files.
//!
//! What the programs say of themselves with `--help` is what stands in the pages; the pages of the configuration files
//! are the commented files that packages install. So neither can be stale.

mod configuration;
mod roff;

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use dd_service::command_line;

use crate::args::Args;
use crate::failure::{Exit, Failure};

/// One file.
struct Page {
    name: String,
    text: String,
}

pub(crate) fn run(out: &Path) -> Result<Exit, Failure> {
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(out)?;
        for page in pages()? {
            std::fs::write(out.join(page.name), page.text)?;
        }
        Ok(())
    };
    let refused = |error: io::Error| {
        let shown = out.display();
        Failure::Refused(format!("the pages cannot be written into {shown}: {error}"))
    };
    write().map_err(refused)?;
    Ok(Exit::Done)
}

fn pages() -> io::Result<Vec<Page>> {
    let mut ddadm = Args::command().disable_help_subcommand(true);
    ddadm.build();
    let mut pages = vec![program(&ddadm, "1", &roff::DDADM)?];
    for noun in ddadm.get_subcommands().filter(|noun| !noun.is_hide_set()) {
        pages.push(page_of_noun(noun)?);
    }
    let daemons = [
        (command_line::Controller::command(), &roff::CONTROLLER),
        (command_line::Agent::command(), &roff::AGENT),
    ];
    for (daemon, words) in daemons {
        pages.push(program(&daemon, "8", words)?);
    }
    pages.extend(configuration::pages());
    Ok(pages)
}

/// A program of its own.
fn program(command: &Command, section: &str, words: &roff::Words) -> io::Result<Page> {
    let man = Man::new(command.clone());
    let mut text = roff::head(command.get_name(), section).into_bytes();
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    text.extend_from_slice(b".SH DESCRIPTION\n");
    text.extend_from_slice(roff::paragraphs(words.description).as_bytes());
    man.render_options_section(&mut text)?;
    text.extend_from_slice(roff::nouns(command).as_bytes());
    text.extend_from_slice(roff::notes(command).as_bytes());
    text.extend_from_slice(roff::end(words).as_bytes());
    finish(format!("{}.{section}", command.get_name()), text)
}

/// A noun of ddadm, with a section for each of its verbs. What goes with every command is in ddadm(1).
fn page_of_noun(noun: &Command) -> io::Result<Page> {
    let noun = without_globals(noun);
    let name = format!("ddadm-{}", noun.get_name());
    let man = Man::new(noun.clone());
    let mut text = roff::head(&name, "1").into_bytes();
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let verbs = noun.get_subcommands();
    for verb in verbs.filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        text.extend_from_slice(section_of_verb(verb)?.as_bytes());
    }
    text.extend_from_slice(roff::notes(&noun).as_bytes());
    text.extend_from_slice(roff::end(&roff::NOUN).as_bytes());
    finish(format!("{name}.1"), text)
}

/// What would be sections of a page are sections of a section.
fn section_of_verb(verb: &Command) -> io::Result<String> {
    let man = Man::new(without_globals(verb));
    let mut text = Vec::new();
    man.render_description_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    let name = verb.get_bin_name().unwrap_or_else(|| verb.get_name());
    let text = text
        .replace(".SH DESCRIPTION\n", "")
        .replace(".SH ", ".SS ");
    Ok(format!(".SH \"{}\"\n{text}", name.to_uppercase()))
}

fn without_globals(command: &Command) -> Command {
    let hidden = |argument: clap::Arg| {
        let global = argument.is_global_set() || argument.get_id() == "help";
        argument.hide(global)
    };
    command.clone().mut_args(hidden)
}

fn finish(name: String, text: Vec<u8>) -> io::Result<Page> {
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    Ok(Page { name, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_program_noun_and_file() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        for name in [
            "ddadm.1",
            "ddadm-site.1",
            "ddadm-queue.1",
            "ddadm-status.1",
            "dd-controller.8",
            "dd-agent.8",
            "controller.toml.5",
            "agent.toml.5",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.contains(&"ddadm-man.1"), "{names:?}");
    }

    #[test]
    fn what_help_says_of_a_verb_is_in_the_page_of_its_noun() {
        let pages = pages().unwrap();
        let text = |name: &str| {
            let page = pages.iter().find(|page| page.name == name).unwrap();
            page.text
                .replace("\\-", "-")
                .replace("\\fB", "")
                .replace("\\fR", "")
        };
        let site = text("ddadm-site.1");
        for says in [
            "ddadm site add",
            "--cert-name",
            "EXAMPLES",
            "ddadm site hold",
        ] {
            assert!(
                site.to_lowercase().contains(&says.to_lowercase()),
                "{says}: {site}"
            );
        }
        assert!(
            !site.contains("--identity"),
            "it goes with every command: {site}"
        );
        assert!(text("ddadm.1").contains("--identity"));
        assert!(text("controller.toml.5").contains("stray_cr_lf"));
    }
}
