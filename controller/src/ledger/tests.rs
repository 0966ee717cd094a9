use super::search::{Wanted, read};
use super::writer::{Writing, tidy};
use super::*;
use jiff::SignedDuration;
use tracing_subscriber::layer::SubscriberExt as _;

const ONE: &str = "01f2e4a07c00700080000000000000a1";
const TWO: &str = "01f2e4a08c00700080000000000000b2";

fn entry(id: &str, what: &str, site: &str, recipients: &str) -> Entry {
    Entry {
        at: search::arrived(id).unwrap(),
        what: what.to_owned(),
        id: id.to_owned(),
        message_id: format!("<{}@b.example>", &id[30..]),
        reverse_path: "A@b.example".to_owned(),
        recipients: recipients.to_owned(),
        site: site.to_owned(),
        ..Entry::default()
    }
}

fn write(directory: &Path, day: &str, entries: &[Entry], torn: &str) {
    let lines = entries.iter().map(text).chain([torn.to_owned()]);
    std::fs::write(
        directory.join(format!("{day}.jsonl")),
        lines.collect::<String>(),
    )
    .unwrap();
}

fn text(entry: &Entry) -> String {
    serde_json::to_string(entry).unwrap() + "\n"
}

#[test]
fn a_message_is_found_by_all_that_is_known_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = search::arrived(ONE).unwrap();
    let day = at.to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let next = day.tomorrow().unwrap();
    let entries = [
        entry(
            ONE,
            "accepted",
            "home,office",
            "me@home.example,you@office.example",
        ),
        entry(ONE, "settled", "home", "me@home.example"),
        entry(TWO, "accepted", "home", "me@home.example"),
    ];
    write(directory.path(), &day.to_string(), &entries, "{\"at\":\"20");
    let late = entry(ONE, "expired", "office", "you@office.example");
    write(directory.path(), &next.to_string(), &[late], "");
    std::fs::write(directory.path().join("notes.txt"), "not ours").unwrap();

    let found = |wanted: Wanted, limit| {
        let found = read(directory.path(), &wanted, limit).unwrap();
        let shown = found.iter().map(|(id, told)| {
            let ended = told
                .ended
                .iter()
                .map(|it| format!("{} {}", it.site, it.what));
            let ended: Vec<String> = ended.collect();
            format!("{} {:?} {ended:?}", &id[30..], told.accepted.is_some())
        });
        shown.collect::<Vec<_>>()
    };
    let all = [
        "a1 true [\"home settled\", \"office expired\"]",
        "b2 true []",
    ];
    let pattern = |text: &str| Some(text.parse().unwrap());
    let nothing = Wanted::default;
    assert_eq!(found(nothing(), 10), all);
    assert_eq!(found(nothing(), 1), all[1..]);
    let sender = Wanted {
        reverse_path: pattern("a@B.*"),
        ..nothing()
    };
    assert_eq!(found(sender, 10), all);
    let recipient = Wanted {
        recipient: pattern("you@*"),
        ..nothing()
    };
    assert_eq!(found(recipient, 10), ["a1 true [\"office expired\"]"]);
    for text in ["<b2@b.example>", "b2@b.example"] {
        let message_id = Wanted {
            message_id: pattern(text),
            ..nothing()
        };
        assert_eq!(found(message_id, 10), all[1..], "{text}");
    }
    let site = Wanted {
        site: Some("office".to_owned()),
        ..nothing()
    };
    assert_eq!(found(site, 10), ["a1 true [\"office expired\"]"]);
    let id = Wanted {
        id: Some(TWO.to_owned()),
        ..nothing()
    };
    assert_eq!(found(id, 10), all[1..]);
    let two = search::arrived(TWO).unwrap();
    assert_eq!(
        found(
            Wanted {
                since: Some(two),
                ..nothing()
            },
            10
        ),
        all[1..]
    );
    assert_eq!(
        found(
            Wanted {
                until: Some(two),
                ..nothing()
            },
            10
        ),
        all[..1]
    );
}

fn there(directory: &Path) -> Vec<String> {
    let files = files(directory).unwrap();
    files.iter().map(|(part, _)| part.file_name()).collect()
}

fn hundred_bytes(directory: &Path, stem: &str) {
    std::fs::write(directory.join(format!("{stem}.jsonl")), [b'x'; 100]).unwrap();
}

