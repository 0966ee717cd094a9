//! For how long a commit waits for company.

use super::*;

#[test]
fn only_where_several_have_just_come_at_once_is_waited_for_more_and_not_longer_than_it_saves() {
    let micros = Duration::from_micros;
    for (mail, took, since, wait) in [
        (0, 200, 0, 0),
        (1, 200, 0, 0),
        (2, 200, 0, 0),
        (3, 200, 0, 200),
        (3, 200, 9_999, 200),
        (3, 200, 10_000, 0),
        (20, 50, 0, 50),
        (20, 30_000, 0, 500),
    ] {
        let before = Before {
            mail,
            took: micros(took),
            ended: stopwatch(),
        };
        let found = before.wait(micros(since));
        assert_eq!(found, micros(wait), "{before:?} {since}");
    }
}
