//! Runs a server from start to stop. The only place that spawns long-lived tasks: each has a name, a stop and a join.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::parts::Parts;
use crate::access::Access;
use crate::config::Settings;
use crate::dedupe::What;
use crate::http;
use crate::runner::Consumer;
use crate::telemetry;

/// How often measured times are added to their histograms.
const SUM_UP_EVERY: Duration = Duration::from_secs(5);

/// Runs a server until it is told to stop.
///
/// # Errors
/// Why it could not start, or what ended it.
pub async fn serve(settings: Settings) -> anyhow::Result<()> {
    run(settings, |_| std::future::ready(())).await
}

/// As [`serve`]; `started` runs beside the server once it answers.
pub(super) async fn run<F, S>(settings: Settings, started: S) -> anyhow::Result<()>
where
    S: FnOnce(SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let metrics = telemetry::measure().context("cannot record metrics")?;
    let mut parts = Parts::build(settings).await?;
    let role = parts.settings.role;
    let stop = CancellationToken::new();
    let mut tasks: JoinSet<&'static str> = JoinSet::new();
    spawn(&mut tasks, "metrics", sum_up(metrics.clone(), stop.clone()));

    let (dropped, to_publish) = tokio::sync::mpsc::channel(1);
    drop(dropped);
    let to_publish = std::mem::replace(&mut parts.to_publish, to_publish);
    let publishing =
        tokio::spawn(parts.publisher.clone().drive(to_publish, parts.flights.clone(), parts.dedupe.clone()));
    // Both go on until all others have come to an end: what is in hand is held, and what is told is published.
    let lease = &parts.settings.runner;
    let mut renewing =
        tokio::spawn(parts.holds.clone().keep_renewing(parts.flights.clone(), lease.lease.0, lease.renew.0));
    spawn(&mut tasks, "wakes", pass_wakes(&parts, stop.clone()));
    spawn(&mut tasks, "locks", parts.locks.clone().keep(stop.clone()));
    for tender in parts.group_tenders() {
        spawn(&mut tasks, "groups", tender.run(stop.clone()));
    }
    if role.runs_jobs() {
        spawn(&mut tasks, "reconciler", parts.reconciler().run(stop.clone()));
        spawn(&mut tasks, "sagas", parts.sagas.clone().run(stop.clone()));
        spawn(&mut tasks, "orders", parts.workloads.orders.clone().run(stop.clone()));
        let consumers = parts.consumers()?;
        parts.controls = consumers.iter().map(Consumer::control).collect();
        for consumer in consumers {
            spawn(&mut tasks, "consumer", consumer.run(stop.clone()));
        }
        for upkeep in parts.upkeeps() {
            spawn(&mut tasks, "upkeep", upkeep.run(stop.clone()));
        }
        spawn(&mut tasks, "cancellations", hear_cancelled(&parts, stop.clone()));
    }

    let bind = &parts.settings.http.bind;
    let listener = match TcpListener::bind(bind).await {
        Ok(listener) => Some(listener),
        // Beside a server on the same machine, which has the address: the jobs do not need one.
        Err(error) if !role.serves_http() => {
            warn!(%error, "running jobs, but cannot listen on {bind}: nobody sees this runner's health and metrics");
            None
        }
        Err(error) => return Err(error).with_context(|| format!("cannot listen on {bind}")),
    };
    if let Some(listener) = listener {
        let address = listener.local_addr().context("the listener has no address")?;
        let state = http::Server::new(http_parts(&parts, address, metrics)?);
        let serving = http::serve(listener, state, stop.clone());
        spawn(&mut tasks, "http", async move {
            if let Err(error) = serving.await {
                error!(%error, "the listener broke");
            }
        });
        if role.serves_http() {
            info!("listening on http://{address}");
        } else {
            info!("running jobs; listening on http://{address} for health checks and metrics alone");
        }
        tokio::spawn(started(address));
    }

    let failed = tokio::select! {
        // Dropped: the signal handlers only.
        () = told_to_stop() => None,
        // A task that ends by itself takes the server down: half a server is worse than none.
        Some(ended) = tasks.join_next() => Some(ended),
        ended = &mut renewing => Some(ended.map(|()| "leases")),
    };
    if let Some(ended) = &failed {
        error!(task = ?ended, "a part of the server ended; stopping");
    }
    info!("stopping: finishing what is in hand");
    stop.cancel();
    let patience =
        parts.settings.runner.shutdown_grace.0 + parts.settings.http.shutdown_grace.0 + Duration::from_secs(10);
    let drained = tokio::select! {
        drained = tokio::time::timeout(patience, async { while tasks.join_next().await.is_some() {} }) => drained.is_ok(),
        () = told_to_stop() => false,
    };
    if !drained {
        warn!("stopped without waiting any longer; leases will end");
    }
    publishing.abort();
    renewing.abort();
    parts.store.close().await;
    match failed {
        Some(ended) => Err(anyhow::anyhow!("a part of the server ended: {ended:?}")),
        None => Ok(()),
    }
}

