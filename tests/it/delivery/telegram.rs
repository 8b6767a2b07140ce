//! Telegram chats: one upload for all, the pace, and what becomes of each way in which a sending can end.

use std::time::{Duration, Instant};

use futures::future::join_all;
use onetake::clock::Clock;
use onetake::queue::{Add, State};
use serde_json::{Value, json};

use super::{cli, history, until_state};
use crate::crash::intake;
use crate::support::http::Api;
use crate::support::making::{Making, until_settled};
use crate::support::on_each_store;
use crate::support::server::{Onetake, Setup};
use crate::support::store::StoreKind;
use crate::support::telegram::{Answer, BOT_ID, Call, FakeTelegram, Sent, TOKEN};
use crate::support::wait;
use crate::support::world::World;

on_each_store!(
    a_video_is_uploaded_once_for_all,
    a_blocked_uploader_passes_the_upload_on,
    a_refused_file_id_is_uploaded_again,
    a_chat_is_left_alone_for_as_long_as_telegram_says,
    a_chat_that_is_gone_ends_its_own_delivery_alone,
    an_unclear_end_is_sent_again_twice_and_then_dead,
    a_hang_before_the_body_is_not_ambiguous,
    a_refusal_is_final_until_somebody_replays_it,
    a_group_that_moved_gets_its_video_in_its_new_chat,
    a_failure_is_told_in_the_configured_words,
    two_videos_to_one_chat_keep_their_distance,
    an_imported_video_is_sent_without_a_run_or_an_upload,
    a_node_job_names_user_and_chat_by_numbers,
    a_kill_between_sending_and_marking_sends_again,
    a_file_outside_the_folder_is_never_sent,
);

async fn a_video_is_uploaded_once_for_all(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = stage.server().await;
    let ids = join_all((1..=5).map(|chat| ask(&server, "Anna", chat))).await;
    join_all(ids.iter().map(|id| until_state(&server, id, "delivered"))).await;
    let sixth = ask(&server, "anna", 6).await;
    until_state(&server, &sixth, "delivered").await;
    assert_eq!(server.stop().await.code(), Some(0));

    let server = stage.server().await;
    let seventh = ask(&server, "ANNA", 7).await;
    let view = until_state(&server, &seventh, "delivered").await;
    assert_eq!(view["target"], json!({"chat": "7"}));
    assert_eq!(view["receipt"], "7", "the id of the message in Telegram");

    let calls = stage.telegram.calls();
    assert_eq!(calls.len(), 7);
    let bytes = usize::try_from(stage.bytes).unwrap();
    assert_eq!(calls[0].video, Some(Sent::Upload { bytes }));
    assert!(calls[1..].iter().all(|call| call.video == Some(Sent::FileId("file-1".into()))), "{calls:?}");
    assert!(calls.iter().all(|call| call.text == "A video for Anna"), "{calls:?}");
    assert_eq!(stage.making.runs().len(), 1);
    let kept = stage.world.store.texts("select bot || ' ' || file_id from telegram_files").await;
    assert_eq!(kept, [format!("{BOT_ID} file-1")]);
    assert_eq!(stage.world.store.texts("select file_id from generated_videos").await, ["file-1"]);
}

async fn a_blocked_uploader_passes_the_upload_on(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = stage.server().await;
    for chat in 1..=4 {
        stage.telegram.script(&chat.to_string(), [Answer::Blocked]);
    }
    let ids = join_all((1..=5).map(|chat| ask(&server, "Anna", chat))).await;
    for id in &ids[..4] {
        until_state(&server, id, "suppressed").await;
    }
    until_state(&server, &ids[4], "delivered").await;
    let sent: Vec<Call> = stage.telegram.calls().into_iter().filter(|call| call.answer == Answer::Ok).collect();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].is_upload());
    assert_eq!(stage.making.runs().len(), 1);
}

async fn a_refused_file_id_is_uploaded_again(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = stage.server().await;
    stage.deliver(&server, "Anna", 1).await;
    stage.telegram.forget_file_ids();
    let view = stage.deliver(&server, "Anna", 2).await;
    assert_eq!(history(&view), ["retry", "delivered"]);
    stage.deliver(&server, "Anna", 3).await;

    let answers: Vec<_> = stage.telegram.calls().into_iter().map(|call| (call.is_upload(), call.answer)).collect();
    let (by_id, upload) = (false, true);
    assert_eq!(answers, [(upload, Answer::Ok), (by_id, Answer::BadFileId), (upload, Answer::Ok), (by_id, Answer::Ok)]);
}

