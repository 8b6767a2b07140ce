//! Reads the settings from all their sources, in order: default.toml, a file, the environment, flags.
//!
//! Keeps the origin of every value, so that an error names the place where it can be mended.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use figment::Figment;
use figment::error::Kind;
use figment::value::{Dict, Value};

use super::layer::{Flag, Layer, Origin, find, leaves};
use super::settings::{Processor, Queue, Settings, Span};
use super::show::is_secret;
use crate::text::{in_plain_words, plainly};

/// The annotated defaults, as they are printed by `onetake config default`.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The file that is read from the working directory if it is there.
const FILE: &str = "onetake.toml";

const PREFIX: &str = "ONETAKE_";

/// What `onetake lock run` tells its command: which lock it holds, and the fencing token.
pub const LOCK_VARIABLES: [&str; 2] = ["ONETAKE_LOCK", "ONETAKE_FENCING_TOKEN"];

/// Variables with our prefix that are no settings: the command line, the Compose file and the tests read them.
const NO_SETTINGS: [&str; 6] = [
    "ONETAKE_CONFIG",
    "ONETAKE_SERVER",
    "ONETAKE_API_KEY",
    "ONETAKE_ADMIN_KEY",
    "ONETAKE_FAULT",
    "ONETAKE_CLOCK_SKEW_MS",
];

/// Names that other tools use for the same things. The long spelling wins over these.
const ALIASES: [(&str, &str); 3] =
    [("REDIS_URL", "redis.url"), ("DATABASE_URL", "store.url"), ("TELEGRAM_BOT_TOKEN", "telegram.bot_token")];

/// What to read. Nothing is taken from the process behind its back, so that tests need not change their own environment.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Must exist. `None`: `onetake.toml` in `directory`, if there is one.
    pub file: Option<PathBuf>,
    pub directory: PathBuf,
    pub environment: Vec<(String, String)>,
    pub flags: Vec<Flag>,
}

impl Options {
    /// The working directory and environment of this process; variables whose names are no text are left out.
    pub fn from_process() -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        Self { environment, ..Self::default() }
    }

    /// Adds a flag that sets `key`, if it was given.
    #[must_use]
    pub fn flag(mut self, name: &str, key: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.flags.push(Flag { name: name.to_owned(), key: key.to_owned(), value: value.to_string() });
        }
        self
    }
}

/// The settings, and where each came from.
pub struct Loaded {
    pub settings: Settings,
    /// By key, such as "http.bind". Holds secrets in plain text: print it through [`Loaded::rows`] only.
    pub origins: BTreeMap<String, Entry>,
}

/// One value that is in force.
pub struct Entry {
    pub value: serde_json::Value,
    pub origin: Origin,
}

/// Why there are no settings. Each message names the source and what is expected there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the configuration file {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{} is not TOML: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("unknown key \"{key}\" ({origin}): {expected}")]
    Unknown { key: String, origin: Origin, expected: String },
    #[error("{key} ({origin}): {message}")]
    Value { key: String, origin: Origin, message: String },
}

/// Reads and types the settings. Whether they fit together is for [`super::check`] to say.
///
/// # Errors
/// The first key that is unknown, missing or of a wrong type, with the place where it stands.
pub fn load(options: &Options) -> Result<Loaded, Error> {
    let defaults = Layer::toml(DEFAULTS, None).expect("the built-in file is TOML, as the tests say");
    let mut layers = vec![defaults.clone()];
    layers.extend(file(options)?);
    let environment = environment(options, &defaults, &layers);
    layers.push(environment);
    layers.push(flags(options, &defaults));

    for later in 1..layers.len() {
        let (earlier, rest) = layers.split_at_mut(later);
        earlier.iter_mut().for_each(|layer| layer.give_way_to(&rest[0]));
    }
    let mut origins = BTreeMap::new();
    let mut figment = Figment::new();
    for layer in layers {
        origins.extend(layer.origins.clone());
        figment = figment.merge(layer);
    }
    let settings: Settings = figment.extract().map_err(|e| explain(e, &origins))?;
    let values: Dict = figment.extract().map_err(|e| explain(e, &origins))?;
    Ok(Loaded { origins: entries(&values, &origins, &settings), settings })
}

