//! What is shipped beside the code: files for other tools, and manners of the repository.

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files of the repository, new ones too; none where it was unpacked without git.
fn tracked() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    listed.lines().filter(|path| root().join(path).is_file()).map(str::to_owned).collect()
}

#[test]
fn each_rust_file_says_what_it_is_for() {
    for path in tracked().iter().filter(|path| path.ends_with(".rs")) {
        assert!(read(path).starts_with("//! "), "{path} does not open with `//! `");
    }
}

#[test]
fn no_file_names_a_path_of_somebody_s_machine() {
    // Spelt in two parts, or this file would be the first to be found.
    let private: Vec<_> = ["home", "root", "work", "Users"].iter().map(|folder| format!("/{folder}/")).collect();
    for path in tracked() {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        let found = private.iter().find(|folder| text.contains(folder.as_str()));
        assert!(found.is_none(), "{path} contains {found:?}");
    }
}

/// The floors of the house, as README tells them; a file imports from its own floor and from lower ones.
const FLOORS: &[&[&str]] = &[
    &["batch", "clock", "fault", "id", "json", "refusal", "retry", "text"],
    &["config"],
    &["files", "redis", "store", "telemetry"],
    &[
        "access",
        "cache",
        "catalog",
        "dedupe",
        "flight",
        "idempotency",
        "lock",
        "pace",
        "processor",
        "publish",
        "queue",
        "saga",
    ],
    &["intake", "reconcile", "runner"],
    &["delivery", "workloads"],
    &["http"],
    &["app"],
    &["cli"],
];

#[test]
fn each_file_imports_only_from_its_own_floor_and_lower_ones() {
    let floor = |module: &str| FLOORS.iter().position(|modules| modules.contains(&module));
    for path in tracked().iter().filter(|path| path.starts_with("src/") && path.ends_with(".rs")) {
        let module = path["src/".len()..].split(['/', '.']).next().unwrap_or_default();
        if matches!(module, "lib" | "main") || path.contains("/tests") {
            continue;
        }
        let own = floor(module).unwrap_or_else(|| panic!("{module} stands on no floor"));
        let text = read(path);
        // A module's tests may reach up, to stand on the real thing.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for import in code.split("crate::").skip(1) {
            let end = import.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(import.len());
            if let Some(other) = floor(&import[..end]) {
                assert!(other <= own, "{path} imports from {}, which is above it", &import[..end]);
            }
        }
    }
}

#[test]
fn only_one_module_knows_each_great_library() {
    let knows = [("fred", "redis"), ("bb8", "redis"), ("sqlx", "store"), ("axum", "http"), ("clap", "cli")];
    for path in tracked().iter().filter(|path| path.starts_with("src/") && path.ends_with(".rs")) {
        let text = read(path);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (library, module) in knows {
            let is_home = path.starts_with(&format!("src/{module}/")) || path.contains("/tests");
            assert!(is_home || !code.contains(&format!("{library}::")), "{path} uses {library}");
        }
    }
}

#[test]
fn alerts_watch_what_is_counted() {
    let counting = ["store/unit_of_work", "http/metrics", "lock/link", "saga/settle", "workloads/orders/pay"];
    let sources = counting.map(|file| read(&format!("src/{file}.rs"))).concat();
    let rules = read("src/telemetry/alerts.yml");
    let names = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let watched: Vec<_> = names.filter(|name| name.starts_with("onetake_")).collect();
    assert!(watched.len() >= 7, "{watched:?}");
    for name in watched {
        assert!(sources.contains(&format!("\"{name}\"")), "nobody counts {name}");
    }
}

mod promtool {
    use super::{Command, root};

    #[test]
    fn the_alert_rules_are_rules() {
        let rules = root().join("src/telemetry/alerts.yml");
        let checked = Command::new("promtool").args(["check", "rules"]).arg(rules).output();
        let checked = checked.expect("promtool is installed");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }

    /// Its counter begins with it.
    #[test]
    fn the_first_event_about_money_is_an_alert_and_an_old_one_is_none() {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let firing = "count by (alertname) (ALERTS{alertstate=\"firing\"})";
        let both = ["OnetakeEffectParked", "OnetakePaymentUnknown"]
            .map(|alert| format!("{{labels: '{{alertname=\"{alert}\"}}', value: 1}}"))
            .join(", ");
        let asked =
            |minute: u32, told: &str| format!("{{expr: '{firing}', eval_time: {minute}m, exp_samples: [{told}]}}");
        let tests = format!(
            "rule_files: [{}]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n\
             {{series}}  promql_expr_test: [{}, {}, {}, {}]\n",
            root().join("src/telemetry/alerts.yml").display(),
            asked(39, ""),
            asked(42, &both),
            asked(70, ""),
            asked(82, &both),
        );
        let series =
            ["saga_steps_total{name=\"order_refund\",outcome=\"parked\"}", "order_payments_total{outcome=\"unknown\"}"]
                .map(|name| format!("  - {{series: 'onetake_{name}', values: '_x40 1x40 2x40'}}\n"))
                .concat();
        let file = folder.path().join("tests.yml");
        std::fs::write(&file, tests.replace("{series}", &series)).expect("our folder can be written");
        let checked =
            Command::new("promtool").args(["test", "rules"]).arg(file).output().expect("promtool is installed");
        assert!(
            checked.status.success(),
            "{}",
            String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr)
        );
    }
}

mod node {
    use std::io::Write;
    use std::process::Stdio;

    use serde_json::Value;

    use super::{Command, read, root};

    fn yaml(path: &str) -> Value {
        let mut node = Command::new("node")
            .arg(root().join("tests/node/yaml.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed");
        node.stdin.take().expect("piped").write_all(read(path).as_bytes()).expect("node reads");
        let output = node.wait_with_output().expect("node ends");
        serde_json::from_slice(&output.stdout).expect("the file is YAML")
    }

    #[test]
    fn compose_starts_three_services_that_tell_their_health() {
        let compose = yaml("docker-compose.yml");
        for service in ["redis", "postgres", "onetake"] {
            assert!(compose["services"][service].is_object(), "{service} is missing");
        }
        for service in ["redis", "postgres"] {
            assert!(compose["services"][service]["healthcheck"]["test"].is_array(), "{service} has no health check");
            assert_eq!(compose["services"]["onetake"]["depends_on"][service]["condition"], "service_healthy");
        }
        assert!(read("Dockerfile").contains("HEALTHCHECK"), "the image brings Onetake's own health check");
        let admin_key = &compose["services"]["onetake"]["environment"]["ONETAKE_HTTP__ADMIN_KEY"];
        assert!(admin_key.as_str().is_some_and(|key| key.starts_with("${ONETAKE_ADMIN_KEY:?")), "a key must be given");
    }
}
