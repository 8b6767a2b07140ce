//! The redis module against a real server that is killed, stopped, emptied of its scripts and brought back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::signal::Signal;

use super::testing::{Server, raw, shown};
use super::{Error, MarkerWatch, Redis, Reply, Script, Wake};

const SOON: Duration = Duration::from_secs(10);

async fn becomes(redis: &Redis, up: bool) {
    let mut watch = redis.watch();
    tokio::time::timeout(SOON, watch.wait_for(|now| *now == up)).await.expect("in time").expect("the monitor lives");
}

#[tokio::test]
async fn plain_commands_do_what_they_say() {
    let server = Server::start();
    let redis = server.connect().await;
    assert!(redis.set("k", Bytes::from_static(b"v"), Some(60_000), true).await.unwrap());
    assert!(!redis.set("k", Bytes::from_static(b"w"), None, true).await.unwrap());
    assert_eq!(redis.get("k").await.unwrap(), Some(Bytes::from_static(b"v")));
    assert!(redis.ttl_ms("k").await.unwrap().is_some_and(|left| left > 50_000));
    assert!(redis.exists("k").await.unwrap());
    assert_eq!(redis.del(&["k", "none"]).await.unwrap(), 1);
    assert_eq!(redis.get("k").await.unwrap(), None);

    assert_eq!(redis.hset("h", &[("a", "1"), ("b", "2")]).await.unwrap(), 2);
    assert_eq!(redis.hget("h", "a").await.unwrap(), Some(Bytes::from_static(b"1")));
    assert_eq!((redis.hlen("h").await.unwrap(), redis.hgetall("h").await.unwrap().len()), (2, 2));
    assert_eq!(redis.hdel("h", &["a"]).await.unwrap(), 1);

    assert_eq!(redis.sadd("s", &["x", "y"]).await.unwrap(), 2);
    assert_eq!(redis.srem("s", &["x"]).await.unwrap(), 1);
    assert_eq!((redis.smembers("s").await.unwrap(), redis.scard("s").await.unwrap()), (vec!["y".to_owned()], 1));

    raw(&redis, &["ZADD", "z", "1.5", "m", "2", "n"]).await;
    let page = redis.zscan("z", None, 100).await.unwrap();
    assert_eq!((page.next, page.items), (None, vec![("m".to_owned(), 1.5), ("n".to_owned(), 2.0)]));
    assert_eq!((redis.zrank("z", "n").await.unwrap(), redis.zscore("z", "x").await.unwrap()), (Some(1), None));

    raw(&redis, &["LPUSH", "l", "next", "then", "last"]).await;
    assert_eq!(redis.position_from_tail("l", "then", 10).await.unwrap(), Some(1));
    assert_eq!(redis.position_from_tail("l", "last", 2).await.unwrap(), None);

    let page = redis.scan(None, "?", 1000).await.unwrap();
    assert_eq!((page.next, page.items.len()), (None, 4));
    assert_eq!(redis.info().await.unwrap().role, "master");
}

#[tokio::test]
async fn a_script_survives_the_server_forgetting_it() {
    let server = Server::start();
    let redis = server.connect().await;
    let script = Script::new("test.add", &["local n = tonumber(ARGV[1])", "return redis.call('INCRBY', KEYS[1], n)"]);
    let run = || redis.run(&script, vec!["n".to_owned()], vec![Bytes::from_static(b"2")]);
    assert_eq!(run().await.unwrap(), Reply::Int(2));
    raw(&redis, &["SCRIPT", "FLUSH"]).await;
    assert_eq!(run().await.unwrap(), Reply::Int(4));
    assert_eq!(run().await.unwrap(), Reply::Int(6));
}

#[tokio::test]
async fn a_script_that_fails_is_a_refusal() {
    let server = Server::start();
    let redis = server.connect().await;
    let script = Script::new("test.fail", &["return redis.error_reply('NOPE because')"]);
    let refused = redis.run(&script, vec!["k".to_owned()], Vec::new()).await;
    assert!(matches!(&refused, Err(Error::Refused { message }) if message.contains("NOPE")), "{refused:?}");
}

#[tokio::test]
async fn a_password_and_a_database_number_come_from_the_address() {
    let server = Server::start_with(Some("s3cret"));
    let redis = server.connect().await;
    raw(&redis, &["SET", "k", "v"]).await;
    assert!(shown(&redis, &["INFO", "keyspace"]).await.contains("db3:keys=1"));
}

#[tokio::test]
async fn a_bad_address_is_told_without_repeating_it() {
    let server = Server::start();
    let mut settings = server.settings();
    settings.url = "nonsense:s3cret".to_owned().into();
    let Err(error) = Redis::connect_lazy(&settings) else { panic!("it must not connect") };
    assert!(matches!(error, Error::Settings { .. }));
    assert!(!format!("{error:?} {error}").contains("s3cret"));
}

