//! TLS: an authority of one's own, and a certificate that Redis asks for.

/// Certificates are made by the program of that name.
mod openssl {
    use std::path::Path;
    use std::process::Command;

    use tempfile::TempDir;

    use crate::support::making::{Making, ask, until_delivered};
    use crate::support::port::Port;
    use crate::support::redis::{Kind, RedisServer};
    use crate::support::server::Onetake;
    use crate::support::store::StoreKind;
    use crate::support::world::World;
    use crate::topology::{redis_finding, text};

    /// An authority (`ca.pem`), and what it signed for a server on loopback (`server`) and for us (`client`).
    fn certificates() -> TempDir {
        let folder = TempDir::with_prefix("onetake-tls-").expect("the temporary folder can be written");
        let run = |words: &str| {
            let made = Command::new("openssl").args(words.split(' ')).current_dir(folder.path()).output();
            let made = made.expect("openssl is installed");
            assert!(made.status.success(), "{words}: {}", text(&made.stderr));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 30 -subj /CN=ca"));
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        std::fs::write(folder.path().join("names"), names).expect("our folder can be written");
        for whose in ["server", "client"] {
            run(&format!("req {key} -keyout {whose}.key -out {whose}.csr -subj /CN={whose}"));
            let signing = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names";
            run(&format!("x509 -req -in {whose}.csr {signing} -out {whose}.pem"));
        }
        folder
    }

    async fn redis(folder: &Path, port: &Port, clients: &str) -> RedisServer {
        let file = |name: &str| folder.join(name).display().to_string();
        let args = [
            ("--tls-port", port.number.to_string()),
            ("--tls-cert-file", file("server.pem")),
            ("--tls-key-file", file("server.key")),
            ("--tls-ca-cert-file", file("ca.pem")),
            ("--tls-auth-clients", clients.to_owned()),
        ];
        let args = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        RedisServer::start_as(Kind { durable: true, args, ..Kind::default() }).await
    }

    async fn world(folder: &Path, clients: &str) -> (World, Port) {
        let port = Port::reserve();
        let redis = redis(folder, &port, clients).await;
        let url = format!("rediss://127.0.0.1:{}", port.number);
        (World::on(StoreKind::Sqlite, redis, &url).await, port)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_main_job_works_over_tls_with_certificates_on_both_sides() {
        let (folder, making) = (certificates(), Making::new());
        let (mut world, _port) = world(folder.path(), "yes").await;
        let file = |name: &str| folder.path().join(name).display().to_string();
        world.setup = world
            .setup
            .config(&making.quick())
            .env("ONETAKE_REDIS__TLS__CA", file("ca.pem"))
            .env("ONETAKE_REDIS__TLS__CERT", file("client.pem"))
            .env("ONETAKE_REDIS__TLS__KEY", file("client.key"));
        let server = Onetake::start(&world.setup).await;
        ask(&server, "Anna", "olga").await;
        until_delivered(&server, "olga", 1).await;
        // By Redis, and not past it.
        assert_eq!(world.redis.ask(&["ZCARD", "bull:video-work:completed"]).await.number(), 1);
        assert_eq!(redis_finding(&world.setup).0, "ok");
    }

    #[tokio::test]
    async fn a_server_that_nobody_vouches_for_is_not_trusted() {
        let folder = certificates();
        let (world, _port) = world(folder.path(), "no").await;
        let (verdict, told) = redis_finding(&world.setup);
        assert!(verdict == "fail" && told.contains("InvalidCertificate"), "{verdict}: {told}");
        // With its authority it is.
        let setup =
            world.setup.clone().env("ONETAKE_REDIS__TLS__CA", folder.path().join("ca.pem").display().to_string());
        assert_eq!(redis_finding(&setup).0, "ok");
    }

    #[tokio::test]
    async fn a_file_that_holds_no_certificate_is_named() {
        let folder = certificates();
        let (world, _port) = world(folder.path(), "no").await;
        let setup =
            world.setup.clone().env("ONETAKE_REDIS__TLS__CA", folder.path().join("names").display().to_string());
        let process = Onetake::spawn(&setup);
        assert_ne!(process.wait_exit(crate::support::wait::PATIENCE).await.code(), Some(0));
        let log = process.log().join("\n");
        assert!(log.contains("names holds no certificate"), "{log}");
    }
}
