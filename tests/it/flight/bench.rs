//! A store with flights over it, verbs that must succeed, and time that passes when a test says so.

use std::time::Duration;

use onetake::clock::{Clock, millis};
use onetake::config::{self, Span};
use onetake::flight::{
    Accepted, Answer, Ask, Channel, Claim, ClaimAsk, Claimed, DeliveryAsk, DeliveryLease, DeliveryMark, DeliveryView,
    Ending, Finish, Finished, FlightView, Flights, Held, LeaseAnswer, NewSubscription, Outcome, RunSpec, Verdict,
};
use onetake::id::{new_id, new_token};
use onetake::store::{Error, Store, query};

use crate::support::store::{StoreKind, TestStore};

/// Long enough that no lease ends while a busy machine thinks; a test that wants one ended lets time pass.
pub const LEASE: Duration = Duration::from_secs(60);
/// The wait after a failed attempt.
pub const BACKOFF: Duration = Duration::from_secs(5);
pub const SCOPE: &str = "video";

const START_MS: i64 = 1_700_000_000_000;

pub struct Bench {
    pub flights: Flights,
    /// Stands still on SQLite; Postgres has its own.
    clock: Clock,
    // After the flights: the server goes last.
    pub store: TestStore,
}

pub async fn open(url: &str, max_connections: u32, clock: Clock) -> Result<Store, Error> {
    let settings =
        config::Store { url: url.to_owned().into(), max_connections, slow: Span(Duration::from_secs(1)), batch: 256 };
    Store::open(&settings, clock).await
}

impl Bench {
    pub async fn new(kind: StoreKind) -> Self {
        let store = TestStore::start(kind).await;
        let clock = Clock::manual(START_MS);
        let flights = Flights::new(open(&store.url(), 5, clock.clone()).await.expect("an empty store opens"));
        Self { flights, clock, store }
    }

    /// Another server on the same store, where the store can be shared; the same one otherwise.
    pub async fn other_server(&self, clock: Clock) -> Flights {
        if !self.flights.store().is_shared() {
            return self.flights.clone();
        }
        Flights::new(open(&self.store.url(), 5, clock).await.expect("a migrated store opens"))
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Lets time pass. Nobody can move the clock of Postgres, so there everything that is written moves into the past.
    pub async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        if !self.flights.store().is_shared() {
            return;
        }
        self.write(&[
            "-- test.pass.flights
            update flights set lease_until_ms = lease_until_ms - $1, next_at_ms = next_at_ms - $1,
              started_at_ms = started_at_ms - $1, negative_until_ms = negative_until_ms - $1,
              made_at_ms = made_at_ms - $1, created_at_ms = created_at_ms - $1, touched_at_ms = touched_at_ms - $1",
            "-- test.pass.runs
            update runs set started_at_ms = started_at_ms - $1, finished_at_ms = finished_at_ms - $1",
            "-- test.pass.subscriptions\nupdate subscriptions set created_at_ms = created_at_ms - $1",
            "-- test.pass.deliveries
            update deliveries set next_at_ms = next_at_ms - $1, slot_at_ms = slot_at_ms - $1,
              lease_until_ms = lease_until_ms - $1, created_at_ms = created_at_ms - $1, touched_at_ms = touched_at_ms - $1",
            "-- test.pass.idempotency\nupdate idempotency set created_at_ms = created_at_ms - $1",
            "-- test.pass.mailbox\nupdate mailbox set created_at_ms = created_at_ms - $1",
            "-- test.pass.sagas\nupdate sagas set touched_at_ms = touched_at_ms - $1",
        ], millis(time))
        .await;
    }

