//! Everything that stands in Redis, as JSON that can be compared.

use serde_json::{Map, Value, json};

use super::{Keys, Left};
use crate::support::redis::RedisServer;
use crate::support::resp::Reply;

/// Reads all keys of the prefix, and takes the events out of the streams: each look sees those since the last.
const LOOK: &str = r"
local seen, keys = {}, redis.call('KEYS', 'bull:*')
table.sort(keys)
for _, key in ipairs(keys) do
  local kind, value = redis.call('TYPE', key).ok, nil
  if kind == 'string' then value = redis.call('GET', key)
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'stream' then value = redis.call('XRANGE', key, '-', '+'); redis.call('DEL', key)
  end
  seen[#seen + 1] = { key, kind, redis.call('PTTL', key), value }
end
return seen";

/// Fields whose text is JSON.
const JSON_FIELDS: [&str; 6] = ["data", "opts", "parent", "progress", "returnvalue", "stacktrace"];

/// What there is, and the events since the last look.
pub async fn look(redis: &RedisServer) -> (Keys, Vec<String>) {
    let (mut keys, mut events) = (Keys::new(), Vec::new());
    for entry in items(redis.ask(&["EVAL", LOOK, "0"]).await) {
        let [key, kind, ttl, value] = <[Reply; 4]>::try_from(items(entry)).expect("a key is four things");
        let key = text(&key).strip_prefix("bull:").expect("only those were asked for").to_owned();
        let held = match text(&kind) {
            "string" => json!({"text": text(&value)}),
            "list" => json!({"list": value.texts()}),
            "set" => {
                let mut members = value.texts();
                members.sort_unstable();
                json!({"set": members})
            }
            "zset" => json!({"zset": fields(&value)}),
            "hash" => json!({"hash": hash(&value)}),
            _ => {
                events.extend(items(value).into_iter().map(|event| told(&key, event)));
                continue;
            }
        };
        keys.insert(key, with_span(held, ttl.number()));
    }
    (keys, events)
}

/// What a step left, by the looks before and after it.
pub fn left(said: Value, events: Vec<String>, before: &Keys, after: &Keys) -> Left {
    let mut keys = Keys::new();
    for (key, value) in after {
        if before.get(key) != Some(value) {
            keys.insert(key.clone(), value.clone());
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        keys.insert(key.clone(), Value::Null);
    }
    Left { said, events, keys }
}

/// Puts keys in place as they were seen.
pub async fn restore(redis: &RedisServer, keys: &Keys) {
    for (key, value) in keys {
        let key = format!("bull:{key}");
        redis.ask(&["DEL", &key]).await;
        let Some(held) = value.as_object() else { continue };
        let mut command = Vec::new();
        for (kind, value) in held {
            match kind.as_str() {
                "text" => command = vec!["SET".to_owned(), key.clone(), plain(value)],
                "list" | "set" => {
                    command = vec![if kind == "list" { "RPUSH" } else { "SADD" }.to_owned(), key.clone()];
                    command.extend(value.as_array().expect("an array").iter().map(plain));
                }
                "zset" | "hash" => {
                    command = vec![if kind == "zset" { "ZADD" } else { "HSET" }.to_owned(), key.clone()];
                    for (name, value) in value.as_object().expect("an object") {
                        let is_json = kind == "hash" && JSON_FIELDS.contains(&name.as_str());
                        let text = if is_json { value.to_string() } else { plain(value) };
                        command.extend(if kind == "zset" { [text, name.clone()] } else { [name.clone(), text] });
                    }
                }
                _ => {}
            }
        }
        redis.ask(&command.iter().map(String::as_str).collect::<Vec<_>>()).await;
        if let Some(minutes) = held.get("minutes").and_then(Value::as_i64) {
            redis.ask(&["PEXPIRE", &key, &(minutes * 60_000).to_string()]).await;
        }
    }
}

fn with_span(mut held: Value, ttl_ms: i64) -> Value {
    if ttl_ms >= 0 {
        // Whole minutes, up: the steps of a scene take less.
        held["minutes"] = json!((ttl_ms + 59_999) / 60_000);
    }
    held
}

fn hash(flat: &Reply) -> Map<String, Value> {
    let mut fields = fields(flat);
    for (name, value) in &mut fields {
        if JSON_FIELDS.contains(&name.as_str())
            && let Ok(json) = serde_json::from_str(value.as_str().unwrap_or_default())
        {
            *value = json;
        }
    }
    // A stack is told by its first line: the rest names files, and errors bring their classes along.
    if let Some(Value::Array(stacks)) = fields.get_mut("stacktrace") {
        for stack in stacks {
            let first = stack.as_str().unwrap_or_default().lines().next().unwrap_or_default();
            let reason = first.strip_prefix("UnrecoverableError: ").or_else(|| first.strip_prefix("Error: "));
            *stack = json!(reason.unwrap_or(first));
        }
    }
    fields
}

fn told(stream: &str, event: Reply) -> String {
    let fields = items(event).pop().expect("an event has fields");
    let words = fields.texts();
    assert_eq!(words[0], "event");
    let named = words[2..].chunks(2).map(|pair| format!(" {}={}", pair[0], pair[1]));
    format!("{}: {}{}", stream.trim_end_matches(":events"), words[1], named.collect::<String>())
}

fn fields(flat: &Reply) -> Map<String, Value> {
    flat.texts().chunks(2).map(|pair| (pair[0].to_owned(), json!(pair[1]))).collect()
}

fn items(reply: Reply) -> Vec<Reply> {
    match reply {
        Reply::List(items) => items,
        other => panic!("Redis answered {other:?} instead of a list"),
    }
}

fn text(reply: &Reply) -> &str {
    reply.text().expect("a text")
}

fn plain(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
