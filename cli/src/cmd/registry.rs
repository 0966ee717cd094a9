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
        RegistryVerb::Apply { file } => {
            let text = read(&file, stdin)?;
            let parts: Vec<_> = text
                .chunks(PART)
                .map(|part| pb::RegistryPart {
                    text: part.to_vec().into(),
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
            Ok(applied_answer(applied))
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
    read.map_err(|error| Failure::Refused(format!("{}: {error}", file.display())))
}

#[derive(Debug, Serialize)]
struct Applied {
    added: Vec<String>,
    changed: Vec<String>,
    unchanged: u64,
    lacks: Vec<String>,
}

fn applied_answer(applied: pb::Applied) -> Answer {
    let mut text = String::new();
    for (what, entries) in [
        ("added", &applied.added),
        ("changed", &applied.changed),
        ("not in the file, left as it is", &applied.lacks),
    ] {
        for entry in entries {
            text.push_str(&format!("{what}: {entry}\n"));
        }
    }
    text.push_str(&format!(
        "{} added, {} changed, {} unchanged\n",
        applied.added.len(),
        applied.changed.len(),
        applied.unchanged
    ));
    let view = Applied {
        added: applied.added,
        changed: applied.changed,
        unchanged: applied.unchanged,
        lacks: applied.lacks,
    };
    Answer::new(&view, text)
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
        };
        insta::assert_snapshot!(applied_answer(applied).both());
    }
}
