//! What is sent about locks, both ways.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::clock::millis;
use crate::config::Span;
use crate::http::AppState;
use crate::http::idempotency::Answer;
use crate::http::input::Text;
use crate::http::page::{Cursor, Limit};
use crate::http::view::{rfc3339, to_json};
use crate::lock::{AuditEntry, Grant, LeaseView, LockName};
use crate::text::Reason;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LockWish)]
pub(in crate::http) struct Wish {
    /// How long the lock is held if it is not renewed, such as `30s`: from 100 ms to the configured `locks.max_ttl`.
    #[schema(value_type = String)]
    pub ttl: Span,
    /// How long to wait for it, at most `http.max_wait`. Not given: now or not at all.
    #[schema(value_type = Option<String>)]
    pub wait: Option<Span>,
    /// For people: who has it and why.
    pub note: Option<String>,
    /// The same again is given the same grant again, as long as that stands.
    pub request_id: Option<String>,
    /// In Redis alone: quick, and good for sparing work only, as it may have two holders for a moment.
    #[serde(default)]
    pub fast: bool,
}

/// Several locks, all or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LocksWish)]
pub(in crate::http) struct SeveralWish {
    /// 1 to 32.
    pub names: Vec<String>,
    /// Of each, as for one lock.
    #[schema(value_type = String)]
    pub ttl: Span,
    /// How long to wait for all of them.
    #[schema(value_type = Option<String>)]
    pub wait: Option<Span>,
    pub note: Option<String>,
    pub request_id: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LockRenewal)]
pub(in crate::http) struct Renewal {
    pub owner_token: String,
    /// From now on.
    #[schema(value_type = String)]
    pub ttl: Span,
    #[serde(default)]
    pub fast: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LockRelease)]
pub(in crate::http) struct Release {
    pub owner_token: String,
    #[serde(default)]
    pub fast: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LockForce)]
pub(in crate::http) struct Force {
    /// Kept in the audit.
    #[schema(value_type = String)]
    pub reason: Reason,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Filter {
    /// What the names begin with.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub prefix: Text,
    /// `held` or `free`.
    #[serde(default)]
    pub state: String,
    /// Whose they are: the id of an API key.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub holder: Text,
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub cursor: Cursor,
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    pub limit: Limit,
}

/// A lock in the caller's hands.
#[derive(Serialize, ToSchema)]
#[schema(as = LockGrant)]
pub(in crate::http) struct GrantBody<'a> {
    name: &'a str,
    /// Renewing and releasing need it. Told to nobody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_token: Option<&'a str>,
    /// Larger than that of every earlier grant of this name: show it to what the lock guards, which refuses smaller ones.
    /// A fast lock has none.
    fencing_token: Option<i64>,
    /// When it ends if it is not renewed. A fast lock's is by the clock of the server that answered.
    expires_at: String,
    /// What is left of it.
    #[schema(value_type = String)]
    pub ttl: Span,
    pub fast: bool,
}

/// Several locks in the caller's hands, in the order of their names.
#[derive(Serialize, ToSchema)]
#[schema(as = LockGrants)]
pub(in crate::http) struct GrantsBody<'a> {
    items: Vec<GrantBody<'a>>,
}

impl<'a> GrantsBody<'a> {
    pub fn of(grants: &'a [Grant]) -> Self {
        Self { items: grants.iter().map(|grant| GrantBody::of(grant, true)).collect() }
    }
}

/// A lease as others see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Lock)]
pub(in crate::http) struct LockBody<'a> {
    name: &'a str,
    /// `held` or `free`.
    pub state: &'static str,
    fencing_token: i64,
    /// The API key's id.
    pub holder: &'a str,
    pub note: &'a str,
    #[schema(value_type = String)]
    pub ttl: Span,
    granted_at: String,
    expires_at: String,
    /// When it was given back; nothing if it ended by itself or was taken away.
    released_at: Option<String>,
    /// Where one lock is asked for: who took it from its holder, the last 20 times.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<Vec<AuditBody>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LockAudit)]
pub(in crate::http) struct AuditBody {
    fencing_token: i64,
    pub holder: String,
    pub note: String,
    /// Who took it away.
    by: String,
    pub reason: String,
    at: String,
}

impl<'a> GrantBody<'a> {
    fn of(grant: &'a Grant, is_new: bool) -> Self {
        Self {
            name: grant.name.as_str(),
            owner_token: is_new.then_some(grant.owner.as_str()),
            fencing_token: Some(grant.fencing_token),
            expires_at: rfc3339(grant.until_ms),
            ttl: Span(grant.left),
            fast: false,
        }
    }
}

pub fn grant_body(grant: &Grant, is_new: bool) -> Answer {
    Answer::ok(to_json(&GrantBody::of(grant, is_new)))
}

pub fn fast_body(state: &AppState, name: &LockName, owner: Option<&str>, left: Duration) -> Answer {
    let now_ms = state.locks.store().clock().now_ms();
    Answer::ok(to_json(&GrantBody {
        name: name.as_str(),
        owner_token: owner,
        fencing_token: None,
        expires_at: rfc3339(now_ms + millis(left)),
        ttl: Span(left),
        fast: true,
    }))
}

impl<'a> LockBody<'a> {
    pub fn of(view: &'a LeaseView, audit: Option<Vec<AuditEntry>>) -> Self {
        Self {
            name: view.name.as_str(),
            state: if view.is_held { "held" } else { "free" },
            fencing_token: view.fencing_token,
            holder: &view.principal,
            note: &view.note,
            ttl: Span(view.ttl()),
            granted_at: rfc3339(view.granted_at_ms),
            expires_at: rfc3339(view.until_ms),
            released_at: view.released_at_ms.map(rfc3339),
            audit: audit.map(|entries| entries.into_iter().map(AuditBody::of).collect()),
        }
    }
}

impl AuditBody {
    fn of(entry: AuditEntry) -> Self {
        Self {
            fencing_token: entry.fencing_token,
            holder: entry.holder,
            note: entry.note,
            by: entry.principal,
            reason: entry.reason,
            at: rfc3339(entry.at_ms),
        }
    }
}
