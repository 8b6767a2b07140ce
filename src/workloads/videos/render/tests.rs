//! Real videos by the real ffmpeg, looked at with ffprobe; and templates that are scripts.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::config::Span;

struct Bench {
    scratch: TempDir,
    folder: TempDir,
    settings: Videos,
    reported: Arc<Mutex<Vec<Value>>>,
}

impl Bench {
    fn new() -> Self {
        let settings = Videos {
            ffmpeg: "ffmpeg".into(),
            font: String::new(),
            width: 320,
            height: 180,
            seconds: 1,
            time_limit: Span(Duration::from_secs(60)),
            max_file_bytes: 50_000_000,
            genders: ["neutral", "boy", "girl"].map(String::from).into(),
            caption: String::new(),
            failure_message: String::new(),
            templates: BTreeMap::new(),
        };
        let (scratch, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        Self { scratch, folder, settings, reported: Arc::default() }
    }

    /// A template of the user's own, as a script of the shell; `$output` is the path to write.
    fn with_template(mut self, script: &str) -> Self {
        let script = format!("output=$(sed 's/.*\"output\":\"\\([^\"]*\\)\".*/\\1/'); {script}");
        let template = Template { program: "sh".into(), args: vec!["-c".into(), script] };
        self.settings.templates.insert("Own".into(), template);
        self
    }

    async fn make(&self, data: Value) -> Result<Value, Failure> {
        let files = FileStore::open(self.folder.path()).unwrap();
        let work = Work {
            id: "1".into(),
            identity: "1@1".into(),
            queue: "video-work".into(),
            name: "video".into(),
            data: serde_json::value::to_raw_value(&data).unwrap(),
            attempt: 1,
            step: 0,
            children: None,
            trace: None,
            scratch: self.scratch.path().to_owned(),
        };
        let reported = self.reported.clone();
        let progress: Progress = Arc::new(move |value| reported.lock().unwrap().push(value));
        let made = Renderer::new(self.settings.clone(), files).process(work, progress).await;
        made.map(|returned| returned.to_value())
    }

    async fn refusal(&self, data: Value) -> String {
        match self.make(data).await {
            Err(Failure::Final { reason }) => reason,
            other => panic!("not final: {other:?}"),
        }
    }

    fn kept(&self, video: &Value) -> PathBuf {
        self.folder.path().join(video["file"].as_str().expect("the result names a file"))
    }
}

fn probe(file: &Path) -> Value {
    let args = "-v error -of json -show_entries stream=codec_name,pix_fmt,width,height:format=duration";
    let probed = Command::new("ffprobe").args(args.split(' ')).arg(file).output().expect("ffprobe is installed");
    serde_json::from_slice(&probed.stdout).unwrap()
}

#[tokio::test]
async fn a_name_becomes_a_video_that_players_take() {
    let bench = Bench::new();
    let video = bench.make(json!({"name": " анна-мария ", "gender": "Girl", "userId": 5})).await.unwrap();
    assert_eq!(
        (&video["name"], &video["gender"], &video["template"]),
        (&json!("Анна-Мария"), &json!("girl"), &json!("default"))
    );
    assert!(video["seconds"].as_f64().unwrap() > 0.0);

    let file = bench.kept(&video);
    assert_eq!(video["bytes"], std::fs::metadata(&file).unwrap().len());
    let probed = probe(&file);
    let picture = json!({"codec_name": "h264", "pix_fmt": "yuv420p", "width": 320, "height": 180});
    assert_eq!(probed["streams"][0], picture);
    assert_eq!(probed["streams"][1]["codec_name"], "aac", "without sound Telegram takes it for an animation");
    let length: f64 = probed["format"]["duration"].as_str().unwrap().parse().unwrap();
    assert!((0.9..=1.2).contains(&length), "{length}");
    let bytes = std::fs::read(&file).unwrap();
    let at = |kind: &[u8]| bytes.windows(4).position(|window| window == kind).unwrap();
    assert!(at(b"moov") < at(b"mdat"), "playback starts before all is there");

    assert_eq!(bench.reported.lock().unwrap().last(), Some(&json!(100)));
}

#[tokio::test]
async fn every_template_draws_any_name() {
    for template in ["stars", "rainbow"] {
        let hostile = "%{pts}':x=0,[a]; \\ $(reboot) ../..";
        let bench = Bench::new();
        let video = bench.make(json!({"name": hostile, "template": template})).await.unwrap();
        assert_eq!(probe(&bench.kept(&video))["streams"][0]["width"], 320);
        assert_eq!(video["gender"], "neutral");
    }
}

#[tokio::test]
async fn what_can_never_be_made_is_final_and_says_why() {
    let bench = Bench::new();
    assert_eq!(bench.refusal(json!({"name": "  "})).await, "a name must not be empty");
    assert!(bench.refusal(json!({"title": "Anna"})).await.contains("name"));
    assert!(bench.refusal(json!({"name": "x".repeat(300)})).await.contains("at most 100"));
    assert_eq!(
        bench.refusal(json!({"name": "Anna", "template": "snow"})).await,
        "unknown template \"snow\"; there are default, stars, rainbow"
    );
    assert_eq!(
        bench.refusal(json!({"name": "Anna", "gender": "cat"})).await,
        "unknown gender \"cat\"; there are neutral, boy, girl"
    );
}

#[tokio::test]
async fn a_missing_tool_is_named() {
    let mut bench = Bench::new();
    bench.settings.ffmpeg = "no-such-ffmpeg".into();
    let failure = bench.make(json!({"name": "Anna"})).await.unwrap_err();
    assert!(failure.reason().contains("install ffmpeg"), "{failure:?}");

    let mut bench = Bench::new();
    bench.settings.font = "/no/such/font.ttf".into();
    let failure = bench.make(json!({"name": "Anna"})).await.unwrap_err();
    assert!(failure.reason().contains("videos.font"), "{failure:?}");
}

#[tokio::test]
async fn ffmpeg_has_the_last_word_in_its_failure() {
    let mut bench = Bench::new();
    (bench.settings.width, bench.settings.height) = (100_000, 100_000);
    let failure = bench.make(json!({"name": "Anna"})).await.unwrap_err();
    assert!(matches!(&failure, Failure::Retry { reason } if reason.starts_with("ffmpeg: exit code ")), "{failure:?}");
    assert!(failure.reason().contains("100000x100000"), "{failure:?}");
}

#[tokio::test]
async fn a_template_of_ones_own_writes_the_file() {
    let bench = Bench::new().with_template("echo 'progress: 50' >&2; printf moving > \"$output\"");
    let video = bench.make(json!({"name": "anna", "template": "own"})).await.unwrap();
    assert_eq!((&video["name"], &video["template"], &video["bytes"]), (&json!("Anna"), &json!("own"), &json!(6)));
    assert_eq!(std::fs::read(bench.kept(&video)).unwrap(), b"moving");
    assert_eq!(*bench.reported.lock().unwrap(), [json!(50)]);
}

#[tokio::test]
async fn a_template_may_name_a_file_of_its_own_and_keeps_it() {
    let theirs = TempDir::new().unwrap();
    let path = theirs.path().join("ready.mp4");
    std::fs::write(&path, "ready").unwrap();
    let bench = Bench::new().with_template(&format!("echo '{{\"file\":\"{}\"}}'", path.display()));
    let video = bench.make(json!({"name": "Anna", "template": "own"})).await.unwrap();
    assert_eq!(std::fs::read(bench.kept(&video)).unwrap(), b"ready");
    assert!(path.exists());
}

#[tokio::test]
async fn a_template_may_know_the_file_id() {
    let bench = Bench::new().with_template("echo '{\"file_id\":\"BAAC\"}'");
    let video = bench.make(json!({"name": "Anna", "template": "own", "gender": "boy"})).await.unwrap();
    assert_eq!((&video["file_id"], &video["gender"]), (&json!("BAAC"), &json!("boy")));
    assert!(video.get("file").is_none());
}

#[tokio::test]
async fn a_template_that_fails_says_why() {
    for (script, part) in [
        (":", "there is no video at"),
        (": > \"$output\"", "empty file"),
        ("echo no snow >&2; exit 2", "exit code 2: no snow"),
        ("echo '[]'", "neither file nor file_id"),
        ("echo '{\"file_id\":\"\"}'", "empty file_id"),
    ] {
        let failure = Bench::new().with_template(script).make(json!({"name": "Anna", "template": "own"})).await;
        assert!(matches!(&failure, Err(Failure::Retry { reason }) if reason.contains(part)), "{failure:?}");
    }
    let mut bench = Bench::new().with_template("printf 1234567 > \"$output\"");
    bench.settings.max_file_bytes = 6;
    assert!(bench.refusal(json!({"name": "Anna", "template": "own"})).await.contains("more than 6"));
}
