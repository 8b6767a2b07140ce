//! A walk: each act done to the queue and to the reference, and both compared.

use std::num::NonZeroU32;

use super::act::{Act, End};
use super::reference::{MAX_STALLED, Reference};
use super::{NOW, World, picture, raw};
use crate::clock::Millis;
use crate::queue::tests::{by, complete, ended, fail, job, known_by, retry};
use crate::queue::{
    Add, Bulk, Counts, Ended, Error, How, JobOptions, Keep, ParkedEnd, ParkedHow, Queue, Record, Retry, Taken,
};

const MARK: &str = "ot:mark";

pub struct Play<'w> {
    world: &'w World,
    reference: Reference,
    now: Millis,
}

impl<'w> Play<'w> {
    /// On an empty server.
    pub async fn begin(world: &'w World) -> Self {
        raw(&world.redis, &["FLUSHALL"]).await;
        Self { world, reference: Reference::default(), now: NOW }
    }

    /// # Errors
    /// What is not as it should be.
    pub async fn step(&mut self, act: &Act) -> Result<(), String> {
        if let Act::Pass { ms } = act {
            self.now += ms;
        }
        if let Act::FinishParked { id } = act
            && !(self.reference.jobs.contains_key(id) && self.reference.state_of(id) == "waiting-children")
        {
            return Ok(()); // nobody ends what is not parked
        }
        let expected = self.reference.act(act, self.now);
        let said = self.act(act).await.map_err(|error| format!("{act:?}: {error}"))?;
        let lines = picture::of_redis(self.world).await;
        self.take_over_order(act, &lines);
        let wrong = |why: String| format!("{act:?}: {why}\n{lines:#?}");
        if said != expected {
            return Err(wrong(format!("said {said}, not {expected}")));
        }
        picture::check(&lines, self.reference.is_paused, self.reference.concurrency).map_err(wrong)?;
        let wanted = picture::of(&self.reference);
        if lines[..lines.len() - 1] != wanted {
            return Err(wrong(format!("there should be {wanted:#?}")));
        }
        let counts = self.queue().counts().await.map_err(|error| error.to_string())?;
        if counts != self.counts() {
            return Err(wrong(format!("counted {counts:?}")));
        }
        Ok(())
    }

    fn queue(&self) -> &Queue {
        &self.world.queue
    }

    fn counts(&self) -> Counts {
        let reference = &self.reference;
        let count = |n: usize| n as u64;
        Counts {
            waiting: count(reference.wait.len()),
            active: count(reference.active.len()),
            delayed: count(reference.delayed.len()),
            prioritized: count(reference.prioritized.len()),
            waiting_children: count(reference.parked.len()),
            completed: count(reference.completed.len()),
            failed: count(reference.failed.len()),
        }
    }

    /// Suspects have no order, so neither have those that were found to be dead: theirs is taken over.
    fn take_over_order(&mut self, act: &Act, lines: &[String]) {
        let Act::Scan = act else { return };
        let there: Vec<String> =
            lines[0].trim_start_matches("wait: ").split(' ').filter(|id| !id.is_empty()).map(str::to_owned).collect();
        let sorted = |ids: &[String]| {
            let mut ids = ids.to_vec();
            ids.sort();
            ids
        };
        if sorted(&there) == sorted(&self.reference.wait) {
            self.reference.wait = there;
        }
    }