async fn a_chat_is_left_alone_for_as_long_as_telegram_says(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = stage.server().await;
    stage.deliver(&server, "Anna", 9).await;
    stage.deliver(&server, "Ivan", 9).await;
    stage.telegram.script("1", [Answer::TooMany { retry_after: 4 }]);
    let first = ask(&server, "Anna", 1).await;
    stage.telegram.wait_for(3).await;
    // Another video for the same chat waits too; other chats do not.
    let second = ask(&server, "Ivan", 1).await;
    stage.deliver(&server, "Anna", 2).await;
    let view = until_state(&server, &first, "delivered").await;
    assert_eq!(view["attempts"], 1, "being told to wait is no failed attempt");
    assert_eq!(history(&view), ["retry", "delivered"]);
    until_state(&server, &second, "delivered").await;

    let calls = stage.calls_to(1);
    assert_eq!(calls.len(), 3);
    for call in &calls[1..] {
        let after = call.at - calls[0].at;
        assert!(after >= Duration::from_secs(4), "called again after {after:?}");
    }
    assert!(stage.calls_to(2)[0].at < calls[1].at);
}

async fn a_chat_that_is_gone_ends_its_own_delivery_alone(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = stage.server().await;
    stage.telegram.script("1", [Answer::Blocked]);
    stage.telegram.script("2", [Answer::ChatNotFound]);
    let ids = join_all((1..=4).map(|chat| ask(&server, "Anna", chat))).await;
    for (id, words) in ids.iter().zip(["bot was blocked", "chat not found"]) {
        let view = until_state(&server, id, "suppressed").await;
        assert!(view["error"].as_str().unwrap().contains(words), "{view}");
        assert_eq!(history(&view), ["suppressed"]);
    }
    for id in &ids[2..] {
        until_state(&server, id, "delivered").await;
    }
    until_settled(&stage.world.store).await;
    assert_eq!(stage.telegram.calls().len(), 4);
    let list = server.get("/v1/deliveries?state=suppressed&channel=telegram").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
}

async fn an_unclear_end_is_sent_again_twice_and_then_dead(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = Onetake::start(&stage.setup.clone().env("ONETAKE_DELIVERY__TIME_LIMIT", "2s")).await;
    stage.deliver(&server, "Anna", 9).await;
    let unclear = [Answer::ServerError, Answer::HangAfterBody, Answer::ResetAfterBody, Answer::Garbled];
    for (chat, answer) in (1..).zip(&unclear) {
        stage.telegram.script(&chat.to_string(), vec![answer.clone(); 3]);
    }
    let ids = join_all((1..=4).map(|chat| ask(&server, "Anna", chat))).await;
    for (chat, id) in (1..).zip(&ids) {
        let view = until_state(&server, id, "dead").await;
        assert!(view["error"].as_str().unwrap().starts_with("ambiguous: "), "{view}");
        assert_eq!(history(&view), ["ambiguous", "ambiguous", "dead"]);
        assert_eq!(stage.calls_to(chat).len(), 3);
    }
    replay(&server, &ids[0]).await;
    let view = until_state(&server, &ids[0], "delivered").await;
    assert_eq!(history(&view), ["ambiguous", "ambiguous", "dead", "replayed", "delivered"]);
}

async fn a_hang_before_the_body_is_not_ambiguous(kind: StoreKind) {
    // Beyond what the sockets buffer.
    let stage = Stage::with_video_of(kind, 16_000_000).await;
    let server = Onetake::start(&stage.setup.clone().env("ONETAKE_DELIVERY__TIME_LIMIT", "6s")).await;
    stage.telegram.script("1", [Answer::HangBeforeBody]);
    let view = stage.deliver(&server, "Anna", 1).await;
    assert_eq!(history(&view), ["retry", "delivered"]);
    assert_eq!(view["attempts"], 2);
    let uploads: Vec<_> = stage.telegram.calls().into_iter().map(|call| call.video).collect();
    assert_eq!(uploads, [Some(Sent::Upload { bytes: 0 }), Some(Sent::Upload { bytes: 16_000_000 })]);
}

