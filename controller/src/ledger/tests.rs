use super::search::{Wanted, read};
use super::writer::tidy;
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
    let lines = entries
        .iter()
        .map(|it| serde_json::to_string(it).unwrap() + "\n");
    let text: String = lines.chain([torn.to_owned()]).collect();
    std::fs::write(directory.join(format!("{day}.jsonl")), text).unwrap();
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

#[test]
fn days_go_when_they_are_old_and_when_all_are_too_large() {
    let directory = tempfile::tempdir().unwrap();
    let write = |day: &str| {
        std::fs::write(directory.path().join(format!("{day}.jsonl")), [b'x'; 100]).unwrap();
    };
    let there = || {
        let files = files(directory.path()).unwrap();
        files
            .iter()
            .map(|(date, _)| date.to_string())
            .collect::<Vec<_>>()
    };
    for day in ["2026-11-28", "2026-11-29", "2026-11-30", "2026-12-01"] {
        write(day);
    }
    let now = "2026-12-01T12:00:00Z".parse().unwrap();
    let keep = SignedDuration::from_hours(48);
    tidy(directory.path(), now, keep, 1000).unwrap();
    assert_eq!(there(), ["2026-11-29", "2026-11-30", "2026-12-01"]);
    tidy(directory.path(), now, keep, 250).unwrap();
    assert_eq!(there(), ["2026-11-30", "2026-12-01"]);
    // The day that is written stays.
    tidy(directory.path(), now, keep, 50).unwrap();
    assert_eq!(there(), ["2026-12-01"]);
}

#[tokio::test]
async fn the_two_lines_of_a_message_are_kept_and_no_others() {
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
