//! The run after the present one: made by whoever takes a run, before working on it, so that a slow or failing run holds
//! nothing up. Nobody makes one twice: the script goes by the present run's id.

use serde::Serialize;
use serde_json::{Value, json};

use super::cron::Cron;
use super::{Scheduler, TRIES, whole};
use crate::clock::Millis;
use crate::queue::{Error, Job, JobOptions, Queue, pack, plain, scripts};
use crate::redis::{Error as RedisError, Reply};

/// Schedulers that one call looks at for [`Queue::mend_schedulers`].
const PAGE: u64 = 100;

/// What became of a run that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next run is there.
    Run { id: String, due_ms: Millis },
    /// It was the last one: by the scheduler's limit or end, or because its pattern names no further time.
    Ended,
    /// Somebody else made the next run, or the scheduler was set up anew meanwhile.
    NotPresent,
    /// Nothing schedules it any more.
    NoScheduler,
}

/// A run whose successor is wanted.
struct Run<'a> {
    scheduler: &'a str,
    id: &'a str,
    /// As they are stored.
    options: Value,
    data: &'a str,
    /// When the next one is due, if that is known.
    due_ms: Option<Millis>,
}

/// As the script wants it: an array.
#[derive(Serialize)]
struct Packed<'a> {
    scheduler: &'a str,
    taken: &'a str,
    after: Millis,
    due: Option<Millis>,
    options: &'a str,
    priority: u32,
    lifo: bool,
    data: &'a str,
    is_cron: bool,
}

impl Queue {
    /// Makes the run that follows `job`, which the caller has taken. May be repeated at will, by anybody.
    ///
    /// # Errors
    /// `Scheduler` where the job's own options name no time; `Redis`.
    pub async fn schedule_next(&self, job: &Job, now: Millis) -> Result<Next, Error> {
        let Some(scheduler) = &job.scheduler else { return Ok(Next::NoScheduler) };
        let options = serde_json::from_str(job.options_text.get()).unwrap_or_default();
        self.follow(Run { scheduler, id: &job.id, options, data: job.data.get(), due_ms: None }, now).await
    }

