//! `serve` and `dev`: the commands that are the server.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use super::config::File;
use crate::config::Role;
use crate::{app, telemetry};

/// Run the server, on a Redis and a database of yours.
#[derive(Args)]
#[command(after_help = "\
Examples:
  REDIS_URL=redis://10.0.0.5 DATABASE_URL=postgres://one@db/one onetake serve
  onetake serve --config /etc/onetake.toml --role runner

Every setting can be given as a variable too, such as ONETAKE_HTTP__BIND; `onetake config show` lists them.")]
pub(super) struct Serve {
    #[command(flatten)]
    file: File,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Option<String>,
    /// What this process does: everything, only HTTP, or only work. Parts need Postgres.
    #[arg(long, value_name = "all|http|runner", value_parser = role)]
    role: Option<Role>,
    /// sqlite://PATH or postgres://... Prefer DATABASE_URL: other users of this machine can see flags.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// redis://... Prefer REDIS_URL: other users of this machine can see flags.
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
}

impl Serve {
    pub async fn run(self) -> anyhow::Result<()> {
        let role = self.role.map(|role| format!("{role:?}").to_lowercase());
        let options = self
            .file
            .options()
            .flag("--bind", "http.bind", self.bind)
            .flag("--role", "role", role)
            .flag("--database-url", "store.url", self.database_url)
            .flag("--redis-url", "redis.url", self.redis_url);
        let settings = super::config::checked(&options)?.settings;
        telemetry::init(&settings.log).map_err(|e| super::Misused(e.to_string()))?;
        // In a box, as all that a server is made of makes a future too deep for the compiler.
        Box::pin(app::serve(settings)).await
    }
}

/// Run a server that brings its own Redis and SQLite.
#[derive(Args)]
#[command(after_help = "\
Examples:
  onetake dev --demo
  onetake dev --data /var/tmp/onetake --port 8080")]
pub(super) struct Dev {
    #[command(flatten)]
    file: File,
    /// Show the main job once the server is up: several users ask for one video at once, and it is made once.
    #[arg(long)]
    demo: bool,
    /// Where Redis, SQLite and files keep their data.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Listen here on 127.0.0.1 (0: any free port) instead of where the settings say.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

impl Dev {
    pub async fn run(self) -> anyhow::Result<()> {
        // All of it lives in one folder, whatever DATABASE_URL says: that one is for production.
        let store = format!("sqlite://{}", self.data.join("onetake.db").display());
        let options = self
            .file
            .options()
            .flag("--data", "store.url", Some(store))
            .flag("--data", "files_dir", Some(self.data.join("files").display()))
            .flag("--port", "http.bind", self.port.map(|port| format!("127.0.0.1:{port}")));
        let mut settings = super::config::checked(&options)?.settings;
        // Set by the child that is about to start. No other Redis must be reached by mistake until then.
        settings.redis.url = SecretString::default();
        telemetry::init(&settings.log).map_err(|e| super::Misused(e.to_string()))?;
        Box::pin(app::dev(settings, app::Dev { data: self.data, demo: self.demo })).await
    }
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "all" => Ok(Role::All),
        "http" => Ok(Role::Http),
        "runner" => Ok(Role::Runner),
        _ => Err("expected all, http or runner".to_owned()),
    }
}
