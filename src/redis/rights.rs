//! What Redis must allow us to do, as the rule for an ACL user. Whether the present user may is looked at in `probe`.
//!
//! [`COMMANDS`] is all that the scripts and this module send; a test compares it with them, so that the rule cannot be out
//! of date. No command here is newer than Redis 6.2.

use secrecy::ExposeSecret;

use crate::config;

/// The commands on keys, each with arguments by which it does nothing to a key that holds a text: behind the key itself,
/// where it takes one. What is not in here, nothing of ours may send.
pub const COMMANDS: &[(&str, &[&str])] = &[
    ("BZPOPMIN", &[]),
    ("DECRBY", &["1"]),
    ("DEL", &[]),
    ("EXISTS", &[]),
    ("GET", &[]),
    ("HDEL", &["f"]),
    ("HEXISTS", &["f"]),
    ("HGET", &["f"]),
    ("HGETALL", &[]),
    ("HINCRBY", &["f", "1"]),
    ("HKEYS", &[]),
    ("HLEN", &[]),
    ("HMGET", &["f"]),
    ("HSCAN", &["0"]),
    ("HSET", &["f", "v"]),
    ("INCR", &[]),
    ("INCRBY", &["1"]),
    ("LLEN", &[]),
    ("LPOS", &["x"]),
    ("LPUSH", &["x"]),
    ("LRANGE", &["0", "0"]),
    ("LREM", &["0", "x"]),
    ("LSET", &["0", "x"]),
    ("LTRIM", &["0", "0"]),
    ("MGET", &[]),
    ("PERSIST", &[]),
    ("PEXPIRE", &["1000"]),
    ("PEXPIREAT", &["99999999999999"]),
    ("PTTL", &[]),
    ("PUBLISH", &[]),
    ("RPUSH", &["x"]),
    ("SADD", &["x"]),
    ("SCAN", &[]),
    ("SCARD", &[]),
    ("SET", &["x", "PX", "1000"]),
    ("SMEMBERS", &[]),
    ("SREM", &["x"]),
    ("SSCAN", &["0"]),
    ("TIME", &[]),
    ("TYPE", &[]),
    ("UNLINK", &[]),
    ("XADD", &["*", "f", "v"]),
    ("XREAD", &["0"]),
    ("XREVRANGE", &["+", "-"]),
    ("XTRIM", &["MAXLEN", "1"]),
    ("ZADD", &["1", "x"]),
    ("ZCARD", &[]),
    ("ZRANGE", &["0", "0"]),
    ("ZRANGEBYLEX", &["-", "+"]),
    ("ZRANGEBYSCORE", &["0", "0"]),
    ("ZRANK", &["x"]),
    ("ZREM", &["x"]),
    ("ZREVRANGE", &["0", "0"]),
    ("ZREVRANGEBYSCORE", &["0", "0"]),
    ("ZSCAN", &["0"]),
    ("ZSCORE", &["x"]),
];

/// Sent by themselves, and not from scripts. (AUTH, HELLO and QUIT are everybody's.)
const BESIDES: &[&str] = &[
    "CLIENT|ID",
    "CLIENT|LIST",
    "CLIENT|SETNAME",
    "CLIENT|UNBLOCK",
    "EVAL",
    "EVALSHA",
    "INFO",
    "PING",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
];

/// The least that a user must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rights {
    /// As in the address, or a proposal.
    pub user: String,
    /// Patterns.
    pub keys: Vec<String>,
    pub channels: Vec<String>,
    /// In lower case, subcommands behind a bar.
    pub commands: Vec<String>,
}

impl Rights {
    pub fn of(settings: &config::Redis) -> Self {
        let pattern = |start: &str| format!("{}:*", escaped(start));
        let mut commands: Vec<String> =
            COMMANDS.iter().map(|(name, _)| *name).chain(BESIDES.iter().copied()).map(str::to_lowercase).collect();
        if settings.is_cluster() {
            commands.extend(["cluster|info", "cluster|slots"].map(str::to_owned));
        } else if names_database(settings) {
            commands.push("select".to_owned());
        }
        if settings.is_sentinel() {
            commands.push("role".to_owned());
        }
        commands.sort();
        Self {
            user: user_of(settings).unwrap_or_else(|| "onetake".to_owned()),
            // Flows reach into queues that are not declared here, so the pattern is that of the prefix.
            keys: vec![pattern(&settings.prefix), pattern(&settings.namespace)],
            channels: vec![pattern(&settings.namespace)],
            commands,
        }
    }

    /// Whom the address names; without a name, Redis' own default user.
    pub fn user(settings: &config::Redis) -> String {
        user_of(settings).unwrap_or_else(|| "default".to_owned())
    }

    /// What to say to Redis, with a place for the password.
    pub fn line(&self) -> String {
        let with = |sign: &'static str, words: &[String]| {
            words.iter().map(|word| format!("{sign}{word}")).collect::<Vec<_>>().join(" ")
        };
        format!(
            "ACL SETUSER {} on >PASSWORD resetkeys {} resetchannels {} -@all {}",
            self.user,
            with("~", &self.keys),
            with("&", &self.channels),
            with("+", &self.commands)
        )
    }
}

/// The name in the address.
fn user_of(settings: &config::Redis) -> Option<String> {
    let url = url::Url::parse(settings.url.expose_secret()).ok()?;
    (!url.username().is_empty()).then(|| url.username().to_owned())
}

fn names_database(settings: &config::Redis) -> bool {
    let url = url::Url::parse(settings.url.expose_secret()).ok();
    url.is_some_and(|url| !matches!(url.path(), "" | "/"))
}

/// A text in which a pattern means nothing special.
pub(super) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if "*?[]\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests;