    async fn write(&self, statements: &'static [&'static str], number: i64) {
        let done: Result<(), Error> = self
            .flights
            .store()
            .unit_of_work("test.write", move |tx| {
                Box::pin(async move {
                    for statement in statements {
                        tx.execute(query(statement).bind(number)).await?;
                    }
                    Ok(())
                })
            })
            .await;
        done.expect("the statements are valid");
    }

    pub async fn accept(&self, ask: Ask) -> Accepted {
        accepted(self.flights.accept(ask).await.expect("the store is up"))
    }

    /// Someone claims the generation that answered `accepted`.
    pub async fn claim(&self, accepted: &Accepted) -> Claim {
        self.flights.claim(claim_of(accepted)).await.expect("the store is up")
    }

    /// [`Bench::claim`] that must be granted.
    pub async fn start(&self, accepted: &Accepted) -> Claimed {
        match self.claim(accepted).await {
            Claim::Claimed(run) => *run,
            other => panic!("the run should be free: {other:?}"),
        }
    }

    pub async fn finish(&self, run: &Claimed, ending: Ending) -> Finished {
        self.flights.finish(report(run, ending)).await.expect("the store is up")
    }

    /// A key whose result was made just now, for one poller.
    pub async fn made(&self, key: &str, result: &str) -> Accepted {
        let first = self.accept(by_poll(ask(key, "maker"))).await;
        let run = self.start(&first).await;
        self.finish(&run, Ending::Succeeded(result.into())).await;
        first
    }

    pub async fn flight(&self, key: &str) -> FlightView {
        self.flights.flight(SCOPE, &key_text(key)).await.expect("the store is up").expect("the flight exists")
    }

    pub async fn delivery(&self, id: &str) -> DeliveryView {
        self.flights.delivery(id).await.expect("the store is up").expect("the delivery exists").0
    }

    /// The queued deliveries of the generation that answered `accepted`.
    pub async fn queued(&self, accepted: &Accepted) -> Vec<String> {
        let found = self.flights.deliveries_of(&accepted.flight, accepted.generation, "", 10_000).await;
        found.expect("the store is up").into_iter().map(|delivery| delivery.id).collect()
    }

    pub async fn lease(&self, id: &str) -> LeaseAnswer {
        self.flights.lease_delivery(lease_of(id)).await.expect("the store is up")
    }

    /// [`Bench::lease`] that must be granted.
    pub async fn take(&self, id: &str) -> DeliveryLease {
        match self.lease(id).await {
            LeaseAnswer::Leased(lease) => *lease,
            other => panic!("the delivery should be free: {other:?}"),
        }
    }

    pub async fn mark(&self, lease: &DeliveryLease, verdict: Verdict) -> bool {
        self.flights.mark_delivery(mark_of(lease, verdict)).await.expect("the store is up")
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.store.numbers(sql).await[0]
    }
}

pub fn accepted(answer: Answer) -> Accepted {
    match answer {
        Answer::Accepted(accepted) => *accepted,
        other => panic!("the ask should be accepted: {other:?}"),
    }
}

pub fn key_text(key: &str) -> String {
    serde_json::json!([key]).to_string()
}

/// `subscriber` wants `key` in their mailbox; the run has two attempts and may be cancelled when nobody wants it.
pub fn ask(key: &str, subscriber: &str) -> Ask {
    Ask {
        scope: SCOPE.into(),
        key: key_text(key),
        run: spec(),
        max_age_ms: None,
        refresh: false,
        subscriptions: vec![subscription(subscriber, Channel::Mailbox)],
        is_repeatable: false,
        despite_failure: false,
        idempotency: None,
    }
}

pub fn by_poll(ask: Ask) -> Ask {
    let subscriptions =
        ask.subscriptions.into_iter().map(|s| NewSubscription { channel: Channel::Poll, ..s }).collect();
    Ask { subscriptions, ..ask }
}

pub fn spec() -> RunSpec {
    RunSpec {
        queue: "video-work".into(),
        name: "video".into(),
        data: "{}".into(),
        priority: 0,
        delay_ms: 0,
        max_attempts: 2,
        backoff: format!(r#"{{"kind":"fixed","delay":"{}ms"}}"#, BACKOFF.as_millis()),
        cancel_when_abandoned: true,
    }
}

pub fn subscription(subscriber: &str, channel: Channel) -> NewSubscription {
    NewSubscription { id: new_id(), subscriber: subscriber.into(), channel, target: "{}".into() }
}

pub fn claim_of(accepted: &Accepted) -> ClaimAsk {
    ClaimAsk {
        flight: accepted.flight.clone(),
        generation: accepted.generation,
        token: new_token(),
        lease_ms: millis(LEASE),
    }
}

pub fn report(run: &Claimed, ending: Ending) -> Finish {
    Finish {
        flight: run.flight.clone(),
        token: run.token.clone(),
        ending,
        negative_ttl: Duration::ZERO,
        with: Vec::new(),
    }
}

pub fn held(run: &Claimed) -> Held {
    Held { id: run.flight.clone(), token: run.token.clone() }
}

pub fn lease_of(id: &str) -> DeliveryAsk {
    DeliveryAsk { id: id.to_owned(), token: new_token(), lease_ms: millis(LEASE) }
}

pub fn mark_of(lease: &DeliveryLease, verdict: Verdict) -> DeliveryMark {
    DeliveryMark { id: lease.id.clone(), token: lease.token.clone(), verdict, with: Vec::new() }
}

pub fn delivered() -> Verdict {
    Verdict::Delivered { receipt: "1".into() }
}

pub fn again(after: Duration, counts: bool) -> Verdict {
    Verdict::Again { after, reason: "busy".into(), counts, ambiguous: false, slot: false }
}

pub fn dead() -> Verdict {
    Verdict::Dead { reason: "refused".into(), ambiguous: false }
}

/// How the generation ended, if this report says that it has.
pub fn outcome(finished: &Finished) -> Option<&Outcome> {
    match finished {
        Finished::Over { outcome, .. } => Some(outcome),
        Finished::Again(_) | Finished::Lost => None,
    }
}