#[test]
fn days_go_when_they_are_old_and_when_all_are_too_large() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for day in ["2026-11-28", "2026-11-29", "2026-11-30", "2026-12-01"] {
        hundred_bytes(directory, day);
    }
    let now = "2026-12-01T12:00:00Z".parse().unwrap();
    let keep = SignedDuration::from_hours(48);
    tidy(directory, now, keep, 1000, None).unwrap();
    assert_eq!(
        there(directory),
        ["2026-11-29.jsonl", "2026-11-30.jsonl", "2026-12-01.jsonl"]
    );
    tidy(directory, now, keep, 250, None).unwrap();
    assert_eq!(there(directory), ["2026-11-30.jsonl", "2026-12-01.jsonl"]);
    // The one that is written stays.
    tidy(directory, now, keep, 50, Part::of("2026-12-01.jsonl")).unwrap();
    assert_eq!(there(directory), ["2026-12-01.jsonl"]);
}

#[test]
fn a_file_of_a_day_to_come_is_not_newer_than_todays() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for day in ["2026-11-30", "2026-12-01", "2031-01-01"] {
        hundred_bytes(directory, day);
    }
    let now = "2026-12-01T12:00:00Z".parse().unwrap();
    tidy(directory, now, SignedDuration::from_hours(48), 250, None).unwrap();
    assert_eq!(there(directory), ["2026-11-30.jsonl", "2026-12-01.jsonl"]);
}

fn writing(directory: &Path, keep: u64, has_room: impl Fn() -> bool + Send + 'static) -> Writing {
    let settings = Settings {
        state_dir: PathBuf::new(),
        keep: std::time::Duration::from_secs(keep),
        has_room: Box::new(has_room),
    };
    Writing::new(directory.to_owned(), settings)
}

#[test]
fn while_space_is_short_the_oldest_history_goes_and_the_time_goes_on() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for day in ["2026-11-01", "2026-11-02", "2026-11-28", "2026-11-29"] {
        hundred_bytes(directory, day);
    }
    hundred_bytes(directory, "2026-11-29.1");
    let has_room = Arc::new(AtomicBool::new(false));
    let shared = has_room.clone();
    let keep = 14 * 86_400;
    let mut writing = writing(directory, keep, move || shared.load(Ordering::Relaxed));
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    // One goes to make room, and what is too old goes anyway.
    writing.look_after(at("2026-11-30T12:00:00Z"));
    assert_eq!(
        there(directory),
        ["2026-11-28.jsonl", "2026-11-29.jsonl", "2026-11-29.1.jsonl"]
    );
    writing.look_after(at("2026-11-30T12:00:01Z"));
    assert_eq!(there(directory), ["2026-11-29.jsonl", "2026-11-29.1.jsonl"]);
    // What freed space may take a moment to be seen.
    writing.look_after(at("2026-11-30T12:00:01.5Z"));
    assert_eq!(there(directory).len(), 2);
    has_room.store(true, Ordering::Relaxed);
    writing.look_after(at("2026-11-30T12:00:03Z"));
    assert_eq!(there(directory).len(), 2);
    // Nothing is written, and the days go all the same.
    writing.look_after(at("2026-12-30T12:00:00Z"));
    assert_eq!(there(directory), [""; 0]);
}

#[test]
fn a_quiet_history_removes_the_file_that_it_wrote_last() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut writing = writing(directory, 3600, || true);
    let it = entry(ONE, "settled", "home", "me@home.example");
    writing.keep(&text(&it), it.at).unwrap();
    writing.look_after(it.at);
    assert_eq!(there(directory).len(), 1);
    writing.look_after(it.at + SignedDuration::from_hours(26));
    assert_eq!(there(directory), [""; 0]);
}

#[test]
fn the_bound_of_all_files_holds_within_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let it = entry(ONE, "settled", "home", "me@home.example");
    let line = text(&it).len() as u64;
    let bounded = || writing(directory, 86_400, || true).bounded(10 * line, 2 * line);
    let mut writing = bounded();
    for _ in 0..30 {
        writing.keep(&text(&it), it.at).unwrap();
        let sizes = files(directory).unwrap().into_iter().map(|(_, path)| {
            let metadata = std::fs::metadata(path).unwrap();
            metadata.len()
        });
        assert!(sizes.sum::<u64>() <= 10 * line);
    }
    let day = it.at.to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let parts: Vec<String> = (10..15).map(|at| format!("{day}.{at}.jsonl")).collect();
    assert_eq!(there(directory), parts);
    // The next start goes on behind the last one.
    let mut writing = bounded();
    writing.keep(&text(&it), it.at).unwrap();
    assert_eq!(there(directory).last().unwrap(), &format!("{day}.15.jsonl"));
    drop(writing);
    assert!(!read(directory, &Wanted::default(), 10).unwrap().is_empty());
}

