//! The commonest call of settle.lua is made short by lone.lua. Here both ways go from the same states, and everything that
//! they leave and answer must be the same.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use super::*;
use crate::queue::{Error, Keep};

const CASES: u32 = 1_000;

/// Job 1 is held, 2 and 3 wait.
const PLAIN: &[&str] = &[
    "HSET {b}meta opts.maxLenEvents 10000",
    "HSET {b}1 name n data {} opts {\"attempts\":0} timestamp 1 delay 0 priority 0 ats 1 processedOn 5 pb w",
    "HSET {b}2 name n data {} opts {} timestamp 1 delay 0 priority 0",
    "HSET {b}3 name n data {} opts {} timestamp 1 delay 0 priority 0",
    "RPUSH {b}active 1",
    "SET {b}1:lock t",
    "RPUSH {b}wait 3 2",
    "ZADD {b}completed 7 old 8 older",
    "HSET {b}old name n opts {}",
    "RPUSH {b}old:logs line",
    "HSET {b}top name n data {} opts {} timestamp 1 delay 0 priority 0",
    "ZADD {b}waiting-children 3 top",
    "SADD {b}top:dependencies {b}1",
];

/// What may be otherwise.
const CIRCUMSTANCES: &[&str] = &[
    "LTRIM {b}wait 1 1",
    "DEL {b}wait",
    "RPUSH {b}wait 4",
    "RPUSH {b}wait 0:1795169113796",
    "DEL {b}2",
    "SADD {b}wait:not-a-job 2",
    "HSET {b}2 ats 4",
    "HSET {b}2 ats 1e3",
    "HSET {b}2 defa unlucky",
    "HSET {b}2 priority 3 onetake:group g",
    "RPUSH {b}active 9",
    "RPUSH {b}active 1",
    "LREM {b}active 0 1",
    "SET {b}1:lock other",
    "DEL {b}1:lock",
    "DEL {b}1",
    "HDEL {b}1 opts",
    "HSET {b}1 opts {\"removeOnComplete\":true}",
    "HSET {b}1 opts {\"removeOnComplete\":{\"count\":1}}",
    "HSET {b}1 opts {\"removeOnFail\":false}",
    "HSET {b}1 atm 3",
    "HSET {b}1 atm nan",
    "HSET {b}1 atm 99999999999999999999",
    "HSET {b}1 defa unlucky",
    "HSET {b}1 deid d",
    "HSET {b}1 parentKey {b}top parent {\"id\":\"top\",\"queueKey\":\"{q}\"}",
    "SADD {b}1:dependencies {b}9",
    "HSET {b}1:unsuccessful {b}9 failed",
    "SADD {b}stalled 1 2",
    "HSET {b}meta paused 1",
    "HSET {b}meta concurrency 1",
    "HSET {b}meta concurrency 9",
    "HSET {b}meta max 1 duration 1000",
    "HDEL {b}meta opts.maxLenEvents",
    "HSET {b}meta opts.maxLenEvents nan",
    "HSET {b}meta opts.maxLenEvents -1",
    "HSET {b}meta opts.maxLenEvents 0",
    "ZADD {b}delayed 4096 3",
    "ZADD {b}delayed 9e18 5",
    "ZADD {b}prioritized 4294967297 3",
    "SET {b}limiter 1",
    "SET {b}limiter 9007199254740991 PX 600000",
    "SET {b}pc 3",
    "ZADD {g}known 0 g",
    "ZADD {b}completed 9 oldest 10 first",
    "DEL {b}completed",
    "ZADD {b}marker 0 0",
];

