//! The queue's scripts: which shared parts stand before which verb.

use std::sync::LazyLock;

use crate::redis::Script;

/// A verb's script, with the parts that it names, in the order in which they build on each other.
macro_rules! script {
    ($constant:ident, $verb:literal, [$($part:literal),*]) => {
        pub(super) static $constant: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!("queue.", $verb), &[
                part!("keys"),
                $(part!($part),)*
                include_str!(concat!("../../lua/queue/", $verb, ".lua")),
            ])
        });
    };
}

macro_rules! part {
    ($part:literal) => {
        include_str!(concat!("../../lua/queue/parts/", $part, ".lua"))
    };
}

script!(ADD, "add", ["gate", "enqueue", "groups", "remove", "create"]);
script!(ADD_FLOW, "add_flow", ["gate", "enqueue", "parent", "flow"]);
script!(
    CANCEL,
    "cancel",
    ["look", "gate", "enqueue", "groups", "remove", "options", "create", "parent", "finish", "metrics"]
);
script!(CANCELLED, "cancelled", ["cancelled"]);
script!(CHANGE_DELAY, "change_delay", ["gate", "enqueue"]);
script!(CHANGE_PRIORITY, "change_priority", ["gate", "enqueue", "groups"]);
script!(CHILDREN, "children", []);
script!(CHILDREN_COUNTS, "children_counts", []);
script!(CLAIM, "claim", ["gate", "enqueue", "groups", "turns", "take"]);
script!(CLEAN, "clean", ["look", "gate", "enqueue", "groups", "remove", "parent", "lines", "sweep"]);
script!(COUNTS, "counts", []);
script!(DRAIN, "drain", ["look", "gate", "enqueue", "groups", "remove", "parent", "lines", "sweep"]);
script!(ENSURE, "ensure", ["look", "gate", "enqueue", "groups", "remove", "create"]);
script!(EXTEND, "extend", []);
script!(
    FINISH_PARKED,
    "finish_parked",
    ["gate", "enqueue", "groups", "remove", "options", "create", "parent", "finish", "metrics"]
);
script!(GROUPS, "groups", []);
script!(HALTED_SCHEDULERS, "halted_schedulers", ["look", "gate", "schedule"]);
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
script!(LOOK_AT_PARKED, "look_at_parked", []);
script!(RECLAIM, "reclaim", ["gate", "enqueue"]);
script!(RECOVER_STALLED, "recover_stalled", ["gate", "enqueue"]);
script!(REMOVE, "remove", ["look", "gate", "enqueue", "groups", "remove", "parent", "family"]);
script!(REMOVE_RATE_LIMIT, "remove_rate_limit", ["gate"]);
script!(REMOVE_SCHEDULER, "remove_scheduler", ["gate", "remove", "schedule"]);
script!(RESULTS, "results", []);
script!(RESUME, "resume", ["gate"]);
script!(RETRY, "retry", ["gate", "enqueue", "groups", "options", "retry"]);
script!(RETRY_ALL, "retry_all", ["gate", "enqueue", "groups", "options", "retry"]);
script!(SCHEDULERS, "schedulers", ["gate", "schedule"]);
script!(SCHEDULE_NEXT, "schedule_next", ["gate", "enqueue", "groups", "create", "schedule", "schedule_run"]);
script!(SET_CONCURRENCY, "set_concurrency", ["gate"]);
script!(SET_GROUP, "set_group", ["gate", "enqueue", "groups"]);
script!(SET_RATE_LIMIT, "set_rate_limit", ["gate"]);
script!(STATE, "state", ["look"]);
script!(TAKE, "take", ["gate", "enqueue", "groups", "turns", "take"]);
script!(TEND, "tend", ["gate", "enqueue", "groups"]);
script!(TRIM_EVENTS, "trim_events", []);
script!(UPDATE_DATA, "update_data", []);
script!(
    UPSERT_SCHEDULER,
    "upsert_scheduler",
    ["gate", "enqueue", "groups", "remove", "create", "schedule", "schedule_run"]
);

/// The parts of SETTLE that few calls need stand in a function, which makes them when it is called first: for a lone job, to
/// make all of them would cost more than to end it. The commonest call needs none of the parts but the first.
pub(super) static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "queue.settle",
        &[
            part!("lone"),
            part!("keys"),
            part!("gate"),
            part!("enqueue"),
            part!("groups"),
            "local made_endings\nlocal function endings()\nif not made_endings then made_endings = (function()",
            part!("remove"),
            part!("options"),
            part!("create"),
            part!("parent"),
            part!("flow"),
            part!("finish"),
            part!("endings"),
            "end)() end\nreturn made_endings\nend",
            part!("metrics"),
            part!("turns"),
            part!("take"),
            include_str!("../../lua/queue/settle.lua"),
        ],
    )
});
