//! What does not fit together, found before anything starts, all of it at once.
//!
//! Types are already right here (see [`super::load`]); this looks at values and at pairs of them. What only the running
//! server can know (is there an API key in the table?) is a question it asks: [`Settings::needs_key`].

mod queues;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

pub use self::queues::BUILTIN_PROCESSORS;
use self::queues::queues;
use super::settings::{BUILTIN_TEMPLATES, Processor, Queue, Role, Settings, Span, Tls};
use super::signing::secret_bytes;
use crate::id::{QueueName, hash_tag};
use crate::retry::Backoff;
use crate::text::template;

/// Far below what an amount can hold, so that sums of payments cannot overflow either.
const LARGEST_PRICE: i64 = 1_000_000_000_000;

/// What is known of a video: what was asked for, and what was made.
const VIDEO_FIELDS: [&str; 6] = ["name", "gender", "template", "file", "file_id", "bytes"];

/// One reason not to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.message)
    }
}

/// Everything that keeps a server from starting with these settings; empty if nothing does.
pub fn check(settings: &Settings) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    durations(settings, &mut problems);
    http(settings, &mut problems);
    store(settings, &mut problems);
    redis(settings, &mut problems);
    queues(settings, &mut problems);
    runner(settings, &mut problems);
    locks(settings, &mut problems);
    delivery(settings, &mut problems);
    videos(settings, &mut problems);
    orders(settings, &mut problems);
    problems.0
}

impl Settings {
    /// Whether others than this machine can reach the server while no bootstrap key is set: then it must not start
    /// unless the table of keys has one.
    pub fn needs_key(&self) -> bool {
        self.role.serves_http() && !is_loopback(&self.http.bind) && self.http.admin_key.expose_secret().is_empty()
    }
}

