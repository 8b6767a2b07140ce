//! What a server says about itself: read at start, and to notice a replaced server.

use std::collections::HashMap;

use super::{Error, Redis};

/// The part of `INFO` that matters to us. Of a cluster: of all masters together, each thing as the worst of them has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    pub version: String,
    /// New with each start of the server process; of a cluster, those of all masters.
    pub run_id: String,
    /// "master" or "slave".
    pub role: String,
    /// "noeviction" unless keys may vanish under memory pressure.
    pub maxmemory_policy: String,
    pub aof_enabled: bool,
    /// Whether the server is a node of a cluster.
    pub is_cluster_node: bool,
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
            is_cluster_node: field("redis_mode").as_deref() == Some("cluster"),
            rdb_last_save: field("rdb_last_save_time").and_then(|n| n.parse().ok()).unwrap_or(0),
            rdb_last_save_ok: field("rdb_last_bgsave_status").is_none_or(|status| status == "ok"),
        })
    }

    /// Major and minor.
    pub fn release(&self) -> (u32, u32) {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    fn together(self, other: Self) -> Self {
        let evicts = |info: &Self| info.maxmemory_policy != "noeviction";
        Self {
            version: if other.release() < self.release() { other.version.clone() } else { self.version.clone() },
            run_id: format!("{} {}", self.run_id, other.run_id),
            maxmemory_policy: if evicts(&self) { self.maxmemory_policy } else { other.maxmemory_policy },
            aof_enabled: self.aof_enabled && other.aof_enabled,
            rdb_last_save: self.rdb_last_save.min(other.rdb_last_save),
            rdb_last_save_ok: self.rdb_last_save_ok && other.rdb_last_save_ok,
            ..self
        }
    }
}

impl Redis {
    /// # Errors
    /// As any command.
    pub async fn info(&self) -> Result<ServerInfo, Error> {
        let mut all = None;
        for text in self.command_everywhere("INFO", Vec::new()).await? {
            let info = ServerInfo::parse(&text.text()?)?;
            all = Some(match all {
                Some(before) => ServerInfo::together(before, info),
                None => info,
            });
        }
        all.ok_or_else(|| Error::protocol("no master answers INFO"))
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

    #[test]
    fn several_masters_are_as_bad_as_the_worst_of_them() {
        let info = |version: &str, policy: &str, aof: u8| {
            let text =
                format!("redis_version:{version}\nrun_id:{version}\nmaxmemory_policy:{policy}\naof_enabled:{aof}\n");
            ServerInfo::parse(&text).unwrap()
        };
        let all = info("7.0.15", "noeviction", 1).together(info("6.2.14", "allkeys-lru", 1));
        let all = all.together(info("10.0.0", "noeviction", 0));
        assert_eq!((all.version.as_str(), all.release()), ("6.2.14", (6, 2)));
        assert_eq!((all.maxmemory_policy.as_str(), all.aof_enabled), ("allkeys-lru", false));
        assert_eq!(all.run_id, "7.0.15 6.2.14 10.0.0");
    }
}
