//! Leases: one holder at a time, told in time that it is none any more, with fencing tokens that only grow.

use std::time::{Duration, Instant};

use futures::future::join_all;
use onetake::lock::{Acquired, Error, Forced, Grant, Lease, Leased, Owned, Wanted, check};
use onetake::store::{self, query};

use super::bench::{Bench, LONG, NOW, Server, name, wanted};
use crate::support::on_each_store;
use crate::support::store::{StoreKind, TestStore};
use crate::support::wait::{self, PATIENCE};

on_each_store!(
    tokens_grow_with_each_grant_and_outlive_the_row,
    the_same_request_is_given_the_same_grant_until_that_has_ended,
    only_the_owner_renews_and_releases,
    an_ended_lease_is_lost_and_somebody_else_s_turn,
    a_crowd_is_served_one_after_the_other,
    several_leases_are_granted_together_or_not_at_all,
    a_holder_is_told_of_its_loss_before_the_end,
    a_dropped_lease_is_given_back,
    a_write_under_an_old_token_is_refused,
    who_goes_away_while_waiting_for_a_lease_holds_nobody_up,
    taking_a_lease_away_is_noted_and_wakes_those_who_wait,
    a_mirror_says_no_as_long_as_sql_does,
);

const SHORT: Duration = Duration::from_millis(400);

async fn release(server: &Server, grant: &Grant) -> Owned<()> {
    server.locks.release(std::slice::from_ref(&grant.name), &grant.owner).await.expect("the store is up")
}

async fn renew(server: &Server, grant: &Grant, ttl: Duration) -> Owned<Vec<Grant>> {
    server.locks.renew(std::slice::from_ref(&grant.name), &grant.owner, ttl).await.expect("the store is up")
}

async fn held(server: &Server, wanted: Wanted) -> Lease {
    match server.locks.lease(wanted).await.expect("the store is up") {
        Leased::Held(lease) => *lease,
        Leased::Busy(holder) => panic!("it is free: {holder:?}"),
    }
}

async fn tokens_grow_with_each_grant_and_outlive_the_row(kind: StoreKind) {
    let mut bench = Bench::new(kind).await;
    let server = bench.server().await;
    let mut last = 0;
    for round in 0..40 {
        let grant = server.acquire(wanted("a", LONG, LONG)).await;
        assert!(grant.fencing_token > last, "{} after {last}", grant.fencing_token);
        last = grant.fencing_token;
        assert!(matches!(release(&server, &grant).await, Owned::Done(())));
        match round {
            10 => bench.redis.wipe().await,
            20 => {
                // Forgotten, as after the retention: the next grant begins a new row.
                bench.store.change("delete from leases").await;
            }
            30 => {
                if let TestStore::Postgres(postgres) = &mut bench.store {
                    postgres.restart().await;
                    wait::until_true("the store to be found again", PATIENCE, async || {
                        server.locks.store().ping().await.is_ok()
                    })
                    .await;
                }
            }
            _ => {}
        }
    }
}

async fn the_same_request_is_given_the_same_grant_until_that_has_ended(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let wish = wanted("a", LONG, NOW);
    let first = server.acquire(wish.clone()).await;
    let again = server.acquire(wish.clone()).await;
    assert_eq!((first.fencing_token, &first.owner), (again.fencing_token, &again.owner));
    let stranger = Wanted { principal: "stranger".into(), ..wish.clone() };
    let refused = server.locks.acquire(stranger).await.expect("the store is up");
    assert!(matches!(refused, Acquired::Busy(_)), "the id of a request is its principal's: {refused:?}");
    // Many at once, as by an impatient client.
    let tokens = join_all((0..10).map(|_| server.acquire(wanted_again(&wish)))).await;
    assert!(tokens.iter().all(|grant| grant.fencing_token == first.fencing_token));
    assert!(matches!(release(&server, &first).await, Owned::Done(())));
    let late = server.locks.acquire(wish).await.expect("the store is up");
    assert!(matches!(late, Acquired::Over(_)), "a late repetition takes nothing: {late:?}");
    assert!(server.acquire(wanted("a", LONG, NOW)).await.fencing_token > first.fencing_token);
}

fn wanted_again(wish: &Wanted) -> Wanted {
    wish.clone()
}

