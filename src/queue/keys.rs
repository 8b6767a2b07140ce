//! The one place that spells a queue's keys. Its twin for scripts is `lua/queue/parts/keys.lua`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::AddError;
use crate::id::QueueName;

/// What follows the base in the queue's own keys. A job's key is the base and its id: such an id would overwrite them.
const SUFFIXES: &[&str] = &[
    "active",
    "completed",
    "de",
    "delay",
    "delayed",
    "dn",
    "events",
    "failed",
    "id",
    "limiter",
    "marker",
    "meta",
    "metrics",
    "paused",
    "pc",
    "prioritized",
    "priority",
    "repeat",
    "stalled",
    "stalled-check",
    "wait",
    "waiting-children",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    base: String,
    /// What is told of groups begins so. The base's hash tag, if it has one, is the first in it, too.
    groups: String,
    /// `<prefix>:<base64 of the queue's name>`, as BullMQ names its connections.
    client: String,
}

impl Keys {
    pub fn new(namespace: &str, prefix: &str, name: &QueueName) -> Self {
        let client = format!("{prefix}:{}", STANDARD.encode(name.as_str()));
        let base = format!("{prefix}:{name}:");
        let groups = format!("{namespace}:groups:{base}");
        Self { base, groups, client }
    }

    /// `<prefix>:<queue>:`
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `<namespace>:groups:<prefix>:<queue>:`
    pub fn groups(&self) -> &str {
        &self.groups
    }

    /// The hash of a job.
    pub fn job(&self, id: &str) -> String {
        format!("{}{id}", self.base)
    }

    /// Who holds a job.
    pub fn lock(&self, id: &str) -> String {
        format!("{}{id}:lock", self.base)
    }

    pub fn logs(&self, id: &str) -> String {
        format!("{}{id}:logs", self.base)
    }

    /// What idle workers block on.
    pub fn marker(&self) -> String {
        format!("{}marker", self.base)
    }

    pub fn meta(&self) -> String {
        format!("{}meta", self.base)
    }

    /// The job schedulers, scored by the time of each one's present run.
    pub fn schedulers(&self) -> String {
        format!("{}repeat", self.base)
    }

    /// The hash of a job scheduler.
    pub fn scheduler(&self, id: &str) -> String {
        format!("{}repeat:{id}", self.base)
    }

    /// The public log of the queue, a stream.
    pub fn events(&self) -> String {
        format!("{}events", self.base)
    }

    /// Whether `id` can be a job's at all, and does not name one of the queue's own keys or what hangs on a job.
    pub fn is_job(&self, id: &str) -> bool {
        is_job_id(id)
    }

    /// The name under which a worker's blocking connection is listed.
    pub fn worker_client(&self, worker_name: &str) -> String {
        // Redis refuses a name with blanks; the worker would be invisible.
        let seen: String = worker_name.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect();
        format!("{}:w:{seen}", self.client)
    }

    /// The worker's name in the name of its connection; empty for an unnamed one, `None` for other connections.
    pub(super) fn worker_of_client<'a>(&self, client_name: &'a str) -> Option<&'a str> {
        let rest = client_name.strip_prefix(&self.client)?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix(":w:") }
    }
}

/// # Errors
/// Why `id` cannot be a job's id of the producer's choice.
pub(super) fn check_id(id: &str) -> Result<(), AddError> {
    let digits = id.strip_prefix('-').unwrap_or(id);
    if id.is_empty() {
        Err(AddError::EmptyId)
    } else if id.len() > 512 {
        Err(AddError::LongId)
    } else if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        Err(AddError::IntegerId)
    } else if id.contains(':') {
        Err(AddError::ColonId)
    } else if SUFFIXES.contains(&id) {
        Err(AddError::ReservedId(id.to_owned()))
    } else {
        Ok(())
    }
}

/// As [`Keys::is_job`].
pub(super) fn is_job_id(id: &str) -> bool {
    // A scheduler's run, whose scheduler may have colons in its name.
    if let Some((scheduler, time)) = id.rsplit_once(':')
        && scheduler.starts_with("repeat:")
    {
        return !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit());
    }
    match id.split(':').collect::<Vec<_>>()[..] {
        [id] => !id.is_empty() && !SUFFIXES.contains(&id),
        // Node producers may choose ids of three parts.
        [first, _, _] => !SUFFIXES.contains(&first),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_break_the_queue_are_refused() {
        for good in ["a", "1a", "-", "a-1-2", "wait2", "job name"] {
            assert_eq!(check_id(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", AddError::EmptyId),
            ("0", AddError::IntegerId),
            ("5", AddError::IntegerId),
            ("-1", AddError::IntegerId),
            ("0:1", AddError::ColonId),
            ("a:b:c", AddError::ColonId),
            ("wait", AddError::ReservedId("wait".to_owned())),
            ("meta", AddError::ReservedId("meta".to_owned())),
        ] {
            assert_eq!(check_id(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn keys_that_are_no_jobs_are_known() {
        for job in ["1", "a b", "repeat:s:5", "a:b:c"] {
            assert!(is_job_id(job), "{job}");
        }
        for other in
            ["", "wait", "meta", "1:lock", "a:logs", "repeat:s", "repeat:s:x", "metrics:failed:data", "a:b:c:d"]
        {
            assert!(!is_job_id(other), "{other}");
        }
    }

    #[test]
    fn connections_are_named_as_bullmq_names_them() {
        let keys = Keys::new("onetake", "bull", &QueueName::parse("mail").unwrap());
        assert_eq!(keys.worker_client("w one"), "bull:bWFpbA==:w:w_one");
        assert_eq!(keys.worker_of_client("bull:bWFpbA=="), Some(""));
        assert_eq!(keys.worker_of_client("bull:bWFpbA==:w:x"), Some("x"));
        assert_eq!(keys.worker_of_client("bull:bWFpbA==:qe"), None);
        assert_eq!(keys.worker_of_client("bull:b3RoZXI=:w:x"), None);
    }
}
