//! What each measure means, for `/metrics`: whoever reads it there need not look into the code.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

const COUNTERS: [(&str, &str); 21] = [
    (
        "onetake_cache_reads_total",
        "Reads of a cached list, by list and result: hit, filled, waited (for whoever fills it, in vain) or away (Redis).",
    ),
    ("onetake_deliveries_total", "Attempts to deliver, by channel and by what they came to."),
    ("onetake_lock_busy_total", "Locks that were somebody else's until the caller's deadline, by kind."),
    ("onetake_lock_grants_total", "Locks granted, by kind: unit (of work), lease or fast."),
    ("onetake_lock_losses_total", "Locks that ended before their holder let them go, by kind."),
    (
        "onetake_lock_mode_changes_total",
        "How often locking went on without Redis (to=database), and with it again (to=redis).",
    ),
    ("onetake_order_notices_total", "Notifications of payments, by kind and by the code they were answered with."),
    (
        "onetake_order_payments_total",
        "Payments: applied to their order, unusable (given back), or unknown (for no order of ours).",
    ),
    ("onetake_queue_group_events_total", "Events of a queue with groups that were worked through."),
    ("onetake_queue_schedulers_mended_total", "Job schedulers without a next run, which were given one."),
    ("onetake_queue_settled_total", "Jobs completed, failed or given back by this server, plain and durable."),
    ("onetake_queue_stalled_total", "Jobs of dead workers that were found and given out again, or failed for good."),
    ("onetake_queue_taken_total", "Jobs taken by this server, plain and durable."),
    ("onetake_runs_lost_total", "Attempts whose lease was lost while they were worked on: what they made is not used."),
    ("onetake_runs_total", "Durable runs that ended, by outcome: succeeded or failed."),
    ("onetake_saga_steps_total", "Steps of effects outside, by what they came to; parked ones wait for a person."),
    ("onetake_store_commits_total", "Units of work committed."),
    ("onetake_store_lock_waits_total", "Waits for a row (Postgres) or for the one writer (SQLite) of more than 10 ms."),
    ("onetake_store_retries_total", "Units of work repeated as a whole, by kind: conflict or unreachable."),
    ("onetake_store_rollbacks_total", "Units of work rolled back."),
    ("onetake_store_slow_total", "Units of work that took longer than store.slow."),
];

const GAUGES: [(&str, &str); 6] = [
    ("onetake_lock_held", "Leases that are held now, at all servers of the database."),
    ("onetake_lock_redis", "1 while Redis takes part in locking, 0 while it goes on over the database alone."),
    ("onetake_queue_jobs", "Jobs of a queue, by state."),
    ("onetake_redis_up", "1 while Redis answers this server."),
    ("onetake_runner_active", "Jobs that this server works on now."),
    ("onetake_runtime_tasks", "Tasks of the asynchronous runtime that are alive."),
];

const TIMES: [(&str, &str); 9] = [
    ("onetake_http_request_seconds", "Time to answer a request, by route."),
    ("onetake_lock_hold_seconds", "Time between the grant of a lock and its end, by kind."),
    ("onetake_lock_wait_seconds", "Time until a lock was granted, by kind."),
    ("onetake_queue_settle_seconds", "Time of a call that ends jobs and takes the next."),
    ("onetake_run_seconds", "Time that a durable run was worked on."),
    ("onetake_saga_call_seconds", "Time of a call to somebody outside."),
    ("onetake_store_connection_wait_seconds", "Time until a unit of work had its connection (Postgres)."),
    (
        "onetake_store_lock_wait_seconds",
        "Time of statements that lock rows (Postgres), or until the one writer was free (SQLite).",
    ),
    (
        "onetake_store_unit_of_work_seconds",
        "Time of a unit of work, from its first statement to the end of its commit.",
    ),
];

const SIZES: [(&str, &str); 1] =
    [("onetake_batch_items", "How many requests rode together in one transaction or one call, by what they wanted.")];

/// Tells the recorder; what is measured from now on is shown with it.
pub(super) fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(name, help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(name, help);
    }
    for (name, help) in TIMES {
        describe_histogram!(name, Unit::Seconds, help);
    }
    for (name, help) in SIZES {
        describe_histogram!(name, help);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The names that stand behind `macro!(` in our sources.
    fn measured(folder: &Path, macro_name: &str, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                measured(&path, macro_name, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let call = format!("{macro_name}!(");
                let calls = text.split(call.as_str()).skip(1);
                let quoted = calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());
                names.extend(quoted.map(str::to_owned));
            }
        }
    }

    #[test]
    fn each_measure_is_explained_and_nothing_else_is() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let with_spread: Vec<_> = TIMES.iter().chain(&SIZES).copied().collect();
        for (macro_name, explained) in
            [("counter", &COUNTERS[..]), ("gauge", &GAUGES[..]), ("histogram", &with_spread[..])]
        {
            let mut names = BTreeSet::new();
            measured(&source, macro_name, &mut names);
            assert_eq!(names, explained.iter().map(|(name, _)| (*name).to_owned()).collect(), "{macro_name}");
        }
    }
}