async fn only_the_owner_renews_and_releases(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let grant = server.acquire(wanted("a", SHORT, NOW)).await;
    let other = server.acquire(wanted("b", LONG, NOW)).await;
    let stolen = Grant { owner: other.owner.clone(), ..grant.clone() };
    assert!(matches!(renew(&server, &stolen, LONG).await, Owned::Lost(_)));
    assert!(matches!(release(&server, &stolen).await, Owned::Lost(_)));
    let nobody = Grant { name: name("c"), ..grant.clone() };
    assert!(matches!(renew(&server, &nobody, LONG).await, Owned::Unknown(_)));
    assert!(matches!(release(&server, &nobody).await, Owned::Unknown(_)));
    let Owned::Done(renewed) = renew(&server, &grant, LONG).await else { panic!("it is held") };
    assert_eq!(renewed[0].fencing_token, grant.fencing_token);
    assert!(renewed[0].until_ms > grant.until_ms);
    assert!(server.is_busy("a").await);
    assert!(matches!(release(&server, &grant).await, Owned::Done(())));
    assert!(matches!(release(&server, &grant).await, Owned::Done(())), "once more says the same");
    assert!(matches!(renew(&server, &grant, LONG).await, Owned::Lost(_)));
    for ttl in [Duration::ZERO, Duration::from_millis(99), Duration::from_secs(365 * 86_400)] {
        let refused = server.locks.renew(std::slice::from_ref(&other.name), &other.owner, ttl).await;
        assert!(matches!(refused, Err(Error::Ttl { .. })), "{ttl:?}");
        let refused = server.locks.acquire(wanted("d", ttl, NOW)).await;
        assert!(matches!(refused, Err(Error::Ttl { .. })), "{ttl:?}");
    }
    assert_eq!(bench.store.numbers("select count(*) from leases").await, [2]);
}

async fn an_ended_lease_is_lost_and_somebody_else_s_turn(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let asked = Instant::now();
    let first = server.acquire(wanted("a", SHORT, NOW)).await;
    let second = server.acquire(wanted("a", LONG, LONG)).await;
    let waited = asked.elapsed();
    assert!(waited >= SHORT, "not before its end: {waited:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert!(second.fencing_token > first.fencing_token);
    assert!(first.trusted_until < asked + SHORT, "its holder stopped before");
    assert!(matches!(renew(&server, &first, LONG).await, Owned::Lost(_)));
    assert!(matches!(release(&server, &first).await, Owned::Lost(_)));
    assert!(server.is_busy("a").await, "the late one changed nothing");
    // One that ended and that nobody took is over as well: its holder was told so.
    let third = server.acquire(wanted("b", Duration::from_millis(100), NOW)).await;
    wait::until_true("its end", PATIENCE, async || bench.store.numbers(&free_sql(kind, "b")).await == [1]).await;
    assert!(matches!(renew(&server, &third, LONG).await, Owned::Lost(_)));
    assert!(matches!(release(&server, &third).await, Owned::Lost(_)));
}

/// Whether a lease has ended, as the store's own clock sees it.
fn free_sql(kind: StoreKind, name: &str) -> String {
    let now = match kind {
        StoreKind::Postgres => "(extract(epoch from clock_timestamp()) * 1000)::bigint",
        StoreKind::Sqlite => "cast(unixepoch('subsec') * 1000 as integer)",
    };
    format!("select count(*) from leases where name = '{name}' and until_ms <= {now}")
}

async fn a_crowd_is_served_one_after_the_other(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let held = server.acquire(wanted("a", LONG, NOW)).await;
    let crowd: Vec<_> = (0..30)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move {
                let grant = server.acquire(wanted("a", LONG, LONG)).await;
                let released = release(&server, &grant).await;
                assert!(matches!(released, Owned::Done(())), "{released:?}");
                grant.fencing_token
            })
        })
        .collect();
    assert!(matches!(release(&server, &held).await, Owned::Done(())));
    let mut tokens = Vec::new();
    for task in crowd {
        tokens.push(task.await.expect("no panic"));
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 30, "each had its own");
    assert!(tokens[0] > held.fencing_token);
}

