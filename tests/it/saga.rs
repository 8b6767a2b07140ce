//! Sagas by themselves: an effect outside happens at most once for each id, or a person decides.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, join_all};
use onetake::clock::{Clock, millis};
use onetake::config::{self, Span};
use onetake::id::new_id;
use onetake::idempotency::Answered;
use onetake::retry::Backoff;
use onetake::saga::{Asked, Called, Decision, Effect, Reserve, Resolve, Saga, SagaView, Sagas};
use onetake::store::{Error, Store, Tx, query};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::flight::bench::open;
use super::support::on_each_store;
use super::support::store::{StoreKind, TestStore};
use super::support::wait::{self, PATIENCE};

on_each_store!(
    what_is_done_is_confirmed_once,
    what_is_refused_is_compensated_at_once,
    what_was_not_sent_is_tried_three_times_under_one_id,
    an_unknown_end_is_asked_about_and_not_repeated,
    what_was_not_done_is_called_again,
    one_that_nobody_can_tell_about_waits_for_a_person,
    an_id_that_the_other_side_forgot_is_not_sent_again,
    a_call_whose_worker_fell_silent_has_an_unknown_end,
    a_worker_that_panics_leaves_an_unknown_end_and_the_others_go_on,
    a_late_worker_changes_nothing,
    a_domain_that_cannot_confirm_leaves_it_to_a_person,
    what_the_other_side_tells_by_itself_ends_it,
    a_reservation_that_is_rolled_back_was_never_made,
    servers_share_the_work_and_call_each_once,
);

const NAME: &str = "test_effect";
const LEASE: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(5);

/// The other side, and the domain's end of it.
#[derive(Default)]
struct Outside {
    pages: Mutex<Pages>,
    /// Calls wait here while a test holds them.
    gate: Notify,
    known_for: Option<Duration>,
    is_held: bool,
    panics: bool,
    cannot_confirm: bool,
}

#[derive(Default)]
struct Pages {
    called: Vec<Called>,
    asked: VecDeque<Asked>,
    /// The ids of calls, in their order.
    calls: Vec<String>,
    asks: usize,
}

impl Outside {
    /// Calls end so, one after the other, then well; so do questions.
    fn new(called: impl IntoIterator<Item = Called>, asked: impl IntoIterator<Item = Asked>) -> Self {
        let mut called: Vec<_> = called.into_iter().collect();
        called.reverse();
        let pages = Pages { called, asked: asked.into_iter().collect(), ..Pages::default() };
        Self { pages: Mutex::new(pages), ..Self::default() }
    }

    fn calls(&self) -> Vec<String> {
        self.pages.lock().unwrap().calls.clone()
    }

    fn asks(&self) -> usize {
        self.pages.lock().unwrap().asks
    }
}

#[async_trait]
impl Effect for Outside {
    async fn call(&self, id: &str, _input: &Value) -> Called {
        let called = {
            let mut pages = self.pages.lock().unwrap();
            pages.calls.push(id.to_owned());
            pages.called.pop().unwrap_or(Called::Done { receipt: "r1".into() })
        };
        assert!(!self.panics, "told to panic");
        if self.is_held {
            self.gate.notified().await;
        }
        called
    }

    async fn ask(&self, _id: &str, _input: &Value) -> Asked {
        let mut pages = self.pages.lock().unwrap();
        pages.asks += 1;
        pages.asked.pop_front().unwrap_or(Asked::Done { receipt: "seen".into() })
    }

    fn is_known_for(&self) -> Option<Duration> {
        self.known_for
    }

    /// A row that cannot be there twice.
    fn confirm<'t>(&'t self, tx: &'t mut Tx, saga: &'t Saga, receipt: &'t str) -> BoxFuture<'t, Result<(), Error>> {
        let words = format!("{} confirmed by {receipt}", saga.id);
        Box::pin(async move {
            if self.cannot_confirm {
                return Err(Error::Setup("the domain is broken".into()));
            }
            write(tx, words).await
        })
    }

    fn compensate<'t>(&'t self, tx: &'t mut Tx, saga: &'t Saga, _reason: &'t str) -> BoxFuture<'t, Result<(), Error>> {
        let words = format!("{} compensated", saga.id);
        Box::pin(write(tx, words))
    }
}

async fn write(tx: &mut Tx, words: String) -> Result<(), Error> {
    tx.execute(query("-- test.domain\ninsert into paused_queues (queue) values ($1)").bind(words)).await
}

