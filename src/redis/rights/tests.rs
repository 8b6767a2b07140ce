//! The rule is complete: it names each command that the sources send, and nothing else; and none that is too new.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::Redis;
use super::super::testing::{Server, raw};
use super::*;

/// Words behind commands, each known to Redis 6.2 at the commands that we give it to.
const OPTIONS: &[&str] = &[
    "CH",
    "COUNT",
    "GT",
    "KEEPTTL",
    "LIMIT",
    "LT",
    "MATCH",
    "MAXLEN",
    "MINID",
    "NX",
    "PX",
    "RANK",
    "REV",
    "WITHSCORES",
    "XX",
];

/// The texts of all files of this kind below a folder of the repository.
fn sources(folder: &str, kind: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, kind: &str, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, kind, found);
            } else if path.extension().is_some_and(|extension| extension == kind) {
                found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), kind, &mut found);
    found
}

/// Words of capitals between these marks.
fn words<'t>(text: &'t str, before: &str, after: char) -> impl Iterator<Item = &'t str> {
    text.split(before).skip(1).filter_map(move |rest| {
        let word = rest.split(after).next()?;
        (word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(word)
    })
}

#[test]
fn the_rule_names_what_is_sent_and_nothing_else() {
    let known: BTreeSet<String> = COMMANDS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known.len(), COMMANDS.len(), "each once");
    let mut sent = BTreeSet::from(["BZPOPMIN".to_owned()]);
    for (path, text) in sources("lua", "lua") {
        // Comments aside: they may speak of anything.
        let code: String =
            text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
        for word in words(&code, "'", '\'').filter(|word| !OPTIONS.contains(word) && *word != "NOPERM") {
            assert!(known.contains(word), "{path} sends {word}: add it to COMMANDS, or to OPTIONS if it is an option");
            sent.insert(word.to_owned());
        }
    }
    let besides = ["CLIENT", "EVAL", "EVALSHA", "INFO", "PING"];
    for (path, text) in sources("src/redis", "rs").into_iter().filter(|(path, _)| !path.contains("test")) {
        for call in [
            "command(\"",
            "new_static(\"",
            "command_everywhere(\"",
            "command_at(nodes.get(place), \"",
            "command_at(node, \"",
        ] {
            for word in words(&text, call, '"').filter(|word| !besides.contains(word)) {
                assert!(known.contains(word), "{path} sends {word}: add it to COMMANDS");
                sent.insert(word.to_owned());
            }
        }
    }
    assert_eq!(known, sent, "what nobody sends is not to be asked for");
}

#[test]
fn only_the_redis_module_sends_commands() {
    for (path, text) in sources("src", "rs") {
        if path.contains("/src/redis/") || path.contains("test") {
            continue;
        }
        assert!(!text.contains(".command(\""), "{path} sends a command that no rule knows");
    }
}

/// The server's settings for the user of the rule, with `change` made to its line.
async fn user(server: &Server, settings: &config::Redis, change: impl Fn(String) -> String) -> config::Redis {
    let line = change(Rights::of(settings).line().replace(">PASSWORD", "resetpass >s3cret"));
    let admin = server.connect().await;
    raw(&admin, &line.split(' ').collect::<Vec<_>>()).await;
    let url = settings.url.expose_secret().replace("redis://", "redis://onetake:s3cret@");
    config::Redis { url: url.into(), ..settings.clone() }
}

fn bases() -> Vec<String> {
    ["bull:video:", "bull:mail:", "onetake:"].map(str::to_owned).to_vec()
}

#[tokio::test]
async fn the_user_of_the_rule_lacks_nothing() {
    let server = Server::start();
    let settings = user(&server, &server.settings(), |line| line).await;
    let redis = Redis::connect(&settings).await.unwrap();
    assert_eq!(redis.missing_rights(&settings, &bases()).await.unwrap(), [""; 0]);
    let admin = server.connect().await;
    assert_eq!(raw(&admin, &["DBSIZE"]).await.int().unwrap(), 0, "nothing is left behind");
}

#[tokio::test]
async fn each_right_that_is_missing_is_named() {
    let server = Server::start();
    let settings = server.settings();
    let rights = Rights::of(&settings);
    // UNSUBSCRIBE cannot be tried without losing something; SELECT, without connecting.
    let tried = rights.commands.iter().filter(|name| !matches!(name.as_str(), "unsubscribe" | "select"));
    for name in tried {
        let less = user(&server, &settings, |line| format!("{line} -{}", name.split('|').next().unwrap())).await;
        let redis = Redis::connect(&less).await.unwrap_or_else(|error| panic!("without {name}: {error:?}"));
        let missing = redis.missing_rights(&less, &bases()).await.unwrap();
        assert!(missing.iter().any(|what| what.contains(name.as_str())), "without {name}: {missing:?}");
    }
    for (pattern, named) in [
        ("~bull:*", "the keys ~bull:mail:*"),
        ("~onetake:*", "the keys ~onetake:*"),
        ("&onetake:*", "the channels &onetake:*"),
    ] {
        let less = user(&server, &settings, |line| line.replace(pattern, "")).await;
        let redis = Redis::connect(&less).await.unwrap();
        let missing = redis.missing_rights(&less, &bases()).await.unwrap();
        assert!(missing.contains(&named.to_owned()), "without {pattern}: {missing:?}");
    }
}

#[test]
fn the_rule_follows_the_settings() {
    let settings = |url: &str| config::Redis {
        url: url.to_owned().into(),
        prefix: "{b*ll}".to_owned(),
        namespace: "mine".to_owned(),
        command_timeout: config::Span(std::time::Duration::from_secs(1)),
        eviction: config::Eviction::Refuse,
        tls: config::Tls::default(),
    };
    let rights = Rights::of(&settings("redis-cluster://someone:secret@h:1"));
    assert_eq!((rights.user.as_str(), rights.keys.join(" ").as_str()), ("someone", "{b\\*ll}:* mine:*"));
    assert!(rights.commands.contains(&"cluster|slots".to_owned()) && !rights.commands.contains(&"select".to_owned()));
    assert!(!rights.line().contains("secret"));
    let rights = Rights::of(&settings("redis-sentinel://h:1/3?sentinelServiceName=m"));
    assert!(["role", "select"].iter().all(|name| rights.commands.contains(&(*name).to_owned())));
    assert_eq!(rights.user, "onetake");
}