async fn several_leases_are_granted_together_or_not_at_all(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let both = |wait| Wanted { names: vec![name("b"), name("a"), name("b")], ..wanted("a", LONG, wait) };
    let taken = server.acquire(wanted("b", LONG, NOW)).await;
    assert!(matches!(server.locks.acquire(both(NOW)).await, Ok(Acquired::Busy(_))));
    let free = server.acquire(wanted("a", LONG, NOW)).await;
    assert!(matches!(release(&server, &free).await, Owned::Done(())), "nothing was taken with the one that was free");
    let waiting = {
        let (server, wish) = (server.clone(), both(LONG));
        tokio::spawn(async move { server.locks.acquire(wish).await.expect("the store is up") })
    };
    assert!(matches!(release(&server, &taken).await, Owned::Done(())));
    let Acquired::Granted(grants) = waiting.await.expect("no panic") else { panic!("both are free") };
    assert_eq!(grants.iter().map(|grant| grant.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(server.is_busy("a").await && server.is_busy("b").await);
    let names = [name("a"), name("b")];
    assert!(matches!(server.locks.release(&names, &grants[0].owner).await, Ok(Owned::Done(()))));
    assert!(!server.is_busy("a").await && !server.is_busy("b").await);
}

async fn a_holder_is_told_of_its_loss_before_the_end(kind: StoreKind) {
    let mut bench = Bench::new(kind).await;
    let server = bench.server().await;
    // Long enough to be renewed in time on a machine that is busy.
    let ttl = Duration::from_secs(3);
    let lease = held(&server, wanted("a", ttl, NOW)).await;
    // It is renewed for as long as it is kept.
    let waits = server.locks.acquire(wanted("a", LONG, ttl + SHORT)).await.expect("the store is up");
    assert!(matches!(waits, Acquired::Busy(_)), "{waits:?}");
    assert!(!lease.lost().is_cancelled());
    // By force: at the next renewal at the latest.
    assert!(matches!(server.locks.force_release(&name("a"), "op", "a test").await, Ok(Forced::Done(_))));
    tokio::time::timeout(PATIENCE, lease.lost().cancelled()).await.expect("it is told");
    assert!(!lease.release().await.expect("the store is up"), "it was not held to the end");

    // Where the store is away nobody can say that it is still held: told before its end.
    if let TestStore::Postgres(postgres) = &mut bench.store {
        let ttl = Duration::from_secs(8);
        let lease = held(&server, wanted("b", ttl, NOW)).await;
        postgres.kill();
        let gone = Instant::now();
        tokio::time::timeout(PATIENCE, lease.lost().cancelled()).await.expect("it is told");
        assert!(gone.elapsed() < ttl, "before it can have ended: {:?}", gone.elapsed());
        postgres.restart().await;
    }
}

async fn a_dropped_lease_is_given_back(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    drop(held(&server, wanted("a", LONG, NOW)).await);
    server.acquire(wanted("a", LONG, PATIENCE)).await;
    let lease = held(&server, wanted("b", LONG, NOW)).await;
    assert_eq!(lease.fences().len(), 1);
    assert!(lease.release().await.expect("the store is up"));
    assert!(!server.is_busy("b").await);
}

async fn a_write_under_an_old_token_is_refused(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let counter = name("a");
    bench.counters(std::slice::from_ref(&counter)).await;
    let write = async |grant: &Grant| {
        let fence = [(grant.name.clone(), grant.fencing_token)];
        let done: Result<(), store::Error> = server
            .locks
            .store()
            .unit_of_work("test.fenced", move |tx| {
                let fence = fence.clone();
                Box::pin(async move {
                    if !check(tx, &fence).await? {
                        return Err(store::Error::Setup("not held".into()));
                    }
                    tx.execute(query("-- test.write\nupdate counters set n = n + 1")).await
                })
            })
            .await;
        done.is_ok()
    };
    let old = server.acquire(wanted("a", SHORT, NOW)).await;
    assert!(write(&old).await);
    let new = server.acquire(wanted("a", LONG, LONG)).await;
    assert!(!write(&old).await, "a paused holder comes back");
    assert!(write(&new).await);
    assert!(matches!(release(&server, &new).await, Owned::Done(())));
    assert!(!write(&new).await, "it gave it back");
    assert_eq!(bench.count(&counter).await, 2);
}

async fn who_goes_away_while_waiting_for_a_lease_holds_nobody_up(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let grant = server.acquire(wanted("a", LONG, NOW)).await;
    for n in 0..30 {
        let waits = server.locks.acquire(wanted("a", LONG, LONG));
        assert!(tokio::time::timeout(Duration::from_millis(n % 8), waits).await.is_err());
    }
    let asked = Instant::now();
    assert!(matches!(release(&server, &grant).await, Owned::Done(())));
    server.acquire(wanted("a", LONG, LONG)).await;
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

async fn taking_a_lease_away_is_noted_and_wakes_those_who_wait(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let forced = server.locks.force_release(&name("a"), "op", "why").await;
    assert!(matches!(forced, Ok(Forced::Unknown)), "{forced:?}");
    let grant = server.acquire(wanted("a", LONG, NOW)).await;
    let waiting = {
        let server = server.clone();
        tokio::spawn(async move { server.acquire(wanted("a", LONG, LONG)).await })
    };
    let forced = server.locks.force_release(&name("a"), "op", "stuck").await;
    assert!(matches!(&forced, Ok(Forced::Done(view)) if view.fencing_token == grant.fencing_token), "{forced:?}");
    let next = waiting.await.expect("no panic");
    assert!(matches!(release(&server, &next).await, Owned::Done(())));
    assert!(matches!(server.locks.force_release(&name("a"), "op", "again").await, Ok(Forced::NotHeld)));
    let (_, audit) = server.locks.show(&name("a")).await.expect("the store is up").expect("it is known");
    let noted: Vec<_> = audit.iter().map(|entry| (entry.principal.as_str(), entry.reason.as_str())).collect();
    assert_eq!(noted, [("op", "stuck")], "what changed nothing is not noted");
    assert_eq!((audit[0].fencing_token, audit[0].holder.as_str()), (grant.fencing_token, "test"));
}

async fn a_mirror_says_no_as_long_as_sql_does(kind: StoreKind) {
    let bench = Bench::new(kind).await;
    let server = bench.server().await;
    let grant = server.acquire(wanted("a", LONG, NOW)).await;
    let mirror = "onetake:lock:{a}:lease";
    let field = async |field| bench.redis.ask(&["HGET", mirror, field]).await.text().map(str::to_owned);
    wait::until_true("the mirror", PATIENCE, async || field("token").await.is_some()).await;
    assert_eq!(field("token").await, Some(grant.fencing_token.to_string()));
    assert_eq!(field("note").await.as_deref(), Some("a test"));
    let all = bench.redis.ask(&["HGETALL", mirror]).await;
    assert!(!all.texts().contains(&grant.owner.as_str()), "nobody learns the owner's token there");
    let left_ms = bench.redis.ask(&["PTTL", mirror]).await.number();
    assert!(left_ms > 0 && left_ms <= LONG.as_millis() as i64, "{left_ms}");

    // It says no without SQL for a moment after SQL has said so: even where SQL would say yes by now. (A lease that ended
    // long ago would be forgotten.)
    let confirmed = Instant::now();
    assert!(server.is_busy("a").await);
    bench.store.change("update leases set until_ms = granted_at_ms where name = 'a'").await;
    assert!(server.is_busy("a").await || confirmed.elapsed() >= Duration::from_secs(1));
    // And it grants nothing: where it is gone or wrong, SQL decides.
    bench.store.change("update leases set until_ms = granted_at_ms + 3600000 where name = 'a'").await;
    bench.redis.wipe().await;
    assert!(server.is_busy("a").await);
    // A release that Redis never heard of leaves a mirror that nobody believes for long.
    let released = server.acquire(wanted("b", 10 * LONG, NOW)).await;
    wait::until_true("the mirror", PATIENCE, async || {
        bench.redis.ask(&["EXISTS", "onetake:lock:{b}:lease"]).await.number() == 1
    })
    .await;
    bench.store.change("update leases set until_ms = granted_at_ms where name = 'b'").await;
    wait::until_true("SQL to be asked", PATIENCE, async || !server.is_busy("b").await).await;
    let token = bench.redis.ask(&["HGET", "onetake:lock:{b}:lease", "token"]).await;
    assert!(token.text().is_some_and(|token| token.parse::<i64>().expect("a token") > released.fencing_token));
}
