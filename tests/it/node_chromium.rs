//! What people look at: bull-board on top of our queues, and our own page, in a browser that complains about errors.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::board::Board;
use crate::support::node::{BullMq, Observer};
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

/// A job of `mail` fails if it says so and the file `mended` is not there; it lasts until the file `go` is there if it
/// says that.
fn config(folder: &std::path::Path) -> String {
    let (mended, go) = (folder.join("mended"), folder.join("go"));
    let script = format!(
        "job=$(cat); case \"$job\" in \
         *broken*) [ -e {} ] || {{ echo 'no paint left' >&2; exit 1; }} ;; \
         *lasting*) while [ ! -e {} ]; do sleep 0.05; done ;; esac; echo '{{\"made\":true}}'",
        mended.display(),
        go.display()
    );
    let script = Value::from(script);
    format!(
        "[queues.mail]\nprocessor = {{ kind = \"command\", program = \"sh\", args = [\"-c\", {script}], time_limit = \"10m\" }}\n\
         concurrency = 2\n\
         [queues.held]\n"
    )
}

/// Jobs by what became of them, as paths of the board.
struct Jobs {
    completed: String,
    failed: String,
    active: String,
    delayed: String,
    prioritized: String,
    waiting: String,
    parent: String,
    child: String,
    run: String,
}

impl Jobs {
    fn all(&self) -> [&str; 9] {
        let Self { completed, failed, active, delayed, prioritized, waiting, parent, child, run } = self;
        [completed, failed, active, delayed, prioritized, waiting, parent, child, run].map(String::as_str)
    }
}

async fn add(server: &Onetake, queue: &str, data: Value, options: Value) -> String {
    let body = json!({"name": "letter", "data": data, "options": options});
    let job = server.post(&format!("/v1/queues/{queue}/jobs"), body).await.expect(201);
    format!("/queue/{queue}/{}", job["job"]["id"].as_str().expect("a job has an id"))
}

/// What Onetake knows of a job of the board.
async fn job(server: &Onetake, path: &str) -> Option<Value> {
    let (queue, id) = path.trim_start_matches("/queue/").split_once('/').expect("a job's path");
    let answer = server.get(&format!("/v1/queues/{queue}/jobs/{id}")).await;
    (answer.status == 200).then(|| answer.json())
}

async fn until_state(server: &Onetake, path: &str, state: &str) -> Value {
    wait::until(&format!("{path} to be {state}"), PATIENCE, async || {
        job(server, path).await.filter(|job| job["state"] == state)
    })
    .await
}

