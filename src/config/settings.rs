//! Every setting, with its type. The defaults and their explanations stand in `default.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use crate::clock::Span;
use crate::id::QueueName;
use crate::retry::Backoff;

/// All settings. Unknown names are refused, so that a typo is not a silent default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub role: Role,
    pub files_dir: PathBuf,
    pub http: Http,
    pub store: Store,
    pub redis: Redis,
    pub queues: Queues,
    pub runner: Runner,
    pub pull: Pull,
    pub reconcile: Reconcile,
    pub locks: Locks,
    pub delivery: Delivery,
    pub telegram: Telegram,
    pub webhook: Webhook,
    pub videos: Videos,
    pub cache: Cache,
    pub saga: Saga,
    pub orders: Orders,
    pub cloudpayments: CloudPayments,
    pub retention: Retention,
    pub log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    All,
    Http,
    Runner,
}

impl Role {
    pub fn serves_http(self) -> bool {
        self != Self::Runner
    }

    pub fn runs_jobs(self) -> bool {
        self != Self::Http
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub bind: String,
    pub admin_key: SecretString,
    pub public_url: String,
    pub body_limit: usize,
    pub json_depth: usize,
    pub max_wait: Span,
    pub shutdown_grace: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub url: SecretString,
    pub max_connections: u32,
    pub slow: Span,
    pub batch: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    pub url: SecretString,
    pub prefix: String,
    pub namespace: String,
    pub command_timeout: Span,
    pub eviction: Eviction,
    pub tls: Tls,
}

/// Files in PEM. Without `ca` the system's authorities are trusted; without `cert` no certificate of ours is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Redis {
    /// Whether the address is that of a cluster, whose keys lie on several servers.
    pub fn is_cluster(&self) -> bool {
        self.scheme().ends_with("-cluster")
    }

    /// Whether the address is that of sentinels, which know the master.
    pub fn is_sentinel(&self) -> bool {
        self.scheme().ends_with("-sentinel")
    }

    pub fn uses_tls(&self) -> bool {
        self.scheme().starts_with("rediss") || self.scheme().starts_with("valkeys")
    }

    /// "redis", "rediss", "redis-cluster", ...
    pub(super) fn scheme(&self) -> &str {
        self.url.expose_secret().split_once("://").map_or("", |(scheme, _)| scheme)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Eviction {
    Refuse,
    Warn,
}

/// `open` and `only`, and a table for each declared queue beside them.
#[derive(Clone, Debug)]
pub struct Queues {
    pub open: bool,
    /// Names in `queues.only` that are not declared.
    pub unknown: Vec<String>,
    /// Those of `queues.only`, if it names any.
    pub declared: BTreeMap<QueueName, Queue>,
}

/// By hand, because serde's `flatten` forgets where a value stood: an error could not name its key any more.
impl<'de> Deserialize<'de> for Queues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(QueuesVisitor)
    }
}

struct QueuesVisitor;

impl<'de> Visitor<'de> for QueuesVisitor {
    type Value = Queues;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of queues")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Queues, M::Error> {
        let mut open = None;
        let mut only: Vec<String> = Vec::new();
        let mut declared: BTreeMap<QueueName, Queue> = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "open" {
                open = Some(map.next_value()?);
            } else if key == "only" {
                only = map.next_value()?;
            } else {
                let name = QueueName::parse(&key).map_err(|why| M::Error::custom(format!("\"{key}\": {why}")))?;
                declared.insert(name, map.next_value()?);
            }
        }
        let open = open.ok_or_else(|| M::Error::missing_field("open"))?;
        let is_declared = |name: &String| declared.keys().any(|known| known.as_str() == name);
        let unknown = only.iter().filter(|name| !is_declared(name)).cloned().collect();
        declared.retain(|name, _| only.is_empty() || only.iter().any(|wanted| wanted == name.as_str()));
        Ok(Queues { open, unknown, declared })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    pub processor: Option<Processor>,
    pub concurrency: usize,
    pub attempts: u32,
    pub backoff: Backoff,
    /// Waits between attempts, by the name that jobs call them; "default" is for jobs that name none, or one not given here.
    pub backoffs: BTreeMap<String, Vec<Span>>,
    /// How fast workers of this queue take jobs.
    pub limiter: Option<Limiter>,
    /// How long one attempt may take.
    pub timeout: Option<Span>,
    /// A job that was taken more often than this fails.
    pub max_started: Option<u32>,
    /// For how many minutes it is kept how many jobs ended; 0: it is not counted.
    pub metrics: u32,
    pub dedupe: Option<Dedupe>,
    pub keep_completed: u64,
    pub keep_failed: u64,
    pub groups: Groups,
}

