//! Random walks through all verbs, beside a reference in plain Rust: what each verb says and what the tables hold must be
//! the same after every step, and the invariants must hold by themselves.
//!
//! A checker is worth what it catches, so the same walks are made over systems that are broken on purpose
//! ([`system::Fault`]): each must be found. `PROPTEST_CASES=3000` searches longer.

mod act;
mod invariants;
mod picture;
mod play;
mod reference;
mod system;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use super::bench::Bench;
use crate::support::store::StoreKind;
use act::walk;
use play::Play;
use system::Fault;

const STEPS: usize = 60;

/// Walks until something is wrong, and says what.
fn search(fault: Fault) -> Result<(), String> {
    let runtime = Runtime::new().expect("threads can be started");
    let bench = runtime.block_on(Bench::new(StoreKind::Sqlite));
    // A fault need only be found; what is wrong in earnest is worth a short walk that shows it.
    let max_shrink_iters = if fault == Fault::None { 300 } else { 0 };
    let config = Config { failure_persistence: None, max_shrink_iters, ..Config::default() };
    // The same walks each time: a test that fails only now and then is not believed.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let found = runner.run(&walk(STEPS), |steps| {
        runtime.block_on(async {
            let mut play = Play::begin(&bench, fault).await;
            for step in &steps {
                play.step(step).await.map_err(TestCaseError::fail)?;
            }
            Ok(())
        })
    });
    match found {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, steps)) => Err(format!("{reason}\nafter {steps:#?}")),
        Err(TestError::Abort(reason)) => panic!("the search was not finished: {reason}"),
    }
}

#[test]
fn random_walks_agree_with_the_reference() {
    if let Err(wrong) = search(Fault::None) {
        panic!("{wrong}");
    }
}

/// One test for each fault: it is found.
macro_rules! found {
    ($($name:ident: $fault:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            let found = search(Fault::$fault);
            assert!(found.is_err(), "no walk noticed {:?}", Fault::$fault);
        })+
    };
}

found!(
    a_second_run_beside_the_open_one_is_noticed: SecondRun,
    a_subscriber_dropped_by_an_early_copy_is_noticed: CopyBeforeLock,
    a_report_taken_without_its_token_is_noticed: FinishWithoutToken,
    a_result_erased_by_a_failed_refresh_is_noticed: FailureErasesResult,
    a_rescue_that_tells_nobody_is_noticed: RescueTellsNobody,
    a_mark_taken_without_its_token_is_noticed: MarkWithoutToken,
    a_crash_that_costs_no_attempt_is_noticed: CrashIsFree,
    a_leaver_who_is_told_nevertheless_is_noticed: LeaverIsTold,
);
