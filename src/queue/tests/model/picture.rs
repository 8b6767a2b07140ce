//! Everything that stands in Redis, or should, as lines that can be compared; and what must hold in any case.

use std::collections::BTreeMap;

use super::reference::Reference;
use super::{World, raw};

/// One line for each state with its members in order, one for each job. A lock without a job shows as a line of its own.
const LOOK: &str = r"
local base, lines = 'bull:q:', {}
for _, list in ipairs({ 'wait', 'active' }) do
  lines[#lines + 1] = list .. ': ' .. table.concat(redis.call('LRANGE', base .. list, 0, -1), ' ')
end
for _, set in ipairs({ 'prioritized', 'delayed', 'waiting-children', 'completed', 'failed' }) do
  local found, parts = redis.call('ZRANGE', base .. set, 0, -1, 'WITHSCORES'), {}
  local places = set == 'prioritized' and 4294967296 or set == 'delayed' and 4096 or nil
  for i = 1, #found, 2 do
    local score = tonumber(found[i + 1])
    local shown = string.format('%.0f', score)
    if places then
      shown = string.format('%.0f+%.0f', math.floor(score / places), score % places)
    end
    parts[#parts + 1] = found[i] .. '@' .. shown
  end
  lines[#lines + 1] = set .. ': ' .. table.concat(parts, ' ')
end
local suspects = redis.call('SMEMBERS', base .. 'stalled')
table.sort(suspects)
lines[#lines + 1] = 'suspects: ' .. table.concat(suspects, ' ')
lines[#lines + 1] = 'turns: ' .. (redis.call('GET', base .. 'pc') or '0')
local keys = redis.call('KEYS', base .. '[a-e]*')
table.sort(keys)
for _, key in ipairs(keys) do
  local id = string.sub(key, #base + 1)
  if #id == 1 then
    local job = redis.call('HMGET', key, 'priority', 'delay', 'atm', 'ats', 'stc', 'processedOn', 'finishedOn', 'defa')
    for i = 1, 7 do
      job[i] = job[i] or '0'
    end
    job[8] = job[8] and 'must fail' or ''
    job[9] = redis.call('GET', key .. ':lock') or 'nobody'
    lines[#lines + 1] = 'job ' .. id .. ': ' .. table.concat(job, ' ')
  elseif string.sub(id, 2) == ':lock' and redis.call('EXISTS', string.sub(key, 1, -6)) == 0 then
    lines[#lines + 1] = 'a lock without a job: ' .. key
  end
end
lines[#lines + 1] = 'marker: ' .. table.concat(redis.call('ZRANGE', base .. 'marker', 0, -1, 'WITHSCORES'), ' ')
return lines";

/// What stands in Redis; the last line tells the marker.
pub async fn of_redis(world: &World) -> Vec<String> {
    raw(&world.redis, &["EVAL", LOOK, "0"]).await.texts().expect("lines")
}

/// The same of the reference, without the marker: workers take that away.
pub fn of(queue: &Reference) -> Vec<String> {
    let scored = |set: &std::collections::BTreeSet<(i64, String)>| {
        set.iter().map(|(score, id)| format!("{id}@{score}")).collect::<Vec<_>>().join(" ")
    };
    let prioritized: Vec<_> =
        queue.prioritized.iter().map(|(priority, turn, id)| format!("{id}@{priority}+{turn}")).collect();
    let delayed: Vec<_> = queue.delayed.iter().map(|(due, turn, id)| format!("{id}@{due}+{turn}")).collect();
    let suspects: Vec<_> = queue.suspects.iter().cloned().collect();
    let mut lines = vec![
        format!("wait: {}", queue.wait.join(" ")),
        format!("active: {}", queue.active.join(" ")),
        format!("prioritized: {}", prioritized.join(" ")),
        format!("delayed: {}", delayed.join(" ")),
        format!("waiting-children: {}", scored(&queue.parked)),
        format!("completed: {}", scored(&queue.completed)),
        format!("failed: {}", scored(&queue.failed)),
        format!("suspects: {}", suspects.join(" ")),
        format!("turns: {}", queue.turns),
    ];
    for (id, job) in &queue.jobs {
        let numbers = [i64::from(job.priority), job.delay, job.made.into(), job.started.into(), job.stalled.into()]
            .into_iter()
            .chain([job.processed.unwrap_or(0), job.finished.unwrap_or(0)])
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let fails = if job.must_fail { "must fail" } else { "" };
        let lock = job.lock.as_deref().unwrap_or("nobody");
        lines.push(format!("job {id}: {numbers} {fails} {lock}"));
    }
    lines
}

/// What must hold of a picture of Redis by itself, whatever the reference says.
///
/// # Errors
/// What does not.
pub fn check(lines: &[String], is_paused: bool, concurrency: Option<u32>) -> Result<(), String> {
    let mut states = BTreeMap::<&str, &str>::new();
    let (mut jobs, mut first_due, mut marker) = (Vec::new(), None::<i64>, BTreeMap::new());
    let mut counts = BTreeMap::<&str, usize>::new();
    for line in lines {
        let (what, rest) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        match what {
            "wait" | "active" | "prioritized" | "delayed" | "waiting-children" | "completed" | "failed" => {
                counts.insert(what, words.len());
                for word in words {
                    let (id, score) = word.split_once('@').unwrap_or((word, ""));
                    if let Some(other) = states.insert(id, what) {
                        return Err(format!("{id} is in {other} and in {what}"));
                    }
                    if what == "delayed" {
                        let due = score.split_once('+').and_then(|(due, _)| due.parse().ok()).unwrap_or(0);
                        first_due = first_due.or(Some(due));
                    }
                }
            }
            "suspects" | "turns" => {}
            "marker" => {
                for pair in words.chunks(2) {
                    marker.insert(pair[0], pair[1].parse::<f64>().unwrap_or(f64::MAX));
                }
            }
            _ => match what.strip_prefix("job ") {
                Some(id) => jobs.push((id, !rest.ends_with(" nobody"))),
                None => return Err(line.clone()),
            },
        }
    }
    for (id, is_locked) in &jobs {
        match states.remove(id) {
            None => return Err(format!("{id} is in no state")),
            Some(state) if *is_locked && state != "active" => return Err(format!("{id} is locked in {state}")),
            Some(_) => {}
        }
    }
    if let Some((id, state)) = states.pop_first() {
        return Err(format!("{id} in {state} has no hash"));
    }
    let waiting = counts["wait"] + counts["prioritized"];
    let is_full = concurrency.is_some_and(|limit| counts["active"] >= limit as usize);
    if waiting > 0 && !is_paused && !is_full && !marker.contains_key("0") {
        return Err(format!("{waiting} jobs wait, and nobody is told"));
    }
    if let Some(due) = first_due.filter(|_| !is_paused)
        && marker.get("1").is_none_or(|told| *told > due as f64)
    {
        return Err(format!("a job is due at {due}, and nobody is told"));
    }
    Ok(())
}