fn is_loopback(bind: &str) -> bool {
    let host = bind.rsplit_once(':').map_or(bind, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

struct Problems(Vec<Problem>);

impl Problems {
    fn unless(&mut self, fits: bool, key: impl Into<String>, message: impl Into<String>) {
        if !fits {
            self.0.push(Problem { key: key.into(), message: message.into() });
        }
    }

    fn address(&mut self, key: impl Into<String>, text: &str) {
        let fits = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        self.unless(fits, key, "must be an http:// or https:// address");
    }

    fn backoff(&mut self, key: impl Into<String>, backoff: Backoff) {
        let (Backoff::Fixed { jitter, .. } | Backoff::Exponential { jitter, .. }) = backoff;
        self.unless((0.0..=1.0).contains(&jitter), key, "must have a jitter from 0 to 1");
    }
}

/// Those where zero would mean "at once, for ever": a loop without a pause, or a lease that nobody can hold.
fn durations(settings: &Settings, problems: &mut Problems) {
    let Settings { http, store, redis, runner, reconcile, locks, delivery, telegram, videos, cache, retention, .. } =
        settings;
    let Settings { saga, orders, cloudpayments, .. } = settings;
    let spans = [
        ("http.max_wait", http.max_wait),
        ("store.slow", store.slow),
        ("redis.command_timeout", redis.command_timeout),
        ("runner.lease", runner.lease),
        ("runner.renew", runner.renew),
        ("runner.stalled_interval", runner.stalled_interval),
        ("runner.drain_delay", runner.drain_delay),
        ("reconcile.interval", reconcile.interval),
        ("locks.max_ttl", locks.max_ttl),
        ("locks.redis_patience", locks.redis_patience),
        ("locks.keep_audit", locks.keep_audit),
        ("locks.forget_every", locks.forget_every),
        ("delivery.time_limit", delivery.time_limit),
        ("telegram.chat_interval", telegram.chat_interval),
        ("videos.time_limit", videos.time_limit),
        ("cache.keep", cache.keep),
        ("cache.wait", cache.wait),
        ("saga.time_limit", saga.time_limit),
        ("saga.interval", saga.interval),
        ("orders.expire_after", orders.expire_after),
        ("orders.expire_every", orders.expire_every),
        ("cloudpayments.time_limit", cloudpayments.time_limit),
        ("retention.idempotency_keys", retention.idempotency_keys),
        ("retention.requests", retention.requests),
        ("retention.mailbox", retention.mailbox),
        ("retention.histories", retention.histories),
        ("retention.sagas", retention.sagas),
        ("retention.files", retention.files),
        ("retention.every", retention.every),
    ];
    for (key, span) in spans {
        problems.unless(!is_zero(span), key, "must be longer than zero");
    }
}

fn http(settings: &Settings, problems: &mut Problems) {
    let http = &settings.http;
    problems.unless(is_bind(&http.bind), "http.bind", "must be an address and a port, such as \"127.0.0.1:7700\"");
    let key_length = http.admin_key.expose_secret().len();
    problems.unless(key_length == 0 || key_length >= 16, "http.admin_key", "must have 16 characters at least");
    if !http.public_url.is_empty() {
        problems.address("http.public_url", &http.public_url);
    }
    problems.unless(http.body_limit >= 1024, "http.body_limit", "must be 1024 bytes at least");
    // serde_json itself gives up at 128.
    problems.unless((1..=127).contains(&http.json_depth), "http.json_depth", "must be from 1 to 127");
}

fn is_bind(bind: &str) -> bool {
    if bind.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let name = |host: &str| !host.is_empty() && !host.contains([':', '/', ' ']);
    bind.rsplit_once(':').is_some_and(|(host, port)| name(host) && port.parse::<u16>().is_ok())
}

fn store(settings: &Settings, problems: &mut Problems) {
    let store = &settings.store;
    let url = store.url.expose_secret();
    let is_sqlite = url.starts_with("sqlite:");
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    problems.unless(is_sqlite || is_postgres, "store.url", "must begin with sqlite:// or postgres://");
    let file = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let is_file = !matches!(file.split('?').next(), None | Some("" | ":memory:"));
    problems.unless(!is_sqlite || is_file, "store.url", "must name a file: sqlite://PATH");
    // The address may hold a password: it is not repeated.
    if let Some(error) = Url::parse(url).err().filter(|_| is_postgres) {
        problems.unless(false, "store.url", format!("is no address: {error}"));
    }
    let shared = settings.role == Role::All || !is_sqlite;
    problems.unless(shared, "role", "must be \"all\" with SQLite, whose file belongs to one process; use Postgres");
    problems.unless(store.max_connections >= 1, "store.max_connections", "must be 1 at least");
    problems.unless((1..=1000).contains(&store.batch), "store.batch", "must be from 1 to 1000");
}

fn redis(settings: &Settings, problems: &mut Problems) {
    let redis = &settings.redis;
    let scheme = redis.scheme();
    let known = matches!(scheme, "redis" | "rediss" | "valkey" | "valkeys" | "unix" | "redis+unix")
        || ["redis-", "rediss-", "valkey-", "valkeys-"].iter().any(|start| scheme.starts_with(start));
    problems.unless(known, "redis.url", "must begin with redis:// or rediss://");
    if let Some(error) = Url::parse(redis.url.expose_secret()).err().filter(|_| known) {
        problems.unless(false, "redis.url", format!("is no address: {error}"));
    }
    problems.unless(!redis.prefix.is_empty(), "redis.prefix", "must not be empty (BullMQ's own is \"bull\")");
    problems.unless(!redis.namespace.is_empty(), "redis.namespace", "must not be empty");
    let apart = redis.prefix != redis.namespace;
    problems.unless(
        apart,
        "redis.namespace",
        "must differ from redis.prefix: BullMQ's clean-up deletes strangers' keys",
    );
    let (prefix, namespace) = (hash_tag(&redis.prefix), hash_tag(&redis.namespace));
    problems.unless(prefix.is_ok(), "redis.prefix", "must have its braces as one pair around something");
    problems.unless(
        namespace == Ok(None),
        "redis.namespace",
        "must not have braces: its keys take the queue's hash tag",
    );
    tls(&redis.tls, redis.uses_tls(), problems);
    if redis.is_cluster() {
        hash_tags(settings, problems);
    }
    // A renewal that may take as long as the lease is none.
    let timely = redis.command_timeout < settings.runner.lease;
    problems.unless(timely, "redis.command_timeout", "must be shorter than runner.lease");
}

fn tls(tls: &Tls, is_used: bool, problems: &mut Problems) {
    for (key, path) in [("redis.tls.ca", &tls.ca), ("redis.tls.cert", &tls.cert), ("redis.tls.key", &tls.key)] {
        let is_empty = path.as_os_str().is_empty();
        problems.unless(is_empty || is_used, key, "is for addresses that begin with rediss");
        problems.unless(is_empty || path.is_file(), key, format!("is no file: {}", path.display()));
    }
    let together = tls.cert.as_os_str().is_empty() == tls.key.as_os_str().is_empty();
    problems.unless(together, "redis.tls.key", "goes with redis.tls.cert: give both or neither");
    let trusting = tls.cert.as_os_str().is_empty() || !tls.ca.as_os_str().is_empty();
    problems.unless(trusting, "redis.tls.ca", "is missing: it goes with redis.tls.cert");
}

/// A script touches all keys of its queue, and a cluster runs it only where they lie together.
fn hash_tags(settings: &Settings, problems: &mut Problems) {
    let is_tagged = |name: &str| matches!(hash_tag(name), Ok(Some(_)));
    if is_tagged(&settings.redis.prefix) {
        return;
    }
    let delivery = settings.delivery.queue.as_str();
    let message = format!("needs a hash tag on a cluster: write \"{{{delivery}}}\", or redis.prefix = \"{{bull}}\"");
    problems.unless(is_tagged(delivery), "delivery.queue", message);
    for name in settings.queues.declared.keys().map(QueueName::as_str).filter(|name| !is_tagged(name)) {
        problems.unless(
            false,
            format!("queues.{name}"),
            format!(
                "needs a hash tag on a cluster, which keeps its keys together: set redis.prefix = \"{{bull}}\" here and \
                 the same prefix in its producers and workers, or call it \"{{{name}}}\" everywhere, or leave it out of \
                 queues.only"
            ),
        );
    }
}

fn runner(settings: &Settings, problems: &mut Problems) {
    let runner = &settings.runner;
    // Two renewals may be lost and the lease still stands.
    let lasting = runner.lease.0 >= runner.renew.0.saturating_mul(3);
    problems.unless(lasting, "runner.lease", "must be three times runner.renew at least");
    let a_day = Duration::from_secs(86_400);
    problems.unless(
        runner.lease.0 <= a_day,
        "runner.lease",
        "must be a day at most: who died with a job holds it so long",
    );
    // Nobody renews what only waits; and nothing is settled meanwhile.
    problems.unless(runner.take_ahead.0 <= runner.renew.0, "runner.take_ahead", "must not be longer than runner.renew");
    let is_a_moment = runner.take_ahead.0 <= Duration::from_millis(100);
    problems.unless(is_a_moment, "runner.take_ahead", "must be 100ms at most");
    // A take has its bound in the script.
    problems.unless((1..=256).contains(&settings.pull.max_batch), "pull.max_batch", "must be from 1 to 256");
    let lasting = settings.pull.max_lease.0 >= Duration::from_secs(1);
    problems.unless(lasting, "pull.max_lease", "must be a second at least");
    // stalled_interval needs no relation to the lease: locks end by their own clock, it only says how soon that is seen.
    problems.unless((1..=10_000).contains(&settings.reconcile.page), "reconcile.page", "must be from 1 to 10000");
}

fn locks(settings: &Settings, problems: &mut Problems) {
    let locks = &settings.locks;
    problems.unless((1..=64).contains(&locks.width), "locks.width", "must be from 1 to 64");
    let a_week = Duration::from_secs(7 * 86_400);
    problems.unless(locks.max_ttl.0 <= a_week, "locks.max_ttl", "must be a week at most");
    // A name that is forgotten while its lease runs would be granted twice.
    let lasting = locks.keep.0 >= locks.max_ttl.0 && locks.keep.0 >= Duration::from_secs(86_400);
    problems.unless(lasting, "locks.keep", "must be a day at least, and not shorter than locks.max_ttl");
}

fn delivery(settings: &Settings, problems: &mut Problems) {
    let delivery = &settings.delivery;
    // time_limit may exceed runner.lease: the lease of a delivery is renewed like any other while it is being sent.
    problems.unless(delivery.concurrency >= 1, "delivery.concurrency", "must be 1 at least");
    problems.unless(delivery.attempts >= 1, "delivery.attempts", "must be 1 at least");
    problems.backoff("delivery.backoff", delivery.backoff);

    let telegram = &settings.telegram;
    problems.address("telegram.base_url", &telegram.base_url);
    problems.unless(telegram.messages_per_second >= 1, "telegram.messages_per_second", "must be 1 at least");
    let token = telegram.bot_token.expose_secret();
    let plausible = token.is_empty() || (token.contains(':') && !token.contains(char::is_whitespace));
    problems.unless(plausible, "telegram.bot_token", "must look like 123456:ABC-DEF, as @BotFather gave it");

    let message = "must be whsec_ and the base64 of 24 to 64 bytes, or several of these separated by blanks";
    problems.unless(are_signing_secrets(&settings.webhook.secret), "webhook.secret", message);
    let waits = settings.webhook.schedule.iter().all(|wait| !is_zero(*wait));
    problems.unless(waits, "webhook.schedule", "must have no wait of zero");
}

/// By the rules of Standard Webhooks.
fn are_signing_secrets(secrets: &SecretString) -> bool {
    secrets.expose_secret().split_whitespace().all(|secret| secret_bytes(secret).is_ok())
}

fn videos(settings: &Settings, problems: &mut Problems) {
    let videos = &settings.videos;
    for (key, pixels) in [("videos.width", videos.width), ("videos.height", videos.height)] {
        // The usual pixel format stores colours for pairs of pixels.
        let fits = (64..=3840).contains(&pixels) && pixels % 2 == 0;
        problems.unless(fits, key, "must be an even number from 64 to 3840");
    }
    problems.unless((1..=60).contains(&videos.seconds), "videos.seconds", "must be from 1 to 60");
    problems.unless(videos.max_file_bytes >= 1, "videos.max_file_bytes", "must be 1 at least");
    problems.unless(!videos.ffmpeg.is_empty(), "videos.ffmpeg", "must name a program");
    let named = !videos.genders.is_empty() && videos.genders.iter().all(|gender| is_key_part(gender));
    problems.unless(named, "videos.genders", "must be one or more names in lower case, as they stand in a key");
    captions(settings, problems);
    for (name, template) in &videos.templates {
        let at = format!("videos.templates.{name}");
        problems.unless(is_key_part(name), &at, "must be a name of lower-case letters, digits, '-' and '_'");
        problems.unless(!template.program.is_empty(), format!("{at}.program"), "must not be empty");
    }
    for (name, queue) in &settings.queues.declared {
        let Some(rules) = &queue.dedupe else { continue };
        if !matches!(&queue.processor, Some(Processor::Builtin { name }) if name == "video") {
            continue;
        }
        let at = format!("queues.{name}.dedupe.defaults");
        let default = |field: &str| rules.defaults.get(field).and_then(|value| value.as_str());
        let gender = default("gender").is_none_or(|gender| videos.genders.iter().any(|known| known == gender));
        problems.unless(gender, format!("{at}.gender"), "must be one of videos.genders");
        let known = |name: &str| BUILTIN_TEMPLATES.contains(&name) || videos.templates.contains_key(name);
        let template = default("template").is_none_or(known);
        let message = format!("must be {}, or one of videos.templates", BUILTIN_TEMPLATES.join(", "));
        problems.unless(template, format!("{at}.template"), message);
    }
}

/// A field that is never there would be sent as it is written: "For {nme}".
fn captions(settings: &Settings, problems: &mut Problems) {
    let declared = &settings.queues.declared;
    let is_ours = |queue: &Queue| matches!(&queue.processor, Some(Processor::Builtin { name }) if name == "video");
    // What other processors put into their results, and producers into data, nobody knows here.
    if declared.values().filter(|queue| queue.dedupe.is_some()).any(|queue| !is_ours(queue)) {
        return;
    }
    let of_keys = declared.values().filter_map(|queue| queue.dedupe.as_ref()).flat_map(|rules| &rules.fields);
    let known: Vec<&str> = VIDEO_FIELDS.into_iter().chain(of_keys.map(String::as_str)).collect();
    let videos = &settings.videos;
    for (key, text) in [("videos.caption", &videos.caption), ("videos.failure_message", &videos.failure_message)] {
        if let Err(unknown) = template::check(text, &known) {
            problems.unless(false, key, format!("names a field that no video has: {unknown}"));
        }
    }
}

fn orders(settings: &Settings, problems: &mut Problems) {
    let Settings { saga, orders, cloudpayments, .. } = settings;
    problems.unless(saga.attempts >= 1, "saga.attempts", "must be 1 at least");
    problems.unless(saga.asks >= 1, "saga.asks", "must be 1 at least");
    problems.unless(saga.concurrency >= 1, "saga.concurrency", "must be 1 at least");
    problems.backoff("saga.backoff", saga.backoff);
    problems.backoff("saga.ask_backoff", saga.ask_backoff);
    // A call that began in time must have ended before somebody else may ask about it.
    let lasting = saga.lease.0 > saga.time_limit.0.saturating_mul(2);
    problems.unless(lasting, "saga.lease", "must be longer than two times saga.time_limit");
    // A refund that is refused is looked at once more in the same call.
    let timely = cloudpayments.time_limit.0.saturating_mul(2) < saga.time_limit.0;
    problems.unless(timely, "cloudpayments.time_limit", "must be shorter than half of saga.time_limit");
    problems.address("cloudpayments.base_url", &cloudpayments.base_url);
    let named = cloudpayments.api_secret.expose_secret().is_empty() || !cloudpayments.public_id.is_empty();
    problems.unless(named, "cloudpayments.public_id", "is missing: it goes with cloudpayments.api_secret");
    let is_served = settings.queues.declared.keys().any(|name| name.as_str() == "video");
    let fits = is_served || cloudpayments.api_secret.expose_secret().is_empty();
    problems.unless(fits, "queues.only", "must name \"video\": that is what orders are paid for");
    problems.unless((1..=10_000).contains(&orders.expire_page), "orders.expire_page", "must be from 1 to 10000");
    for (currency, price) in &orders.currencies {
        let at = format!("orders.currencies.{currency}");
        let is_code = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        problems.unless(is_code, &at, "must be a currency's code of three capital letters");
        let fits = price.min >= 1 && price.min <= price.max && price.max <= LARGEST_PRICE;
        problems.unless(fits, at, format!("must have 1 <= min <= max <= {LARGEST_PRICE}"));
    }
}

/// A name that normalising a dedupe key leaves as it is; with an upper-case letter no request would ever find it.
fn is_key_part(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_digit() || c == '-' || c == '_' || (c.is_alphabetic() && !c.is_uppercase());
    (1..=64).contains(&name.chars().count()) && name.chars().all(allowed)
}

fn is_zero(span: Span) -> bool {
    span.0.is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, load};

    fn with(changes: &[(&str, &str)]) -> Settings {
        let set = |options: Options, (key, value): &(&str, &str)| options.flag("--test", key, Some(value));
        let options = changes.iter().fold(Options { directory: "/nowhere".into(), ..Options::default() }, set);
        load(&options).map_err(|e| e.to_string()).unwrap().settings
    }

    fn keys(changes: &[(&str, &str)]) -> Vec<String> {
        check(&with(changes)).into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn the_defaults_fit_together() {
        assert_eq!(check(&with(&[])), []);
        assert!(!with(&[]).needs_key());
    }

    #[test]
    fn each_rule_names_the_key_that_breaks_it() {
        for (key, value) in [
            ("runner.lease", "29s"),
            ("runner.renew", "0s"),
            ("runner.take_ahead", "101ms"),
            ("redis.command_timeout", "30s"),
            ("redis.url", "http://127.0.0.1"),
            ("redis.prefix", "{a}{b}"),
            ("redis.namespace", "bull"),
            ("redis.namespace", "{one}"),
            ("redis.tls.ca", "/nowhere/ca.pem"),
            ("redis.tls.cert", "/nowhere/cert.pem"),
            ("queues.only", "none"),
            ("store.url", "mysql://db"),
            ("store.batch", "0"),
            ("store.batch", "1001"),
            ("role", "runner"),
            ("http.bind", "7700"),
            ("http.admin_key", "short"),
            ("http.public_url", "example.org"),
            ("http.json_depth", "128"),
            ("queues.video.concurrency", "0"),
            ("queues.video.attempts", "0"),
            ("queues.video.backoffs.gentle", "[]"),
            ("queues.video.backoffs.fixed", "[\"1s\"]"),
            ("queues.video.backoffs.default", "[\"1s\"]"),
            ("queues.video.limiter", "{max=0, duration=\"1s\"}"),
            ("queues.video.limiter", "{max=1, duration=\"0s\"}"),
            ("queues.video.dedupe.defaults.template", "snow"),
            ("queues.video.timeout", "0s"),
            ("queues.video.max_started", "0"),
            ("queues.video.metrics", "100001"),
            ("queues.video.processor.name", "vidoe"),
            ("queues.video.groups.concurrency", "2"),
            ("queues.slots.groups.ahead", "101"),
            ("queues.video.dedupe.fields", ""),
            ("queues.video.dedupe.fields", "name,name"),
            ("queues.video.dedupe.max_age", "0s"),
            ("queues.video.dedupe.defaults.gender", "robot"),
            ("queues.video.dedupe.defaults.template", "snow"),
            ("queues.video.dedupe.defaults.user", "1"),
            ("queues.video-work.concurrency", "1"),
            ("queues.slots-work.concurrency", "1"),
            ("delivery.queue", "video-work"),
            ("delivery.queue", "slots-work"),
            ("queues.onetake-delivery.concurrency", "1"),
            ("telegram.messages_per_second", "0"),
            ("telegram.base_url", "api.telegram.org"),
            ("telegram.bot_token", "abc"),
            ("webhook.secret", "whsec_c2hvcnQ="),
            ("webhook.secret", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("webhook.schedule", "5s,0s"),
            ("videos.width", "641"),
            ("videos.height", "4000"),
            ("videos.seconds", "61"),
            ("videos.caption", "For {nme}"),
            ("videos.failure_message", "{name}, {nme}"),
            ("videos.genders", "Boy"),
            ("videos.templates.Snow.program", "/bin/true"),
            ("pull.max_batch", "0"),
            ("pull.max_batch", "257"),
            ("pull.max_lease", "999ms"),
            ("reconcile.page", "0"),
            ("locks.width", "0"),
            ("locks.max_ttl", "8d"),
            ("locks.keep", "1h"),
            ("locks.redis_patience", "0s"),
            ("saga.attempts", "0"),
            ("saga.lease", "90s"),
            ("orders.expire_page", "0"),
            ("orders.expire_after", "0s"),
            ("orders.currencies.RUB.min", "0"),
            ("orders.currencies.RUB.max", "1000000000001"),
            ("cloudpayments.base_url", "api.cloudpayments.ru"),
            ("cloudpayments.time_limit", "30s"),
        ] {
            let found = keys(&[(key, value)]);
            assert!(found.iter().any(|known| key.starts_with(known.as_str())), "{key} = {value}: {found:?}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        assert_eq!(keys(&[("store.batch", "0"), ("videos.seconds", "0"), ("runner.renew", "11s")]).len(), 3);
    }

    #[test]
    fn only_one_of_prefix_and_queue_has_the_hash_tag() {
        assert_eq!(keys(&[("redis.prefix", "{bull}")]), [""; 0]);
        assert_eq!(keys(&[("queues.{mail}.concurrency", "1")]), [""; 0]);
        assert_eq!(keys(&[("redis.prefix", "{bull}"), ("queues.{mail}.concurrency", "1")]), ["queues.{mail}"]);
    }

    #[test]
    fn on_a_cluster_each_queue_has_a_hash_tag() {
        let cluster = ("redis.url", "redis-cluster://127.0.0.1:7000?node=127.0.0.1:7001");
        let untagged = ["delivery.queue", "queues.orders", "queues.pickup", "queues.slots", "queues.video"];
        assert_eq!(keys(&[cluster]), untagged);
        assert_eq!(keys(&[cluster, ("redis.prefix", "{bull}")]), [""; 0]);
        let mail = ("queues.{mail}.concurrency", "1");
        let named = [cluster, mail, ("queues.only", "{mail}"), ("delivery.queue", "{onetake-delivery}")];
        assert_eq!(keys(&named), [""; 0]);
        assert_eq!(keys(&[("queues.only", "video,mail")]), ["queues.only"]);
        let paid = [("cloudpayments.api_secret", "s"), ("cloudpayments.public_id", "p")];
        assert_eq!(keys(&[paid[0], paid[1], ("queues.only", "slots")]), ["queues.only"]);
        assert_eq!(keys(&[paid[0], paid[1], ("queues.only", "video")]), [""; 0]);
    }

    #[test]
    fn a_deduped_queue_is_worked_by_this_server() {
        assert_eq!(keys(&[("queues.a.dedupe.fields", "name")]), ["queues.a.processor"]);
        let pulled = [("queues.a.dedupe.fields", "name"), ("queues.a.processor.kind", "pull")];
        assert_eq!(keys(&pulled), ["queues.a.processor"]);
        assert_eq!(keys(&pulled[1..]), [""; 0]);
        assert_eq!(
            keys(&[
                ("queues.a.dedupe.fields", "name"),
                ("queues.a.processor.kind", "builtin"),
                ("queues.a.processor.name", "echo")
            ]),
            [""; 0]
        );
    }

    #[test]
    fn rotating_secrets_stand_side_by_side() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(keys(&[("webhook.secret", &format!("{secret} {secret}"))]), [""; 0]);
        // 25 bytes, whose padding got lost on the way: the signer takes it.
        assert_eq!(keys(&[("webhook.secret", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNA")]), [""; 0]);
    }

    #[test]
    fn outside_loopback_a_key_is_needed() {
        assert!(with(&[("http.bind", "0.0.0.0:7700")]).needs_key());
        assert!(with(&[("http.bind", "[::]:7700")]).needs_key());
        assert!(!with(&[("http.bind", "[::1]:7700")]).needs_key());
        assert!(!with(&[("http.bind", "localhost:7700")]).needs_key());
        assert!(!with(&[("http.bind", "0.0.0.0:7700"), ("http.admin_key", "0123456789abcdef")]).needs_key());
        let runner = [("http.bind", "0.0.0.0:7700"), ("role", "runner"), ("store.url", "postgres://db/one")];
        assert!(!with(&runner).needs_key());
    }
}