/// What holds for groups of jobs about which nobody said anything else.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Groups {
    pub concurrency: Option<NonZeroU32>,
    pub rate: Option<Rate>,
    pub ahead: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub max: NonZeroU32,
    pub duration: Span,
}

/// As with BullMQ, but for what finished jobs take up: it keeps them all.
impl Default for Queue {
    fn default() -> Self {
        Self {
            processor: None,
            concurrency: 1,
            attempts: 1,
            backoff: Backoff::NONE,
            backoffs: BTreeMap::new(),
            limiter: None,
            timeout: None,
            max_started: None,
            metrics: 0,
            dedupe: None,
            keep_completed: 1000,
            keep_failed: 1000,
            groups: Groups::default(),
        }
    }
}

impl Queue {
    /// Whether its jobs are worked off by workers that claim them over HTTP.
    pub fn is_pulled(&self) -> bool {
        matches!(self.processor, Some(Processor::Pull {}))
    }
}

/// At most `max` jobs are taken in each `duration`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limiter {
    pub max: u32,
    pub duration: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Processor {
    /// Rust code in this binary, by name: "video", "slots", "pickup", "orders", "noop", "echo", "sleep", "fail".
    Builtin { name: String },
    /// A program: the job on stdin, the result on stdout.
    Command {
        program: String,
        #[serde(default)]
        args: Vec<String>,
        #[serde(default = "a_minute")]
        time_limit: Span,
    },
    /// An address to which the job is POSTed.
    Http {
        url: String,
        #[serde(default = "a_minute")]
        time_limit: Span,
    },
    /// Workers elsewhere, which claim the jobs over HTTP.
    Pull {},
}

fn a_minute() -> Span {
    Span(Duration::from_secs(60))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dedupe {
    pub fields: Vec<String>,
    #[serde(default)]
    pub defaults: BTreeMap<String, serde_json::Value>,
    pub max_age: Option<Span>,
    #[serde(default = "zero")]
    pub negative_ttl: Span,
    #[serde(default)]
    pub cancel_when_abandoned: bool,
}

fn zero() -> Span {
    Span(Duration::ZERO)
}

/// The templates that are built in; `videos.templates` names others.
pub const BUILTIN_TEMPLATES: [&str; 3] = ["default", "stars", "rainbow"];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runner {
    pub lease: Span,
    pub renew: Span,
    pub stalled_interval: Span,
    pub max_stalled: u32,
    pub drain_delay: Span,
    pub take_ahead: Span,
    pub shutdown_grace: Span,
}

/// What workers that pull may ask for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    pub max_batch: u32,
    pub max_lease: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    pub interval: Span,
    pub untouched: Span,
    pub page: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locks {
    pub max_ttl: Span,
    pub redis_patience: Span,
    pub width: usize,
    pub keep: Span,
    pub keep_audit: Span,
    pub forget_every: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    pub queue: QueueName,
    pub concurrency: usize,
    pub attempts: u32,
    pub backoff: Backoff,
    pub time_limit: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telegram {
    pub bot_token: SecretString,
    pub base_url: String,
    pub messages_per_second: u32,
    pub chat_interval: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub secret: SecretString,
    pub allow_private: bool,
    pub schedule: Vec<Span>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Videos {
    pub ffmpeg: String,
    pub font: String,
    pub width: u32,
    pub height: u32,
    pub seconds: u32,
    pub time_limit: Span,
    pub max_file_bytes: u64,
    pub genders: Vec<String>,
    pub caption: String,
    pub failure_message: String,
    #[serde(default)]
    pub templates: BTreeMap<String, Template>,
}

/// A template of the user's own: a command that writes the video.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub program: String,
    #[serde(default)]
    pub args: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    pub keep: Span,
    pub wait: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saga {
    pub attempts: u32,
    pub backoff: Backoff,
    pub asks: u32,
    pub ask_backoff: Backoff,
    pub lease: Span,
    pub time_limit: Span,
    pub concurrency: usize,
    pub interval: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orders {
    /// By code, such as "RUB".
    pub currencies: BTreeMap<String, Price>,
    pub expire_after: Span,
    pub expire_grace: Span,
    pub expire_every: Span,
    pub expire_page: u32,
}

/// The bounds of an order's price, in hundredths of the currency.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub min: i64,
    pub max: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudPayments {
    pub public_id: String,
    pub api_secret: SecretString,
    pub base_url: String,
    pub time_limit: Span,
    pub test_payments: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub idempotency_keys: Span,
    pub requests: Span,
    pub mailbox: Span,
    pub histories: Span,
    pub sagas: Span,
    pub files: Span,
    pub every: Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}