const SET_UP: &str = r"
for _, command in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(command, '%S+') do
    words[#words + 1] = word
  end
  redis.call(unpack(words))
end";

/// All keys with all that stands in them, but for what the clock says.
const LOOK: &str = r"
local lines = {}
local function show(key, value)
  lines[#lines + 1] = key .. ' ' .. (redis.call('PTTL', key) > 0 and 'for a while ' or '') .. cjson.encode(value)
end
local keys = redis.call('KEYS', '*' .. ARGV[1] .. '*')
table.sort(keys)
for _, key in ipairs(keys) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'string' then
    show(key, redis.call('GET', key))
  elseif kind == 'list' then
    show(key, redis.call('LRANGE', key, 0, -1))
  elseif kind == 'zset' then
    show(key, redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'))
  elseif kind == 'set' then
    local members = redis.call('SMEMBERS', key)
    table.sort(members)
    show(key, members)
  elseif kind == 'hash' then
    local fields, flat = {}, redis.call('HGETALL', key)
    for i = 1, #flat, 2 do
      fields[#fields + 1] = flat[i] .. '=' .. flat[i + 1]
    end
    table.sort(fields)
    show(key, fields)
  else
    for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
      show(key, entry[2])
    end
  end
end
return lines";

#[derive(Clone, Debug)]
struct Case {
    circumstances: Vec<&'static str>,
    ended: Option<How>,
    take: u32,
    retention: Retention,
    metrics: u32,
}

fn cases() -> impl Strategy<Value = Case> {
    let ended = prop_oneof![
        1 => Just(None),
        8 => Just(Some(complete("{\"made\":[1,2]}"))),
        1 => select(vec![Some(fail("no")), Some(retry(0)), Some(retry(50)), Some(How::Wait)]),
    ];
    let count = prop_oneof![3 => Just(None), 4 => (0_u64..5).prop_map(Some), 1 => Just(Some(1_000))];
    let age_s = prop_oneof![6 => Just(None), 1 => Just(Some(1))];
    let retention = (count, age_s)
        .prop_map(|(count, age_s)| Retention { completed: Keep { count, age_s, limit: None }, ..Retention::default() });
    let metrics = prop_oneof![9 => Just(0), 1 => Just(60)];
    (subsequence(CIRCUMSTANCES, 0..=2), ended, 0_u32..=2, retention, metrics).prop_map(
        |(circumstances, ended, take, retention, metrics)| Case { circumstances, ended, take, retention, metrics },
    )
}

/// What a call answers and leaves, in the queue of this name.
async fn outcome(world: &World, name: &str, case: &Case, fault: Option<Fault>) -> (Result<String, Error>, Vec<String>) {
    let terms = Terms { retention: case.retention, metrics: case.metrics, ..Terms::default() };
    let queue = QueueName::parse(name).expect("a plain name");
    let mut queue = Queue::on_terms(world.redis.clone(), "bull", queue, terms);
    std::sync::Arc::get_mut(&mut queue.0).expect("nobody else has it yet").fault = fault;
    let (base, groups) = (queue.keys().base().to_owned(), queue.keys().groups().to_owned());
    let own = |command: &str| {
        let command = command.replace("{b}", &base).replace("{g}", &groups);
        command.replace("{q}", base.trim_end_matches(':'))
    };
    let commands: Vec<String> = PLAIN.iter().chain(&case.circumstances).map(|command| own(command)).collect();
    let words: Vec<&str> = ["EVAL", SET_UP, "0"].into_iter().chain(commands.iter().map(String::as_str)).collect();
    world.run(&words).await;
    let attempts: Vec<Ended> = case.ended.iter().map(|how| ended("1", how.clone())).collect();
    let take = (case.take > 0).then(|| by("next", case.take));
    let answer = queue.settle(&attempts, take.as_ref(), NOW).await;
    let left = raw(&world.redis, &["EVAL", LOOK, "0", &base]).await.texts().expect("lines");
    let anonymous = |text: String| text.replace(&base, "bull:queue:").replace(base.trim_end_matches(':'), "bull:queue");
    let told = answer.map(|(settlements, mut taken)| {
        taken.rate_limited_ms = taken.rate_limited_ms.map(|_| 1); // milliseconds pass between the two
        anonymous(format!("{settlements:?} {taken:?}"))
    });
    (told, left.into_iter().map(anonymous).collect())
}

/// Compares; how many of the cases went the short way.
fn compare(fault: Option<Fault>) -> Result<u32, String> {
    let runtime = Runtime::new().expect("threads can be started");
    let world = runtime.block_on(World::new());
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let short_ones = std::cell::Cell::new(0);
    let compared = runner.run(&cases(), |case| {
        runtime.block_on(async {
            world.run(&["FLUSHALL"]).await;
            let (answer, left) = outcome(&world, "short", &case, fault).await;
            let (long_answer, long_left) = outcome(&world, "whole", &case, Some(Fault::ALWAYS_LONG)).await;
            prop_assert_eq!(left, long_left);
            prop_assert_eq!(answer.map_err(|error| error.to_string()), long_answer.map_err(|error| error.to_string()));
            let (answer, _) = outcome(&world, "told", &case, Some(Fault::NEVER_LONG)).await;
            short_ones.set(short_ones.get() + u32::from(answer.is_ok()));
            Ok::<(), TestCaseError>(())
        })
    });
    compared.map(|()| short_ones.get()).map_err(|error| error.to_string())
}

#[test]
fn a_lone_job_is_settled_as_any_other() {
    let short_ones = compare(None).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!((CASES / 10..CASES * 9 / 10).contains(&short_ones), "{short_ones} of {CASES} went the short way");
}

/// Both ways from the same states differ when the short one has a fault.
mod noticed {
    use super::*;

    macro_rules! noticed {
        ($($name:ident: $place:literal => $by:literal;)+) => {
            $(#[test]
            fn $name() {
                let fault = Fault { verb: Some("queue.settle"), place: $place, by: $by };
                assert!(compare(Some(fault)).is_err(), "nothing noticed {fault:?}");
            })+
        };
    }

    noticed!(
        a_lock_that_is_not_looked_at: "call('MGET', lock_key)[1] ~= attempt[2]" => "false";
        a_child_that_is_not_looked_at: "key .. ':dependencies', key .. ':unsuccessful') > 0" => "key .. ':unsuccessful') > 0";
        a_parent_that_is_not_told: "(job[3] or job[4] or job[5])" => "(job[3] or job[5])";
        an_own_retention_that_is_not_read: "not string.find(job[1], 'removeOn', 1, true)" => "true";
        one_too_many_that_is_kept: "call('ZREVRANGE', completed, keep, keep)[1]" => "call('ZREVRANGE', completed, keep + 1, keep + 1)[1]";
        a_pause_that_is_not_seen: "if settings[1] or settings[2]" => "if settings[2]";
        a_strange_counter_that_is_believed: "is_count(text) and string.format" => "string.format";
        a_ghost_that_is_taken: "if #fields == 0 or not starts" => "if not starts";
        others_that_are_not_woken: "if waiting[2] then\n      call('ZADD'" => "if false then\n      call('ZADD'";
        a_drain_that_is_not_told: "call('LLEN', active) == 0 and" => "false and";
    );
}