    async fn act(&self, act: &Act) -> Result<String, Error> {
        let (queue, now) = (self.queue(), self.now);
        Ok(match act {
            Act::Pass { .. } => "passed".into(),
            Act::Add { id, priority, delay, lifo, forget } => {
                let keep = forget.then_some(Keep::NONE);
                let options = JobOptions {
                    priority: *priority,
                    delay_ms: *delay,
                    lifo: *lifo,
                    remove_on_complete: keep,
                    remove_on_fail: keep,
                    ..JobOptions::default()
                };
                let added = queue.add(vec![Add { id: Some(id.clone()), ..job(options) }], now).await?;
                format!("{:?}", added[0].outcome)
            }
            Act::Take { client, most } => format!("{:?}", ids(&queue.take(&by(client, *most), now).await?)),
            Act::Settle { id, client, end, take } => {
                let ended = Ended { token: client.clone(), ..ended(id, how(*end, now)) };
                let take = take.map(|most| by(client, most));
                let (settled, taken) = queue.settle(&[ended], take.as_ref(), now).await?;
                format!("{:?} {:?}", settled[0], ids(&taken))
            }
            Act::Extend { ids, client } => {
                let held: Vec<_> = ids.iter().map(|id| (id.clone(), client.clone())).collect();
                format!("{:?}", queue.extend(&held, 60_000).await?)
            }
            Act::Expire { id } => {
                raw(&self.world.redis, &["DEL", &queue.keys().lock(id)]).await;
                "expired".into()
            }
            Act::Scan => {
                raw(&self.world.redis, &["DEL", "bull:q:stalled-check"]).await;
                let mut recovered = queue.recover_stalled(now, 60_000, MAX_STALLED).await?;
                recovered.sort();
                format!("{recovered:?}")
            }
            Act::Reclaim { client, held } => format!("{:?}", queue.reclaim(client, &known_by(held, client)).await?),
            Act::Remove { id } => format!("{:?}", queue.remove(id, now).await?),
            Act::Retry { id, from, anew } => {
                format!("{:?}", queue.retry(id, Retry { from: *from, anew: *anew }).await?)
            }
            Act::Promote { id } => format!("{:?}", queue.promote(id).await?),
            Act::ChangeDelay { id, delay } => format!("{:?}", queue.change_delay(id, *delay, now).await?),
            Act::ChangePriority { id, priority, lifo } => {
                format!("{:?}", queue.change_priority(id, *priority, *lifo).await?)
            }
            Act::FinishParked { id } => {
                let end = ParkedEnd {
                    id: id.clone(),
                    timestamp: self.timestamp(id).await,
                    mark_field: MARK.into(),
                    mark_value: "m".into(),
                    how: ParkedHow::Complete { value: super::super::json("1") },
                };
                format!("{:?}", queue.finish_parked(&[end], now).await?[0])
            }
            Act::Pause => {
                queue.pause().await?;
                "paused".into()
            }
            Act::Resume => {
                queue.resume().await?;
                "resumed".into()
            }
            Act::Concurrency { limit } => {
                queue.set_concurrency(limit.and_then(NonZeroU32::new)).await?;
                "set".into()
            }
            Act::Drain { delayed } => self.bulk(Bulk::Drain { delayed: *delayed }).await?,
            Act::Clean { state, grace } => {
                self.bulk(Bulk::Clean { state: *state, grace_ms: *grace, most: None }).await?
            }
            Act::RetryAll { from } => self.bulk(Bulk::Retry { from: *from, until: now }).await?,
            Act::PromoteAll => self.bulk(Bulk::Promote).await?,
        })
    }

    async fn bulk(&self, bulk: Bulk) -> Result<String, Error> {
        Ok(self.queue().run_to_end(&bulk, self.now).await?.to_string())
    }

    async fn timestamp(&self, id: &str) -> Millis {
        let key = self.queue().keys().job(id);
        let text = self.world.redis.hget(&key, "timestamp").await.expect("Redis is up").unwrap_or_default();
        String::from_utf8_lossy(&text).parse().unwrap_or(0)
    }
}

fn ids(taken: &Taken) -> Vec<&str> {
    taken.jobs.iter().map(Record::id).collect()
}

fn how(end: End, now: Millis) -> How {
    match end {
        End::Complete => complete("1"),
        End::Fail => fail("no"),
        End::Retry { delay } => retry(delay),
        End::Delay { from_now } => How::Delay { until_ms: now + from_now },
        End::Wait => How::Wait,
        End::Park => How::Park { fields: vec![(MARK.into(), "m".into())] },
    }
}
