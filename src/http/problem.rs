//! What callers are told when something is wrong: RFC 9457 problem documents with stable codes.
//!
//! A problem travels through the handlers as a value and is written by the outermost layer, which knows the request's
//! id. Its cause, if it is ours, is logged there and never told.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::id::QueueNameError;
use crate::refusal::{self, Language, Message, Refusal};
use crate::{intake, lock, queue, redis, store};

/// What went wrong, for programs. Each is a stable word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    InvalidJson,
    InvalidField,
    MissingField,
    BodyTooLarge,
    JsonTooDeep,
    RequestTimeout,
    QueueUnknown,
    RequestUnknown,
    JobUnknown,
    SchedulerUnknown,
    DeliveryUnknown,
    DedupeUnknown,
    KeyUnknown,
    FileUnknown,
    LockUnknown,
    LockBusy,
    LockLost,
    LockNotHeld,
    RequestFinal,
    DeliveryNotDead,
    RunExists,
    JobWrongState,
    JobLocked,
    JobScheduled,
    JobForeign,
    NotRunHere,
    TooManyChildren,
    QueueNotPaused,
    QueueActive,
    JobExists,
    LeaseLost,
    ChildrenPending,
    ChildFailed,
    IdempotencyKeyReused,
    IdempotencyKeyInFlight,
    Unauthorized,
    SignatureInvalid,
    Forbidden,
    StoreUnavailable,
    RedisUnavailable,
    NotFound,
    MethodNotAllowed,
    PreconditionFailed,
    RangeNotSatisfiable,
    Internal,
    /// A workload's refusal, which has a code of its own.
    #[serde(skip)]
    Refused,
}

impl Code {
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson | Self::JsonTooDeep => StatusCode::BAD_REQUEST,
            Self::InvalidField | Self::MissingField | Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::QueueUnknown
            | Self::RequestUnknown
            | Self::JobUnknown
            | Self::SchedulerUnknown
            | Self::DeliveryUnknown
            | Self::DedupeUnknown
            | Self::KeyUnknown
            | Self::FileUnknown
            | Self::LockUnknown
            | Self::NotFound => StatusCode::NOT_FOUND,
            Self::LockBusy
            | Self::LockLost
            | Self::LockNotHeld
            | Self::RequestFinal
            | Self::DeliveryNotDead
            | Self::JobWrongState
            | Self::JobLocked
            | Self::JobScheduled
            | Self::JobForeign
            | Self::NotRunHere
            | Self::TooManyChildren
            | Self::QueueNotPaused
            | Self::QueueActive
            | Self::JobExists
            | Self::LeaseLost
            | Self::ChildrenPending
            | Self::ChildFailed
            | Self::RunExists
            | Self::IdempotencyKeyInFlight => StatusCode::CONFLICT,
            Self::Unauthorized | Self::SignatureInvalid => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::StoreUnavailable | Self::RedisUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Internal | Self::Refused => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub fn as_str(self) -> &'static str {
        self.words().0
    }

    /// The code, and what it means in general.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidJson => ("invalid_json", "The body is not JSON"),
            Self::InvalidField => ("invalid_field", "A field has a value that it cannot have"),
            Self::MissingField => ("missing_field", "A field is missing"),
            Self::BodyTooLarge => ("body_too_large", "The body is too large"),
            Self::JsonTooDeep => ("json_too_deep", "The JSON is nested too deeply"),
            Self::RequestTimeout => ("request_timeout", "The body did not arrive in time"),
            Self::QueueUnknown => ("queue_unknown", "There is no such queue"),
            Self::RequestUnknown => ("request_unknown", "There is no such request"),
            Self::JobUnknown => ("job_unknown", "There is no such job"),
            Self::SchedulerUnknown => ("scheduler_unknown", "There is no such scheduler"),
            Self::DeliveryUnknown => ("delivery_unknown", "There is no such delivery"),
            Self::DedupeUnknown => ("dedupe_unknown", "There is no such dedupe key"),
            Self::KeyUnknown => ("key_unknown", "There is no such API key"),
            Self::FileUnknown => ("file_unknown", "There is no such file"),
            Self::LockUnknown => ("lock_unknown", "Nobody has had this lock"),
            Self::LockBusy => ("lock_busy", "Somebody else has the lock"),
            Self::LockLost => ("lock_lost", "The lock is not, or no longer, the caller's"),
            Self::LockNotHeld => ("lock_not_held", "Nobody has the lock now"),
            Self::RequestFinal => ("request_final", "The request has ended"),
            Self::DeliveryNotDead => ("delivery_not_dead", "The delivery is neither dead nor suppressed"),
            Self::RunExists => ("run_exists", "Jobs stand where the next runs would be"),
            Self::JobWrongState => ("job_wrong_state", "The job is not in a state for that"),
            Self::JobLocked => ("job_locked", "Somebody runs the job"),
            Self::JobScheduled => ("job_scheduled", "A scheduler waits for the job"),
            Self::JobForeign => ("job_foreign", "A worker that is not Onetake's runs the job"),
            Self::NotRunHere => ("not_run_here", "This server does not work the queue off"),
            Self::TooManyChildren => ("too_many_children", "The job has too many descendants"),
            Self::QueueNotPaused => ("queue_not_paused", "The queue is not paused"),
            Self::QueueActive => ("queue_active", "Jobs of the queue are active"),
            Self::JobExists => ("job_exists", "A job of this id is there already"),
            Self::LeaseLost => ("lease_lost", "The job is not, or no longer, the caller's"),
            Self::ChildrenPending => ("children_pending", "The job has children that are not done"),
            Self::ChildFailed => ("child_failed", "A child of the job failed"),
            Self::IdempotencyKeyReused => ("idempotency_key_reused", "The idempotency key was used for something else"),
            Self::IdempotencyKeyInFlight => {
                ("idempotency_key_in_flight", "A request with this idempotency key is under way")
            }
            Self::Unauthorized => ("unauthorized", "A valid API key is needed"),
            Self::SignatureInvalid => ("signature_invalid", "The signature does not fit"),
            Self::Forbidden => ("forbidden", "The caller may not do this"),
            Self::StoreUnavailable => ("store_unavailable", "The database cannot be reached"),
            Self::RedisUnavailable => ("redis_unavailable", "Redis cannot be reached"),
            Self::NotFound => ("not_found", "There is nothing here"),
            Self::MethodNotAllowed => ("method_not_allowed", "This address does not know the method"),
            Self::PreconditionFailed => ("precondition_failed", "The file is not as the caller supposes"),
            Self::RangeNotSatisfiable => ("range_not_satisfiable", "The file has no such part"),
            Self::Internal | Self::Refused => ("internal", "Something went wrong on our side"),
        }
    }
}

