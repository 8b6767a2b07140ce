//! Following a stream: `XREAD` on a connection of its own.
//!
//! Nothing is taken out of a stream by reading it, so a read may be given up at any time; its connection is then closed.

use std::time::Duration;

use fred::error::ErrorKind;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::blocking::{Blocker, Pooled};
use super::{Error, Redis, Reply};

/// How far a server may overrun the time that it was given before its connection counts as dead.
const OVERRUN: Duration = Duration::from_secs(2);

/// An entry: its id, and names and values in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub fields: Vec<String>,
}

/// Reads what is appended to one stream.
pub struct StreamWatch {
    redis: Redis,
    key: String,
    connection: Option<Pooled>,
}

impl StreamWatch {
    pub fn new(redis: &Redis, key: String) -> Self {
        Self { redis: redis.clone(), key, connection: None }
    }

    /// The id of the newest entry; `0-0` before the first.
    ///
    /// # Errors
    /// `Unreachable`, `Refused` or `Protocol`.
    pub async fn newest(&self) -> Result<String, Error> {
        let words = [self.key.as_str(), "+", "-", "COUNT", "1"].map(|word| word.to_owned().into());
        let entries = self.redis.command("XREVRANGE", words.to_vec()).await?.items()?;
        Ok(entries.into_iter().next().map(entry).transpose()?.map_or_else(|| "0-0".to_owned(), |entry| entry.id))
    }

    /// The entries after `after`, at most `most`; waits for the first at most `patience`, and then has none.
    ///
    /// # Errors
    /// `Unreachable`, `Refused` or `Protocol`.
    ///
    /// # Cancel safety
    /// Dropping the future costs the connection, and loses nothing.
    pub async fn read(&mut self, after: &str, most: u32, patience: Duration) -> Result<Vec<Entry>, Error> {
        if self.connection.as_ref().is_some_and(|connection| connection.broken) {
            self.connection = None;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.redis.blocker(&self.key).await?),
        };
        let answered = connection.xread(&self.key, after, most, patience).await;
        if answered.is_err() {
            self.connection = None;
        }
        answered?.items()?.into_iter().map(entry).collect()
    }
}

impl Blocker {
    /// The entries of one stream, or nil.
    async fn xread(&mut self, key: &str, after: &str, most: u32, patience: Duration) -> Result<Reply, Error> {
        // Until the answer is there the connection is of no use to anybody else.
        self.broken = true;
        let command = CustomCommand::new_static("XREAD", ClusterHash::from(key), true);
        let (most, block) = (most.to_string(), patience.as_millis().max(1).to_string());
        let words = ["COUNT", &most, "BLOCK", &block, "STREAMS", key, after].map(str::to_owned);
        let read = self.client.custom::<Value, String>(command, words.to_vec());
        let answer = match tokio::time::timeout(patience + OVERRUN, read).await {
            Ok(Ok(answer)) => Reply::from(answer),
            // So fred tells a nil. It cannot be a timeout of its own: these connections have none.
            Ok(Err(error)) if *error.kind() == ErrorKind::Timeout => Reply::Nil,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Error::unreachable("a blocking read overran its time")),
        };
        self.broken = false;
        // [[key, entries]]
        match answer.items()?.pop() {
            None => Ok(Reply::Nil),
            Some(stream) => {
                stream.items()?.pop().ok_or_else(|| Error::protocol("XREAD answers keys with their entries"))
            }
        }
    }
}

fn entry(reply: Reply) -> Result<Entry, Error> {
    match <[Reply; 2]>::try_from(reply.items()?) {
        Ok([id, fields]) => Ok(Entry { id: id.text()?, fields: fields.texts()? }),
        Err(_) => Err(Error::protocol("an entry of a stream is an id and fields")),
    }
}
