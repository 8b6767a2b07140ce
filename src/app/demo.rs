//! The main job, shown in the terminal: several people ask for one name, one video is rendered, all of them get it.
//!
//! Everything goes through the front doors: HTTP, and jobs in the intake queue as a Node producer adds them.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Settings;
use crate::id::QueueName;
use crate::queue::{Add, Queue, Record, State};
use crate::redis::Redis;

/// Children of the demonstration; the first that has no video yet is taken.
const NAMES: [&str; 12] =
    ["Anna", "Миша", "Zoë", "Анна-Мария", "Leo", "Соня", "Ida", "Тимофей", "Nora", "Лев", "Emil", "Вера"];
const OVER_HTTP: [&str; 3] = ["olga", "ivan", "maria"];
const OVER_BULLMQ: [&str; 2] = ["petr", "lena"];
const PATIENCE: Duration = Duration::from_secs(120);

/// Shows the main job, then how to go on. What goes wrong is said, and the server goes on.
pub async fn show(address: SocketAddr, settings: &Settings) {
    let demo = match Demo::new(address, settings).await {
        Ok(demo) => demo,
        Err(error) => return anstream::eprintln!("The demonstration could not start: {error:#}"),
    };
    if let Err(error) = demo.run().await {
        anstream::eprintln!("\nThe demonstration was cut short: {error:#}");
    }
    demo.next_steps();
}

struct Demo {
    base: String,
    redis_url: String,
    http: reqwest::Client,
    queue: Queue,
    started: Instant,
}

impl Demo {
    async fn new(address: SocketAddr, settings: &Settings) -> anyhow::Result<Self> {
        let redis = Redis::connect(&settings.redis).await?;
        let queue = Queue::new(redis, &settings.redis.prefix, QueueName::parse("video")?);
        let http = crate::delivery::client::builder().build()?;
        let redis_url = settings.redis.url.expose_secret().to_owned();
        Ok(Self { base: format!("http://{address}"), redis_url, http, queue, started: Instant::now() })
    }

    async fn run(&self) -> anyhow::Result<()> {
        let name = self.unmade_name().await?;
        let people = OVER_HTTP.len() + OVER_BULLMQ.len();
        anstream::println!("\nThe main job: {people} people ask for a video for {name}, all at once.\n");

        let asks = OVER_HTTP.map(|user| self.ask(&name, user));
        let (answers, jobs) = futures::future::join(futures::future::try_join_all(asks), self.add_jobs(&name)).await;
        let (answers, jobs) = (answers?, jobs?);
        for (user, (answer, _)) in OVER_HTTP.iter().zip(&answers) {
            self.say(&format!("{user:<6} asked over HTTP          {}", text(answer, "status")));
        }
        for (user, id) in OVER_BULLMQ.iter().zip(&jobs) {
            self.say(&format!("{user:<6} asked as a BullMQ job    job {id} of the queue video"));
        }

        let request = text(&answers[0].0, "id").to_owned();
        let result = self.watch(&request).await?;
        self.say(&format!(
            "one render                      {} ({} kB, {} s)",
            text(&result, "file"),
            result["bytes"].as_i64().unwrap_or(0) / 1000,
            result["seconds"],
        ));
        for user in OVER_HTTP.iter().chain(&OVER_BULLMQ) {
            let video = self.mailbox(user, text(&result, "file")).await?;
            self.say(&format!("{user:<6} got it                   {}{video}", self.base));
        }
        for id in &jobs {
            self.job_ended(id).await?;
            self.say(&format!("job {id} completed with the same result, as its producer's waitUntilFinished() saw"));
        }

        let (later, took) = self.ask(&name, "vera").await?;
        let status = text(&later, "status");
        self.say(&format!("vera asks later, over HTTP      {status} at once, in {} ms: no render", took.as_millis()));
        self.mailbox("vera", text(&result, "file")).await?;
        Ok(())
    }

    async fn unmade_name(&self) -> anyhow::Result<String> {
        for name in NAMES {
            let key = json!([crate::text::normalise(name), "neutral", "default"]).to_string();
            let mut url = reqwest::Url::parse(&self.base)?;
            url.path_segments_mut().ok().context("the address is no base")?.extend(["v1", "dedupe", "video", &key]);
            if self.http.get(url).send().await?.status() == 404 {
                return Ok(name.to_owned());
            }
        }
        Ok(format!("{} {}", NAMES[0], &crate::id::new_token()[..4]))
    }