async fn a_refusal_is_final_until_somebody_replays_it(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = stage.server().await;
    let refusal = Answer::Refused { code: 400, description: "Bad Request: the wind is wrong" };
    for chat in ["1", "2"] {
        stage.telegram.script(chat, [refusal.clone()]);
    }
    let ids = join_all((1..=3).map(|chat| ask(&server, "Anna", chat))).await;
    until_state(&server, &ids[2], "delivered").await;
    for id in &ids[..2] {
        let view = until_state(&server, id, "dead").await;
        assert_eq!(view["error"], "telegram answered 400: Bad Request: the wind is wrong");
        assert_eq!(history(&view), ["dead"]);
    }
    let request = server.get(&format!("/v1/requests/{}", ids[0])).await.expect(200);
    assert_eq!((&request["state"], &request["delivery"]["state"]), (&json!("ready"), &json!("dead")));

    replay(&server, &ids[0]).await;
    cli(&server, &["delivery", "replay", &ids[1]]).await;
    for id in &ids[..2] {
        let view = until_state(&server, id, "delivered").await;
        assert_eq!(history(&view), ["dead", "replayed", "delivered"]);
    }
    let again = server.post(&format!("/v1/deliveries/{}/replay", ids[0]), json!({})).await;
    assert_eq!(again.expect(409)["code"], "delivery_not_dead");
    let shown: Value = serde_json::from_str(&cli(&server, &["delivery", "show", &ids[1], "--json"]).await).unwrap();
    assert_eq!(history(&shown), ["dead", "replayed", "delivered"]);
    assert_eq!(stage.telegram.calls().len(), 5);
}

async fn a_group_that_moved_gets_its_video_in_its_new_chat(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = stage.server().await;
    stage.telegram.script("-77", [Answer::MovedTo(-1_001_234_567_890)]);
    let view = stage.deliver(&server, "Anna", -77).await;
    assert_eq!(history(&view), ["delivered"]);
    let chats: Vec<_> = stage.telegram.calls().into_iter().map(|call| call.chat).collect();
    assert_eq!(chats, ["-77", "-1001234567890"]);
}

async fn a_failure_is_told_in_the_configured_words(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let config = stage.making.config("exit 65", "");
    let server = Onetake::start(&stage.setup.clone().config(&config)).await;
    stage.deliver(&server, "anna maria", 1).await;
    let calls = stage.telegram.calls();
    assert_eq!((calls.len(), calls[0].method.as_str(), &calls[0].video), (1, "sendMessage", &None));
    assert_eq!(calls[0].text, "Sorry, the video for Anna Maria could not be made. Please ask again.");
}

async fn two_videos_to_one_chat_keep_their_distance(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = Onetake::start(&stage.setup.clone().env("ONETAKE_TELEGRAM__CHAT_INTERVAL", "1s")).await;
    let ids = join_all(["Anna", "Ivan", "Olga"].map(|name| ask(&server, name, 1))).await;
    join_all(ids.iter().map(|id| until_state(&server, id, "delivered"))).await;
    let calls = stage.telegram.calls();
    assert_eq!(calls.len(), 3);
    for pair in calls.windows(2) {
        let apart = pair[1].at - pair[0].at;
        // The moments are a second apart; how long a busy machine takes from there to the call differs.
        assert!(apart > Duration::from_millis(700), "{apart:?} apart");
    }
}

async fn an_imported_video_is_sent_without_a_run_or_an_upload(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = stage.server().await;
    for file_id in ["HTTP", "CLI"] {
        stage.telegram.know_file_id(file_id);
    }
    let body = json!({"items": [{"name": "Anna", "gender": "girl", "file_id": "HTTP"}]});
    assert_eq!(server.post("/v1/videos/import", body).await.expect(200), json!({"imported": 1, "skipped": 0}));
    let file = stage.making.file("videos.csv");
    std::fs::write(&file, "name,gender,file_id\nAnna,girl,OTHER\nIvan,boy,CLI\n").unwrap();
    let said = cli(&server, &["video", "import", file.to_str().unwrap()]).await;
    assert!(said.contains("imported 1, skipped 1"), "{said}");

    for (chat, (name, gender)) in (1..).zip([(" ANNA ", "girl"), ("ivan", "Boy")]) {
        let body = json!({"name": name, "gender": gender, "user": chat, "chat": chat});
        let answer = server.post("/v1/videos", body).await.expect(200);
        assert_eq!(answer["status"], "ready");
        until_state(&server, answer["id"].as_str().unwrap(), "delivered").await;
    }
    let sent: Vec<_> = stage.telegram.calls().into_iter().map(|call| (call.video, call.text)).collect();
    let by_id = |id: &str| Some(Sent::FileId(id.into()));
    assert_eq!(sent, [(by_id("HTTP"), "A video for Anna".into()), (by_id("CLI"), "A video for Ivan".into())]);
    assert!(stage.making.runs().is_empty());
}

