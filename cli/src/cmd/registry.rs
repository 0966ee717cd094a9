//! `ddadm registry …`: everything as one file.

use std::io::Read;
use std::path::Path;

use dd_proto::pb;
use serde::Serialize;

use crate::args::RegistryVerb;
use crate::client::Controller;
use crate::failure::{Exit, Failure};
use crate::output::{Answer, Output, Printer, Taken};

/// Of each part that is sent.
const PART: usize = 256 << 10;

#[derive(Debug, Serialize)]
struct Exported {
    registry: String,
}

/// The file as it is; with `--output json` as one string.
pub(crate) async fn export(
    controller: &Controller,
    printer: &mut Printer<'_>,
    output: Output,
) -> Result<Exit, Failure> {
    let mut registry = controller.registry().await?;
    let exported = registry.export(pb::ExportRequest {}).await;
    let mut parts = controller.one(exported)?;
    let mut file = Vec::new();
    while let Some(part) = controller.next(&mut parts).await? {
        match output {
            Output::Json => file.extend_from_slice(&part.text),
            Output::Table if printer.raw(&part.text)? == Taken::NoMore => break,
            Output::Table => {}
        }
    }
    if output == Output::Json {
        let registry = String::from_utf8_lossy(&file).into_owned();
        printer.answer(&Answer::new(&Exported { registry }, String::new()), output);
    }
    Ok(Exit::Done)
}

pub(crate) async fn run(
    verb: RegistryVerb,
    controller: &Controller,
    stdin: &mut dyn Read,
) -> Result<Answer, Failure> {
    match verb {
        RegistryVerb::Apply { file, dry_run } => {
            let text = read(&file, stdin)?;
            let parts: Vec<_> = text
                .chunks(PART)
                .map(|part| pb::RegistryPart {
                    text: part.to_vec().into(),
                    dry_run,
                })
                .collect();
            let mut registry = controller.registry().await?;
            let applied = registry.apply(tokio_stream::iter(parts)).await;
            let applied = controller.one(applied).map_err(|failure| match failure {
                // The sentence begins with the line.
                Failure::Refused(said) => {
                    Failure::Refused(format!("{} not applied: {said}", file.display()))
                }
                other => other,
            })?;
            Ok(applied_answer(applied, dry_run))
        }
        RegistryVerb::Export => unreachable!("it is printed as it comes, see `export`"),
    }
}

fn read(file: &Path, stdin: &mut dyn Read) -> Result<Vec<u8>, Failure> {
    let read = match file.to_str() {
        Some("-") => {
            let mut bytes = Vec::new();
            stdin.read_to_end(&mut bytes).map(|_| bytes)
        }
        _ => std::fs::read(file),
    };
    read.map_err(|error| Failure::Refused(format!("{} cannot be read: {error}", file.display())))
}

#[derive(Debug, Serialize)]
struct Applied {
    dry_run: bool,
    added: Vec<String>,
    changed: Vec<String>,
    unchanged: u64,
    lacks: Vec<String>,
    not_taken: Vec<String>,
}

/// Names of one kind in a line.
const NAMED: usize = 5;

fn applied_answer(applied: pb::Applied, dry_run: bool) -> Answer {
    let mut text = String::new();
    for (what, entries) in [("added", &applied.added), ("changed", &applied.changed)] {
        for entry in entries {
            text.push_str(&format!("{what}: {entry}\n"));
        }
    }
    for entry in &applied.not_taken {
        text.push_str(&format!("not taken: {entry}\n"));
    }
    if !applied.lacks.is_empty() {
        let lacks = by_family(&applied.lacks);
        text.push_str(&format!("not in the file, left as it is: {lacks}\n"));
    }
    text.push_str(&format!(
        "{}{} added, {} changed, {} unchanged\n",
        if dry_run {
            "nothing was changed; it would be "
        } else {
            ""
        },
        applied.added.len(),
        applied.changed.len(),
        applied.unchanged
    ));
    let view = Applied {
        dry_run,
        added: applied.added,
        changed: applied.changed,
        unchanged: applied.unchanged,
        lacks: applied.lacks,
        not_taken: applied.not_taken,
    };
    Answer::new(&view, text)
}

/// `209 sites (a, b, c, d, e, …), agent out2`; JSON has all of them.
fn by_family(entries: &[String]) -> String {
    let mut families: Vec<(&str, Vec<&str>)> = Vec::new();
    for entry in entries {
        let (family, name) = entry.split_once(' ').unwrap_or(("", entry));
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, names)) => names.push(name),
            None => families.push((family, vec![name])),
        }
    }
    let shown = families.iter().map(|(family, names)| match &names[..] {
        [only] => format!("{family} {only}"),
        names if names.len() <= NAMED => format!("{family} {}", names.join(", ")),
        names => format!(
            "{} × {family} ({}, …)",
            names.len(),
            names[..NAMED].join(", ")
        ),
    });
    shown.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_and_what_the_file_lacks_is_said() {
        let applied = pb::Applied {
            added: vec!["authority member-ca".into(), "site home".into()],
            changed: vec!["site office: host, retry".into()],
            unchanged: 3,
            lacks: vec!["site shed".into(), "agent out2".into()],
            not_taken: vec!["authority member-ca: certificate `CN=member-ca 1`: our own".into()],
        };
        insta::assert_snapshot!(applied_answer(applied.clone(), false).both());
        insta::assert_snapshot!("a_dry_run", applied_answer(applied, true).both());
    }

    #[test]
    fn what_a_file_lacks_is_a_line_however_much_it_is() {
        let mut lacks: Vec<String> = (0..211).map(|n| format!("site m{n:03}")).collect();
        lacks.push("agent out2".into());
        assert_eq!(
            by_family(&lacks),
            "211 × site (m000, m001, m002, m003, m004, …); agent out2"
        );
    }
}
