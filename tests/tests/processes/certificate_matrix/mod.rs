//! One table of certificates, each shown over real SMTP STARTTLS to the agent's own session, and to Postfix's
//! `posttls-finger -l secure` beside it. Whoever is refused gets not one byte inside TLS.

#![expect(clippy::print_stdout, reason = "the figures of a run")]

mod authority;
mod case;
mod chains;
mod hosts;
mod leaves;
mod names;
mod revocation;
mod signatures;

use dd_agent::tls::Tls;
use dd_tests::ca::Identity;
use dd_tests::site::{Script, Site};

use authority::{Ca, nothing};
use case::{Postfix, Table, postfix_verifies, verdict};

#[tokio::test(flavor = "multi_thread")]
async fn every_certificate_of_the_table_gets_its_verdict_and_a_refused_one_not_one_byte() {
    let mut table = Table {
        ca: Ca::new("members", nothing),
        cases: Vec::new(),
    };
    names::add(&mut table);
    leaves::add(&mut table);
    chains::add(&mut table);
    revocation::add(&mut table);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("main.cf"),
        "compatibility_level = 3.6\n",
    )
    .unwrap();
    std::fs::write(directory.path().join("master.cf"), "").unwrap();
    signatures::add(&mut table, directory.path());
    let tls = Tls::default();
    let (mut wrong, mut refused, mut asked, mut differ) = (Vec::new(), 0, 0, 0);
    for case in &table.cases {
        let chain: Vec<&[u8]> = case.shown.chain.iter().map(AsRef::as_ref).collect();
        let site = Site::start(Script::presenting(&Identity::of(&chain, &case.shown.key)));
        let said = verdict(&tls, case, site.address()).await;
        if said != case.verdict {
            wrong.push(format!("{}: {said}, not {}", case.what, case.verdict));
        }
        let seen = site.saw("the agent to hang up", |seen| seen.ended);
        if said != "ok" {
            refused += 1;
            assert_eq!(seen.secured, b"", "{}", case.what);
        }
        if case.postfix == Postfix::CannotSay {
            continue;
        }
        asked += 1;
        let same = postfix_verifies(directory.path(), case, site.address()) == (said == "ok");
        let expected = case.postfix == Postfix::Same;
        differ += usize::from(!same);
        if same != expected {
            wrong.push(format!(
                "{}: {said}; Postfix says the same: {same}",
                case.what
            ));
        }
    }
    println!(
        "{} certificates: {} proved, {refused} refused with 0 bytes; posttls-finger asked {asked} times, {differ} differ",
        table.cases.len(),
        table.cases.len() - refused
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.cases.len() >= 60, "{}", table.cases.len());
}