struct Bench {
    sagas: Sagas,
    outside: Arc<Outside>,
    clock: Clock,
    store: Store,
    // After the handles: the server goes last.
    test: TestStore,
}

fn policy() -> config::Saga {
    let fixed = Backoff::Fixed { delay: Span(WAIT), jitter: 0.0 };
    config::Saga {
        attempts: 3,
        backoff: fixed,
        asks: 2,
        ask_backoff: fixed,
        lease: Span(LEASE),
        time_limit: Span(Duration::from_secs(20)),
        concurrency: 10,
        interval: Span(Duration::from_secs(1)),
    }
}

fn sagas(store: &Store, outside: &Arc<Outside>) -> Sagas {
    let effects: BTreeMap<&'static str, Arc<dyn Effect>> = BTreeMap::from([(NAME, outside.clone() as Arc<dyn Effect>)]);
    Sagas::new(store.clone(), policy(), effects)
}

impl Bench {
    async fn new(kind: StoreKind, outside: Outside) -> Self {
        let test = TestStore::start(kind).await;
        let clock = Clock::manual(1_700_000_000_000);
        let store = open(&test.url(), 5, clock.clone()).await.expect("an empty store opens");
        let outside = Arc::new(outside);
        Self { sagas: sagas(&store, &outside), outside, clock, store, test }
    }

    async fn reserve(&self) -> String {
        let saga = Reserve { id: new_id(), name: NAME, subject: "order 1".into(), input: json!({"amount": 5}) };
        let reserved = saga.clone();
        let done: Result<(), Error> = self
            .store
            .unit_of_work("test.reserve", move |tx| {
                let saga = reserved.clone();
                // Repeated, as after an unknown commit: nothing more.
                Box::pin(async move {
                    Sagas::reserve(tx, &saga).await?;
                    Sagas::reserve(tx, &saga).await
                })
            })
            .await;
        done.expect("the store is up");
        saga.id
    }

    /// Time passes. Nobody can move the clock of Postgres, so there what is written moves into the past.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        if self.store.is_shared() {
            let back = millis(time);
            self.test
                .change(&format!(
                    "update sagas set next_at_ms = next_at_ms - {back}, lease_until_ms = lease_until_ms - {back},
                     called_at_ms = called_at_ms - {back}"
                ))
                .await;
        }
    }

    async fn step(&self) -> usize {
        self.sagas.step().await.expect("the store is up")
    }

    async fn view(&self, id: &str) -> SagaView {
        self.sagas.show(id).await.expect("the store is up").expect("it exists").0
    }

    async fn state(&self, id: &str) -> String {
        self.view(id).await.state
    }

    /// What the domain wrote.
    async fn words(&self) -> Vec<String> {
        self.test.texts("select queue from paused_queues order by queue").await
    }
}

fn not_sent() -> Called {
    Called::NotSent { reason: "nobody there".into() }
}

fn unknown() -> Called {
    Called::Unknown { reason: "reset".into() }
}

fn cannot_tell() -> Asked {
    Asked::CannotTell { reason: "503".into() }
}

async fn what_is_done_is_confirmed_once(kind: StoreKind) {
    let bench = Bench::new(kind, Outside::default()).await;
    let id = bench.reserve().await;
    assert_eq!((bench.step().await, bench.step().await), (1, 0));
    assert_eq!(bench.state(&id).await, "confirmed");
    assert_eq!(bench.words().await, [format!("{id} confirmed by r1")]);
    assert_eq!(bench.outside.calls(), [id.as_str()]);
    let (_, history) = bench.sagas.show(&id).await.expect("the store is up").expect("it exists");
    assert!(history.iter().any(|line| line.event == "confirmed" && line.detail.as_deref() == Some("r1")));
}

async fn what_is_refused_is_compensated_at_once(kind: StoreKind) {
    let bench = Bench::new(kind, Outside::new([Called::Refused { reason: "no".into() }], [])).await;
    let id = bench.reserve().await;
    bench.step().await;
    assert_eq!((bench.state(&id).await.as_str(), bench.view(&id).await.error.as_deref()), ("compensated", Some("no")));
    assert_eq!(bench.words().await, [format!("{id} compensated")]);
}