fn http_parts(parts: &Parts, address: SocketAddr, metrics: PrometheusHandle) -> anyhow::Result<http::Parts> {
    let http = &parts.settings.http;
    let admin_key = http.admin_key.expose_secret();
    Ok(http::Parts {
        intake: parts.intake.clone(),
        locks: parts.locks.clone(),
        settings: parts.settings.clone(),
        access: Access::new(parts.store.clone(), admin_key, address.ip().is_loopback()),
        redis: parts.redis.clone(),
        files: parts.settings.files_dir.clone(),
        bot: parts.chats.as_ref().map(|chats| chats.telegram.bot_id().to_owned()),
        webhook: parts.webhook.clone(),
        workloads: parts.workloads.clone(),
        metrics: Some(metrics),
        sagas: parts.sagas.clone(),
        controls: parts.controls.clone(),
    })
}

fn spawn(tasks: &mut JoinSet<&'static str>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        task.await;
        name
    });
}

/// Each measured time is kept until it is added to its histogram: without this, and without anybody who reads the metrics,
/// they would pile up for as long as the server runs.
async fn sum_up(metrics: PrometheusHandle, stop: CancellationToken) {
    let sum_up = async {
        loop {
            tokio::time::sleep(SUM_UP_EVERY).await;
            metrics.run_upkeep();
        }
    };
    // Dropped: what is added up at the next reading as well.
    stop.run_until_cancelled(sum_up).await;
}

async fn told_to_stop() {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

/// Stops jobs here that were cancelled by any server.
fn hear_cancelled(parts: &Parts, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
    let (controls, redis, settings) = (parts.controls.clone(), parts.redis.clone(), parts.settings.clone());
    async move {
        let hear = async {
            loop {
                if let Err(error) = controls.hear_cancelled(&redis, &settings.redis.namespace).await {
                    tracing::debug!(%error, "cannot listen for cancelled jobs; trying again");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        // Dropped: hints only.
        stop.run_until_cancelled(hear).await;
    }
}

/// Passes wake-ups from all servers on to this one's waiters, and stops runs here that were cancelled elsewhere.
fn pass_wakes(parts: &Parts, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
    let (dedupe, wakes, intake, holds) =
        (parts.dedupe.clone(), parts.wakes.clone(), parts.intake.clone(), parts.holds.clone());
    async move {
        let pass = async {
            loop {
                let passed = dedupe.pass_wakes(&wakes, |flight, what| {
                    intake.forget_hot(flight, what);
                    if matches!(what, What::Cancelled | What::Released) {
                        holds.look_at(flight);
                    }
                });
                if let Err(error) = passed.await {
                    tracing::debug!(%error, "cannot listen for wake-ups; trying again");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        // Dropped: hints only.
        stop.run_until_cancelled(pass).await;
    }
}
