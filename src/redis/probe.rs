//! A look at what the present user may not do though we need it, before the first job depends on it.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;

use super::rights::{COMMANDS, escaped};
use super::{Error, Redis, Script};
use crate::config;

/// A word to ourselves that is not heard by then never will be.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// By these words a denial of a key or a channel is told from that of a command. A user's name cannot begin with a blank.
const KEY: &str = " key";
const CHANNEL: &str = " channel";

static PROBE: LazyLock<Script> =
    LazyLock::new(|| Script::new("redis.probe", &[include_str!("../../lua/redis/probe.lua")]));

impl Redis {
    /// What the present user may not do though we need it, in words; empty if it may do all. `bases` are the beginnings
    /// of keys: `<prefix>:<queue>:` for each queue, and `<namespace>:`.
    ///
    /// Nothing is changed. Whoever keeps Redis' ACL log finds what was refused.
    ///
    /// # Errors
    /// `Unreachable`; `Protocol`.
    pub async fn missing_rights(&self, settings: &config::Redis, bases: &[String]) -> Result<Vec<String>, Error> {
        let mut missing = BTreeSet::new();
        let channel = format!("{}:probe", settings.namespace);
        for base in bases {
            self.probe(base, &channel, &mut missing).await?;
        }
        for (name, told, args) in self.questions(settings) {
            if let Err(Error::Refused { message }) = self.command(name, args).await
                && is_denial(&message)
                // Of keys, the probe has told.
                && !message.contains(KEY)
            {
                missing.insert(format!("the command {told}"));
            }
        }
        if !self.hears_itself(&channel).await? {
            missing.insert("the command subscribe".to_owned());
        }
        Ok(missing.into_iter().collect())
    }

    /// Whether what is published here is heard here. fred does not tell of a subscription that was refused.
    async fn hears_itself(&self, channel: &str) -> Result<bool, Error> {
        let mut heard = match self.subscribe(channel).await {
            Ok(heard) => heard,
            Err(Error::Refused { message }) if is_denial(&message) => return Ok(message.contains(CHANNEL)),
            Err(error) => return Err(error),
        };
        match self.publish(channel, Bytes::new()).await {
            Ok(_) => match tokio::time::timeout(HEARD_WITHIN, heard.next()).await {
                Ok(_) => Ok(true),
                Err(_) => self.check_up().map(|()| false),
            },
            // Of that the probe has told.
            Err(Error::Refused { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Runs every command on a key that begins so, in one script that leaves nothing behind.
    async fn probe(&self, base: &str, channel: &str, missing: &mut BTreeSet<String>) -> Result<(), Error> {
        let keyed = |(name, args): &(&'static str, &'static [&'static str])| match *name {
            // Those are asked by themselves: they have no key, or may not stand in a script.
            "BZPOPMIN" | "SCAN" => None,
            "TIME" => Some(vec!["TIME"]),
            "XREAD" => Some([&[*name, "STREAMS", "*key*"], *args].concat()),
            "PUBLISH" => Some(vec!["PUBLISH", channel, ""]),
            _ => Some([&[*name, "*key*"], *args].concat()),
        };
        let commands: Vec<Vec<&str>> = COMMANDS.iter().filter_map(keyed).collect();
        let commands = Bytes::from(rmp_serde::to_vec(&commands).expect("texts have a MessagePack form"));
        match self.run(&PROBE, vec![format!("{base}onetake-probe")], vec![commands]).await {
            Ok(denied) => {
                for pair in denied.texts()?.chunks(2) {
                    let [name, why] = pair else { continue };
                    missing.insert(if why.contains(CHANNEL) {
                        format!("the channels &{channel}", channel = channel.replace(":probe", ":*"))
                    } else if why.contains(KEY) {
                        format!("the keys ~{}*", escaped(base))
                    } else {
                        format!("the command {}", name.to_lowercase())
                    });
                }
            }
            Err(Error::Refused { message }) if is_denial(&message) => {
                missing.insert(if message.contains(KEY) {
                    format!("the keys ~{}*", escaped(base))
                } else {
                    "the commands eval and evalsha".to_owned()
                });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Commands that change nothing, by their names for people.
    fn questions(&self, settings: &config::Redis) -> Vec<(&'static str, &'static str, Vec<Bytes>)> {
        let words = |words: &[&str]| words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let key = format!("{}:onetake-probe", settings.namespace);
        vec![
            ("PING", "ping", Vec::new()),
            ("INFO", "info", Vec::new()),
            ("SCAN", "scan", words(&["0", "MATCH", &key, "COUNT", "1"])),
            ("BZPOPMIN", "bzpopmin", words(&[&key, "0.01"])),
            // The probe may have found its script there, and not have needed this.
            ("EVAL", "eval", words(&["return 1", "1", &key])),
            ("EVALSHA", "evalsha", words(&["0000000000000000000000000000000000000000", "1", &key])),
            ("CLIENT", "client|id", words(&["ID"])),
            ("CLIENT", "client|list", words(&["LIST", "TYPE", "replica"])),
            ("CLIENT", "client|setname", words(&["SETNAME", ""])),
            ("CLIENT", "client|unblock", words(&["UNBLOCK", "0"])),
        ]
    }
}

/// By the words of Redis 6.2, 7.0 and 7.2.
fn is_denial(message: &str) -> bool {
    ["NOPERM", "ACL failure", "user executing the script"].iter().any(|start| message.contains(start))
}