/// The history that is written is one for the whole process.
static WRITTEN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn the_two_lines_of_a_message_are_kept_and_no_others() {
    let _alone = WRITTEN.lock().await;
    let state = tempfile::tempdir().unwrap();
    let open = || {
        let settings = Settings {
            state_dir: state.path().to_owned(),
            keep: std::time::Duration::from_secs(86_400),
            has_room: Box::new(|| true),
        };
        Ledger::open(settings).unwrap()
    };
    let log = tracing_subscriber::registry().with(layer());
    let say = |id: &str| {
        tracing::info!(target: "mail", id, message_id = "<1@b.example>", reverse_path = "a@b.example",
            recipients = "me@home.example", sites = "home", bytes = 281, client = "192.0.2.1", "accepted");
        tracing::info!(target: "mail", id, site = "home", "sent again in doubt");
        tracing::info!(id, message_id = "<1@b.example>", "another part's line");
        tracing::info!(target: "mail", id, message_id = "<1@b.example>", reverse_path = "a@b.example",
            recipients = "me@home.example", site = "home", agent = "out1", address = "192.0.2.7:25",
            proof = "port", reply = "250 ok", delays = "0/0/0/0", "settled");
    };
    let wanted = |id: &str| Wanted {
        id: Some(id.to_owned()),
        ..Wanted::default()
    };
    tracing::subscriber::with_default(log, || {
        let _ledger = open();
        say(ONE);
    });
    // What a kill has torn.
    let (_, path) = files(&directory(state.path())).unwrap().pop().unwrap();
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"at\"");
    std::fs::write(&path, text).unwrap();
    let log = tracing_subscriber::registry().with(layer());
    let _ledger = open();
    tracing::subscriber::with_default(log, || say(TWO));
    for id in [ONE, TWO] {
        let found = search::search(state.path(), wanted(id), 10).await.unwrap();
        let told = &found[id];
        let accepted = told.accepted.as_ref().unwrap();
        assert_eq!(
            (&*accepted.site, &*accepted.bytes, &*accepted.client),
            ("home", "281", "192.0.2.1")
        );
        let [settled] = &told.ended[..] else {
            panic!("{told:?}");
        };
        assert_eq!(
            (&*settled.what, &*settled.agent, &*settled.reply),
            ("settled", "out1", "250 ok")
        );
        assert_eq!(settled.recipients, "me@home.example");
    }
}

#[tokio::test]
async fn the_last_of_many_recipients_is_found() {
    let _alone = WRITTEN.lock().await;
    let state = tempfile::tempdir().unwrap();
    let _ledger = Ledger::open(Settings {
        state_dir: state.path().to_owned(),
        keep: std::time::Duration::from_secs(86_400),
        has_room: Box::new(|| true),
    })
    .unwrap();
    let many = |count: usize| {
        let all = (0..count).map(|at| format!("\"member\\ of the \\list\\ {at}\"@home.example"));
        all.collect::<Vec<_>>().join(",")
    };
    let log = tracing_subscriber::registry().with(layer());
    let say = |id: &str, recipients: &str, sites: &str| {
        tracing::info!(target: "mail", id, message_id = "<1@b.example>", reverse_path = "a@b.example",
            recipients, sites, bytes = 281, client = "192.0.2.1", "accepted");
    };
    let sites: Vec<String> = (0..5000).map(|at| format!("site-{at}")).collect();
    tracing::subscriber::with_default(log, || {
        say(ONE, &many(100), "home");
        say(TWO, &many(5000), &sites.join(","));
    });
    let found = async |recipient: &str, site: Option<&str>| {
        let wanted = Wanted {
            recipient: Some(recipient.parse().unwrap()),
            site: site.map(str::to_owned),
            ..Wanted::default()
        };
        let found = search::search(state.path(), wanted, 10).await.unwrap();
        found.into_keys().collect::<Vec<_>>()
    };
    // Of a list that goes on, anybody may be one.
    assert_eq!(found("*list\\ 99\"@home.example", None).await, [ONE, TWO]);
    assert_eq!(found("*list\\ 100\"@home.example", None).await, [TWO]);
    assert_eq!(found("you@other.example", None).await, [TWO]);
    assert_eq!(found("you@other.example", Some("site-4999")).await, [TWO]);
    let all = search::search(state.path(), Wanted::default(), 10).await;
    let recipients = all
        .unwrap()
        .remove(TWO)
        .unwrap()
        .accepted
        .unwrap()
        .recipients;
    assert!(recipients.ends_with("@home.example,\u{2026}"));
    assert!(recipients.len() <= line::MOST_OF_LIST);
}