/// A job in every state, all of them made by our engine but the family, which Node makes.
async fn fill(server: &Onetake, mail: &mut Observer) -> Jobs {
    let completed = add(server, "mail", json!({"n": 1}), json!({})).await;
    let failed = add(server, "mail", json!({"broken": true}), json!({"attempts": 1})).await;
    for (path, state) in [(&completed, "completed"), (&failed, "failed")] {
        until_state(server, path, state).await;
        let id = path.rsplit('/').next().expect("a path");
        mail.call(id, "log", json!(["a line of its log"])).await;
        mail.call(id, "updateProgress", json!([{"percent": 50}])).await;
    }
    let family = json!({"name": "parent", "queueName": "mail", "children": [{"name": "child", "queueName": "held"}]});
    let parent = mail.flow(family).await.as_str().expect("an id").to_owned();
    let every = json!({"every": 600_000, "name": "tick"});
    let set = server.request(reqwest::Method::PUT, "/v1/queues/held/schedulers/often", Some(every)).await;
    let set = set.expect("an answer").json();
    let children = server.get(&format!("/v1/queues/mail/jobs/{parent}/children")).await.expect(200);
    let child =
        children["items"][0]["key"].as_str().and_then(|key| key.rsplit(':').next()).expect("a child").to_owned();
    let active = add(server, "mail", json!({"lasting": true}), json!({})).await;
    until_state(server, &active, "active").await;
    Jobs {
        completed,
        failed,
        active,
        delayed: add(server, "held", json!({"n": 2}), json!({"delay": 600_000})).await,
        prioritized: add(server, "held", json!({"n": 3}), json!({"priority": 2})).await,
        waiting: add(server, "held", json!({"n": 4}), json!({})).await,
        parent: format!("/queue/mail/{parent}"),
        child: format!("/queue/held/{child}"),
        run: format!("/queue/held/{}", set["job"].as_str().unwrap_or_else(|| panic!("{set}"))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bull_board_opens_every_page_and_its_buttons_work() {
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let mut world = World::new(StoreKind::Sqlite).await;
    world.setup = world.setup.config(&config(folder.path()));
    let server = world.server().await;
    let peer = world.peer(BullMq::V6, "mail");
    let mut mail = Observer::start(&peer).await;
    let jobs = fill(&server, &mut mail).await;
    let mut board = Board::start(&peer, &["mail", "held"]).await;

    // Every page that a link leads to, and every job.
    let mut seen = BTreeSet::new();
    let mut next: Vec<String> = jobs.all().map(str::to_owned).into_iter().chain(["/".to_owned()]).collect();
    while let Some(path) = next.pop() {
        if seen.insert(path.clone()) {
            assert!(seen.len() < 200, "{seen:?}");
            next.extend(board.open(&path, &[]).await);
        }
    }
    for state in ["active", "waiting", "waiting-children", "prioritized", "completed", "failed", "delayed"] {
        for queue in ["/", "/queue/mail", "/queue/held"] {
            assert!(seen.contains(&format!("{queue}?status={state}")), "{state} in {queue}: {seen:?}");
        }
    }
    assert!(seen.contains("/job-schedulers"), "{seen:?}");

    // What they show is what there is.
    for (page, words) in [
        ("/queue/mail?status=completed", &["letter"][..]),
        ("/queue/mail?status=failed", &["letter", "no paint left"]),
        ("/queue/mail?status=active", &["letter"]),
        ("/queue/mail?status=waiting-children", &["parent"]),
        ("/queue/held?status=delayed", &["letter"]),
        ("/queue/held?status=prioritized", &["letter"]),
        ("/queue/held?status=waiting", &["letter", "child", "tick"]),
        ("/job-schedulers", &["often"]),
    ] {
        board.open(page, words).await;
    }
    for path in jobs.all() {
        board.open(path, &[]).await;
        for tab in ["Data", "Progress", "Options", "Logs", "Error"] {
            let words = match (tab, *path == jobs.failed) {
                ("Logs", true) => &["a line of its log"][..],
                ("Error", true) => &["no paint left"],
                ("Progress", true) => &["50"],
                ("Data", true) => &["broken"],
                _ => &[],
            };
            board.tab(tab, words).await;
        }
    }
    board.open("/queue/mail?status=failed", &["no paint left"]).await;
    let picture = board.picture("board").await;
    assert!(picture.is_file());

    // Its buttons, and what our engine makes of them.
    std::fs::write(folder.path().join("mended"), "").expect("our folder can be written");
    board.press("Retry", &jobs.failed, "/queue/mail?status=failed").await;
    assert_eq!(until_state(&server, &jobs.failed, "completed").await["result"], json!({"made": true}));
    board.press("Promote", &jobs.delayed, "/queue/held?status=delayed").await;
    until_state(&server, &jobs.delayed, "waiting").await;
    board.press("Clean", &jobs.waiting, "/queue/held?status=waiting").await;
    assert_eq!(job(&server, &jobs.waiting).await, None);
    board.add("/queue/mail", "by hand", json!({"n": 5})).await;
    wait::until_true("the job that was added by hand to be done", PATIENCE, async || {
        let page = server.get("/v1/queues/mail/jobs?state=completed").await.expect(200);
        page["items"]
            .as_array()
            .expect("a page")
            .iter()
            .any(|job| job["name"] == "by hand" && job["data"] == json!({"n": 5}))
    })
    .await;
    std::fs::write(folder.path().join("go"), "").expect("our folder can be written");
    until_state(&server, &jobs.active, "completed").await;

    // Our own page, in the same browser.
    board.open(&format!("{}/docs", server.base_url()), &["Onetake", "The process answers", "VideoWish"]).await;
    board.picture("docs").await;
}
