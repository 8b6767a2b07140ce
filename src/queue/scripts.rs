//! The queue's scripts: which shared parts stand before which verb.

use std::sync::LazyLock;

use crate::redis::Script;

/// A verb's script, with the parts that it names, in the order in which they build on each other.
macro_rules! script {
    ($constant:ident, $verb:literal, [$($part:literal),*]) => {
        pub(super) static $constant: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!("queue.", $verb), &[
                include_str!("../../lua/queue/parts/keys.lua"),
                $(include_str!(concat!("../../lua/queue/parts/", $part, ".lua")),)*
                include_str!(concat!("../../lua/queue/", $verb, ".lua")),
            ])
        });
    };
}

script!(ADD, "add", ["gate", "enqueue", "remove", "create"]);
script!(CANCEL, "cancel", ["gate", "enqueue", "remove", "options", "create", "parent", "finish", "metrics"]);
script!(CANCELLED, "cancelled", []);
script!(CHANGE_DELAY, "change_delay", ["gate", "enqueue"]);
script!(CHANGE_PRIORITY, "change_priority", ["gate", "enqueue"]);
script!(CHILDREN, "children", []);
script!(CHILDREN_COUNTS, "children_counts", []);
script!(CLEAN, "clean", ["gate", "enqueue", "remove", "parent", "sweep"]);
script!(COUNTS, "counts", []);
script!(DRAIN, "drain", ["gate", "enqueue", "remove", "parent", "sweep"]);
script!(ENSURE, "ensure", ["gate", "enqueue", "remove", "create"]);
script!(EXTEND, "extend", []);
script!(
    FINISH_PARKED,
    "finish_parked",
    ["gate", "enqueue", "remove", "options", "create", "parent", "finish", "metrics"]
);
script!(HALTED_SCHEDULERS, "halted_schedulers", ["gate", "enqueue", "create", "schedule"]);
script!(IDS, "ids", []);
script!(LIMITS, "limits", []);
script!(LOG, "log", []);
script!(LOGS, "logs", []);
script!(OBLITERATE, "obliterate", ["gate", "enqueue", "remove", "parent", "sweep"]);
script!(PAUSE, "pause", ["gate"]);
script!(POSITION, "position", []);
script!(PROGRESS, "progress", ["gate"]);
script!(PROMOTE, "promote", ["gate", "enqueue"]);
script!(PROMOTE_ALL, "promote_all", ["gate", "enqueue"]);
script!(PRUNE_PARKED_GHOSTS, "prune_parked_ghosts", []);
script!(RECLAIM, "reclaim", ["gate", "enqueue"]);
script!(RECOVER_STALLED, "recover_stalled", ["gate", "enqueue"]);
script!(REMOVE, "remove", ["gate", "enqueue", "remove", "parent", "family"]);
script!(REMOVE_RATE_LIMIT, "remove_rate_limit", ["gate"]);
script!(REMOVE_SCHEDULER, "remove_scheduler", ["gate", "enqueue", "remove", "create", "schedule"]);
script!(RESUME, "resume", ["gate"]);
script!(RETRY, "retry", ["gate", "enqueue", "options", "parent", "retry"]);
script!(RETRY_ALL, "retry_all", ["gate", "enqueue", "options", "parent", "retry"]);
script!(SCHEDULERS, "schedulers", ["gate", "enqueue", "create", "schedule"]);
script!(SCHEDULE_NEXT, "schedule_next", ["gate", "enqueue", "create", "schedule"]);
script!(SETTLE, "settle", ["gate", "enqueue", "remove", "options", "create", "parent", "finish", "metrics", "take"]);
script!(SET_CONCURRENCY, "set_concurrency", ["gate"]);
script!(SET_RATE_LIMIT, "set_rate_limit", ["gate"]);
script!(STATE, "state", []);
script!(TAKE, "take", ["gate", "enqueue", "take"]);
script!(TRIM_EVENTS, "trim_events", []);
script!(UPDATE_DATA, "update_data", []);
script!(UPSERT_SCHEDULER, "upsert_scheduler", ["gate", "enqueue", "remove", "create", "schedule"]);
