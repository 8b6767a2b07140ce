//! Looks at what a server with these settings needs, one thing after the other, and says what to do about it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;

use super::managed_redis::find_program;
use super::startup;
use crate::catalog::Catalog;
use crate::config::{Eviction, Settings};
use crate::redis::{self, Redis, Rights};
use crate::store::Store;

/// A program that does not even say its version within this time hangs.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub verdict: Verdict,
    pub detail: String,
    /// What to do about it; `None` if all is well.
    pub advice: Option<String>,
}

impl Finding {
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, detail: detail.into(), advice: None }
    }

    pub fn warn(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, detail: detail.into(), advice: Some(advice.into()) }
    }

    pub fn fail(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, detail: detail.into(), advice: Some(advice.into()) }
    }
}

/// One thing to look at. May find several things about it; changes nothing.
#[async_trait]
pub trait Check: Send + Sync {
    async fn look(&self, settings: &Settings) -> Vec<Finding>;
}

/// Redis: reachable, new enough, allowing what is needed, evicting nothing, writing to disk.
struct RedisServer;

#[async_trait]
impl Check for RedisServer {
    async fn look(&self, settings: &Settings) -> Vec<Finding> {
        const NAME: &str = "redis";
        let away = |error: &redis::Error| {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let advice = "start Redis, or name yours in redis.url (REDIS_URL)";
            vec![Finding::fail(NAME, format!("{error}{cause}"), advice)]
        };
        let redis = match Redis::connect(&settings.redis).await {
            Ok(redis) => redis,
            Err(error) => return away(&error),
        };
        if let Some(problem) = startup::lacks_cluster_address(&redis).await {
            return vec![Finding::fail(NAME, problem, "mend redis.url (REDIS_URL)")];
        }
        let catalog = Catalog::new(&settings.queues, &settings.delivery);
        match redis.missing_rights(&settings.redis, &startup::bases(&settings.redis, &catalog)).await {
            Ok(missing) if !missing.is_empty() => {
                let problem = startup::too_few(&settings.redis, &missing);
                let advice = format!("as an administrator, in redis-cli: {}", Rights::of(&settings.redis).line());
                return vec![Finding::fail(NAME, problem, advice)];
            }
            Ok(_) => {}
            Err(error) => return away(&error),
        }
        let info = match redis.info().await {
            Ok(info) => info,
            Err(error) => return away(&error),
        };
        let mut findings = vec![Finding::ok(NAME, format!("Redis {} ({})", info.version, info.role))];
        if info.release() < startup::OLDEST {
            findings.push(Finding::fail(NAME, format!("Redis {} is too old", info.version), "use Redis 6.2 or later"));
        }
        if info.maxmemory_policy != "noeviction" {
            let detail = format!("it may evict keys: maxmemory-policy is {}", info.maxmemory_policy);
            let verdict = match settings.redis.eviction {
                Eviction::Refuse => Finding::fail,
                Eviction::Warn => Finding::warn,
            };
            findings.push(verdict(NAME, detail, "redis-cli config set maxmemory-policy noeviction"));
        }
        if !info.aof_enabled {
            let advice = "redis-cli config set appendonly yes";
            findings.push(Finding::warn(NAME, "no append-only file: plain jobs may be lost with it", advice));
        }
        findings
    }
}

/// The database: reachable, its schema as this version wants it.
struct Database;

#[async_trait]
impl Check for Database {
    async fn look(&self, settings: &Settings) -> Vec<Finding> {
        const NAME: &str = "store";
        vec![match Store::look(&settings.store).await {
            Ok(Some(detail)) => Finding::ok(NAME, detail),
            Ok(None) => Finding::ok(NAME, "not there yet; the server makes it when it starts"),
            Err(error) => {
                let advice = "start the database, or name yours in store.url (DATABASE_URL)";
                let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                Finding::fail(NAME, format!("{error}{source}"), advice)
            }
        }]
    }
}

/// Who can reach the server, and whether that needs a key.
struct Address;

#[async_trait]
impl Check for Address {
    async fn look(&self, settings: &Settings) -> Vec<Finding> {
        const NAME: &str = "address";
        let bind = settings.http.bind.as_str();
        vec![if settings.needs_key() {
            let advice = "set http.admin_key (ONETAKE_HTTP__ADMIN_KEY), unless there is an API key";
            Finding::warn(NAME, format!("others can reach {bind}: it starts only if there is a key"), advice)
        } else {
            Finding::ok(NAME, bind)
        }]
    }
}

/// Everything that can be found out without the running server.
pub async fn examine(settings: &Settings) -> Vec<Finding> {
    let checks: [&dyn Check; 6] = [&RedisServer, &Database, &Address, &Ffmpeg, &Font, &FilesDir];
    let mut findings = Vec::new();
    for check in checks {
        findings.extend(check.look(settings).await);
    }
    findings
}

