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

script!(ADD, "add", ["gate", "enqueue", "groups", "remove", "create"]);
script!(ADD_FLOW, "add_flow", ["gate", "enqueue", "groups", "parent"]);
script!(CANCEL, "cancel", ["gate", "enqueue", "groups", "remove", "options", "create", "parent", "finish", "metrics"]);
script!(CANCELLED, "cancelled", ["cancelled"]);
script!(CHANGE_DELAY, "change_delay", ["gate", "enqueue"]);
script!(CHANGE_PRIORITY, "change_priority", ["gate", "enqueue", "groups"]);
script!(CHILDREN, "children", []);
script!(CHILDREN_COUNTS, "children_counts", []);
script!(CLAIM, "claim", ["gate", "enqueue", "groups", "turns", "take"]);
script!(CLEAN, "clean", ["gate", "enqueue", "groups", "remove", "parent", "lines", "sweep"]);
script!(COUNTS, "counts", []);
script!(DRAIN, "drain", ["gate", "enqueue", "groups", "remove", "parent", "lines", "sweep"]);
script!(ENSURE, "ensure", ["gate", "enqueue", "groups", "remove", "create"]);
script!(EXTEND, "extend", []);
script!(
    FINISH_PARKED,
    "finish_parked",
    ["gate", "enqueue", "groups", "remove", "options", "create", "parent", "finish", "metrics"]
);
script!(GROUPS, "groups", []);
script!(HALTED_SCHEDULERS, "halted_schedulers", ["gate", "enqueue", "groups", "create", "schedule"]);
script!(HEARTBEAT, "heartbeat", ["gate", "options", "cancelled"]);
script!(IDS, "ids", ["lines"]);
script!(LEAD_TENDING, "lead_tending", []);
script!(LEAVE_TENDING, "leave_tending", []);
script!(LIMITS, "limits", []);
script!(LOG, "log", []);
script!(LOGS, "logs", []);
script!(OBLITERATE, "obliterate", ["gate", "enqueue", "groups", "remove", "parent", "lines", "sweep"]);
script!(PAUSE, "pause", ["gate"]);
script!(POSITION, "position", []);
script!(PROGRESS, "progress", ["gate"]);
script!(PROMOTE, "promote", ["gate", "enqueue", "groups"]);
script!(PROMOTE_ALL, "promote_all", ["gate", "enqueue", "groups"]);
script!(PRUNE_PARKED_GHOSTS, "prune_parked_ghosts", []);
script!(RECLAIM, "reclaim", ["gate", "enqueue"]);
script!(RECOVER_STALLED, "recover_stalled", ["gate", "enqueue"]);
script!(REMOVE, "remove", ["gate", "enqueue", "groups", "remove", "parent", "family"]);
script!(REMOVE_RATE_LIMIT, "remove_rate_limit", ["gate"]);
script!(REMOVE_SCHEDULER, "remove_scheduler", ["gate", "enqueue", "groups", "remove", "create", "schedule"]);
script!(RESUME, "resume", ["gate"]);
script!(RETRY, "retry", ["gate", "enqueue", "groups", "options", "parent", "retry"]);
script!(RETRY_ALL, "retry_all", ["gate", "enqueue", "groups", "options", "parent", "retry"]);
script!(SCHEDULERS, "schedulers", ["gate", "enqueue", "groups", "create", "schedule"]);
script!(SCHEDULE_NEXT, "schedule_next", ["gate", "enqueue", "groups", "create", "schedule"]);
script!(
    SETTLE,
    "settle",
    ["gate", "enqueue", "groups", "remove", "options", "create", "parent", "finish", "metrics", "turns", "take"]
);
script!(SET_CONCURRENCY, "set_concurrency", ["gate"]);
script!(SET_GROUP, "set_group", ["gate", "enqueue", "groups"]);
script!(SET_RATE_LIMIT, "set_rate_limit", ["gate"]);
script!(STATE, "state", []);
script!(TAKE, "take", ["gate", "enqueue", "groups", "turns", "take"]);
script!(TEND, "tend", ["gate", "enqueue", "groups"]);
script!(TRIM_EVENTS, "trim_events", []);
script!(UPDATE_DATA, "update_data", []);
script!(UPSERT_SCHEDULER, "upsert_scheduler", ["gate", "enqueue", "groups", "remove", "create", "schedule"]);
