//! TLS: an authority of one's own, and a certificate that Redis asks for.

/// Certificates are made by the program of that name.
mod openssl {
    use serde_json::json;

    use crate::support::certificates::Certificates;
    use crate::support::cluster::Cluster;
    use crate::support::making::{Making, ask, until_delivered};
    use crate::support::port::Port;
    use crate::support::redis::{Kind, RedisServer};
    use crate::support::sentinel::Sentinels;
    use crate::support::server::Onetake;
    use crate::support::store::StoreKind;
    use crate::support::wait::{self, PATIENCE};
    use crate::support::world::World;
    use crate::topology::redis_finding;

    async fn world(certificates: &Certificates, clients: &str) -> (World, Port) {
        let port = Port::reserve();
        let args = certificates.args(&port, clients);
        let redis = RedisServer::start_as(Kind { durable: true, args, ..Kind::default() }).await;
        let url = format!("rediss://127.0.0.1:{}", port.number);
        (World::on(StoreKind::Sqlite, redis, &url).await, port)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_main_job_works_over_tls_with_certificates_on_both_sides() {
        let (certificates, making) = (Certificates::make(), Making::new());
        let (mut world, _port) = world(&certificates, "yes").await;
        world.setup = certificates.shown(world.setup.config(&making.quick()));
        let server = Onetake::start(&world.setup).await;
        ask(&server, "Anna", "olga").await;
        until_delivered(&server, "olga", 1).await;
        // By Redis, and not past it.
        assert_eq!(world.redis.ask(&["ZCARD", "bull:video-work:completed"]).await.number(), 1);
        assert_eq!(redis_finding(&world.setup).0, "ok");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_main_job_works_on_a_cluster_over_tls() {
        let (certificates, making) = (Certificates::make(), Making::new());
        let (cluster, beside) = tokio::join!(Cluster::start_with(Some(&certificates)), RedisServer::start());
        let mut world = World::on(StoreKind::Sqlite, beside, &cluster.url()).await;
        world.setup = certificates.shown(world.setup.config(&making.quick())).env("ONETAKE_REDIS__PREFIX", "{bull}");
        let server = Onetake::start(&world.setup).await;
        ask(&server, "Anna", "olga").await;
        until_delivered(&server, "olga", 1).await;
        assert_eq!(cluster.ask(&["ZCARD", "{bull}:video-work:completed"]).await.number(), 1);
        assert_eq!(redis_finding(&world.setup).0, "ok");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_failover_of_sentinels_over_tls_is_followed() {
        let (certificates, making) = (Certificates::make(), Making::new());
        let (master, sentinels) = Sentinels::start_with(Some(&certificates)).await;
        let mut world = World::on(StoreKind::Sqlite, master, &sentinels.url()).await;
        world.setup = certificates.shown(world.setup.config(&format!("{}[queues.mail]\n", making.quick())));
        let server = Onetake::start(&world.setup).await;
        ask(&server, "Anna", "olga").await;
        until_delivered(&server, "olga", 1).await;
        let done = ["ZCARD", "bull:video-work:completed"];
        assert_eq!(world.redis.ask(&done).await.number(), 1);
        sentinels.fail_over().await;
        wait::until_true("jobs to be added on the new master", 2 * PATIENCE, async || {
            let added = server.post("/v1/queues/mail/jobs", json!({"data": {}})).await;
            added.status == 201 && sentinels.replica.ask(&["LLEN", "bull:mail:wait"]).await.number() > 0
        })
        .await;
        ask(&server, "Boris", "olga").await;
        until_delivered(&server, "olga", 2).await;
        wait::until_true("its job to be done there", PATIENCE, async || {
            sentinels.replica.ask(&done).await.number() == 2
        })
        .await;
    }

    #[tokio::test]
    async fn a_server_that_nobody_vouches_for_is_not_trusted() {
        let certificates = Certificates::make();
        let (world, _port) = world(&certificates, "no").await;
        let (verdict, told) = redis_finding(&world.setup);
        assert!(verdict == "fail" && told.contains("InvalidCertificate"), "{verdict}: {told}");
        // With its authority it is.
        let setup = world.setup.clone().env("ONETAKE_REDIS__TLS__CA", certificates.file("ca.pem"));
        assert_eq!(redis_finding(&setup).0, "ok");
    }

    #[tokio::test]
    async fn a_file_that_holds_no_certificate_is_named() {
        let certificates = Certificates::make();
        let (world, _port) = world(&certificates, "no").await;
        let setup = world.setup.clone().env("ONETAKE_REDIS__TLS__CA", certificates.file("names"));
        let process = Onetake::spawn(&setup);
        assert_ne!(process.wait_exit(PATIENCE).await.code(), Some(0));
        let log = process.log().join("\n");
        assert!(log.contains("names holds no certificate"), "{log}");
    }
}