fn file(options: &Options) -> Result<Option<Layer>, Error> {
    let path = options.file.clone().unwrap_or_else(|| options.directory.join(FILE));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && options.file.is_none() => return Ok(None),
        Err(source) => return Err(Error::File { path, source }),
    };
    Layer::toml(&text, Some(&path)).map(Some).map_err(|message| Error::Syntax { path, message })
}

fn environment(options: &Options, defaults: &Layer, layers: &[Layer]) -> Layer {
    let mut layer = Layer::default();
    // Aliases first: the long spelling, set after, wins.
    for (name, key) in ALIASES {
        // Compose files hand over variables that are not set as empty ones.
        if let Some((_, value)) = options.environment.iter().find(|(known, value)| known == name && !value.is_empty()) {
            set(&mut layer, &split(key, "."), value, defaults, Origin::Variable(name.to_owned()));
        }
    }
    for (name, value) in &options.environment {
        let upper = name.to_ascii_uppercase();
        let Some(path) = upper.strip_prefix(PREFIX) else { continue };
        let name_of_ours = upper.as_str();
        let is_for_others = NO_SETTINGS.contains(&name_of_ours) || LOCK_VARIABLES.contains(&name_of_ours);
        if is_for_others || is_service_link(path) {
            continue;
        }
        let mut key = split(&path.to_lowercase(), "__");
        if key.len() > 1 && key[0] == "queues" {
            key[1] = declared_as(&key[1], layers);
        }
        set(&mut layer, &key, value, defaults, Origin::Variable(name.clone()));
    }
    layer
}

/// Kubernetes tells every container about a service called "onetake" in variables such as `ONETAKE_PORT` and
/// `ONETAKE_SERVICE_HOST`. Taken for settings, they would keep the server from starting.
fn is_service_link(path: &str) -> bool {
    let spelt = format!("_{path}_");
    !path.contains("__") && (spelt.contains("_PORT_") || spelt.contains("_SERVICE_HOST_"))
}

/// The declared queue that `lower` means: variables do not tell upper case from lower.
fn declared_as(lower: &str, layers: &[Layer]) -> String {
    let mut names = layers.iter().filter_map(|layer| find(&layer.values, &["queues"])?.as_dict()).flat_map(Dict::keys);
    names.find(|name| name.to_lowercase() == lower).cloned().unwrap_or_else(|| lower.to_owned())
}

fn flags(options: &Options, defaults: &Layer) -> Layer {
    let mut layer = Layer::default();
    for flag in &options.flags {
        set(&mut layer, &split(&flag.key, "."), &flag.value, defaults, Origin::Flag(flag.name.clone()));
    }
    layer
}

/// Sets a value that is typed like its default. Any queue is typed like the one that the defaults declare.
fn set(layer: &mut Layer, key: &[String], text: &str, defaults: &Layer, origin: Origin) {
    let mut model = key.to_vec();
    if model.len() > 2 && model[0] == "queues" {
        model[1] = "video".to_owned();
    }
    layer.set(key, text, find(&defaults.values, &model), origin);
}

fn split(key: &str, separator: &str) -> Vec<String> {
    key.split(separator).map(str::to_owned).collect()
}

fn explain(error: figment::Error, origins: &BTreeMap<String, Origin>) -> Error {
    let at = error.path.join(".");
    let inside = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match error.kind {
        Kind::UnknownField(name, known) => {
            // A tagged table (processor, backoff) reports the table around the name, any other the name itself.
            let key = if error.path.last() == Some(&name) { at.clone() } else { inside(&name) };
            let expected = match known {
                [] => "nothing is expected here".to_owned(),
                known => format!("expected {}", known.join(", ")),
            };
            Error::Unknown { origin: origin_of(&key, origins), key, expected }
        }
        Kind::MissingField(name) => {
            let origin = origin_of(&at, origins);
            Error::Value { key: inside(&name), origin, message: "is missing".to_owned() }
        }
        _ if is_secret(&at) => {
            Error::Value { origin: origin_of(&at, origins), key: at, message: "expected a text in quotes".to_owned() }
        }
        Kind::InvalidType(found, expected) => {
            let message = format!("found {found}, expected {}", in_a_file(&expected));
            Error::Value { origin: origin_of(&at, origins), key: at, message }
        }
        Kind::UnknownVariant(found, known) => {
            let message = format!("found \"{found}\", expected one of {}", known.join(", "));
            Error::Value { origin: origin_of(&at, origins), key: at, message }
        }
        Kind::InvalidValue(found, expected) => {
            let message = format!("found {found}, expected {}", in_a_file(&expected));
            Error::Value { origin: origin_of(&at, origins), key: at, message }
        }
        kind => {
            let message = in_plain_words(&kind.to_string());
            Error::Value { origin: origin_of(&at, origins), key: at, message }
        }
    }
}

