//! Followers: the jobs of an intake queue. Each is parked until the run that it waits for has ended.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tracing::warn;

use super::plain::raw;
use super::{Handler, Hold};
use crate::catalog::Entry;
use crate::clock::{Clock, millis};
use crate::dedupe::KeyParts;
use crate::fault;
use crate::flight::Outcome;
use crate::intake::{Error, Follower, FollowerAnswer, Intake, PARKED_FIELD, parked_mark};
use crate::json;
use crate::queue::{How, Job};

/// How soon a job is looked at again when SQL was away.
const SQL_AWAY: Duration = Duration::from_secs(1);

/// Checks a job's data and writes it as the run is to be given it.
///
/// # Errors
/// What is wrong with it, for the producer.
pub type Shape = fn(&Value, &crate::config::Settings) -> Result<Value, String>;

/// Takes the wishes of one intake queue in.
pub struct Followers {
    pub entry: Entry,
    pub intake: Intake,
    pub clock: Clock,
    pub shape: Option<Shape>,
    pub settings: std::sync::Arc<crate::config::Settings>,
}

#[async_trait]
impl Handler for Followers {
    async fn handle(&self, job: Job, _hold: Hold) -> How {
        let follower = match self.read(&job) {
            Ok(follower) => follower,
            Err(reason) => return How::Fail { reason, stack: None },
        };
        match self.intake.follow(&self.entry, follower).await {
            Ok(FollowerAnswer::Over(Outcome::Succeeded(value))) => How::Complete { value: raw(value) },
            Ok(FollowerAnswer::Over(Outcome::Failed(reason) | Outcome::Cancelled(reason))) => {
                How::Fail { reason, stack: None }
            }
            Ok(FollowerAnswer::Park { flight, generation }) => {
                fault::point("follower.parked");
                How::Park { fields: vec![(PARKED_FIELD.to_owned(), parked_mark(&flight, generation))] }
            }
            Err(Error::Store(error)) if error.is_repeatable() => {
                warn!(%error, "put a follower back: SQL is away");
                How::Delay { until_ms: self.clock.now_ms() + millis(SQL_AWAY) }
            }
            Err(error) => How::Fail { reason: error.to_string(), stack: None },
        }
    }

    fn is_durable(&self) -> bool {
        // A job that stalled here was promised its result all the same.
        true
    }
}

impl Followers {
    fn read(&self, job: &Job) -> Result<Follower, String> {
        let data = json::readable(&job.data).map_err(|e| format!("the job's data is not JSON: {e}"))?;
        let dedupe = self.entry.settings.dedupe.as_ref().ok_or("this queue has no dedupe fields")?;
        let key = KeyParts::from_fields(&data, dedupe.fields.iter().map(String::as_str), &dedupe.defaults)
            .map_err(|field| format!("the job's data has no usable \"{field}\""))?;
        let shaped = match self.shape {
            Some(shape) => shape(&data, &self.settings)?.to_string(),
            None => job.data.get().to_owned(),
        };
        Ok(Follower {
            id: job.id.clone(),
            name: job.name.clone(),
            timestamp: job.timestamp,
            attempts_made: job.attempts_made,
            data: shaped,
            key: key.to_key(),
            subscriber: self.intake.subscriber_in(&data),
            priority: job.priority,
        })
    }
}