async fn what_was_not_sent_is_tried_three_times_under_one_id(kind: StoreKind) {
    let bench = Bench::new(kind, Outside::new([not_sent(), not_sent(), not_sent()], [])).await;
    let id = bench.reserve().await;
    for calls in 1..=3 {
        assert_eq!((bench.step().await, bench.step().await), (1, 0), "each after its wait");
        assert_eq!(bench.view(&id).await.calls, calls);
        bench.pass(WAIT).await;
    }
    assert_eq!(bench.state(&id).await, "compensated");
    assert_eq!(bench.outside.calls(), [id.as_str(), &id, &id]);
    assert_eq!(bench.outside.asks(), 0);
}

async fn an_unknown_end_is_asked_about_and_not_repeated(kind: StoreKind) {
    let bench = Bench::new(kind, Outside::new([unknown()], [cannot_tell()])).await;
    let id = bench.reserve().await;
    bench.step().await;
    assert_eq!((bench.state(&id).await.as_str(), bench.step().await), ("unknown", 0));
    bench.pass(WAIT).await;
    bench.step().await;
    assert_eq!(bench.state(&id).await, "unknown");
    bench.pass(WAIT).await;
    bench.step().await;
    assert_eq!(bench.state(&id).await, "confirmed");
    assert_eq!((bench.outside.calls().len(), bench.outside.asks()), (1, 2));
    assert_eq!(bench.words().await, [format!("{id} confirmed by seen")]);
}

async fn what_was_not_done_is_called_again(kind: StoreKind) {
    let outside = Outside::new([unknown(), unknown(), unknown()], [Asked::NotDone, Asked::NotDone, Asked::NotDone]);
    let bench = Bench::new(kind, outside).await;
    let id = bench.reserve().await;
    for _ in 0..6 {
        bench.step().await;
        bench.pass(WAIT).await;
    }
    assert_eq!(bench.state(&id).await, "compensated", "three calls, none of which was performed");
    assert_eq!((bench.outside.calls().len(), bench.outside.asks()), (3, 3));
}

async fn one_that_nobody_can_tell_about_waits_for_a_person(kind: StoreKind) {
    for (decision, state) in [(Decision::Done, "confirmed"), (Decision::NotDone, "compensated")] {
        let bench = Bench::new(kind, Outside::new([unknown()], [cannot_tell(), cannot_tell()])).await;
        let id = bench.reserve().await;
        for _ in 0..5 {
            bench.step().await;
            bench.pass(LEASE).await;
        }
        assert_eq!(bench.state(&id).await, "parked");
        assert_eq!((bench.outside.calls().len(), bench.outside.asks()), (1, 2), "nothing more is tried");
        let resolve = Resolve { id: id.clone(), decision, reason: "looked".into(), actor: "key:ops".into() };
        let resolved = bench.sagas.resolve(resolve.clone(), None).await.expect("the store is up");
        assert!(matches!(resolved, Answered::First(Ok(_))), "{resolved:?}");
        assert_eq!(bench.state(&id).await, state);
        assert_eq!(bench.words().await.len(), 1);
        let again = bench.sagas.resolve(resolve, None).await.expect("the store is up");
        assert!(matches!(again, Answered::First(Err(refusal)) if refusal.code == "saga_not_parked"));
        assert_eq!(bench.words().await.len(), 1);
    }
}

async fn an_id_that_the_other_side_forgot_is_not_sent_again(kind: StoreKind) {
    let outside = Outside { known_for: Some(Duration::from_secs(3600)), ..Outside::new([unknown()], [Asked::NotDone]) };
    let bench = Bench::new(kind, outside).await;
    let id = bench.reserve().await;
    bench.step().await;
    bench.pass(Duration::from_secs(3600)).await;
    bench.step().await;
    assert_eq!((bench.state(&id).await.as_str(), bench.outside.calls().len()), ("parked", 1));
}

async fn a_call_whose_worker_fell_silent_has_an_unknown_end(kind: StoreKind) {
    let bench = Bench::new(kind, Outside { is_held: true, ..Outside::default() }).await;
    let id = bench.reserve().await;
    {
        let step = bench.sagas.step();
        tokio::pin!(step);
        // The worker dies with the call under way.
        while bench.outside.calls().is_empty() {
            assert!(futures::poll!(&mut step).is_pending());
            tokio::task::yield_now().await;
        }
    }
    assert_eq!((bench.state(&id).await.as_str(), bench.step().await), ("calling", 0), "its lease still holds");
    bench.pass(LEASE).await;
    bench.step().await;
    assert_eq!(
        (bench.state(&id).await.as_str(), bench.outside.calls().len(), bench.outside.asks()),
        ("confirmed", 1, 1)
    );
}

