use super::*;
use crate::lease::tests::lease;
use dd_proto::id::{RecipientNumber, SessionId};
use dd_proto::report::{Delays, DotSent, Observed, Outcome, Report, Stage};

fn dot(journal: &Journal, counter: u64) {
    let dot = DotSent {
        lease: lease(counter),
        recipients: vec![RecipientNumber(0)],
    };
    let _ = journal.dot_sent(&lease(counter), &dot.into()).unwrap();
}

fn report(journal: &Journal, counter: u64) {
    let report = Report {
        lease: lease(counter),
        session: SessionId(1),
        outcome: Outcome::Transacted,
        detail: "the site answered".repeat(100),
        observed: Observed::default(),
        recipients: Vec::new(),
        dot_sent: true,
        reply: None,
        delays: Delays::default(),
        at: jiff::Timestamp::UNIX_EPOCH,
        stage: Stage::EndOfData,
    };
    let _ = journal.report(&lease(counter), &report.into());
}

fn kinds(journal: &Journal) -> String {
    let word = |entry| match entry {
        pb::journaled::Entry::DotSent(_) => "dot ",
        pb::journaled::Entry::Report(_) => "report ",
    };
    journal.entries().into_iter().map(word).collect()
}

#[test]
fn what_was_noted_is_told_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    dot(&journal, 1);
    dot(&journal, 2);
    report(&journal, 2);
    report(&journal, 3);
    journal.forget(&lease(3));
    drop(journal);
    let journal = Journal::open(directory.path()).unwrap();
    assert_eq!(kinds(&journal), "dot report ");
}

#[test]
fn what_was_forgotten_is_written_with_the_next_record_or_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    let after_a_kill = || kinds(&Journal::open(directory.path()).unwrap());
    for counter in 1..4 {
        report(&journal, counter);
    }
    journal.forget(&lease(1));
    assert_eq!(after_a_kill(), "report report report ");
    dot(&journal, 4);
    assert_eq!(after_a_kill(), "report report dot ");
    journal.forget(&lease(2));
    journal.write_out();
    assert_eq!(after_a_kill(), "report dot ");
}

#[test]
fn a_report_is_written_with_the_next_dot_or_when_asked_and_at_once_where_each_record_is_synced() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    journal.set_sync(Sync::Written);
    let after_a_kill = || kinds(&Journal::open(directory.path()).unwrap());
    dot(&journal, 1);
    report(&journal, 1);
    assert_eq!(after_a_kill(), "dot ");
    assert_eq!(kinds(&journal), "report ");
    dot(&journal, 2);
    assert_eq!(after_a_kill(), "report dot ");
    report(&journal, 2);
    assert_eq!(after_a_kill(), "report dot ");
    journal.write_reports();
    assert_eq!(after_a_kill(), "report report ");
    report(&journal, 3);
    journal.set_sync(Sync::EachRecord);
    assert_eq!(after_a_kill(), "report report report ");
    report(&journal, 4);
    assert_eq!(after_a_kill(), "report report report report ");
}

/// A file that may not be written stands for a full disk.
fn unwritable(journal: &Journal) -> Arc<File> {
    let read_only = Arc::new(File::open(&journal.path).unwrap());
    std::mem::replace(&mut journal.lock().file, read_only)
}

fn refused(journal: &Journal, counter: u64) -> bool {
    let dot = DotSent {
        lease: lease(counter),
        recipients: vec![RecipientNumber(0)],
    };
    journal.dot_sent(&lease(counter), &dot.into()).is_err()
}

#[test]
fn a_journal_that_fails_notes_no_dot_until_it_is_mended_and_loses_no_report() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    let after_a_kill = || kinds(&Journal::open(directory.path()).unwrap());
    journal.set_sync(Sync::Written);
    dot(&journal, 1);
    report(&journal, 1);
    dot(&journal, 2);
    let writable = unwritable(&journal);
    assert!(refused(&journal, 3));
    let trouble = journal.trouble().unwrap();
    assert!(trouble.contains("cannot be written"), "{trouble}");
    // It is known before the content of a message has gone out in vain.
    journal.lock().file = writable;
    assert!(refused(&journal, 3) && journal.is_failing());
    report(&journal, 2);
    assert_eq!(after_a_kill(), "report dot ");
    journal.mend().unwrap();
    assert_eq!(journal.trouble(), None);
    assert_eq!(after_a_kill(), "report report ");
    dot(&journal, 3);
    assert_eq!(after_a_kill(), "report report dot ");
    assert_eq!(kinds(&journal), "report report dot ");
}

