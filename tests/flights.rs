use onetake::clock::Clock;
use onetake::config;
use onetake::flight::*;
use onetake::id;
use onetake::store::Store;
use std::time::Duration;

async fn open(url: String) -> Flights {
    let settings = config::Store {
        url: url.into(),
        max_connections: 5,
        slow: "1s".parse().map(|s: config::Span| s).unwrap(),
        batch: 256,
        batch_wait: "2ms".parse().unwrap(),
    };
    Flights::new(Store::open(&settings, Clock::system()).await.unwrap())
}

async fn worlds() -> Vec<(Flights, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let mut all = vec![(open(format!("sqlite://{}/t.db", dir.path().display())).await, Some(dir))];
    if let Ok(url) = std::env::var("TEST_PG") {
        all.push((open(url).await, None));
    }
    all
}

fn ask(key: &str, user: &str, channel: Channel) -> Ask {
    Ask {
        scope: "video".into(),
        key: format!("[\"{key}\"]"),
        run: RunSpec {
            queue: "video-work".into(),
            name: "video".into(),
            data: "{}".into(),
            priority: 0,
            delay_ms: 0,
            max_attempts: 2,
            backoff: r#"{"kind":"fixed","delay":"0ms"}"#.into(),
            cancel_when_abandoned: true,
        },
        max_age_ms: None,
        refresh: false,
        subscriptions: vec![NewSubscription {
            id: id::new_id(),
            subscriber: user.into(),
            channel,
            target: "{}".into(),
        }],
        is_repeatable: false,
        idempotency: None,
    }
}
fn ok(a: Answer) -> Accepted {
    match a {
        Answer::Accepted(a) => *a,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn smoke() {
    for (flights, _dir) in worlds().await {
        let key = id::new_id();
        let a = ok(flights.accept(ask(&key, "u1", Channel::Mailbox)).await.unwrap());
        assert_eq!(a.status, Status::Queued);
        let b = ok(flights.accept(ask(&key, "u2", Channel::Poll)).await.unwrap());
        assert_eq!(b.status, Status::Subscribed);
        let b2 = ok(flights.accept(ask(&key, "u2", Channel::Poll)).await.unwrap());
        assert_eq!(b.requests, b2.requests);
        let Claim::Claimed(run) = flights
            .claim(ClaimAsk { flight: a.flight.clone(), generation: 1, token: id::new_token(), lease_ms: 1000 })
            .await
            .unwrap()
        else {
            panic!()
        };
        let Claim::Until(_) = flights
            .claim(ClaimAsk { flight: a.flight.clone(), generation: 1, token: id::new_token(), lease_ms: 1000 })
            .await
            .unwrap()
        else {
            panic!()
        };
        let held = vec![
            Held { id: run.flight.clone(), token: run.token.clone() },
            Held { id: run.flight.clone(), token: "x".into() },
        ];
        assert_eq!(flights.renew_runs(held, Duration::from_secs(3)).await.unwrap().len(), 1);
        let f = flights
            .finish(Finish {
                flight: run.flight.clone(),
                token: run.token.clone(),
                ending: Ending::Succeeded("{\"v\":1}".into()),
                negative_ttl: Duration::ZERO,
                with: vec![],
            })
            .await
            .unwrap();
        assert!(matches!(f, Finished::Over { .. }), "{f:?}");
        let again = flights
            .finish(Finish {
                flight: run.flight.clone(),
                token: run.token.clone(),
                ending: Ending::Failed("late".into()),
                negative_ttl: Duration::ZERO,
                with: vec![],
            })
            .await
            .unwrap();
        assert!(matches!(again, Finished::Over { outcome: Outcome::Succeeded(_), .. }), "{again:?}");
        let due = flights.deliveries_of(&a.flight, 1, "", 10).await.unwrap();
        assert_eq!(due.len(), 1);
        let LeaseAnswer::Leased(lease) = flights
            .lease_delivery(DeliveryAsk { id: due[0].id.clone(), token: "t".into(), lease_ms: 1000 })
            .await
            .unwrap()
        else {
            panic!()
        };
        assert_eq!(lease.attempts, 1);
        assert!(
            flights
                .mark_delivery(DeliveryMark {
                    id: lease.id.clone(),
                    token: "t".into(),
                    verdict: Verdict::Delivered { receipt: "1".into() },
                    with: vec![]
                })
                .await
                .unwrap()
        );
        assert!(
            !flights
                .mark_delivery(DeliveryMark {
                    id: lease.id.clone(),
                    token: "t".into(),
                    verdict: Verdict::Dead { reason: "x".into(), ambiguous: false },
                    with: vec![]
                })
                .await
                .unwrap()
        );
        let c = ok(flights.accept(ask(&key, "u3", Channel::Mailbox)).await.unwrap());
        assert_eq!(c.status, Status::Ready);
        assert_eq!(c.deliveries.len(), 1);
        let d = ok(flights.accept(ask(&key, "u3", Channel::Mailbox)).await.unwrap());
        assert_eq!(d.requests, c.requests);
        assert!(d.deliveries.is_empty());
        // the rest of the statements
        flights.request(&c.requests[0]).await.unwrap().unwrap();
        assert!(flights.requests("u3", "video", "", 10).await.unwrap().len() >= 1);
        flights.list(&ListFilter { limit: 10, ..Default::default() }).await.unwrap();
        flights.flight("video", &format!("[\"{key}\"]")).await.unwrap().unwrap();
        flights.subscribers(&a.flight, 10).await.unwrap();
        flights.deliveries(&ListFilter { limit: 10, ..Default::default() }).await.unwrap();
        flights.delivery(&lease.id).await.unwrap().unwrap();
        assert_eq!(flights.replay_delivery(&lease.id).await.unwrap(), Some(false));
        flights.rescue(10).await.unwrap();
        flights.take_untouched_runs(Duration::ZERO, 10).await.unwrap();
        flights.due_runs("video-work", 10).await.unwrap();
        flights.take_untouched_deliveries(Duration::ZERO, 10).await.unwrap();
        flights.due_deliveries(10).await.unwrap();
        flights.repair_deliveries(10).await.unwrap();
        let dirty = flights.dirty(Duration::ZERO, 1000).await.unwrap();
        let mine = dirty.iter().find(|d| d.flight == a.flight).unwrap();
        flights.mirrored(&mine.flight, mine.touched_at_ms).await.unwrap();
        assert!(!flights.dirty(Duration::ZERO, 1000).await.unwrap().iter().any(|d| d.flight == a.flight));
        flights.by_keys(&[("video".into(), format!("[\"{key}\"]"))]).await.unwrap();
        flights.disown_all().await.unwrap();
        flights.forget_touches().await.unwrap();
        flights
            .forget_old(
                Retention {
                    idempotency_keys: Duration::from_secs(1),
                    requests: Duration::from_secs(1),
                    mailbox: Duration::from_secs(1),
                },
                10,
            )
            .await
            .unwrap();
        flights.server_seen("s", "all", Duration::from_secs(5)).await.unwrap();
        flights.remember_paused(vec!["a".into()]).await.unwrap();
        assert!(flights.was_paused("a").await.unwrap());
        assert!(matches!(
            flights.release("video", &format!("[\"{key}\"]"), "why").await.unwrap(),
            Released::Released { .. }
        ));
        let e = ok(flights.accept(ask(&key, "u4", Channel::Mailbox)).await.unwrap());
        assert_eq!((e.status, e.generation), (Status::Queued, 2));
        assert!(matches!(flights.leave(&e.requests[0]).await.unwrap(), Left::Left { cancelled: true, .. }));
        assert!(matches!(flights.leave(&e.requests[0]).await.unwrap(), Left::Final));
        println!("ok {}", flights.store().kind());
    }
}