/// What is an object elsewhere is a table there.
fn in_a_file(expected: &str) -> String {
    match plainly(expected) {
        object if object == "an object" => "a table".to_owned(),
        other => other,
    }
}

/// Where `key` stands, or something inside it, or the table around it.
fn origin_of(key: &str, origins: &BTreeMap<String, Origin>) -> Origin {
    if let Some(origin) = origins.get(key) {
        return origin.clone();
    }
    let inside = format!("{key}.");
    let written = |origin: &&Origin| **origin != Origin::Default;
    let within: Vec<&Origin> = origins.iter().filter(|(known, _)| known.starts_with(&inside)).map(|(_, o)| o).collect();
    if let Some(origin) = within.iter().copied().find(written).or(within.first().copied()) {
        return origin.clone();
    }
    match key.rsplit_once('.') {
        Some((table, _)) => origin_of(table, origins),
        None => Origin::Default,
    }
}

/// Every value in force. Fields that a declared queue leaves out are in force too, by default.
fn entries(values: &Dict, origins: &BTreeMap<String, Origin>, settings: &Settings) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    leaves(values, "", &mut |key, value| {
        let origin = origin_of(&key, origins);
        entries.insert(key, Entry { value: json(value), origin });
    });
    for (name, queue) in &settings.queues.declared {
        let Queue { concurrency, attempts, keep_completed, keep_failed, metrics, .. } = queue;
        let mut in_force = vec![
            ("concurrency", (*concurrency).into()),
            ("attempts", (*attempts).into()),
            ("keep_completed", (*keep_completed).into()),
            ("keep_failed", (*keep_failed).into()),
            ("metrics", (*metrics).into()),
        ];
        if let Some(Processor::Command { time_limit, .. } | Processor::Http { time_limit, .. }) = &queue.processor {
            in_force.push(("processor.time_limit", in_seconds(*time_limit)));
        }
        match &queue.dedupe {
            Some(dedupe) => {
                in_force.push(("dedupe.negative_ttl", in_seconds(dedupe.negative_ttl)));
                in_force.push(("dedupe.cancel_when_abandoned", dedupe.cancel_when_abandoned.into()));
            }
            None => in_force.push(("groups.ahead", queue.groups.ahead.map_or(1, NonZeroU32::get).into())),
        }
        for (field, value) in in_force {
            let by_default = || Entry { value, origin: Origin::Default };
            entries.entry(format!("queues.{name}.{field}")).or_insert_with(by_default);
        }
    }
    entries
}

fn in_seconds(span: Span) -> serde_json::Value {
    format!("{}s", span.0.as_secs_f64()).into()
}

