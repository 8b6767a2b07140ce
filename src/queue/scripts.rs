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
script!(COUNTS, "counts", []);
script!(ENSURE, "ensure", ["gate", "enqueue", "remove", "create"]);
script!(EXTEND, "extend", []);
script!(FINISH_PARKED, "finish_parked", ["gate", "enqueue", "remove", "create", "parent", "finish"]);
script!(HALTED_SCHEDULERS, "halted_schedulers", ["gate", "enqueue", "create", "schedule"]);
script!(IDS, "ids", []);
script!(LOG, "log", []);
script!(PAUSE, "pause", ["gate"]);
script!(POSITION, "position", []);
script!(PROGRESS, "progress", ["gate"]);
script!(PRUNE_PARKED_GHOSTS, "prune_parked_ghosts", []);
script!(RECLAIM, "reclaim", ["gate", "enqueue"]);
script!(RECOVER_STALLED, "recover_stalled", ["gate", "enqueue"]);
script!(REMOVE, "remove", ["gate", "enqueue", "remove", "parent"]);
script!(REMOVE_SCHEDULER, "remove_scheduler", ["gate", "enqueue", "remove", "create", "schedule"]);
script!(RESUME, "resume", ["gate"]);
script!(SCHEDULE_NEXT, "schedule_next", ["gate", "enqueue", "create", "schedule"]);
script!(SCHEDULERS, "schedulers", ["gate", "enqueue", "create", "schedule"]);
script!(SETTLE, "settle", ["gate", "enqueue", "remove", "create", "parent", "finish", "take"]);
script!(STATE, "state", []);
script!(TAKE, "take", ["gate", "enqueue", "take"]);
script!(UPSERT_SCHEDULER, "upsert_scheduler", ["gate", "enqueue", "remove", "create", "schedule"]);