async fn a_worker_that_panics_leaves_an_unknown_end_and_the_others_go_on(kind: StoreKind) {
    let bench = Bench::new(kind, Outside { panics: true, ..Outside::default() }).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(bench.sagas.clone().run(stop.clone()));
    let (one, two) = (bench.reserve().await, bench.reserve().await);
    bench.sagas.wake();
    wait::until_true("both calls to panic", PATIENCE, async || bench.outside.calls().len() == 2).await;
    bench.pass(LEASE).await;
    bench.sagas.wake();
    for id in [one, two] {
        wait::until_true("it is confirmed", PATIENCE, async || bench.state(&id).await == "confirmed").await;
    }
    assert_eq!((bench.outside.calls().len(), bench.outside.asks()), (2, 2));
    stop.cancel();
    running.await.expect("the worker itself does not panic");
}

async fn a_late_worker_changes_nothing(kind: StoreKind) {
    let bench = Bench::new(kind, Outside { is_held: true, ..Outside::default() }).await;
    let id = bench.reserve().await;
    let late = bench.sagas.clone();
    let late = tokio::spawn(async move { late.step().await });
    while bench.outside.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    bench.pass(LEASE).await;
    bench.step().await;
    assert_eq!(bench.words().await, [format!("{id} confirmed by seen")]);
    bench.outside.gate.notify_one();
    assert_eq!(late.await.expect("no panic").expect("the store is up"), 1);
    assert_eq!(bench.words().await, [format!("{id} confirmed by seen")], "the late answer is nobody's");
    assert_eq!(bench.view(&id).await.receipt.as_deref(), Some("seen"));
}

async fn a_domain_that_cannot_confirm_leaves_it_to_a_person(kind: StoreKind) {
    let bench = Bench::new(kind, Outside { cannot_confirm: true, ..Outside::default() }).await;
    let id = bench.reserve().await;
    for _ in 0..6 {
        bench.step().await;
        bench.pass(LEASE).await;
    }
    assert_eq!((bench.state(&id).await.as_str(), bench.outside.calls().len()), ("parked", 1));
    assert!(bench.words().await.is_empty());
}

async fn what_the_other_side_tells_by_itself_ends_it(kind: StoreKind) {
    let bench = Bench::new(kind, Outside::default()).await;
    let id = bench.reserve().await;
    let told = id.clone();
    let told: Result<(bool, bool), Error> = bench
        .store
        .unit_of_work("test.told", move |tx| {
            let id = told.clone();
            Box::pin(
                async move { Ok((Sagas::performed(tx, &id, "r9").await?, Sagas::performed(tx, &id, "r9").await?)) },
            )
        })
        .await;
    assert_eq!(told.expect("the store is up"), (true, false));
    assert_eq!((bench.step().await, bench.outside.calls().len(), bench.state(&id).await.as_str()), (0, 0, "confirmed"));
}

async fn a_reservation_that_is_rolled_back_was_never_made(kind: StoreKind) {
    let bench = Bench::new(kind, Outside::default()).await;
    let broken: Result<(), Error> = bench
        .store
        .unit_of_work("test.broken", |tx| {
            Box::pin(async move {
                let saga = Reserve { id: new_id(), name: NAME, subject: "x".into(), input: json!({}) };
                Sagas::reserve(tx, &saga).await?;
                Err(Error::Setup("the domain says no".into()))
            })
        })
        .await;
    assert!(broken.is_err());
    assert_eq!((bench.step().await, bench.outside.calls().len()), (0, 0));
}

async fn servers_share_the_work_and_call_each_once(kind: StoreKind) {
    let bench = Bench::new(kind, Outside::default()).await;
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(bench.reserve().await);
    }
    let second = match bench.store.is_shared() {
        true => open(&bench.test.url(), 5, Clock::system()).await.expect("a migrated store opens"),
        false => bench.store.clone(),
    };
    let others =
        [sagas(&second, &bench.outside), sagas(&second, &bench.outside), bench.sagas.clone(), bench.sagas.clone()];
    let work = async |sagas: &Sagas| while sagas.step().await.expect("the store is up") > 0 {};
    join_all(others.iter().map(work)).await;
    let mut calls = bench.outside.calls();
    calls.sort_unstable();
    ids.sort_unstable();
    assert_eq!(calls, ids);
    assert_eq!(bench.words().await.len(), 60);
}
