//! Users of Redis: with just the rights that are printed all works, and with fewer nothing starts.

use crate::support::making::{Making, ask, until_delivered, until_settled};
use crate::support::on_each_store;
use crate::support::redis::RedisServer;
use crate::support::resp::Reply;
use crate::support::server::{Onetake, Setup};
use crate::support::store::StoreKind;
use crate::support::verbs::{Names, work_through};
use crate::support::wait::PATIENCE;
use crate::support::world::World;

use super::{onetake, redis_finding, text};

on_each_store!(the_printed_rights_are_enough_for_everything);

const PASSWORD: &str = "s3cret";

/// A world whose servers are this user, with another prefix and namespace than the usual ones.
async fn world(kind: StoreKind) -> World {
    let redis = RedisServer::start_durable().await;
    let url = redis.url().replace("redis://", &format!("redis://worker:{PASSWORD}@"));
    let mut world = World::on(kind, redis, &url).await;
    world.setup = world.setup.env("ONETAKE_REDIS__PREFIX", "team").env("ONETAKE_REDIS__NAMESPACE", "mine");
    world
}

/// Makes the user whose rule `onetake config acl` prints, changed by `change`.
async fn make_user(redis: &RedisServer, setup: &Setup, change: impl Fn(String) -> String) {
    let printed = onetake(setup, &["config", "acl"]);
    assert!(printed.status.success(), "{printed:?}");
    let line = text(&printed.stdout).trim().replace("PASSWORD", PASSWORD);
    assert!(
        line.starts_with("ACL SETUSER worker on >") && line.contains("~team:*") && line.contains("&mine:*"),
        "{line}"
    );
    let line = change(line);
    let answer = redis.ask(&line.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(answer, Reply::Text("OK".to_owned()), "{line}");
}

/// What Redis refused to anybody so far.
async fn refusals(redis: &RedisServer) -> String {
    match redis.ask(&["ACL", "LOG"]).await {
        Reply::List(entries) if entries.is_empty() => String::new(),
        other => format!("{other:?}"),
    }
}

async fn the_printed_rights_are_enough_for_everything(kind: StoreKind) {
    let making = Making::new();
    let mut world = world(kind).await;
    world.setup = world.setup.config(&format!("{}{}", making.quick(), Names::PLAIN.config()));
    make_user(&world.redis, &world.setup, |line| line).await;
    let server = world.server().await;
    assert_eq!(refusals(&world.redis).await, "", "looking whether all is allowed is allowed");

    for user in ["olga", "ivan"] {
        ask(&server, "Anna", user).await;
    }
    for user in ["olga", "ivan"] {
        until_delivered(&server, user, 1).await;
    }
    until_settled(&world.store).await;
    assert_eq!(making.runs(), ["Anna"]);
    work_through(&server, &Names::PLAIN).await;
    assert_eq!(refusals(&world.redis).await, "", "nothing was refused on the way");
    assert_eq!(redis_finding(&world.setup).0, "ok");
    assert_eq!(server.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_user_with_fewer_rights_is_refused_at_the_start_and_told_which_are_missing() {
    let world = world(StoreKind::Sqlite).await;
    for (change, missing) in [
        (&(|line: String| format!("{line} -zadd -evalsha")) as &dyn Fn(String) -> String, "evalsha"),
        (&|line: String| format!("{line} -zadd -xtrim"), "the command xtrim, the command zadd"),
        (&|line: String| line.replace("~mine:*", "~other:*"), "the keys ~mine:*"),
        (&|line: String| line.replace("~team:*", "~team:video*"), "the keys ~team:onetake-delivery:*"),
        (&|line: String| line.replace("&mine:*", ""), "the channels &mine:*"),
    ] {
        make_user(&world.redis, &world.setup, change).await;
        let process = Onetake::spawn(&world.setup);
        assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(1));
        let log = process.log().join("\n");
        assert!(log.contains("the Redis user \"worker\" may not use"), "{log}");
        assert!(log.contains(missing) && log.contains("onetake config acl"), "{missing}: {log}");
        let (verdict, told) = redis_finding(&world.setup);
        assert_eq!(verdict, "fail");
        assert!(told.contains(missing) && told.contains("ACL SETUSER worker"), "{told}");
        assert!(!told.contains(PASSWORD));
    }
}

#[tokio::test]
async fn a_wrong_password_is_called_one() {
    let world = world(StoreKind::Sqlite).await;
    let (verdict, told) = redis_finding(&world.setup);
    assert!(verdict == "fail" && told.contains("WRONGPASS"), "{verdict}: {told}");
}
