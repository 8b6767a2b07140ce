//! Random verbs by several clients, beside a reference in plain Rust: after each verb its answer and everything that stands
//! in Redis must be as the reference says, and the invariants must hold by themselves.
//!
//! A checker is worth what it catches: the same walks over scripts that are broken on purpose ([`Fault`]) must each be
//! noticed. `PROPTEST_CASES=3000` searches longer.

mod act;
mod picture;
mod play;
mod reference;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use super::{NOW, World};
use crate::redis::Script;
use crate::redis::testing::raw;
use play::Play;

const STEPS: usize = 50;

/// A script of the queue with something else in one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The only verb that is broken, or all that have the place.
    pub(super) verb: Option<&'static str>,
    pub(super) place: &'static str,
    pub(super) by: &'static str,
}

impl Fault {
    /// Not a fault: settle.lua without lone.lua.
    pub(super) const ALWAYS_LONG: Self =
        Self { verb: Some("queue.settle"), place: "local settled = settle_lone_job()", by: "local settled = nil" };
    /// Only what lone.lua does; the rest fails.
    pub(super) const NEVER_LONG: Self = Self {
        verb: Some("queue.settle"),
        place: "if settled then\n",
        by: "if not settled then\n  error('long')\nelse\n",
    };

    pub(crate) fn in_script(&self, script: &Script) -> Option<Script> {
        let is_meant = self.verb.is_none_or(|verb| script.name() == verb);
        is_meant.then(|| script.broken(self.place, self.by)).flatten()
    }
}

/// Walks until something is wrong, and says what.
fn search(fault: Option<Fault>) -> Result<(), String> {
    let runtime = Runtime::new().expect("threads can be started");
    let world = runtime.block_on(async {
        let world = World::broken(fault).await;
        // What is lost with this server is lost on purpose: it need not write to the disk.
        raw(&world.redis, &["CONFIG", "SET", "appendonly", "no"]).await;
        world
    });
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { 120 };
    // A fault need only be found; what is wrong in earnest is worth a short walk that shows it.
    let max_shrink_iters = if fault.is_none() { 300 } else { 0 };
    let config = Config { cases, failure_persistence: None, max_shrink_iters, ..Config::default() };
    // The same walks each time: a test that fails only now and then is not believed.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let found = runner.run(&act::walk(STEPS), |acts| {
        runtime.block_on(async {
            let mut play = Play::begin(&world).await;
            for act in &acts {
                play.step(act).await.map_err(TestCaseError::fail)?;
            }
            Ok(())
        })
    });
    match found {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, acts)) => Err(format!("{reason}\nafter {acts:#?}")),
        Err(TestError::Abort(reason)) => panic!("the search was not finished: {reason}"),
    }
}

#[test]
fn random_verbs_agree_with_the_reference() {
    if let Err(wrong) = search(None) {
        panic!("{wrong}");
    }
}

/// One test for each fault: it is noticed.
macro_rules! noticed {
    ($($name:ident: $verb:expr, $place:literal => $by:literal;)+) => {
        $(#[test]
        fn $name() {
            let fault = Fault { verb: $verb, place: $place, by: $by };
            assert!(search(Some(fault)).is_err(), "no walk noticed {fault:?}");
        })+
    };
}

noticed!(
    an_end_without_a_look_at_the_lock: Some("queue.settle"), "if locks[i] ~= attempt[2] or" => "if";
    a_lock_that_stays_behind: Some("queue.settle"), "redis.call('DEL', unpack(lock_keys))" => "";
    a_job_taken_into_no_state: None, "call('LPUSH', active_list, unpack(ids))" => "";
    a_job_taken_without_a_lock: None, "call('SET', key .. ':lock', token, 'PX', lease_text)" => "";
    a_start_that_is_not_counted: None, "'ats', texts[number_of(starts) + 1]" => "'ats', texts[number_of(starts)]";
    a_concurrency_that_is_exceeded: None, "return math.max(0, concurrency - redis.call('LLEN', active_list))" => "return concurrency";
    a_pause_that_stops_nobody: None, "if room > 0 and not is_paused then" => "if room > 0 then";
    a_hash_that_stays_behind: Some("queue.remove"), "delete_job(id)\nemit(" => "emit(";
    a_job_removed_from_under_its_worker: Some("queue.remove"), "if redis.call('EXISTS', lock_of(id)) == 1 then\n  return 2" => "if false then\n  return 2";
    the_wrong_end_of_the_list: None, "redis.call('LPUSH', wait_list" => "redis.call('RPUSH', wait_list";
    a_delay_that_is_not_forgotten: None, "redis.call('HSET', base .. id, 'delay', '0')" => "";
    nobody_is_woken: None, "redis.call('ZADD', marker_set, 0, '0')" => "";
    nobody_knows_when_to_wake: None, "redis.call('ZADD', marker_set, due, '1')" => "";
    a_living_worker_taken_for_dead: Some("queue.recover_stalled"), "redis.call('EXISTS', lock_of(id)) == 0 and" => "";
    a_recovered_job_that_stays_active: Some("queue.recover_stalled"), "redis.call('LREM', active_list, -1, id) > 0" => "true";
    a_stall_that_is_not_counted: Some("queue.recover_stalled"), "number_of(redis.call('HGET', base .. id, 'stc')) + 1" => "0";
    a_renewal_that_leaves_suspicion: Some("queue.extend"), "redis.call('SREM', stalled_set" => "redis.call('SISMEMBER', stalled_set, '') local _ = (0";
    a_job_in_two_lists: Some("queue.change_priority"), "redis.call('LREM', wait_list, -1, id) > 0" => "redis.call('LPOS', wait_list, id)";
    a_priority_lost_by_a_retry: Some("queue.settle"), "push_waiting(id, number_of(job[7])," => "push_waiting(id, 0,";
    a_finished_job_of_the_same_id_made_again: Some("queue.add"), "if job[1] and redis.call('EXISTS', base .. id) == 1 then" => "if false then";
);
