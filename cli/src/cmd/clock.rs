//! `ddadm clock …`.

use dd_proto::pb;
use serde::Serialize;

use crate::args::ClockVerb;
use crate::client::Controller;
use crate::failure::Failure;
use crate::output::{Answer, present};

pub(crate) async fn run(verb: ClockVerb, controller: &Controller) -> Result<Answer, Failure> {
    let mut clock = controller.clock().await?;
    match verb {
        ClockVerb::Confirm => {
            let confirmed = clock.confirm(pb::ConfirmClockRequest {}).await;
            Ok(answer(controller.one(confirmed)?))
        }
    }
}

#[derive(Debug, Serialize)]
struct Confirmed {
    /// What is over now; null where there was nothing to confirm.
    alarm: Option<String>,
}

fn answer(confirmed: pb::ClockConfirmed) -> Answer {
    let alarm = present(confirmed.alarm);
    let text = match &alarm {
        Some(alarm) => format!("confirmed, mail may expire again; the alarm was: {alarm}\n"),
        None => "no alarm about the clock; nothing changed\n".to_owned(),
    };
    Answer::new(&Confirmed { alarm }, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmed_clock_says_which_alarm_is_over() {
        let alarm = "the wall clock jumped".to_owned();
        insta::assert_snapshot!(answer(pb::ClockConfirmed { alarm }).both());
        insta::assert_snapshot!("no_alarm", answer(pb::ClockConfirmed::default()).both());
    }
}