fn json(value: &Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use tempfile::TempDir;

    use super::*;
    use crate::config::Role;

    /// A folder with this `onetake.toml`, and options that read it.
    fn folder(toml: &str, environment: &[(&str, &str)]) -> (TempDir, Options) {
        let folder = tempfile::tempdir().unwrap();
        if !toml.is_empty() {
            std::fs::write(folder.path().join(FILE), toml).unwrap();
        }
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { directory: folder.path().to_owned(), environment, ..Options::default() };
        (folder, options)
    }

    fn loaded(toml: &str, environment: &[(&str, &str)]) -> Loaded {
        let (_folder, options) = folder(toml, environment);
        load(&options).map_err(|e| e.to_string()).unwrap()
    }

    fn refused(toml: &str, environment: &[(&str, &str)]) -> String {
        let (folder, options) = folder(toml, environment);
        let message = load(&options).err().expect("it is refused").to_string();
        message.replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn the_defaults_alone_are_complete() {
        let Loaded { settings, origins } = loaded("", &[]);
        assert_eq!(settings.http.bind, "127.0.0.1:7700");
        assert!(origins.values().all(|entry| entry.origin == Origin::Default));
        assert_eq!(origins["runner.lease"].value, "30s");
    }

    #[test]
    fn later_sources_win_and_each_value_knows_its_own() {
        let toml = "[http]\nbind = \"1.1.1.1:1\"\nmax_wait = \"1s\"\nbody_limit = 2000\n";
        let (folder, options) = folder(toml, &[("ONETAKE_HTTP__BIND", "2.2.2.2:2"), ("ONETAKE_HTTP__MAX_WAIT", "2s")]);
        let Loaded { settings, origins } = load(&options.flag("--bind", "http.bind", Some("3.3.3.3:3"))).ok().unwrap();
        assert_eq!((settings.http.bind.as_str(), settings.http.body_limit), ("3.3.3.3:3", 2000));
        let origin = |key: &str| origins[key].origin.to_string();
        assert_eq!(origin("http.bind"), "flag --bind");
        assert_eq!(origin("http.max_wait"), "environment variable ONETAKE_HTTP__MAX_WAIT");
        assert_eq!(origin("http.body_limit"), format!("{}:4", folder.path().join(FILE).display()));
        assert_eq!(origin("http.json_depth"), "default");
    }

    #[test]
    fn a_file_that_was_named_must_exist() {
        let (_folder, options) = folder("", &[]);
        let error = load(&Options { file: Some("/nowhere/one.toml".into()), ..options }).err().unwrap();
        assert_eq!(error.to_string(), "cannot read the configuration file /nowhere/one.toml");
    }

    #[test]
    fn variables_take_the_type_of_their_setting() {
        let settings = loaded(
            "",
            &[
                ("ONETAKE_HTTP__ADMIN_KEY", "1234567890123456"),
                ("TELEGRAM_BOT_TOKEN", "123:abc"),
                ("onetake_queues__video__concurrency", "4"),
                ("ONETAKE_QUEUES__OPEN", "true"),
                ("ONETAKE_WEBHOOK__SCHEDULE", "1s, 2s"),
                ("ONETAKE_VIDEOS__GENDERS", "[boy, girl]"),
                ("ONETAKE_QUEUES__VIDEO__DEDUPE__MAX_AGE", "7d"),
                ("ONETAKE_QUEUES__MAIL__CONCURRENCY", "3"),
                ("ONETAKE_ROLE", "http"),
            ],
        )
        .settings;
        assert_eq!(settings.http.admin_key.expose_secret(), "1234567890123456");
        assert_eq!(settings.telegram.bot_token.expose_secret(), "123:abc");
        let queue = |name: &str| settings.queues.declared.iter().find(|(known, _)| known.as_str() == name).unwrap().1;
        assert_eq!((queue("video").concurrency, queue("mail").concurrency), (4, 3));
        assert!(settings.queues.open);
        assert_eq!(settings.webhook.schedule.len(), 2);
        assert_eq!(settings.videos.genders, ["boy", "girl"]);
        assert_eq!(queue("video").dedupe.as_ref().unwrap().max_age.unwrap().to_string(), "7d");
        assert_eq!(settings.role, Role::Http);
    }

    #[test]
    fn the_long_spelling_wins_over_an_alias_and_an_empty_alias_is_none() {
        let both = loaded("", &[("ONETAKE_REDIS__URL", "redis://long"), ("REDIS_URL", "redis://alias")]);
        assert_eq!(both.settings.redis.url.expose_secret(), "redis://long");
        let empty = loaded("[redis]\nurl = \"redis://file\"\n", &[("REDIS_URL", "")]);
        assert_eq!(empty.settings.redis.url.expose_secret(), "redis://file");
    }

    #[test]
    fn a_variable_finds_a_queue_whatever_its_case() {
        let settings = loaded("[queues.Mail-Out]\n", &[("ONETAKE_QUEUES__MAIL-OUT__CONCURRENCY", "4")]).settings;
        let names: Vec<_> = settings.queues.declared.keys().map(ToString::to_string).collect();
        assert!(names.contains(&"Mail-Out".to_owned()), "{names:?}");
        assert_eq!(names.iter().filter(|name| name.to_lowercase() == "mail-out").count(), 1);
    }

    #[test]
    fn variables_that_are_no_settings_are_left_alone() {
        let variables = ["ONETAKE_SERVER", "ONETAKE_PORT", "ONETAKE_PORT_7700_TCP", "ONETAKE_REDIS_SERVICE_HOST"];
        loaded("", &variables.map(|name| (name, "tcp://10.0.0.1:7700")));
        loaded("", &LOCK_VARIABLES.map(|name| (name, "nightly")));
    }

    #[test]
    fn variables_that_our_own_files_set_keep_no_server_from_starting() {
        let files = [include_str!("../../docker-compose.yml"), include_str!("../../Dockerfile")];
        for name in files.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')) {
            if name.len() > PREFIX.len() && name.starts_with(PREFIX) && !name.contains("__") {
                let value = if name == "ONETAKE_ROLE" { "all" } else { "x" };
                loaded("", &[(name, value)]);
            }
        }
    }

    #[test]
    fn unknown_keys_are_refused_wherever_they_stand() {
        let message = refused("[http]\nbnid = \"x\"\n", &[]);
        assert!(message.starts_with("unknown key \"http.bnid\" (onetake.toml:2): expected bind, "), "{message}");
        let message = refused("\n[queues.video]\nconcurency = 3\n", &[]);
        assert!(message.starts_with("unknown key \"queues.video.concurency\" (onetake.toml:3)"), "{message}");
        let message = refused("[queues.video.dedupe]\nfeilds = []\n", &[]);
        assert!(message.starts_with("unknown key \"queues.video.dedupe.feilds\" (onetake.toml:2)"), "{message}");
        let message = refused("[queues.a]\nprocessor = { kind = \"http\", uri = \"x\" }\n", &[]);
        assert!(message.starts_with("unknown key \"queues.a.processor.uri\" (onetake.toml:2)"), "{message}");
        let message = refused("", &[("ONETAKE_HTTTP__BIND", "x")]);
        assert!(message.contains("\"htttp\" (environment variable ONETAKE_HTTTP__BIND)"), "{message}");
        let message = refused("[queues]\nopne = true\n", &[]);
        assert_eq!(message, "queues.opne (onetake.toml:2): found bool true, expected a table");
    }

    #[test]
    fn a_wrong_value_is_told_with_its_place_and_what_is_expected() {
        let message = refused("[http]\n\nbody_limit = \"big\"\n", &[]);
        assert_eq!(message, "http.body_limit (onetake.toml:3): found string \"big\", expected a whole number from 0");
        let message = refused("", &[("ONETAKE_RUNNER__LEASE", "30")]);
        let place = "runner.lease (environment variable ONETAKE_RUNNER__LEASE)";
        assert_eq!(message, format!("{place}: \"30\" needs a unit: ms, s, m, h or d"));
        let message = refused("role = \"both\"\n", &[]);
        assert_eq!(message, "role (onetake.toml:1): found \"both\", expected one of all, http, runner");
        let message = refused("[queues.\"a:b\"]\n", &[]);
        assert!(message.contains("(onetake.toml:1)") && message.contains("must not contain ':'"), "{message}");
        let message = refused("[queues.a]\nprocessor = { kind = \"http\" }\n", &[]);
        assert_eq!(message, "queues.a.processor.url (onetake.toml:2): is missing");
        assert!(refused("role = \n", &[]).starts_with("onetake.toml is not TOML"));
    }

    #[test]
    fn a_refused_secret_is_not_printed() {
        let message = refused("[telegram]\nbot_token = 987654321\n", &[]);
        assert_eq!(message, "telegram.bot_token (onetake.toml:2): expected a text in quotes");
    }

    #[test]
    fn another_kind_of_processor_replaces_the_old_one_whole() {
        let toml = "[queues.video]\nprocessor = { kind = \"command\", program = \"make\" }\n";
        let Loaded { settings, origins } = loaded(toml, &[]);
        let queue = settings.queues.declared.iter().find(|(name, _)| name.as_str() == "video").unwrap().1;
        assert!(matches!(&queue.processor, Some(Processor::Command { program, .. }) if program == "make"));
        assert!(!origins.contains_key("queues.video.processor.name"));
    }

    #[test]
    fn other_dedupe_fields_forget_the_old_defaults() {
        let settings = loaded("[queues.video.dedupe]\nfields = [\"name\"]\n", &[]).settings;
        let rules = settings.queues.declared.values().find_map(|queue| queue.dedupe.clone()).unwrap();
        assert!(rules.defaults.is_empty());
        assert_eq!(rules.fields, ["name"]);
    }

    #[test]
    fn fields_that_a_queue_leaves_out_are_listed_as_defaults() {
        let origins = loaded("[queues.mail]\n", &[]).origins;
        assert_eq!(origins["queues.mail.attempts"].value, 1);
        assert_eq!(origins["queues.mail.attempts"].origin, Origin::Default);
        assert_eq!(origins["queues.mail.groups.ahead"].value, 1);
    }
}
