//! An authority of the test's own, and what it signed. The program `openssl` makes them.

use std::process::Command;

use tempfile::TempDir;

use super::port::Port;
use super::server::Setup;

/// An authority (`ca.pem`), and what it signed for a server on loopback (`server`) and for us (`client`).
pub struct Certificates(TempDir);

impl Certificates {
    pub fn make() -> Self {
        let folder = TempDir::with_prefix("onetake-tls-").expect("the temporary folder can be written");
        let run = |words: &str| {
            let made = Command::new("openssl").args(words.split(' ')).current_dir(folder.path()).output();
            let made = made.expect("openssl is installed");
            assert!(made.status.success(), "{words}: {}", String::from_utf8_lossy(&made.stderr));
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
        Self(folder)
    }

    /// The path of one of the files; `names` is none of a certificate.
    pub fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// What a redis-server is started with to speak TLS on this port, too; `clients` says whether it asks for certificates.
    pub fn args(&self, port: &Port, clients: &str) -> Vec<String> {
        let port = port.number.to_string();
        self.settings(&port, clients).into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }

    /// The same, as lines of its configuration file.
    pub fn lines(&self, port: &Port) -> String {
        let port = port.number.to_string();
        self.settings(&port, "yes").into_iter().map(|(name, value)| format!("{name} {value}\n")).collect()
    }

    fn settings(&self, port: &str, clients: &str) -> [(&'static str, String); 5] {
        [
            ("tls-port", port.to_owned()),
            ("tls-cert-file", self.file("server.pem")),
            ("tls-key-file", self.file("server.key")),
            ("tls-ca-cert-file", self.file("ca.pem")),
            ("tls-auth-clients", clients.to_owned()),
        ]
    }

    /// Onetake trusts the authority, and shows the client's certificate.
    pub fn shown(&self, setup: Setup) -> Setup {
        setup
            .env("ONETAKE_REDIS__TLS__CA", self.file("ca.pem"))
            .env("ONETAKE_REDIS__TLS__CERT", self.file("client.pem"))
            .env("ONETAKE_REDIS__TLS__KEY", self.file("client.key"))
    }
}