async fn a_node_job_names_user_and_chat_by_numbers(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let server = stage.server().await;
    let queue = intake(&stage.world).await;
    let data = json!({"name": "Anna", "gender": "girl", "userId": 7, "chatId": -1_001_234_567_890_i64});
    let add = Add::new("video", serde_json::value::to_raw_value(&data).unwrap());
    let job = queue.add(vec![add], Clock::system().now_ms()).await.unwrap().remove(0).id;
    let calls = stage.telegram.wait_for(1).await;
    assert_eq!(calls[0].chat, "-1001234567890");
    wait::until_true("the Node job completed", wait::PATIENCE, async || {
        matches!(queue.state(&job).await, Ok(Some(State::Completed)))
    })
    .await;
    until_settled(&stage.world.store).await;
    let requests = server.get("/v1/requests?user=7").await.expect(200);
    assert_eq!(requests["items"][0]["delivery"]["channel"], "telegram");
    assert_eq!(stage.telegram.calls().len(), 1);
}

async fn a_kill_between_sending_and_marking_sends_again(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let doomed = stage.setup.clone().fault("deliver.sent");
    let server = Onetake::start(&doomed).await;
    let id = ask(&server, "Anna", 1).await;
    server.wait_exit().await;
    assert_eq!(stage.telegram.calls().len(), 1);
    let server = stage.server().await;
    let view = until_state(&server, &id, "delivered").await;
    assert_eq!(history(&view), ["ambiguous", "delivered"]);
    assert_eq!(stage.telegram.calls().len(), 2);
    assert_eq!(stage.making.runs().len(), 1);
    server.stop().await;

    // However often its senders die, it is sent again twice at most.
    let server = Onetake::start(&doomed).await;
    let id = ask(&server, "Anna", 2).await;
    server.wait_exit().await;
    for _ in 0..2 {
        Onetake::spawn(&doomed).wait_exit(wait::PATIENCE).await;
    }
    let server = stage.server().await;
    let view = until_state(&server, &id, "dead").await;
    assert_eq!(history(&view), ["ambiguous", "ambiguous", "ambiguous", "dead"]);
    assert_eq!(stage.calls_to(2).len(), 3);
}

async fn a_file_outside_the_folder_is_never_sent(kind: StoreKind) {
    let stage = Stage::new(kind).await;
    let secret = stage.making.file("secret.mp4");
    std::fs::write(&secret, "of this machine").unwrap();
    // A result that its asker has written.
    let config = "[queues.echo]\nprocessor = { kind = \"builtin\", name = \"echo\" }\n";
    let server = Onetake::start(&stage.setup.clone().config(config)).await;
    for (chat, file) in (1..).zip([secret.display().to_string(), "../onetake.db".into()]) {
        let body = json!({"data": {"file": file}, "dedupe": {"key": file},
            "subscriber": {"id": "thief", "deliver": "telegram", "chat": chat}});
        let id = server.post("/v1/queues/echo/jobs", body).await.expect(202)["id"].as_str().unwrap().to_owned();
        let view = until_state(&server, &id, "dead").await;
        assert!(view["error"].as_str().unwrap().contains("folder of files"), "{view}");
    }
    assert!(stage.telegram.calls().is_empty());
    assert!(secret.exists());
}

mod shared {
    mod on_postgres {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn two_servers_share_the_pace_of_one_bot() {
            super::super::two_servers_share_the_pace_of_one_bot().await;
        }
    }
}

