//! Workloads for Node bots: a queue whose jobs name a verb, and whose return values are its answers.
//!
//! A job's name is the verb; its data are the fields of the HTTP body, and an `idempotencyKey` where the bot has one. A
//! job without goes by its own identity, so that one which is run twice (a crash, a stall) changes things once.
//!
//! A job returns `{ok: true, ...}`, or `{ok: false, code, message: {en, ru}}` for a refusal: a refusal is an answer, and
//! the job has completed. Data that cannot be read, and names that are no verbs, fail the job for good.

use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::idempotency::{Answered, KEY_REUSED, Key, Told};
use crate::json;
use crate::processor::{Failure, Processor, Progress, ReturnValue, Work};
use crate::refusal::Refusal;
use crate::store;
use crate::text::{hex, in_plain_words};

/// How soon a job is tried again that found the database away. That is no attempt.
const STORE_AWAY: Duration = Duration::from_secs(1);
const LONGEST_KEY: usize = 255;

/// A workload, as its queue sees it.
#[async_trait]
pub trait Verbs: Send + Sync + 'static {
    /// The names that its jobs may have.
    const NAMES: &'static [&'static str];

    /// Does what a job asks for.
    ///
    /// # Errors
    /// [`Failed`], by what becomes of the job.
    async fn act(&self, verb: &str, data: Data, caller: Caller) -> Result<Answered, Failed>;
}

/// Whose job it is, and the key under which it is done once.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Stands in audit lines: "queue:" and the queue's name.
    pub by: String,
    pub key: Key,
}

/// The fields of a job's data, without the idempotency key.
#[derive(Clone, Debug)]
pub struct Data(Map<String, Value>);

/// Why a job came to no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It can never be done.
    #[error("{0}")]
    Data(String),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Data {
    /// The fields as a verb wants them.
    ///
    /// # Errors
    /// What is wrong, with the field's name.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Failed> {
        serde_path_to_error::deserialize(Value::Object(self.0)).map_err(|error| {
            let field = error.path().to_string();
            let reason = in_plain_words(&error.into_inner().to_string());
            Failed::Data(if field == "." { reason } else { format!("{field}: {reason}") })
        })
    }
}

/// The processor of a workload's queue.
pub struct Worked<V>(pub V);

#[async_trait]
impl<V: Verbs> Processor for Worked<V> {
    async fn process(&self, work: Work, _progress: Progress) -> Result<ReturnValue, Failure> {
        if !V::NAMES.contains(&work.name.as_str()) {
            let known = V::NAMES.join(", ");
            return Err(Failure::fatal(format!("\"{}\" is none of this queue's verbs: {known}", work.name)));
        }
        let (data, caller) = read(&work).map_err(Failure::fatal)?;
        let answered = self.0.act(&work.name, data, caller).await;
        crate::fault::point("verb.answered");
        match answered {
            Ok(Answered::First(told) | Answered::Again(told)) => Ok(reply(told).into()),
            Ok(Answered::KeyReused) => Ok(reply(Err(KEY_REUSED)).into()),
            Err(Failed::Data(reason)) => Err(Failure::fatal(format!("the job's data: {reason}"))),
            Err(Failed::Store(error)) if error.is_repeatable() => {
                Err(Failure::Later { delay: STORE_AWAY, reason: error.to_string() })
            }
            Err(Failed::Store(error)) => Err(Failure::retry(error.to_string())),
        }
    }
}

fn read(work: &Work) -> Result<(Data, Caller), String> {
    let data = json::readable(&work.data).map_err(|error| format!("the job's data: {error}"))?;
    let Value::Object(mut fields) = data else { return Err("the job's data: must be an object".into()) };
    let key = match fields.remove("idempotencyKey") {
        // Two spaces of names, so that no bot's own key passes for a job's identity.
        None | Some(Value::Null) => format!("job {}", work.identity),
        Some(Value::String(key)) if is_key(&key) => format!("key {key}"),
        Some(_) => return Err(format!("idempotencyKey: must be 1 to {LONGEST_KEY} visible ASCII characters")),
    };
    let mut digest = Sha256::new();
    digest.update(&work.name);
    digest.update([0]);
    // The fields in the order of their names, however the bot wrote them.
    digest.update(Value::Object(fields.clone()).to_string());
    let by = format!("queue:{}", work.queue);
    let key = Key { principal: by.clone(), key, fingerprint: hex(&digest.finalize()) };
    Ok((Data(fields), Caller { by, key }))
}