/// A refusal on its way to the caller.
#[derive(Clone, Debug)]
pub struct Problem {
    pub code: Code,
    pub detail: Cow<'static, str>,
    /// The field of the body, the query or the headers that is to blame.
    pub field: Option<String>,
    /// A workload's own "no"; then code, status and texts are its.
    pub refusal: Option<Box<Refusal>>,
    /// For the log only.
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

/// A problem as it is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// `urn:onetake:problem:` and the code.
    r#type: String,
    title: &'a str,
    status: u16,
    /// Of a workload's refusal: in the language that `Accept-Language` prefers, of English and Russian.
    detail: &'a str,
    /// One of `Code`, or a workload's own, such as `slot_taken`.
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// Of a workload's refusal: the sentence for people in each language, `en` and `ru`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    messages: Option<&'a Message>,
    request_id: &'a str,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), field: None, refusal: None, cause: None }
    }

    /// A field that cannot have the value it has.
    pub fn field(field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Code::InvalidField, detail) }
    }

    /// The same of a part of the body: `at` is where that stands, such as `children[0].`.
    pub(super) fn within(mut self, at: &str) -> Self {
        self.field = self.field.map(|field| format!("{at}{field}"));
        self
    }

    pub fn missing(field: impl Into<String>) -> Self {
        let field = field.into();
        let detail = format!("the field \"{field}\" is missing");
        Self { field: Some(field), ..Self::new(Code::MissingField, detail) }
    }

    /// Our fault; the cause goes to the log.
    pub fn internal(cause: impl StdError + Send + Sync + 'static) -> Self {
        let detail = "the log has more, under this request's id";
        Self { cause: Some(Arc::new(cause)), ..Self::new(Code::Internal, detail) }
    }

    /// The causes in a row, for the log.
    pub(super) fn causes(&self) -> Option<String> {
        let mut cause: &dyn StdError = &**self.cause.as_ref()?;
        let mut text = cause.to_string();
        while let Some(source) = cause.source() {
            text = format!("{text}: {source}");
            cause = source;
        }
        Some(text)
    }

    pub fn status(&self) -> StatusCode {
        match self.refusal.as_ref().map(|refusal| refusal.kind) {
            None => self.code.status(),
            Some(refusal::Kind::Unknown) => StatusCode::NOT_FOUND,
            Some(refusal::Kind::Foreign) => StatusCode::FORBIDDEN,
            Some(refusal::Kind::Conflict) => StatusCode::CONFLICT,
            Some(refusal::Kind::Unfit) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    pub(super) fn write(&self, response: &mut Response, request_id: &str, language: Language) {
        let (code, title) = self.code.words();
        let (code, title, detail, messages) = match &self.refusal {
            None => (code, title, &*self.detail, None),
            Some(refused) => {
                let message = &refused.message;
                (&*refused.code, &*message.en, message.in_language(language), Some(message))
            }
        };
        let body = ProblemBody {
            r#type: format!("urn:onetake:problem:{code}"),
            title,
            status: self.status().as_u16(),
            detail,
            code,
            field: self.field.as_deref(),
            messages,
            request_id,
        };
        *response.body_mut() = Body::from(serde_json::to_vec(&body).expect("texts are JSON"));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.code {
            Code::StoreUnavailable | Code::RedisUnavailable | Code::IdempotencyKeyInFlight => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Code::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
    }
}

/// Without a body: the outermost layer writes it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self { refusal: Some(Box::new(refusal)), ..Self::new(Code::Refused, "") }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        if error.is_unreachable() || matches!(error, store::Error::Conflict(_)) {
            let detail = "the database did not answer; nothing is acknowledged, try again";
            return Self { cause: Some(Arc::new(error)), ..Self::new(Code::StoreUnavailable, detail) };
        }
        Self::internal(error)
    }
}

