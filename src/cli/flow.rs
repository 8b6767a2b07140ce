//! `flow`: add jobs that wait for their children, and look at the tree of one.

use std::fmt::Write as _;

use clap::Subcommand;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Context;
use super::client::Call;
use super::job::data;
use super::output::printable;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Add a job with its children and theirs: all of them, or none. With "parent", under a job that is there.
    #[command(after_help = "\
Examples:
  onetake flow add '{\"queue\": \"report\", \"children\": [{\"queue\": \"page\", \"data\": {\"n\": 1}, \"on_failure\": \"fail_parent\"}]}'
  onetake flow add '{\"queue\": \"page\", \"data\": {\"n\": 2}, \"parent\": {\"queue\": \"report\", \"id\": \"17\"}}'")]
    Add {
        /// The tree; `-` reads it from stdin.
        #[arg(value_name = "JSON", value_parser = data)]
        tree: Box<RawValue>,
        /// Repeating a command with this key adds nothing twice.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// A job with its children and theirs.
    Tree {
        queue: String,
        id: String,
        /// How many generations to show.
        #[arg(long)]
        depth: Option<u32>,
        /// How many children of one job to show.
        #[arg(long)]
        width: Option<u32>,
    },
}

impl Command {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Context { client, output } = context;
        match self {
            Self::Add { tree, idempotency_key } => {
                let call = Call::post(&["v1", "flows"], &tree).idempotency_key(idempotency_key.as_deref());
                let answer = client.send(call).await?;
                let word = |name: &str| answer.value[name].as_str().unwrap_or_default();
                output.done(&answer, &format!("added job {} to {} with its children", word("id"), word("queue")))
            }
            Self::Tree { queue, id, depth, width } => {
                let call = Call::get(&["v1", "queues", &queue, "jobs", &id, "tree"]);
                let answer = client.send(call.query("depth", depth).query("width", width)).await?;
                output.done(&answer, &drawn(&answer.value, 0))
            }
        }
    }
}

/// A line for each job, indented by generation.
fn drawn(job: &Value, depth: usize) -> String {
    let word = |name: &str| job[name].as_str().map(printable);
    let mut line = "  ".repeat(depth);
    match (word("queue"), word("id")) {
        (Some(queue), Some(id)) => {
            let state = word("state").unwrap_or_else(|| "nowhere".to_owned());
            let _ = write!(line, "{queue} {id}  {state}");
        }
        _ => line += &word("key").unwrap_or_default(),
    }
    if let Some(kind @ ("ignored" | "failed")) = job["kind"].as_str() {
        let _ = write!(line, " ({kind})");
    }
    if let Some(reason) = word("failed_reason") {
        let _ = write!(line, "  {reason}");
    }
    line.push('\n');
    for child in job["children"].as_array().map(Vec::as_slice).unwrap_or_default() {
        line += &drawn(child, depth + 1);
    }
    if job["more"] == true {
        let _ = writeln!(line, "{}…", "  ".repeat(depth + 1));
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tree_is_a_line_for_each_job() {
        let tree = json!({"key": "bull:a:1", "queue": "a", "id": "1", "state": "waiting-children", "more": true, "children": [
            {"key": "bull:b:2", "queue": "b", "id": "2", "state": "failed", "kind": "ignored", "failed_reason": "no\u{1b}"},
            {"key": "bull:c:3", "kind": "processed", "children": []},
        ]});
        let expected = "a 1  waiting-children\n  b 2  failed (ignored)  no\\u{1b}\n  bull:c:3\n  …\n";
        assert_eq!(drawn(&tree, 0), expected);
    }
}