fn is_key(key: &str) -> bool {
    (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

fn reply(told: Told) -> Value {
    match told {
        Ok(Value::Object(mut answer)) => {
            answer.insert("ok".into(), true.into());
            Value::Object(answer)
        }
        Ok(other) => json!({"ok": true, "answer": other}),
        Err(Refusal { code, message, .. }) => json!({"ok": false, "code": code, "message": message}),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use super::*;
    use crate::refusal::Kind;

    /// Notes the keys that it is asked under.
    #[derive(Default)]
    struct Bell(Arc<Mutex<Vec<Key>>>);

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Ring {
        times: u8,
    }

    #[async_trait]
    impl Verbs for Bell {
        const NAMES: &'static [&'static str] = &["ring"];

        async fn act(&self, _verb: &str, data: Data, caller: Caller) -> Result<Answered, Failed> {
            let Ring { times } = data.read()?;
            self.0.lock().unwrap().push(caller.key);
            let refusal = Refusal::new("bell_broken", Kind::Conflict, "The bell is broken.", "Звонок сломан.");
            Ok(Answered::First(if times > 3 { Err(refusal) } else { Ok(json!({"rung": times})) }))
        }
    }

    async fn run(name: &str, data: &str, identity: &str) -> (Result<Value, Failure>, Option<Key>) {
        let bell = Bell::default();
        let keys = bell.0.clone();
        let work = Work {
            id: "1".into(),
            identity: identity.into(),
            queue: "bells".into(),
            name: name.into(),
            data: serde_json::value::RawValue::from_string(data.into()).unwrap(),
            attempt: 1,
            step: 0,
            children: None,
            trace: None,
            scratch: "/nonexistent".into(),
        };
        let ended = Worked(bell).process(work, Arc::new(|_| {})).await;
        let key = keys.lock().unwrap().pop();
        (ended.map(|returned| returned.to_value()), key)
    }

    #[tokio::test]
    async fn answers_and_refusals_are_return_values() {
        assert_eq!(run("ring", r#"{"times":2}"#, "1@1").await.0, Ok(json!({"ok": true, "rung": 2})));
        let refused = json!({
            "ok": false, "code": "bell_broken", "message": {"en": "The bell is broken.", "ru": "Звонок сломан."}
        });
        assert_eq!(run("ring", r#"{"times":4}"#, "1@1").await.0, Ok(refused));
    }

    #[tokio::test]
    async fn what_can_never_be_done_fails_for_good_with_the_reason() {
        for (name, data, reason) in [
            ("sing", "{}", "\"sing\" is none of this queue's verbs: ring"),
            ("ring", "[]", "the job's data: must be an object"),
            (
                "ring",
                r#"{"times":"x"}"#,
                "the job's data: times: invalid type: string \"x\", expected a whole number from 0 to 255",
            ),
            ("ring", r#"{"times":1,"loud":true}"#, "the job's data: loud: unknown field `loud`, expected `times`"),
            ("ring", r#"{"times":1,"idempotencyKey":""}"#, "idempotencyKey: must be 1 to 255 visible ASCII characters"),
        ] {
            assert_eq!(run(name, data, "1@1").await.0, Err(Failure::fatal(reason)), "{name} {data}");
        }
    }

    #[tokio::test]
    async fn a_job_goes_by_its_key_or_by_its_identity() {
        let key = async |data: &str, identity: &str| run("ring", data, identity).await.1.unwrap();
        let (first, again) = (key(r#"{"times":1}"#, "1@5").await, key(r#"{"times":1}"#, "1@5").await);
        assert_eq!(first, again);
        assert_ne!(first.key, key(r#"{"times":1}"#, "1@6").await.key, "ids begin anew in a wiped Redis");
        let own = key(r#"{"idempotencyKey":"1@5","times":1}"#, "9@9").await;
        assert_ne!(own.key, first.key, "no bot's key passes for an identity");
        let named = key(r#"{"idempotencyKey":"k","times":1}"#, "1@5").await;
        assert_eq!(named, key(r#"{"times":1,"idempotencyKey":"k"}"#, "2@6").await);
        assert_ne!(named.fingerprint, key(r#"{"times":2,"idempotencyKey":"k"}"#, "2@6").await.fingerprint);
    }
}
