//! `dd.v1.Clock`.

use std::sync::Arc;

use dd_proto::pb;
use tonic::{Request, Response, Status};

use super::{Context, caller, now, status};

#[derive(Debug, Clone)]
pub struct Clock(pub Arc<Context>);

#[tonic::async_trait]
impl pb::clock_server::Clock for Clock {
    async fn confirm(
        &self,
        request: Request<pb::ConfirmClockRequest>,
    ) -> Result<Response<pb::ClockConfirmed>, Status> {
        let who = caller(&request);
        let Some(alarm) = self.0.dispatch.clock_alarm().await else {
            return Ok(Response::new(pb::ClockConfirmed::default()));
        };
        let alarm = alarm.to_string();
        let (context, what) = (
            self.0.clone(),
            format!("clock confirmed; the alarm was: {alarm}"),
        );
        let confirming = self.0.editor.to_its_end(async move {
            let confirmed = context.dispatch.clock_confirmed().await;
            context.editor.audit(now(), who.who(), &what);
            confirmed
        });
        confirming
            .await
            .map_err(|error| status::not_durable("the clock is believed from now on", &error))?;
        Ok(Response::new(pb::ClockConfirmed { alarm }))
    }
}
