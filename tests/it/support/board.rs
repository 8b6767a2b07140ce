//! bull-board over queues, and a headless Chromium that looks at it: `tests/node/board.mjs`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::node::{Peer, Talk};
use super::wait::PATIENCE;

pub struct Board {
    talk: Talk,
    asked: u64,
    _profile: TempDir,
}

impl Board {
    /// Over `queues`, as the peer sees them.
    pub async fn start(peer: &Peer, queues: &[&str]) -> Self {
        let profile = TempDir::with_prefix("onetake-browser-").expect("the temporary folder can be written");
        let launch = peer
            .launch("board.mjs")
            .env("QUEUES", queues.join(","))
            .env("CHROMIUM", chromium().display().to_string())
            .env("PROFILE", profile.path().display().to_string());
        Self { talk: Talk::start(launch).await, asked: 0, _profile: profile }
    }

    /// Opens a page of the board, or of another server by its whole address; these words are to be seen there, sooner or
    /// later. Says where its links lead to, on the board.
    ///
    /// # Panics
    /// If anything goes wrong on the page; so do all others.
    pub async fn open(&mut self, path: &str, words: &[&str]) -> Vec<String> {
        let shown = self.ask(json!({"open": path, "words": words})).await;
        let links = shown["links"].as_array().expect("a page has links, or none");
        links.iter().filter_map(|link| link.as_str().map(str::to_owned)).collect()
    }

    /// Presses the button of a job under which this tip appears, on a page that lists it, and confirms.
    pub async fn press(&mut self, tip: &str, job: &str, page: &str) {
        self.ask(json!({"press": tip, "of": job, "on": page})).await;
    }

    /// Adds a job by the board's form.
    pub async fn add(&mut self, queue: &str, name: &str, data: Value) {
        self.ask(json!({"add": {"name": name, "data": data}, "to": queue})).await;
    }

    /// Opens a tab of the job that is shown, where these words are to be seen.
    pub async fn tab(&mut self, name: &str, words: &[&str]) {
        self.ask(json!({"tab": name, "words": words})).await;
    }

    /// Keeps a picture of the page among the files of the build, and says where.
    pub async fn picture(&mut self, name: &str) -> PathBuf {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
        self.ask(json!({"picture": path})).await;
        path
    }

    async fn ask(&mut self, mut command: Value) -> Value {
        let told = command.to_string();
        self.asked += 1;
        command["ask"] = json!(self.asked);
        self.talk.write(&command);
        let asked = self.asked;
        let answer = self.talk.hear_within(4 * PATIENCE, |line| (line["answer"] == asked).then(|| line.clone())).await;
        assert_eq!(answer["ok"], true, "{told}: {} {}", answer["error"], answer["complaints"]);
        assert_eq!(answer["complaints"], json!([]), "{told}");
        answer["value"].clone()
    }
}

/// The browser of this machine.
fn chromium() -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
        .expect("chromium is installed")
}
