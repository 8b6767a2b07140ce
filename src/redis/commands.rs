//! The plain commands that others need. What must be atomic is a script instead.

use bytes::Bytes;

use super::nodes::Node;
use super::{Error, Redis, Reply};

/// Part of a keyspace, set or hash walk. The walk has ended when `next` is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub next: Option<String>,
    pub items: Vec<String>,
}

/// Part of a walk over a sorted set.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredPage {
    pub next: Option<String>,
    pub items: Vec<(String, f64)>,
}

fn word(text: impl AsRef<str>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref().as_bytes())
}

fn words<T: AsRef<str>>(key: &str, rest: impl IntoIterator<Item = T>) -> Vec<Bytes> {
    std::iter::once(word(key)).chain(rest.into_iter().map(word)).collect()
}

/// Every method's errors are those of a command: `Unreachable`, `Refused` or `Protocol`.
impl Redis {
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.command("GET", vec![word(key)]).await?.option(Reply::bytes)
    }

    /// Sets `key`, for `px_ms` milliseconds if given. With `only_if_absent`, an existing key is left: then `false`.
    pub async fn set(&self, key: &str, value: Bytes, px_ms: Option<i64>, only_if_absent: bool) -> Result<bool, Error> {
        let mut args = vec![word(key), value];
        if let Some(ms) = px_ms {
            args.extend([word("PX"), word(ms.to_string())]);
        }
        if only_if_absent {
            args.push(word("NX"));
        }
        Ok(!self.command("SET", args).await?.is_nil())
    }

    /// How many of `keys` (in a cluster: of one slot) were there.
    pub async fn del(&self, keys: &[&str]) -> Result<i64, Error> {
        let [first, rest @ ..] = keys else { return Ok(0) };
        self.command("DEL", words(first, rest)).await?.int()
    }

    pub async fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.command("EXISTS", vec![word(key)]).await?.int()? == 1)
    }

    /// Milliseconds left; `None` without an end or without the key.
    pub async fn ttl_ms(&self, key: &str) -> Result<Option<i64>, Error> {
        let left = self.command("PTTL", vec![word(key)]).await?.int()?;
        Ok((left >= 0).then_some(left))
    }

    pub async fn hgetall(&self, key: &str) -> Result<Vec<(String, Bytes)>, Error> {
        let flat = self.command("HGETALL", vec![word(key)]).await?.items()?;
        pairs(flat)?.into_iter().map(|(name, value)| Ok((name.text()?, value.bytes()?))).collect()
    }

    pub async fn hget(&self, key: &str, field: &str) -> Result<Option<Bytes>, Error> {
        self.command("HGET", words(key, [field])).await?.option(Reply::bytes)
    }

    /// The values of `fields`, in their order.
    pub async fn hmget(&self, key: &str, fields: &[&str]) -> Result<Vec<Option<Bytes>>, Error> {
        let values = self.command("HMGET", words(key, fields)).await?.items()?;
        values.into_iter().map(|value| value.option(Reply::bytes)).collect()
    }

    pub async fn hset(&self, key: &str, fields: &[(&str, &str)]) -> Result<i64, Error> {
        let flat = fields.iter().flat_map(|(name, value)| [*name, *value]);
        self.command("HSET", words(key, flat)).await?.int()
    }

    pub async fn hdel(&self, key: &str, fields: &[&str]) -> Result<i64, Error> {
        self.command("HDEL", words(key, fields)).await?.int()
    }

    pub async fn hlen(&self, key: &str) -> Result<i64, Error> {
        self.command("HLEN", vec![word(key)]).await?.int()
    }

    pub async fn smembers(&self, key: &str) -> Result<Vec<String>, Error> {
        self.command("SMEMBERS", vec![word(key)]).await?.texts()
    }

    pub async fn scard(&self, key: &str) -> Result<i64, Error> {
        self.command("SCARD", vec![word(key)]).await?.int()
    }

    pub async fn sadd(&self, key: &str, members: &[&str]) -> Result<i64, Error> {
        self.command("SADD", words(key, members)).await?.int()
    }

    pub async fn srem(&self, key: &str, members: &[&str]) -> Result<i64, Error> {
        self.command("SREM", words(key, members)).await?.int()
    }

    /// One page of the names that match `pattern`; about `count` are looked at. In a cluster one master is walked after
    /// the other, and the cursor says which: what moves between them meanwhile may be missed.
    pub async fn scan(&self, cursor: Option<&str>, pattern: &str, count: u32) -> Result<Page, Error> {
        let count = count.to_string();
        let nodes = self.nodes();
        let (place, cursor) = match cursor.and_then(|cursor| cursor.split_once('/')) {
            Some((name, cursor)) => (nodes.iter().position(|node| node.name() == name).unwrap_or(0), cursor),
            None => (0, cursor.unwrap_or("0")),
        };
        let args = words(cursor, ["MATCH", pattern, "COUNT", count.as_str()]);
        let (next, items) = page(self.command_at(nodes.get(place), "SCAN", args).await?)?;
        let next = match (nodes.get(place), next) {
            (None, next) => next,
            (Some(node), Some(cursor)) => Some(format!("{}/{cursor}", node.name())),
            (Some(_), None) => nodes.get(place + 1).map(|node| format!("{}/0", node.name())),
        };
        Ok(Page { next, items: items.iter().map(Reply::text).collect::<Result<_, _>>()? })
    }

    /// One page of the fields of the hash `key`; about `count` are looked at.
    pub async fn hscan(&self, key: &str, cursor: Option<&str>, count: u32) -> Result<Page, Error> {
        let count = count.to_string();
        let args = words(key, [cursor.unwrap_or("0"), "COUNT", count.as_str()]);
        let (next, flat) = page(self.command("HSCAN", args).await?)?;
        let items = pairs(flat)?.iter().map(|(field, _)| field.text()).collect::<Result<_, _>>()?;
        Ok(Page { next, items })
    }

    /// One page of the sorted set `key`; about `count` members are looked at.
    pub async fn zscan(&self, key: &str, cursor: Option<&str>, count: u32) -> Result<ScoredPage, Error> {
        let count = count.to_string();
        let args = words(key, [cursor.unwrap_or("0"), "COUNT", count.as_str()]);
        let (next, flat) = page(self.command("ZSCAN", args).await?)?;
        let scored = |(member, score): (Reply, Reply)| Ok((member.text()?, number(&score)?));
        Ok(ScoredPage { next, items: pairs(flat)?.into_iter().map(scored).collect::<Result<_, Error>>()? })
    }

    pub async fn zscore(&self, key: &str, member: &str) -> Result<Option<f64>, Error> {
        self.command("ZSCORE", words(key, [member])).await?.option(|score| number(&score))
    }

    pub async fn zrank(&self, key: &str, member: &str) -> Result<Option<i64>, Error> {
        self.command("ZRANK", words(key, [member])).await?.option(|rank| rank.int())
    }

    /// Where `item` stands in a list, from the tail, if among its last `max_len`. The tail is index 0 here.
    pub async fn position_from_tail(&self, key: &str, item: &str, max_len: u32) -> Result<Option<i64>, Error> {
        let max_len = max_len.to_string();
        let args = words(key, [item, "RANK", "-1", "MAXLEN", max_len.as_str()]);
        let Some(index) = self.command("LPOS", args).await?.option(|index| index.int())? else { return Ok(None) };
        let length = self.command("LLEN", vec![word(key)]).await?.int()?;
        Ok(Some((length - 1 - index).max(0)))
    }

    /// How many heard it.
    pub async fn publish(&self, channel: &str, payload: Bytes) -> Result<i64, Error> {
        self.command("PUBLISH", vec![word(channel), payload]).await?.int()
    }

    /// The names that clients gave themselves by `CLIENT SETNAME`; the nameless are left out.
    pub async fn client_names(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for list in self.command_everywhere("CLIENT", vec![word("LIST")]).await? {
            let list = list.text()?;
            let named = |line: &str| line.split(' ').find_map(|field| field.strip_prefix("name=")).map(str::to_owned);
            names.extend(list.lines().filter_map(named).filter(|name| !name.is_empty()));
        }
        Ok(names)
    }

    /// Wakes a client that is blocked at `node`; whether it was blocked.
    pub(super) async fn unblock(&self, node: Option<&Node>, client_id: i64) -> Result<bool, Error> {
        let args = vec![word("UNBLOCK"), word(client_id.to_string())];
        Ok(self.command_at(node, "CLIENT", args).await?.int()? == 1)
    }
}

fn page(reply: Reply) -> Result<(Option<String>, Vec<Reply>), Error> {
    let mut parts = reply.items()?.into_iter();
    let (Some(cursor), Some(items)) = (parts.next(), parts.next()) else {
        return Err(Error::protocol("a page without cursor and items"));
    };
    let cursor = cursor.text()?;
    Ok(((cursor != "0").then_some(cursor), items.items()?))
}

fn pairs(flat: Vec<Reply>) -> Result<Vec<(Reply, Reply)>, Error> {
    let mut flat = flat.into_iter();
    let mut pairs = Vec::with_capacity(flat.len() / 2);
    while let Some(first) = flat.next() {
        let second = flat.next().ok_or_else(|| Error::protocol("an odd number of items in a list of pairs"))?;
        pairs.push((first, second));
    }
    Ok(pairs)
}

pub(super) fn number(reply: &Reply) -> Result<f64, Error> {
    reply.text()?.parse().map_err(|_| Error::protocol("a text where a number was expected"))
}