#[test]
fn a_journal_that_was_removed_is_made_again_of_what_is_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    dot(&journal, 1);
    std::fs::remove_file(&journal.path).unwrap();
    let trouble = journal.trouble().unwrap();
    assert!(trouble.contains("it was removed"), "{trouble}");
    assert!(refused(&journal, 2));
    journal.mend().unwrap();
    dot(&journal, 2);
    assert_eq!(kinds(&Journal::open(directory.path()).unwrap()), "dot dot ");
}

/// Whoever holds `disk` syncs, or makes another file.
#[test]
fn nobody_waits_for_the_disk_who_need_not() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    journal.set_sync(Sync::Written);
    let syncing = journal.disk.lock().unwrap();
    dot(&journal, 1);
    report(&journal, 1);
    let to_sync = journal.set_sync(Sync::EachRecord);
    dot(&journal, 2);
    journal.forget(&lease(2));
    journal.write_reports();
    journal.write_out();
    assert_eq!(kinds(&journal), "report ");
    assert_eq!(journal.trouble(), None);
    drop(syncing);
    journal.sync_to(to_sync.unwrap()).unwrap();
    // What had come meanwhile went along.
    let inner = journal.lock();
    assert_eq!(inner.synced, inner.written);
}

#[test]
fn what_comes_while_another_file_is_made_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    journal.set_sync(Sync::Written);
    dot(&journal, 1);
    dot(&journal, 2);
    // As in a rewrite, between its two looks at what is in memory.
    journal.lock().since = Some(Vec::new());
    let content = journal.lock().content();
    report(&journal, 1);
    journal.forget(&lease(2));
    dot(&journal, 3);
    let since = journal.lock().since.take().unwrap();
    let path = directory.path().join("elsewhere");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join(FILE), [content, since].concat()).unwrap();
    assert_eq!(kinds(&Journal::open(&path).unwrap()), "report dot ");
}

#[test]
fn damage_in_the_middle_costs_only_itself_and_casts_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let journal = Journal::open(directory.path()).unwrap();
    assert_eq!(journal.doubt(), "");
    dot(&journal, 1);
    let from = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    report(&journal, 2);
    let to = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    dot(&journal, 3);
    drop(journal);
    let sound = std::fs::read(&path).unwrap();
    let mut doubts = std::collections::HashSet::new();
    for at in [from, from + 3, from + 4, from + 20, to - 1] {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&path, &damaged).unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(kinds(&journal), "dot dot ", "{at}");
        dot(&journal, 4);
        let doubt = journal.doubt().to_owned();
        drop(journal);
        // The same from then on: it is cast once.
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(kinds(&journal), "dot dot dot ");
        assert_eq!(journal.doubt(), doubt);
        doubts.insert(doubt);
    }
    assert_eq!(doubts.len(), 5);
}

#[test]
fn a_record_of_a_newer_version_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let journal = Journal::open(directory.path()).unwrap();
    dot(&journal, 1);
    let from = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    dot(&journal, 2);
    dot(&journal, 3);
    drop(journal);
    let mut content = std::fs::read(&path).unwrap();
    let length = (content.len() - from) / 2;
    content[from + 4] = 9;
    let crc = crc32c::crc32c(&content[from..from + length - 4]);
    content[from + length - 4..from + length].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &content).unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    assert_eq!(
        (kinds(&journal).as_str(), journal.doubt()),
        ("dot dot ", "")
    );
}

#[test]
fn a_torn_end_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let journal = Journal::open(directory.path()).unwrap();
    dot(&journal, 1);
    let whole = std::fs::metadata(&path).unwrap().len();
    report(&journal, 1);
    drop(journal);
    let content = std::fs::read(&path).unwrap();
    for cut in usize::try_from(whole).unwrap()..content.len() {
        std::fs::write(&path, &content[..cut]).unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(kinds(&journal), "dot ");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
    }
}

#[test]
fn a_journal_that_is_mostly_forgotten_shrinks_and_keeps_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    journal.set_sync(Sync::Written);
    dot(&journal, 0);
    let length = || std::fs::metadata(&journal.path).unwrap().len();
    for counter in 1..100 {
        report(&journal, counter);
        journal.forget(&lease(counter));
    }
    journal.write_out();
    let before = length();
    journal.compact().unwrap();
    assert_eq!(length(), before);
    journal.compact_from(100_000).unwrap();
    assert!(length() < 200, "{}", length());
    report(&journal, 0);
    drop(journal);
    assert_eq!(kinds(&Journal::open(directory.path()).unwrap()), "report ");
}