#[tokio::test]
async fn an_address_may_ask_for_tls() {
    let mut settings = Server::start().settings();
    settings.url = "rediss://user:s3cret@localhost:1/2".to_owned().into();
    let redis = Redis::connect_lazy(&settings).unwrap();
    assert!(redis.get("k").await.unwrap_err().is_unreachable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_noticed_and_found_again() {
    let mut server = Server::start();
    let redis = server.connect().await;
    let first = redis.info().await.unwrap();
    server.signal(Signal::SIGKILL);
    becomes(&redis, false).await;
    let asked = Instant::now();
    assert!(redis.get("k").await.unwrap_err().is_unreachable());
    assert!(asked.elapsed() < Duration::from_millis(100), "refused at once");
    server.start_again();
    becomes(&redis, true).await;
    assert_ne!(redis.info().await.unwrap().run_id, first.run_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_noticed_though_its_connections_stay_open() {
    let mut server = Server::start();
    let mut settings = server.settings();
    settings.command_timeout = crate::config::Span(Duration::from_secs(120));
    let redis = Redis::connect(&settings).await.unwrap();
    server.signal(Signal::SIGSTOP);
    let asked = Instant::now();
    assert!(redis.get("k").await.unwrap_err().is_unreachable(), "what was asked before a ping was missed");
    assert!(asked.elapsed() < Duration::from_secs(60), "it waits no longer than for somebody");
    becomes(&redis, false).await;
    assert!(redis.get("k").await.unwrap_err().is_unreachable());
    server.signal(Signal::SIGCONT);
    becomes(&redis, true).await;
    assert_eq!(redis.get("k").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_lazily_does_not_need_the_server() {
    let mut server = Server::start();
    server.signal(Signal::SIGKILL);
    let redis = Redis::connect_lazy(&server.settings()).unwrap();
    assert!(redis.get("k").await.unwrap_err().is_unreachable());
    server.start_again();
    becomes(&redis, true).await;
    assert_eq!(redis.get("k").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_heals_after_a_restart() {
    let mut server = Server::start();
    let redis = server.connect().await;
    let mut heard = redis.subscribe("news").await.unwrap();
    let mut also = redis.subscribe("news").await.unwrap();
    redis.publish("news", Bytes::from_static(b"1")).await.unwrap();
    for subscription in [&mut heard, &mut also] {
        assert_eq!(tokio::time::timeout(SOON, subscription.next()).await.unwrap(), Some(Bytes::from_static(b"1")));
    }
    server.signal(Signal::SIGKILL);
    becomes(&redis, false).await;
    server.start_again();
    becomes(&redis, true).await;
    let payload = tokio::time::timeout(SOON, async {
        loop {
            let _ = redis.publish("news", Bytes::from_static(b"2")).await;
            if let Ok(payload) = tokio::time::timeout(Duration::from_millis(50), heard.next()).await {
                return payload;
            }
        }
    });
    assert_eq!(payload.await.unwrap(), Some(Bytes::from_static(b"2")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_published_after_subscribing_is_missed() {
    let server = Server::start();
    let redis = server.connect().await;
    for n in 0..50 {
        let channel = format!("news:{n}");
        let mut heard = redis.subscribe(&channel).await.unwrap();
        assert_eq!(redis.publish(&channel, Bytes::from_static(b"1")).await.unwrap(), 1);
        assert_eq!(tokio::time::timeout(SOON, heard.next()).await.unwrap(), Some(Bytes::from_static(b"1")));
    }
    // Channels that nobody listens to any more are given up.
    let _last = redis.subscribe("last").await.unwrap();
    assert_eq!(redis.publish("news:49", Bytes::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_marker_wakes_its_watch() {
    let server = Server::start();
    let redis = server.connect().await;
    let mut watch = MarkerWatch::start(&redis, "q:marker".to_owned(), "bull:cQ==:w:one".to_owned());
    watch.arm(SOON);
    raw(&redis, &["ZADD", "q:marker", "0", "0", "1795169113796", "1"]).await;
    assert_eq!(watch.wait().await, Wake::Ready);
    assert!(redis.client_names().await.unwrap().contains(&"bull:cQ==:w:one".to_owned()));
    watch.arm(SOON);
    assert_eq!(watch.wait().await, Wake::Due { at_ms: 1_795_169_113_796 });
    watch.arm(Duration::ZERO);
    assert_eq!(watch.wait().await, Wake::Quiet);
    watch.stop().await;
    assert_eq!(redis.client_names().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn stopping_a_watch_ends_a_long_block_and_swallows_nothing() {
    let server = Server::start();
    let redis = server.connect().await;
    let mut watch = MarkerWatch::start(&redis, "q:marker".to_owned(), "w".to_owned());
    watch.arm(Duration::from_secs(60));
    assert!(tokio::time::timeout(Duration::from_millis(100), watch.wait()).await.is_err(), "nothing to wake it");
    let asked = Instant::now();
    watch.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(1));
    raw(&redis, &["ZADD", "q:marker", "0", "0"]).await;
    assert_eq!(shown(&redis, &["ZRANGE", "q:marker", "0", "-1"]).await, "[0]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_of_a_lost_server_and_works_again_after() {
    let mut server = Server::start();
    let redis = server.connect().await;
    let mut watch = MarkerWatch::start(&redis, "q:marker".to_owned(), "w".to_owned());
    watch.arm(Duration::from_secs(60));
    assert!(tokio::time::timeout(Duration::from_millis(100), watch.wait()).await.is_err(), "nothing to wake it");
    server.signal(Signal::SIGKILL);
    assert_eq!(tokio::time::timeout(SOON, watch.wait()).await.unwrap(), Wake::Lost);
    becomes(&redis, false).await;
    server.start_again();
    becomes(&redis, true).await;
    raw(&redis, &["ZADD", "q:marker", "0", "0"]).await;
    watch.arm(SOON);
    assert_eq!(tokio::time::timeout(SOON, watch.wait()).await.unwrap(), Wake::Ready);
}
