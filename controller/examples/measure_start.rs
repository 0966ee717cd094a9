//! How long a start takes with much mail waiting: `measure_start fill DIR MESSAGES SITES BYTES`, and then any of
//! `measure_start clean DIR`, `measure_start killed DIR`, `measure_start deleted DIR`.
//!
//! Each start is a process of its own, so that its memory is its own. `clean` stops cleanly again; the others end as if
//! killed, so the next start is unclean. Figures: seconds until intake could be open, until all is known; memory.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use dd_controller::intake::accept::{Content, Submission};
use dd_controller::store::{MinFree, RebuildIndex, Settings, Store};
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::{MessageId, RecipientNumber};
use jiff::Timestamp;

fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        segment_bytes: 64 << 20,
        min_free: MinFree::Bytes(0),
        rebuild_index: RebuildIndex::No,
    }
}

fn submission(
    n: u64,
    sites: u64,
    bytes: usize,
) -> anyhow::Result<Submission<dd_controller::store::Spooled>> {
    let recipient = Recipient {
        number: RecipientNumber(0),
        path: format!("user{n}@home.example").parse()?,
        notify: None,
        orcpt: None,
    };
    Ok(Submission {
        id: MessageId::new(1_700_000_000_000 + n, [7; 10]),
        message_id: "".into(),
        envelope: Envelope {
            reverse_path: "sender@example.org".parse()?,
            body: Body::EightBitMime,
            encoding: Encoding::Ascii,
            ret: None,
            envid: None,
            recipients: vec![recipient],
            client: None,
        },
        deliveries: vec![(
            format!("site{}", n % sites).parse()?,
            vec![RecipientNumber(0)],
        )],
        content: Content::Inline(Bytes::from(vec![b'x'; bytes])),
        arrived: Timestamp::from_millisecond(1_700_000_000_000)?,
    })
}

async fn fill(dir: &Path, messages: u64, sites: u64, bytes: usize) -> anyhow::Result<()> {
    let (store, _) = Store::open(&settings(dir))?;
    let mut accepting = tokio::task::JoinSet::new();
    for n in 0..messages {
        if accepting.len() >= 400 {
            accepting.join_next().await.context("there are some")??;
        }
        let (store, submission) = (store.clone(), submission(n, sites, bytes)?);
        accepting.spawn(async move { store.accept(submission).await.map(drop).is_ok() });
    }
    while let Some(accepted) = accepting.join_next().await {
        if !accepted? {
            bail!("the store took no more");
        }
    }
    store.close().await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn start(dir: &Path, how: &str) -> anyhow::Result<()> {
    if how == "deleted" {
        std::fs::remove_dir_all(dir.join("index"))?;
    }
    let begun = Instant::now();
    let (store, report) = Store::open(&settings(dir))?;
    let open = begun.elapsed();
    let mut all_known = store.all_known();
    all_known.wait_for(|known| *known).await?;
    let known = begun.elapsed();
    let total = store.total();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    writeln!(
        std::io::stdout(),
        "{how}: clean {}, {} messages, open after {:.3} s, all known after {:.3} s, {}",
        report.clean,
        total.messages,
        open.as_secs_f64(),
        known.as_secs_f64(),
        peak.unwrap_or_default()
    )?;
    match how {
        "clean" => store.close().await?,
        _ => std::process::exit(0),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["fill", dir, messages, sites, bytes] => {
            let (messages, sites) = (messages.parse()?, sites.parse()?);
            fill(&PathBuf::from(dir), messages, sites, bytes.parse()?).await
        }
        [how @ ("clean" | "killed" | "deleted"), dir] => start(&PathBuf::from(dir), how).await,
        _ => bail!(
            "measure_start fill DIR MESSAGES SITES BYTES | clean DIR | killed DIR | deleted DIR"
        ),
    }
}
