//! Answers × places × how the message came to be sent: one message (or two in a row) that the home answers so, then a
//! good one. A golden table that is read like a specification.

use std::fmt::Write as _;
use std::time::Duration;

use dd_tests::zoo::fault::{Does, Fault};
use dd_tests::zoo::habits::{Habits, PLACES, Place};
use dd_tests::zoo::kinds;

use super::world::{INTERVAL, World, simulated};
use crate::store::Settled;

const ANSWERS: [&str; 21] = [
    "251", "421", "450", "452", "500", "501", "502", "503", "504", "521", "530", "535", "550",
    "551", "552", "553", "554", "555", "close", "reset", "silence",
];

/// How the message that is answered so came to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// As the first of its session.
    First,
    FirstPipelined,
    /// On a session that has delivered one, when that was answered.
    InTurn,
    /// Together with the dot of the one before.
    Ahead,
}

impl How {
    const ALL: [Self; 4] = [Self::First, Self::FirstPipelined, Self::InTurn, Self::Ahead];

    fn habits(self) -> Habits {
        let keywords: &[&str] = match self {
            Self::First | Self::InTurn => &["8BITMIME"],
            Self::FirstPipelined | Self::Ahead => &["8BITMIME", "PIPELINING"],
        };
        Habits {
            keywords,
            ..kinds::plain()
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::FirstPipelined => "first, pipelined",
            Self::InTurn => "in turn",
            Self::Ahead => "ahead",
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Row {
    place: Place,
    answer: &'static str,
    times: u32,
    how: How,
}

/// What an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concerns {
    Mail,
    Session,
    Site,
}

/// What came of it.
struct Outcome {
    line: String,
    wrong: Vec<String>,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for place in PLACES {
        for answer in ANSWERS {
            for how in How::ALL {
                let before_mail = matches!(place, Place::Greeting | Place::Ehlo);
                if before_mail && how != How::First {
                    continue;
                }
                for times in [1, 2] {
                    rows.push(Row {
                        place,
                        answer,
                        times,
                        how,
                    });
                }
            }
        }
    }
    rows
}

impl Row {
    fn does(self) -> Does {
        match self.answer {
            "close" => Does::Closes,
            "reset" => Does::Resets,
            "silence" => Does::IsMute,
            code => Does::Says(format!("{code} so it is")),
        }
    }

    /// Whether the home says for ever no to the message, as RFC 5321 §4.2.1 has it.
    fn is_final(self) -> bool {
        let about_mail = !matches!(self.place, Place::Greeting | Place::Ehlo);
        let about_session =
            self.place == Place::Mail && matches!(self.answer, "502" | "503" | "530");
        // RFC 5321 §4.5.3.1.10.
        let too_many = self.place == Place::Rcpt && self.answer == "552";
        about_mail && self.answer.starts_with('5') && !about_session && !too_many
    }

    /// How long after its arrival the good message has to be there.
    fn allows(self) -> Duration {
        let second = Duration::from_secs(1);
        let interval = INTERVAL.mul_f64(1.1) + second;
        let each = match self.concerns() {
            Concerns::Mail => Duration::ZERO,
            Concerns::Site => interval * self.times,
            // A session that ended is followed by another after a second, and that, where nothing was answered between, after
            // two.
            Concerns::Session => second * ((1 << self.times) - 1),
        };
        2 * second + each + self.silent() * self.times
    }

    /// Whether the session had an answer about some message before.
    fn has_progress(self) -> bool {
        // An answer to the dot is one, whatever it is.
        let at_dot = self.place == Place::Dot && self.answer == "421";
        at_dot || matches!(self.how, How::InTurn | How::Ahead)
    }

    fn concerns(self) -> Concerns {
        match (self.place, self.answer) {
            (Place::Greeting | Place::Ehlo, _) => Concerns::Site,
            (Place::Mail, "502" | "503" | "530") if self.times == 1 && self.has_progress() => {
                Concerns::Session
            }
            (Place::Mail, "502" | "503" | "530") => Concerns::Site,
            (_, "421" | "close" | "reset" | "silence") => Concerns::Session,
            // A 2yz to DATA is no answer to it.
            (Place::Data, "251") => Concerns::Session,
            // On a session that has taken mail a 4yz may be about that: the next one shows.
            (Place::Mail | Place::Rcpt | Place::Data, "450" | "452") if self.has_progress() => {
                Concerns::Session
            }
            _ => Concerns::Mail,
        }
    }

    /// How long we wait for what never comes.
    fn silent(self) -> Duration {
        let seconds = match (self.answer, self.place) {
            ("silence", Place::Greeting | Place::Mail | Place::Rcpt) => 300,
            ("silence", Place::Ehlo) => 60,
            ("silence", Place::Data) => 120,
            ("silence", Place::Dot) => 600,
            _ => 0,
        };
        Duration::from_secs(seconds)
    }

    /// Whether it may be what the server says of commands that come with a dot: they are said again in their turn.
    fn is_of_the_group(self) -> bool {
        self.how == How::Ahead && matches!(self.answer, "500" | "502" | "503")
    }

    async fn run(self) -> Outcome {
        let mut world = World::new(7, &[(self.how.habits(), 1)]).await;
        world.homes[0].home().faults.push(Fault {
            at: self.place,
            does: self.does(),
            times: self.times,
            sender: "bad",
        });
        let opened = matches!(self.how, How::InTurn | How::Ahead);
        world.until(Duration::from_secs(1)).await;
        if opened {
            world.submit(0, "opener@b.example", &to("user0")).await;
        }
        if self.how == How::InTurn {
            world.until(Duration::from_secs(2)).await;
        }
        for n in 0..self.times {
            let from = format!("bad{n}@b.example");
            world.submit(0, &from, &to("user1")).await;
        }
        let good_at = Duration::from_secs(4);
        world.until(good_at).await;
        world.submit(0, "good@b.example", &to("user2")).await;
        let mut next = Duration::from_secs(30);
        world.until(Duration::from_secs(9)).await;
        let soon = world.state_of(0).await;
        while !world.queue.left().is_empty() && next < Duration::from_secs(6 * 3600) {
            world.until(next).await;
            next += Duration::from_secs(600);
            let from = format!("later{}@b.example", next.as_secs());
            world.submit(0, &from, &to("user3")).await;
            world.until(next - Duration::from_secs(10)).await;
        }
        self.outcome(&world, good_at, &soon)
    }

    fn outcome(self, world: &World, good_at: Duration, soon: &str) -> Outcome {
        let mut wrong = Vec::new();
        let home = world.homes[0].home();
        let good = home.mailbox.iter().find(|it| it.from.starts_with("good"));
        let good = good.map(|it| it.at - good_at);
        if good.is_none_or(|late| late > self.allows()) {
            wrong.push(format!("the good one took {good:?} of {:?}", self.allows()));
        }
        let is_failed = ["down", "busy", "refused", "wrong-host"].iter();
        let mut is_failed = is_failed.map(|why| format!("waiting {why}"));
        if self.concerns() != Concerns::Site && is_failed.any(|it| it == soon) {
            wrong.push(format!("of the site it says {soon}"));
        }
        let mut bad = Vec::new();
        let fates = world.queue.fates();
        for letter in &world.letters {
            let copies = home.copies(&letter.from, &letter.to[0]);
            let fate = fates.iter().find(|it| it.delivery == letter.delivery);
            let settled = fate.map(|it| it.settled);
            // Of a home that has taken nothing yet a 5yz is kept: it is asked again once it has.
            let is_final = letter.from.starts_with("bad") && self.is_final();
            let opened = matches!(self.how, How::InTurn | How::Ahead);
            let may_be = match settled {
                Some(Settled::Failed) => is_final,
                Some(Settled::Relayed) => !is_final || !opened || self.is_of_the_group(),
                _ => false,
            };
            if !may_be {
                wrong.push(format!("{} is {settled:?}", letter.from));
            }
            let in_doubt =
                self.place == Place::Dot && matches!(self.answer, "close" | "reset" | "silence");
            if copies > 1 + usize::from(in_doubt) {
                wrong.push(format!("{} is there {copies} times", letter.from));
            }
            if letter.from.starts_with("bad") {
                let after = fate.map(|it| it.at - letter.at).unwrap_or_default();
                let what = settled.map(|it| format!("{it:?}")).unwrap_or_default();
                bad.push(format!("{} +{}", what.to_lowercase(), tenths(after)));
            }
        }
        let good = good.map_or("never".to_owned(), |late| format!("+{}", tenths(late)));
        let Row {
            place,
            answer,
            times,
            how,
        } = self;
        let place = format!("{place:?}").to_lowercase();
        let line = format!(
            "{place:8} {answer:7} {times}x {:16} bad: {:36} good: {good:8} site: {soon}",
            how.word(),
            bad.join(", "),
        );
        Outcome { line, wrong }
    }
}

fn to(user: &str) -> Vec<String> {
    vec![format!("{user}@home.example")]
}

fn tenths(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

#[test]
fn whatever_a_home_answers_once_the_next_message_is_there_at_once() {
    let (mut table, mut wrong) = (String::new(), String::new());
    for row in rows() {
        let outcome = simulated(row.run());
        writeln!(table, "{}", outcome.line.trim_end()).unwrap();
        for why in outcome.wrong {
            writeln!(wrong, "{}: {why}", outcome.line.trim_end()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{wrong}", wrong.lines().count());
    insta::assert_snapshot!("answers", table);
}