    /// Makes the next run of each scheduler whose present one nobody will take any more although it was not the last: its
    /// worker knew nothing of schedulers, or somebody removed it. Returns the ids of the runs.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn mend_schedulers(&self, now: Millis) -> Result<Vec<String>, Error> {
        let (mut start, mut made) = (0, Vec::new());
        loop {
            let reply = self.run(&scripts::HALTED_SCHEDULERS, vec![plain(start), plain(PAGE)]).await?;
            let Ok([looked_at, halted]) = <[Reply; 2]>::try_from(reply.items()?) else {
                return Err(RedisError::protocol("a page of halted schedulers is a number and a list").into());
            };
            for entry in halted.items()? {
                if let Some(Next::Run { id, .. }) = self.mend(entry, now).await? {
                    made.push(id);
                }
            }
            let looked_at = u64::try_from(looked_at.int()?).unwrap_or(0);
            if looked_at < PAGE {
                return Ok(made);
            }
            start += looked_at;
        }
    }

    /// `None` if nothing can be known about the next run.
    async fn mend(&self, entry: Reply, now: Millis) -> Result<Option<Next>, Error> {
        let Ok([id, due, fields, options, data]) = <[Reply; 5]>::try_from(entry.items()?) else {
            return Err(RedisError::protocol("a halted scheduler is five things").into());
        };
        let scheduler = Scheduler::read(id.text()?, due.int()?, fields.items()?)?;
        let options = options.option(|text| text.text())?.and_then(|text| serde_json::from_str(&text).ok());
        let data = data.option(|text| text.text())?.unwrap_or_else(|| "{}".to_owned());
        let is_gone = options.is_none();
        let options = match options {
            Some(options) => options,
            // With its run went the count.
            None if scheduler.limit.is_some() => return Ok(None),
            None => scheduler.run_options(scheduler.iterations.unwrap_or(0)),
        };
        let run = Run {
            scheduler: &scheduler.id,
            id: &scheduler.run_id(),
            options,
            data: &data,
            // One that is gone before its time is made again.
            due_ms: Some(scheduler.next_ms).filter(|due| is_gone && *due > now),
        };
        match self.follow(run, now).await {
            Ok(next) => Ok(Some(next)),
            Err(Error::Scheduler(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn follow(&self, mut run: Run<'_>, now: Millis) -> Result<Next, Error> {
        if !run.options.is_object() {
            run.options = json!({});
        }
        let repeat = Some(run.options["repeat"].take()).filter(Value::is_object).unwrap_or_else(|| json!({}));
        let count = whole(&repeat["count"]).unwrap_or(1) + 1;
        let end = whole(&repeat["endDate"]);
        if whole(&repeat["limit"]).is_some_and(|limit| count > limit) || end.is_some_and(|end| now > end) {
            return Ok(Next::Ended);
        }
        let cron = match repeat["pattern"].as_str() {
            Some(pattern) => Some(Cron::parse(pattern, repeat["tz"].as_str()).map_err(super::SchedulerError::from)?),
            None => None,
        };
        let known_due = run.due_ms;
        // Nothing at its own time again, however far a clock is behind.
        let own = run.id.rsplit_once(':').and_then(|(_, time)| time.parse().ok()).unwrap_or(0);
        let previous = whole(&run.options["prevMillis"]).unwrap_or(0).max(own);
        let start = whole(&repeat["startDate"]).unwrap_or(0);
        let options = JobOptions::read(&run.options);
        run.options["repeat"] = repeat;
        run.options["repeat"]["count"] = json!(count);
        let text = untimed(run.options).to_string();
        let mut after = now.max(previous).max(start);
        for _ in 0..TRIES {
            let due = match (&cron, known_due) {
                (_, Some(due)) => Some(due),
                (Some(cron), None) => match cron.next_after(after).filter(|due| end.is_none_or(|end| *due <= end)) {
                    Some(due) => Some(due),
                    None => return Ok(Next::Ended),
                },
                (None, None) => None,
            };
            let packed = Packed {
                scheduler: run.scheduler,
                taken: run.id,
                after,
                due,
                options: &text,
                priority: options.priority,
                lifo: options.lifo,
                data: run.data,
                is_cron: cron.is_some(),
            };
            let reply = self.run(&scripts::SCHEDULE_NEXT, vec![plain(now), pack(&packed)]).await?.items()?;
            let code = reply.first().map_or(Ok(-1), Reply::int)?;
            match (code, &reply[..]) {
                (0, [_, id, due]) => return Ok(Next::Run { id: id.text()?, due_ms: due.int()? }),
                (1, _) => return Ok(Next::NotPresent),
                (2, _) => return Ok(Next::NoScheduler),
                // A run of that time has ended, by a clock that was ahead: the one after it.
                (3, [_, due]) => after = due.int()?,
                _ => return Err(RedisError::protocol(format!("no outcome of schedule_next: {code}")).into()),
            }
        }
        Err(super::SchedulerError::RunExists.into())
    }
}

/// Without what each run has of its own.
fn untimed(mut options: Value) -> Value {
    if let Value::Object(fields) = &mut options {
        for name in ["jobId", "timestamp", "delay", "prevMillis"] {
            fields.remove(name);
        }
    }
    options
}

impl Scheduler {
    /// The options of its run number `count`.
    pub(super) fn run_options(&self, count: u64) -> Value {
        let mut options =
            self.options.as_ref().and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or(json!({}));
        let mut repeat = json!({ "count": count });
        for (name, value) in [
            ("every", self.every_ms.map(Value::from)),
            ("pattern", self.pattern.clone().map(Value::from)),
            ("tz", self.tz.clone().map(Value::from)),
            ("limit", self.limit.map(Value::from)),
            ("startDate", self.start_ms.map(Value::from)),
            ("endDate", self.end_ms.map(Value::from)),
        ] {
            if let Some(value) = value {
                repeat[name] = value;
            }
        }
        options["repeat"] = repeat;
        options["repeatJobKey"] = json!(self.id);
        options
    }
}