async fn two_servers_share_the_pace_of_one_bot() {
    const PER_SECOND: usize = 20;
    let stage = Stage::new(StoreKind::Postgres).await;
    let setup = stage.setup.clone().env("ONETAKE_TELEGRAM__MESSAGES_PER_SECOND", PER_SECOND.to_string());
    // Their clocks differ, as those of machines do.
    let ahead = setup.clone().env("ONETAKE_CLOCK_SKEW_MS", "20000");
    let (one, other) = tokio::join!(Onetake::start(&setup), Onetake::start(&ahead));
    stage.telegram.know_file_id("F");
    let body = json!({"items": [{"name": "Anna", "file_id": "F"}]});
    one.post("/v1/videos/import", body).await.expect(200);

    let begun = Instant::now();
    let servers = [&one, &other];
    join_all((0..60).map(|chat| ask(servers[chat as usize % 2], "Anna", chat))).await;
    let calls = stage.telegram.wait_for(60).await;
    until_settled(&stage.world.store).await;
    assert_eq!(stage.telegram.calls().len(), 60);
    assert!(begun.elapsed() < Duration::from_secs(12), "the clock that is ahead holds nobody up");
    for (first, call) in calls.iter().enumerate() {
        let in_window = calls[first..].iter().take_while(|c| c.at - call.at < Duration::from_secs(1)).count();
        // Moments are exact, the way from there to the call is not: a machine that stalls catches up.
        assert!(in_window < 2 * PER_SECOND, "{in_window} calls within a second");
    }
    let all = calls[59].at - calls[0].at;
    assert!(all >= Duration::from_millis(2600), "60 calls at 20 a second took {all:?}");
}

mod ffmpeg {
    use super::{Onetake, Sent, Stage, StoreKind};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_rendered_video_is_uploaded() {
        let stage = Stage::new(StoreKind::Sqlite).await;
        // The queue as it is built in.
        let server = Onetake::start(&stage.setup.clone().config("")).await;
        stage.deliver(&server, "Anna", 1).await;
        let Some(Sent::Upload { bytes }) = stage.telegram.calls()[0].video else { panic!("a file is uploaded") };
        assert!(bytes > 1000, "{bytes} bytes");
    }
}

/// A bot, a Telegram, and videos that are quickly made.
struct Stage {
    telegram: FakeTelegram,
    making: Making,
    world: World,
    setup: Setup,
    bytes: u64,
}

impl Stage {
    async fn new(kind: StoreKind) -> Self {
        Self::with_video_of(kind, 2000).await
    }

    async fn with_video_of(kind: StoreKind, bytes: u64) -> Self {
        let (telegram, world) = tokio::join!(FakeTelegram::start(), World::new(kind));
        let making = Making::new();
        let draft = making.file("draft-XXXXXX");
        let film = format!(
            r#"f=$(mktemp {}); truncate -s {bytes} $f; mv $f $f.mp4; echo "{{\"file\":\"$f.mp4\"}}""#,
            draft.display()
        );
        let setup = world.setup.clone().config(&making.config(&film, ""));
        let setup = setup
            .env("TELEGRAM_BOT_TOKEN", TOKEN)
            .env("ONETAKE_TELEGRAM__BASE_URL", telegram.base_url())
            // Out of the way of what is not about the pace.
            .env("ONETAKE_TELEGRAM__MESSAGES_PER_SECOND", "1000")
            .env("ONETAKE_TELEGRAM__CHAT_INTERVAL", "1ms");
        Self { telegram, making, world, setup, bytes }
    }

    async fn server(&self) -> Onetake {
        Onetake::start(&self.setup).await
    }

    /// Asks for a video, and waits until it is delivered.
    async fn deliver(&self, server: &Onetake, name: &str, chat: i64) -> Value {
        let id = ask(server, name, chat).await;
        until_state(server, &id, "delivered").await
    }

    fn calls_to(&self, chat: i64) -> Vec<Call> {
        let chat = chat.to_string();
        self.telegram.calls().into_iter().filter(|call| call.chat == chat).collect()
    }
}

/// Asks for a video for a chat; the id of the request, which is that of its delivery too.
async fn ask(api: &Api, name: &str, chat: i64) -> String {
    let answer = api.post("/v1/videos", json!({"name": name, "user": chat, "chat": chat})).await;
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    answer.json()["id"].as_str().expect("a request that is delivered has an id").to_owned()
}

async fn replay(api: &Api, id: &str) {
    let view = api.post(&format!("/v1/deliveries/{id}/replay"), json!({})).await.expect(200);
    assert_eq!((&view["state"], &view["attempts"]), (&json!("queued"), &json!(0)));
}