impl From<redis::Error> for Problem {
    fn from(error: redis::Error) -> Self {
        if error.is_unreachable() {
            let detail = "Redis did not answer; try again";
            return Self { cause: Some(Arc::new(error)), ..Self::new(Code::RedisUnavailable, detail) };
        }
        Self::internal(error)
    }
}

impl From<queue::Error> for Problem {
    fn from(error: queue::Error) -> Self {
        use queue::AddError as Refused;
        match error {
            queue::Error::Redis(error) => error.into(),
            queue::Error::Add { source, .. } => {
                let field = match source {
                    Refused::Priority => "options.priority",
                    Refused::Delay => "options.delay",
                    Refused::GroupId(_) => "options.group.id",
                    Refused::GroupTogether(_) => "options.group",
                    _ => "options.jobId",
                };
                Self::field(field, source.to_string())
            }
            queue::Error::Scheduler(error) => error.into(),
            queue::Error::Unfit(source) => {
                let field = match source {
                    Refused::Priority => "priority",
                    Refused::GroupId(_) => "group",
                    _ => "delay",
                };
                Self::field(field, source.to_string())
            }
            queue::Error::NotPaused => Self::new(Code::QueueNotPaused, "pause the queue first"),
            queue::Error::JobsActive => {
                Self::new(Code::QueueActive, "wait until no job is active, or insist with \"force\"")
            }
        }
    }
}

impl From<queue::SchedulerError> for Problem {
    fn from(error: queue::SchedulerError) -> Self {
        use queue::SchedulerError as Refused;
        let field = match error {
            Refused::RunExists => return Self::new(Code::RunExists, error.to_string()),
            Refused::IdLength | Refused::IdShape => "id",
            Refused::Every => "every",
            Refused::Offset => "offset",
            Refused::Pattern(_) | Refused::NoRun => "pattern",
            Refused::TimeZone(_) => "tz",
            Refused::Limit => "limit",
            Refused::EndPast | Refused::EndBeforeStart => "end_date",
            Refused::ImmediatelyAndStart | Refused::TooLate => "start_date",
            Refused::Options(queue::AddError::GroupTogether(_) | queue::AddError::GroupId(_)) => "options.group",
            Refused::Options(_) => "options.priority",
        };
        Self::field(field, error.to_string())
    }
}

impl From<intake::Error> for Problem {
    fn from(error: intake::Error) -> Self {
        match error {
            intake::Error::Store(error) => error.into(),
            intake::Error::Invalid { field, reason } => Self::field(field, reason),
            intake::Error::UnknownQueue(_) => Self::queue_unknown(),
        }
    }
}

impl From<lock::Error> for Problem {
    fn from(error: lock::Error) -> Self {
        match error {
            lock::Error::Store(error) => error.into(),
            lock::Error::Redis(error) => error.into(),
            lock::Error::Ttl { .. } => Self::field("ttl", error.to_string()),
        }
    }
}

impl From<QueueNameError> for Problem {
    fn from(error: QueueNameError) -> Self {
        Self::field("queue", error.to_string())
    }
}

impl Problem {
    pub(super) fn queue_unknown() -> Self {
        Self::new(
            Code::QueueUnknown,
            "no queue of this name is declared: add [queues.NAME] to the configuration, or set queues.open",
        )
    }
}