/// What the builtin renderer cannot do without.
struct Ffmpeg;

#[async_trait]
impl Check for Ffmpeg {
    async fn look(&self, settings: &Settings) -> Vec<Finding> {
        const NAME: &str = "ffmpeg";
        let program = settings.videos.ffmpeg.as_str();
        let advice = "install ffmpeg (apt-get install ffmpeg), or name yours in videos.ffmpeg";
        let version = match output(program, &["-hide_banner", "-version"]).await {
            Ok(text) => text.lines().next().unwrap_or_default().to_owned(),
            Err(reason) => return vec![Finding::warn(NAME, format!("{program}: {reason}"), advice)],
        };
        let filters = output(program, &["-hide_banner", "-filters"]).await.unwrap_or_default();
        if !filters.contains(" drawtext ") {
            let advice = "use an ffmpeg that was built with libfreetype, or templates of your own";
            return vec![Finding::warn(NAME, format!("{version}, without drawtext"), advice)];
        }
        vec![Finding::ok(NAME, version)]
    }
}

/// With which the names are drawn.
struct Font;

#[async_trait]
impl Check for Font {
    async fn look(&self, settings: &Settings) -> Vec<Finding> {
        const NAME: &str = "font";
        let font = settings.videos.font.as_str();
        if !font.is_empty() {
            let found = Path::new(font).is_file();
            let missing = || {
                Finding::fail(
                    NAME,
                    format!("{font} is not there"),
                    "name a font file in videos.font, or leave it empty",
                )
            };
            return vec![if found { Finding::ok(NAME, font) } else { missing() }];
        }
        let advice = "install a font (apt-get install fonts-dejavu-core), or name a file in videos.font";
        vec![match output("fc-match", &["--format", "%{file}", "sans"]).await {
            Ok(file) if Path::new(file.trim()).is_file() => Finding::ok(NAME, file.trim()),
            Ok(_) => Finding::warn(NAME, "fontconfig knows no font", advice),
            Err(reason) => Finding::warn(NAME, format!("fc-match: {reason}"), advice),
        }]
    }
}

/// Where rendered files go.
struct FilesDir;

#[async_trait]
impl Check for FilesDir {
    async fn look(&self, settings: &Settings) -> Vec<Finding> {
        const NAME: &str = "files_dir";
        let dir = settings.files_dir.as_path();
        // The server makes the folder itself; then it is the nearest one above that must let it.
        let Some(nearest) =
            dir.ancestors().map(|d| if d.as_os_str().is_empty() { Path::new(".") } else { d }).find(|d| d.exists())
        else {
            return vec![Finding::fail(
                NAME,
                format!("{} has no folder above", dir.display()),
                "name another in files_dir",
            )];
        };
        if !nearest.is_dir() {
            return vec![Finding::fail(NAME, format!("{} is a file", nearest.display()), "name a folder in files_dir")];
        }
        let writable = nix::unistd::access(nearest, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK);
        vec![match writable {
            Ok(()) => Finding::ok(NAME, format!("{} can be written", dir.display())),
            Err(e) => {
                let advice = "give this user the right to write there, or name another folder in files_dir";
                Finding::fail(NAME, format!("{}: {}", nearest.display(), e.desc()), advice)
            }
        }]
    }
}

/// What `program` prints, or why there is nothing.
async fn output(program: &str, args: &[&str]) -> Result<String, String> {
    if !program.contains('/') && find_program(program).is_none() {
        return Err("is not installed".to_owned());
    }
    let mut command = tokio::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Err(_) => Err("does not answer".to_owned()),
        Ok(Err(e)) => Err(e.to_string()),
        Ok(Ok(output)) if !output.status.success() => Err(format!("ended with {}", output.status)),
        Ok(Ok(output)) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, load};

    fn settings(key: &str, value: &str) -> Settings {
        let options = Options { directory: "/nowhere".into(), ..Options::default() };
        load(&options.flag("--test", key, Some(value))).ok().unwrap().settings
    }

    #[tokio::test]
    async fn what_is_missing_is_named_with_advice() {
        for (check, key) in [(&Ffmpeg as &dyn Check, "videos.ffmpeg"), (&Font, "videos.font"), (&FilesDir, "files_dir")]
        {
            let found = check.look(&settings(key, "/etc/passwd/none")).await;
            assert_ne!(found[0].verdict, Verdict::Ok, "{found:?}");
            assert!(found[0].advice.is_some());
        }
    }

    #[tokio::test]
    async fn a_folder_that_can_be_made_is_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let found = FilesDir.look(&settings("files_dir", path.to_str().unwrap())).await;
        assert_eq!(found[0].verdict, Verdict::Ok);
        assert!(!path.exists(), "looking changes nothing");
    }
}
