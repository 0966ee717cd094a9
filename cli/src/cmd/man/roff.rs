//! What stands in the pages beside what clap says, and how text becomes roff.

use clap::Command;

/// What clap does not know of a program.
pub(super) struct Words {
    pub(super) description: &'static str,
    /// Files, each with what it is.
    files: &'static [(&'static str, &'static str)],
    /// Signals, each with what it does.
    signals: &'static [(&'static str, &'static str)],
    see_also: &'static str,
}

pub(super) const DDADM: Words = Words {
    description: "\
ddadm administers a dd-controller(8): sites, their mail, agents and authorities. It talks to the controller on this
machine through its socket, or to another one with --controller and --identity.

Each noun has a page of its own: ddadm-site(1), ddadm-queue(1) and so on.",
    files: &[
        (
            "/run/dd-controller/admin.sock",
            "the controller's socket; members of the group dd-controller may use it",
        ),
        (
            "/var/lib/dd-controller/admin.sock",
            "where it is without `socket` in [control]",
        ),
    ],
    signals: &[],
    see_also: "dd-controller(8), dd-agent(8), controller.toml(5), agent.toml(5)",
};

pub(super) const NOUN: Words = Words {
    description: "",
    files: &[],
    signals: &[],
    see_also: "ddadm(1), which has the options that go with every command, and the exit codes",
};

pub(super) const CONTROLLER: Words = Words {
    description: "\
dd-controller takes in mail for sites over SMTP and LMTP, keeps it in a log on the disk, and decides what is tried when
and by which dd-agent(8). It never opens SMTP to a site itself.

What it answers with 250 has been synced to the disk. A start after a crash takes no longer than any other, and needs no
repair by hand.",
    files: &[
        ("/etc/dd/controller.toml", "the configuration: controller.toml(5)"),
        ("/var/lib/dd-controller", "queue, registry and keys; VERSION there names the format"),
        ("/run/dd-controller/admin.sock", "where ddadm(1) connects"),
    ],
    signals: &[
        ("SIGTERM, SIGINT", "end, after at most 20 seconds for sessions and handoffs; a second one ends at once"),
        ("SIGHUP", "read certificates again; other keys take effect at the next start"),
    ],
    see_also: "controller.toml(5), ddadm(1), dd-agent(8)",
};

pub(super) const AGENT: Words = Words {
    description: "\
dd-agent delivers what a dd-controller(8) assigns to it, by SMTP to the members' mail servers, after they have proved to
be the right ones. It runs on each machine that mail goes out from, and never decides whether to try again.

It joins once, with a token of `ddadm agent add`, and is its key from then on. Under systemd the token is taken from
/etc/dd/join-token, if that is there.",
    files: &[
        ("/etc/dd/agent.toml", "the configuration: agent.toml(5)"),
        ("/etc/dd/join-token", "the token for the first start; needed no more afterwards"),
        ("/var/lib/dd-agent", "certificate and journal; VERSION there names the format"),
    ],
    signals: &[
        ("SIGTERM, SIGINT", "drain for at most 20 seconds, then end; a second one ends at once"),
        ("SIGHUP", "read [targets] again; other keys take effect at the next start"),
    ],
    see_also: "agent.toml(5), ddadm(1), dd-controller(8)",
};

/// The first line of a page.
pub(super) fn head(title: &str, section: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(".TH \"{title}\" {section} \"\" \"{version}\" \"Direct mail delivery\"\n")
}

/// Text whose paragraphs are parted by empty lines.
pub(super) fn paragraphs(text: &str) -> String {
    let line = |line: &str| match line.is_empty() {
        true => ".PP\n".to_owned(),
        false => escaped(line) + "\n",
    };
    text.lines().map(line).collect()
}

/// One line as roff prints it.
pub(super) fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    // Around an argument of a macro it would be taken off.
    let line = line.replace('"', "\\(dq");
    match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line,
    }
}

/// The nouns of a program, each with its page.
pub(super) fn nouns(command: &Command) -> String {
    let nouns = command.get_subcommands().filter(|noun| !noun.is_hide_set());
    let mut text: String = nouns
        .map(|noun| {
            let about = noun.get_about().map(ToString::to_string);
            let about = escaped(&about.unwrap_or_default());
            let name = escaped(&format!("{}-{}", command.get_name(), noun.get_name()));
            format!(".TP\n.BR {name} (1)\n{about}\n")
        })
        .collect();
    if !text.is_empty() {
        text.insert_str(0, ".SH COMMANDS\n");
    }
    text
}

/// What clap prints behind the options: as it is laid out there, but for paragraphs, which are one line each.
pub(super) fn notes(command: &Command) -> String {
    let Some(help) = command.get_after_help() else {
        return String::new();
    };
    let help = help.to_string();
    let line = |line: &str| match line.chars().count() < 80 {
        true => escaped(line) + "\n",
        false => format!(".fi\n{}\n.nf\n", escaped(line)),
    };
    let lines: String = help.lines().map(line).collect();
    format!(".SH EXAMPLES AND NOTES\n.nf\n{lines}.fi\n")
}

/// The last sections.
pub(super) fn end(words: &Words) -> String {
    let section = |title: &str, entries: &[(&str, &str)]| {
        let entry =
            |(name, what): &(&str, &str)| format!(".TP\n.B {}\n{}\n", escaped(name), escaped(what));
        let entries: String = entries.iter().map(entry).collect();
        match entries.is_empty() {
            true => entries,
            false => format!(".SH {title}\n{entries}"),
        }
    };
    section("SIGNALS", words.signals)
        + &section("FILES", words.files)
        + &format!(".SH SEE ALSO\n{}\n", escaped(words.see_also))
}
