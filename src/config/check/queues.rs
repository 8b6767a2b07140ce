//! What does not fit together in the queues that are declared.

use std::collections::BTreeMap;

use super::{Problems, is_zero};
use crate::config::settings::{Dedupe, Groups, Processor, Queue, Settings};
use crate::id::hash_tag;
use crate::retry::Backoff;

/// The names that `processor = { kind = "builtin", name = "..." }` may give.
pub const BUILTIN_PROCESSORS: &[&str] = &["video", "slots", "pickup", "orders", "noop", "echo", "sleep", "fail"];

pub(super) fn queues(settings: &Settings, problems: &mut Problems) {
    for name in &settings.queues.unknown {
        problems.unless(false, "queues.only", format!("names \"{name}\", which is not declared"));
    }
    let declared = &settings.queues.declared;
    let tagged_prefix = matches!(hash_tag(&settings.redis.prefix), Ok(Some(_)));
    for (name, queue) in declared {
        let at = format!("queues.{name}");
        let twice = tagged_prefix && name.as_str().contains('{');
        problems.unless(!twice, &at, "must not have braces: redis.prefix has the hash tag already");
        problems.unless(*name != settings.delivery.queue, &at, "is the queue of deliveries and cannot be declared");
        problems.unless(queue.concurrency >= 1, format!("{at}.concurrency"), "must be 1 at least");
        problems.unless(queue.attempts >= 1, format!("{at}.attempts"), "must be 1 at least");
        problems.backoff(format!("{at}.backoff"), queue.backoff);
        rules(&at, queue, problems);
        processor(&at, queue, problems);
        groups(&format!("{at}.groups"), queue, problems);
        // Plain queues have one, too: a job may bring a dedupe key of its own.
        let work = name.work();
        let message =
            format!("is the queue in which the runs of \"{name}\" are worked off; it is not declared by itself");
        problems.unless(!declared.contains_key(&work), format!("queues.{work}"), message);
        let message = format!("is the queue in which the runs of \"{name}\" are worked off; call it otherwise");
        problems.unless(work != settings.delivery.queue, "delivery.queue", message);
        if let Some(rules) = &queue.dedupe {
            problems.unless(
                queue.processor.is_some() && !queue.is_pulled(),
                format!("{at}.processor"),
                "is missing: runs are made by this server",
            );
            dedupe(&format!("{at}.dedupe"), rules, problems);
        }
    }
}

fn groups(at: &str, queue: &Queue, problems: &mut Problems) {
    let Groups { concurrency, rate, ahead } = queue.groups;
    let is_plain = queue.dedupe.is_none() || (concurrency.is_none() && rate.is_none() && ahead.is_none());
    problems.unless(is_plain, at, "is for plain queues: the jobs of an intake queue are not served in turn");
    // Each stands before the jobs of the other groups.
    problems.unless(ahead.is_none_or(|n| n.get() <= 100), format!("{at}.ahead"), "must be from 1 to 100");
    let fits = rate.is_none_or(|rate| (1..=u128::from(u32::MAX)).contains(&rate.duration.0.as_millis()));
    problems.unless(fits, format!("{at}.rate.duration"), "must be from a millisecond to 49 days");
}

/// What a runner keeps to beside the processor.
fn rules(at: &str, queue: &Queue, problems: &mut Problems) {
    for (name, waits) in &queue.backoffs {
        let key = format!("{at}.backoffs.{name}");
        problems.unless(!waits.is_empty(), &key, "must have one wait at least");
        // Jobs that name these mean BullMQ's own.
        problems.unless(
            !matches!(name.as_str(), "fixed" | "exponential"),
            key,
            "has the name of a backoff with a formula",
        );
    }
    let one = queue.backoff == Backoff::NONE || !queue.backoffs.contains_key("default");
    problems.unless(one, format!("{at}.backoffs.default"), "says the same as backoff: give one of the two");
    if let Some(limiter) = queue.limiter {
        // BullMQ writes the duration as a number of milliseconds.
        let fits = limiter.max >= 1 && (1..=u128::from(u32::MAX)).contains(&limiter.duration.0.as_millis());
        problems.unless(
            fits,
            format!("{at}.limiter"),
            "must have a max of 1 at least and a duration from 1ms to 49 days",
        );
    }
    let lasting = queue.timeout.is_none_or(|timeout| !is_zero(timeout));
    problems.unless(lasting, format!("{at}.timeout"), "must be longer than zero (leave it out for no bound)");
    problems.unless(queue.max_started != Some(0), format!("{at}.max_started"), "must be 1 at least");
    // A list that Redis walks when it is trimmed and shown.
    problems.unless(queue.metrics <= 100_000, format!("{at}.metrics"), "must be 100000 at most");
}

fn processor(at: &str, queue: &Queue, problems: &mut Problems) {
    let (name, limit) = (format!("{at}.processor"), format!("{at}.processor.time_limit"));
    match &queue.processor {
        None | Some(Processor::Pull {}) => {}
        Some(Processor::Builtin { name: builtin }) => {
            let known = BUILTIN_PROCESSORS.contains(&builtin.as_str());
            problems.unless(known, name + ".name", format!("must be one of {}", BUILTIN_PROCESSORS.join(", ")));
        }
        Some(Processor::Command { program, time_limit, .. }) => {
            problems.unless(!program.is_empty(), name + ".program", "must not be empty");
            problems.unless(!is_zero(*time_limit), limit, "must be longer than zero");
        }
        Some(Processor::Http { url, time_limit }) => {
            problems.address(name + ".url", url);
            problems.unless(!is_zero(*time_limit), limit, "must be longer than zero");
        }
    }
}

fn dedupe(at: &str, rules: &Dedupe, problems: &mut Problems) {
    problems.unless(!rules.fields.is_empty(), format!("{at}.fields"), "must name one field at least");
    let mut seen = BTreeMap::new();
    let once = rules.fields.iter().all(|field| !field.is_empty() && seen.insert(field, ()).is_none());
    problems.unless(once, format!("{at}.fields"), "must name each field once, and none that is empty");
    for (field, value) in &rules.defaults {
        let key = format!("{at}.defaults.{field}");
        problems.unless(rules.fields.contains(field), &key, "is no field of the key (see fields)");
        let plain = !value.is_object() && !value.is_array();
        problems.unless(plain, key, "must be a text, a number or a boolean");
    }
    let lasting = rules.max_age.is_none_or(|age| !is_zero(age));
    problems.unless(lasting, format!("{at}.max_age"), "must be longer than zero (leave it out to stay fresh for ever)");
}
