//! `doctor`: what is well, what is not, and what to do about it.

use super::client::{Call, Client, Error};
use super::config::{File, checked};
use super::{Context, Misused};
use crate::app::doctor::{Finding, Verdict, examine};

/// Looks at everything and fails if anything fails.
pub(super) async fn run(file: File, context: &Context) -> anyhow::Result<()> {
    let mut findings = Vec::new();
    match checked(&file.options()) {
        Ok(loaded) => {
            findings.push(Finding::ok("config", "the settings fit together"));
            findings.extend(examine(&loaded.settings).await);
        }
        // Without settings nothing else can be looked at, but the server may still run on others.
        Err(e) => findings.push(Finding::fail("config", e.to_string(), "mend it, then ask again")),
    }
    findings.push(server(&context.client).await);
    context.output.rows(&["CHECK", "VERDICT", "FOUND", "WHAT TO DO"], &findings, |finding| {
        let verdict = format!("{:?}", finding.verdict).to_lowercase();
        vec![finding.name.to_owned(), verdict, finding.detail.clone(), finding.advice.clone().unwrap_or_default()]
    })?;
    match findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count() {
        0 => Ok(()),
        _ if findings[0].verdict == Verdict::Fail => Err(Misused("the settings cannot be used".to_owned()).into()),
        failed => anyhow::bail!("{failed} of {} checks failed", findings.len()),
    }
}

async fn server(client: &Client) -> Finding {
    const NAME: &str = "server";
    let server = client.server();
    match client.send(Call::get(&["readyz"])).await {
        Ok(_) => Finding::ok(NAME, format!("{server} is ready")),
        Err(Error::Unreachable { .. }) => {
            Finding::warn(NAME, format!("nothing answers at {server}"), "start it: `onetake serve` or `onetake dev`")
        }
        Err(e) => Finding::fail(NAME, format!("{server} is not ready: {e}"), "its log and /readyz say what it lacks"),
    }
}