    async fn ask(&self, name: &str, user: &str) -> anyhow::Result<(Value, Duration)> {
        let started = Instant::now();
        let body = json!({"name": name, "user": user});
        let answer = self.http.post(format!("{}/v1/videos", self.base)).json(&body).send().await?;
        let took = started.elapsed();
        let body: Value = answer.json().await.context("the server's answer is not JSON")?;
        if body.get("status").and_then(Value::as_str).is_none() {
            bail!("the server refused: {body}");
        }
        Ok((body, took))
    }

    /// Adds the jobs with the very keys that `queue.add('video', {...})` of npm `bullmq` writes.
    async fn add_jobs(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let adds = OVER_BULLMQ.iter().map(|user| {
            let data = serde_json::value::to_raw_value(&json!({"name": name, "userId": user}))?;
            Ok(Add::new("video", data))
        });
        let adds = adds.collect::<Result<Vec<_>, serde_json::Error>>()?;
        let added = self.queue.add(adds, Clock::system().now_ms()).await?;
        Ok(added.into_iter().map(|added| added.id).collect())
    }

    /// Follows a request to its end, with a bar where a person looks.
    async fn watch(&self, request: &str) -> anyhow::Result<Value> {
        let bar = if std::io::stdout().is_terminal() { ProgressBar::new(100) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("           rendering {bar:30} {percent} %") {
            bar.set_style(style);
        }
        let started = Instant::now();
        let view = loop {
            let url = format!("{}/v1/requests/{request}", self.base);
            let view: Value = self.http.get(url).send().await?.json().await?;
            bar.set_position(view["progress"].as_f64().unwrap_or(0.0) as u64);
            match text(&view, "state") {
                "ready" => break view,
                "waiting" | "running" if started.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                state => bail!("the request is {state}: {}", view["error"]),
            }
        };
        bar.finish_and_clear();
        Ok(view["result"].clone())
    }

    /// Where a user's mailbox has the video, once it has it.
    async fn mailbox(&self, user: &str, file: &str) -> anyhow::Result<String> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let page: Value = self.http.get(format!("{}/v1/mailbox/{user}", self.base)).send().await?.json().await?;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let video = items.iter().map(|item| text(item, "video")).find(|video| video.ends_with(file));
            if let Some(video) = video {
                return Ok(video.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{user} got no video")
    }

    async fn job_ended(&self, id: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            match self.queue.state(id).await? {
                Some(State::Completed) => return Ok(()),
                Some(State::Failed) => match self.queue.job(id).await? {
                    Some(Record::Job(job)) => bail!("job {id} failed: {}", job.failed_reason.unwrap_or_default()),
                    _ => bail!("job {id} failed"),
                },
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        bail!("job {id} did not end")
    }

    fn say(&self, line: &str) {
        anstream::println!("  {:6.2} s  {line}", self.started.elapsed().as_secs_f64());
    }

    fn next_steps(&self) {
        let Self { base, redis_url, .. } = self;
        anstream::println!(
            r#"
Serving at {base} until Ctrl-C. Next steps, from another terminal:

  # ask over HTTP; what it answers in "links" is where to look
  curl -s {base}/v1/videos -H 'content-type: application/json' -d '{{"name":"Mila","user":"me"}}'
  curl -s {base}/v1/mailbox/me

  # ask from Node, with plain bullmq (npm install bullmq)
  node -e "const {{Queue, QueueEvents}} = require('bullmq');
    const connection = {{url: '{redis_url}'}};
    const queue = new Queue('video', {{connection}}), events = new QueueEvents('video', {{connection}});
    queue.add('video', {{name: 'Mila', userId: 'node'}})
      .then((job) => job.waitUntilFinished(events)).then(console.log)
      .finally(() => Promise.all([queue.close(), events.close()]))"

  # look at it in Redis
  redis-cli -u {redis_url} --no-auth-warning --scan --pattern 'onetake:*'

  API and a page to try it: {base}/docs
"#
        );
    }
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
