//! What is sent about claims, both ways.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::clock::Millis;
use crate::config::Span;
use crate::http::jobs::JobBody;
use crate::http::submit::Name;
use crate::json;

#[derive(Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ClaimWish)]
pub(in crate::http) struct Wish {
    /// For people: who works on the jobs. Not with `onetake-` at its front: so are the servers called.
    #[schema(value_type = Option<crate::id::TextOrInteger>)]
    pub worker: Option<Name>,
    /// At most so many jobs; `pull.max_batch` of the configuration is the most.
    pub max: u32,
    /// How long the jobs are held unless that is renewed, such as `30s`: from 1 s to `pull.max_lease` of the configuration;
    /// its `runner.lease` if it is not given.
    #[schema(value_type = Option<String>)]
    pub lease: Option<Span>,
    /// How long to wait for a job where there is none, at most `http.max_wait`. Not given: now or not at all.
    #[schema(value_type = Option<String>)]
    pub wait: Option<Span>,
}

impl Default for Wish {
    fn default() -> Self {
        Self { worker: None, max: 1, lease: None, wait: None }
    }
}

/// Jobs in the caller's hands.
#[derive(Serialize, ToSchema)]
#[schema(as = Claim)]
pub(in crate::http) struct ClaimBody {
    /// Whatever is said about these jobs needs it. Nothing without jobs.
    pub token: Option<String>,
    /// When the jobs are somebody else's, unless that is renewed.
    pub expires_at: Option<String>,
    /// In the order in which they are to be started.
    pub items: Vec<JobBody>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Heartbeat)]
pub(in crate::http) struct Heartbeat {
    /// Of the claim.
    pub token: String,
    /// From now on; as in a claim.
    #[schema(value_type = Option<String>)]
    pub lease: Option<Span>,
    /// Any JSON; by custom a number of percent.
    #[schema(value_type = Option<serde_json::Value>)]
    pub progress: Option<Box<RawValue>>,
    /// Lines for the job's log.
    #[serde(default, deserialize_with = "json::texts")]
    pub logs: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Lease)]
pub(in crate::http) struct LeaseBody {
    pub expires_at: String,
    /// The job was cancelled, for this reason. However it ends, it is not run again.
    pub cancelled: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Complete)]
pub(in crate::http) struct Complete {
    /// Of the claim.
    pub token: String,
    /// The return value: any JSON; null if it is not given.
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Box<RawValue>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Fail)]
pub(in crate::http) struct Fail {
    /// Of the claim.
    pub token: String,
    #[serde(deserialize_with = "json::text")]
    pub reason: String,
    /// The trace; the reason if it is not given.
    #[serde(default, deserialize_with = "json::text_if_any")]
    pub stack: Option<String>,
    /// False: no other attempt is worth it.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub retry: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PutOff)]
pub(in crate::http) struct Delay {
    /// Of the claim.
    pub token: String,
    /// From now on, such as `30s`; `0s` puts it back to the front of the queue.
    #[schema(value_type = String)]
    pub delay: Span,
}

/// What became of a job.
#[derive(Serialize, ToSchema)]
#[schema(as = EndedJob)]
pub(in crate::http) struct EndedBody {
    pub id: String,
    pub queue: String,
    /// `completed`, `failed`, or for another attempt `waiting` or `delayed`; `waiting-children`, also where none was pending.
    pub state: &'static str,
    /// When it is due again, in milliseconds since 1970.
    pub due: Option<Millis>,
}
