//! `config`: what is in force, whether it fits together, and what could be set.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Misused;
use super::output::Output;
use crate::config::{DEFAULTS, Loaded, Options, check, load};
use crate::redis::Rights;
use crate::telemetry;

/// Which file to read.
#[derive(Args)]
pub(super) struct File {
    /// The settings file. Without it, onetake.toml in this folder is read if it is there.
    #[arg(long, env = "ONETAKE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl File {
    pub fn options(self) -> Options {
        Options { file: self.config, ..Options::from_process() }
    }
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Every value in force and where it comes from; secrets are masked.
    #[command(after_help = "Example:\n  ONETAKE_RUNNER__LEASE=60s onetake config show | grep runner")]
    Show(File),
    /// Say everything that would keep a server from starting with these settings.
    Check(File),
    /// Print the annotated defaults: the reference of all settings.
    #[command(after_help = "Example:\n  onetake config default > onetake.toml")]
    Default,
    /// Print the alert rules for Prometheus.
    #[command(after_help = "Example:\n  onetake config alerts > onetake-alerts.yml")]
    Alerts,
    /// Print what a Redis user must be allowed to do for these settings: the ACL rule, with a place for its password.
    #[command(after_help = "Example:\n  onetake config acl | sed 's/PASSWORD/secret/' | redis-cli")]
    Acl(File),
}

impl Command {
    pub fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Show(file) => {
                let rows = loaded(&file.options())?.rows();
                let cells = |row: &crate::config::Row| vec![row.key.clone(), row.value.to_string(), row.origin.clone()];
                output.rows(&["KEY", "VALUE", "ORIGIN"], &rows, cells)
            }
            Self::Check(file) => {
                let loaded = checked(&file.options())?;
                if output.is_json() {
                    return output.text(
                        &serde_json::json!({"problems": [], "needs_key": loaded.settings.needs_key()}).to_string(),
                    );
                }
                output.text("the settings fit together")?;
                if loaded.settings.needs_key() {
                    output.text("others can reach this address: an API key must exist, or http.admin_key be set, before it starts")?;
                }
                Ok(())
            }
            Self::Default if output.is_json() => output.text(&serde_json::json!({ "toml": DEFAULTS }).to_string()),
            Self::Default => output.text(DEFAULTS),
            Self::Alerts if output.is_json() => {
                output.text(&serde_json::json!({ "yaml": telemetry::ALERTS }).to_string())
            }
            Self::Alerts => output.text(telemetry::ALERTS),
            Self::Acl(file) => {
                let rights = Rights::of(&loaded(&file.options())?.settings.redis);
                match output.is_json() {
                    true => output.text(&serde_json::to_string(&rights)?),
                    false => output.text(&rights.line()),
                }
            }
        }
    }
}

fn loaded(options: &Options) -> Result<Loaded, Misused> {
    load(options).map_err(|e| match std::error::Error::source(&e) {
        Some(source) => Misused(format!("{e}: {source}")),
        None => Misused(e.to_string()),
    })
}

/// The settings, if a server could start with them.
///
/// # Errors
/// What is wrong with them, all at once, each with the place where it stands.
pub(super) fn checked(options: &Options) -> anyhow::Result<Loaded> {
    let loaded = loaded(options)?;
    let mut problems: Vec<String> = check(&loaded.settings)
        .iter()
        .map(|problem| match loaded.origins.get(&problem.key) {
            Some(entry) => format!("{problem} ({})", entry.origin),
            None => problem.to_string(),
        })
        .collect();
    if let Err(e) = telemetry::check(&loaded.settings.log) {
        problems.push(e.to_string());
    }
    match problems.as_slice() {
        [] => Ok(loaded),
        [one] => Err(Misused(one.clone()).into()),
        many => Err(Misused(format!("the settings do not fit together:\n  {}", many.join("\n  "))).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_listed_with_its_place() {
        let options = Options { directory: "/nowhere".into(), ..Options::default() };
        let options = options.flag("--a", "store.batch", Some(0)).flag("--b", "log.filter", Some("one=loudly"));
        let error = checked(&options).err().unwrap();
        assert!(error.is::<Misused>());
        let text = error.to_string();
        assert!(text.contains("\n  store.batch must be from 1 to 1000 (flag --a)"), "{text}");
        assert!(text.contains("\n  log.filter: \"one=loudly\""), "{text}");
    }
}
