//! What a server says about itself: read at start, and to notice a replaced server.

use std::collections::HashMap;

use super::{Error, Redis};

/// The part of `INFO` that matters to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    pub version: String,
    /// New with each start of the server process.
    pub run_id: String,
    /// "master" or "slave".
    pub role: String,
    /// "noeviction" unless keys may vanish under memory pressure.
    pub maxmemory_policy: String,
    pub aof_enabled: bool,
    /// Seconds since 1970 of the last snapshot on disk.
    pub rdb_last_save: i64,
    pub rdb_last_save_ok: bool,
}

impl ServerInfo {
    fn parse(text: &str) -> Result<Self, Error> {
        let fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let field = |name: &str| fields.get(name).map(|value| (*value).to_owned());
        let missing = |name: &str| Error::protocol(format!("INFO does not say {name}"));
        Ok(Self {
            version: field("redis_version").ok_or_else(|| missing("redis_version"))?,
            run_id: field("run_id").ok_or_else(|| missing("run_id"))?,
            role: field("role").unwrap_or_else(|| "master".to_owned()),
            maxmemory_policy: field("maxmemory_policy").unwrap_or_else(|| "noeviction".to_owned()),
            aof_enabled: field("aof_enabled").as_deref() == Some("1"),
            rdb_last_save: field("rdb_last_save_time").and_then(|n| n.parse().ok()).unwrap_or(0),
            rdb_last_save_ok: field("rdb_last_bgsave_status").is_none_or(|status| status == "ok"),
        })
    }
}

impl Redis {
    /// # Errors
    /// As any command.
    pub async fn info(&self) -> Result<ServerInfo, Error> {
        ServerInfo::parse(&self.command("INFO", Vec::new()).await?.text()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_by_its_names() {
        let text = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nrole:master\r\naof_enabled:1\r\nrdb_last_bgsave_status:ok\r\n";
        let info = ServerInfo::parse(text).unwrap();
        assert_eq!((info.version.as_str(), info.run_id.as_str(), info.aof_enabled), ("7.0.15", "abc", true));
        assert_eq!(info.maxmemory_policy, "noeviction");
        assert!(ServerInfo::parse("nonsense").is_err());
    }
}
