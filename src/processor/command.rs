//! A program as a processor: the job as JSON on stdin, the result as JSON on stdout, the exit code decides.
//!
//! stdin    `{"id", "queue", "name", "data", "attempt", "step", "scratch"}`; it need not be read. In a later step of a job
//!          with children also `"children": [{"key", "kind", "result" or "failed_reason"}, ...]`: those that have ended, or
//!          null where they are too many or too large to be told
//! env      `TRACEPARENT` and `TRACESTATE`, where the job belongs to a trace
//! stdout   the result, one JSON value of at most 8 MiB; nothing at all is `null`
//! stderr   lines `progress: <json>` are the job's progress; the end of the rest is in the reason of a failure
//! exit 0   done (what is not JSON on stdout is a failure, and worth another attempt)
//! exit 65  (`EX_DATAERR` of sysexits.h) these data never work: the job fails for good
//! exit 75  (`EX_TEMPFAIL`) not done yet: what stdout says is done with the job, see `next`; if it says nothing, as
//!          "other"
//! other    the attempt failed and may be repeated; so do a signal and the time limit
//!
//! The program is killed with its children when it has ended, at the time limit, when the attempt is dropped, and when
//! this process dies (see `group`).

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;

use super::program::{self, Ended, Program};
use super::{Children, Failure, Processor, Progress, ReturnValue, Trace, Unfinished, Work};

/// The exit code that says: another attempt with these data is no use.
pub const EX_DATAERR: i32 = 65;

/// The exit code that says: not done yet, and stdout says what is to be done with the job.
pub const EX_TEMPFAIL: i32 = 75;

/// Runs a program for each job.
#[derive(Clone, Debug)]
pub struct Command {
    program: String,
    args: Vec<OsString>,
    time_limit: Duration,
}

/// The job, as the program reads it.
#[derive(Serialize)]
struct Input<'a> {
    id: &'a str,
    queue: &'a str,
    name: &'a str,
    data: &'a RawValue,
    attempt: u32,
    step: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    children: Option<&'a Children>,
    scratch: PathBuf,
}

impl Command {
    /// `program` is a path, or a name that is looked for in `PATH`.
    pub fn new(program: impl Into<String>, args: &[String], time_limit: Duration) -> Self {
        Self { program: program.into(), args: args.iter().map(OsString::from).collect(), time_limit }
    }
}

#[async_trait]
impl Processor for Command {
    fn uses_scratch(&self) -> bool {
        true
    }

    async fn process(&self, work: Work, progress: Progress) -> Result<ReturnValue, Failure> {
        let input = Input {
            id: &work.id,
            queue: &work.queue,
            name: &work.name,
            data: &work.data,
            attempt: work.attempt,
            step: work.step,
            children: work.children.as_ref(),
            scratch: std::path::absolute(&work.scratch).unwrap_or(work.scratch),
        };
        let input = serde_json::to_vec(&input)
            .map_err(|error| Failure::fatal(format!("the job cannot be written as JSON: {error}")))?;
        let program = Program {
            program: self.program.clone(),
            args: self.args.clone(),
            env: work.trace.as_ref().map(env).unwrap_or_default(),
            folder: None,
            input,
            time_limit: self.time_limit,
        };
        let ended = program.run(|line| reports(line, &progress)).await.map_err(|e| Failure::retry(e.to_string()))?;
        if ended.status.code() == Some(EX_TEMPFAIL) && !ended.stdout.trim_ascii().is_empty() {
            return Err(unfinished(&ended));
        }
        check(&ended)?;
        result(&ended)
    }
}

/// What the job's trace is called in a program's environment.
fn env(trace: &Trace) -> Vec<(&'static str, String)> {
    let state = trace.state().map(|state| ("TRACESTATE", state.to_owned()));
    [("TRACEPARENT", trace.parent().to_owned())].into_iter().chain(state).collect()
}

fn unfinished(ended: &Ended) -> Failure {
    match Unfinished::parse(&ended.stdout) {
        Ok(unfinished) => Failure::Unfinished(unfinished),
        Err(error) => {
            let said = program::with(&program::tail_of(&ended.stdout));
            Failure::retry(format!("exit code {EX_TEMPFAIL}, but stdout does not say what is next ({error}){said}"))
        }
    }
}

/// Reports a line `progress: <json>`; any other line is not ours.
pub(crate) fn reports(line: &str, progress: &Progress) -> bool {
    let value = line.strip_prefix("progress:").and_then(|json| serde_json::from_str(json).ok());
    value.map(|value| progress(value)).is_some()
}

/// Whether the program says that it succeeded.
///
/// # Errors
/// What its exit code means, with the end of stderr.
pub(crate) fn check(ended: &Ended) -> Result<(), Failure> {
    if ended.status.success() {
        return Ok(());
    }
    let reason = format!("{}{}", how(ended.status), program::with(&ended.tail));
    match ended.status.code() {
        Some(EX_DATAERR) => Err(Failure::fatal(reason)),
        _ => Err(Failure::retry(reason)),
    }
}

/// What the program wrote on stdout; nothing is `null`.
///
/// # Errors
/// It is not JSON.
pub(crate) fn result(ended: &Ended) -> Result<ReturnValue, Failure> {
    if ended.stdout.trim_ascii().is_empty() {
        return Ok(ReturnValue::null());
    }
    ReturnValue::read(&ended.stdout).map_err(|error| {
        let said = [program::tail_of(&ended.stdout), ended.tail.clone()].join("\n");
        Failure::retry(format!("stdout is not JSON ({error}): {}", said.trim()))
    })
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::{Arc, Mutex};

    use nix::sys::signal::kill;
    use nix::unistd::Pid;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::processor::Next;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const AMPLE: Duration = Duration::from_secs(30);

    struct Bench {
        scratch: TempDir,
        reported: Arc<Mutex<Vec<Value>>>,
    }

    impl Bench {
        fn new() -> Self {
            Self { scratch: TempDir::new().unwrap(), reported: Arc::default() }
        }

        fn work(&self, data: &Value) -> Work {
            Work {
                id: "7".into(),
                identity: "1@1".into(),
                queue: "mail".into(),
                name: "greet".into(),
                data: serde_json::value::to_raw_value(data).unwrap(),
                attempt: 2,
                step: 1,
                children: None,
                trace: Trace::parse(PARENT, None),
                scratch: self.scratch.path().to_owned(),
            }
        }

        fn progress(&self) -> Progress {
            let reported = self.reported.clone();
            Arc::new(move |value| reported.lock().unwrap().push(value))
        }

        async fn run(&self, script: &str, data: Value, time_limit: Duration) -> Result<Value, Failure> {
            let command = Command::new("sh", &["-c".into(), script.into()], time_limit);
            command.process(self.work(&data), self.progress()).await.map(|returned| returned.to_value())
        }
    }

    async fn run(script: &str) -> Result<Value, Failure> {
        Bench::new().run(script, json!(null), AMPLE).await
    }

    /// Whether a process is there; one that is dead and not yet collected is not.
    fn is_alive(pid: i32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        kill(Pid::from_raw(pid), None).is_ok() && !stat.contains(") Z ")
    }

    async fn is_gone(pid: i32) -> bool {
        let gone = async {
            while is_alive(pid) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(AMPLE, gone).await.is_ok()
    }

    fn pid_in(path: &std::path::Path) -> Option<i32> {
        fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok()
    }

    #[tokio::test]
    async fn the_job_is_on_stdin_and_the_result_on_stdout() {
        let bench = Bench::new();
        let seen = bench.run("cat", json!({"n": 1}), AMPLE).await.unwrap();
        let scratch = bench.scratch.path();
        assert_eq!(
            seen,
            json!({"id": "7", "queue": "mail", "name": "greet", "data": {"n": 1}, "attempt": 2, "step": 1, "scratch": scratch})
        );
    }

    #[tokio::test]
    async fn the_trace_is_in_the_environment() {
        assert_eq!(run(r#"printf '"%s"' "$TRACEPARENT$TRACESTATE""#).await, Ok(json!(PARENT)));
    }

    #[tokio::test]
    async fn a_program_may_say_that_it_has_more_to_do() {
        let said = Unfinished { next: Next::Delay(Duration::from_millis(5)), data: Some("[1]".into()), add: None };
        let script = r#"echo '{"next":"delay","ms":5,"data":[1]}'; exit 75"#;
        assert_eq!(run(script).await, Err(Failure::Unfinished(said)));
        assert_eq!(run("exit 75").await, Err(Failure::retry("exit code 75")), "whoever says nothing has failed");
        let unclear = run("echo later; exit 75").await.unwrap_err();
        assert!(matches!(&unclear, Failure::Retry { reason } if reason.ends_with(": later")), "{unclear:?}");
        let result = json!({"next": "wait"});
        assert_eq!(run(&format!("echo '{result}'")).await, Ok(result), "a result may look as it wants");
    }

    #[tokio::test]
    async fn silence_is_null() {
        assert_eq!(run("echo; echo chatter >&2").await, Ok(Value::Null));
    }

    #[tokio::test]
    async fn progress_lines_are_reported_and_the_others_are_the_reason() {
        let bench = Bench::new();
        let script =
            "echo 'progress: 10' >&2; echo 'progress: {\"step\":\"two\"}' >&2; echo 'progress: soon' >&2; exit 3";
        let failure = bench.run(script, json!(null), AMPLE).await.unwrap_err();
        assert_eq!(failure, Failure::retry("exit code 3: progress: soon"));
        assert_eq!(*bench.reported.lock().unwrap(), [json!(10), json!({"step": "two"})]);
    }

    #[tokio::test]
    async fn the_exit_code_decides() {
        assert_eq!(run("echo bad data >&2; exit 65").await, Err(Failure::fatal("exit code 65: bad data")));
        assert_eq!(run("kill -9 $$").await, Err(Failure::retry("killed by signal 9")));
        let long = run("seq 1 100000 >&2; echo the cause >&2; exit 1").await.unwrap_err();
        assert!(long.reason().ends_with("99999\n100000\nthe cause"), "{long:?}");
        assert!(long.reason().len() < 2200);
    }

    #[tokio::test]
    async fn rubbish_on_stdout_is_a_failure_that_shows_it() {
        let failure = run("echo '{\"half\":'; echo warned >&2").await.unwrap_err();
        assert!(matches!(failure, Failure::Retry { .. }));
        assert!(
            failure.reason().contains("not JSON") && failure.reason().ends_with("{\"half\":\nwarned"),
            "{failure:?}"
        );
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let command = Command::new("/no/such/program", &[], AMPLE);
        let bench = Bench::new();
        let failure = command.process(bench.work(&json!(1)), bench.progress()).await.unwrap_err();
        assert!(failure.reason().starts_with("cannot start /no/such/program: "), "{failure:?}");
    }

    #[tokio::test]
    async fn a_program_need_not_read_its_input() {
        let large = json!("x".repeat(4 * 1024 * 1024));
        assert_eq!(Bench::new().run("exec <&-; echo 1", large.clone(), AMPLE).await, Ok(json!(1)));
        assert_eq!(Bench::new().run("echo 2", large, AMPLE).await, Ok(json!(2)));
    }

    #[tokio::test]
    async fn large_input_and_large_output_flow_at_once() {
        let large = json!("x".repeat(4 * 1024 * 1024));
        let echoed = Bench::new().run("cat", large.clone(), AMPLE).await.unwrap();
        assert_eq!(echoed["data"], large);
    }

    #[tokio::test]
    async fn endless_output_is_stopped() {
        let failure = run("echo odd >&2; cat /dev/zero").await.unwrap_err();
        assert!(failure.reason().starts_with("wrote more than 8388608 bytes"), "{failure:?}");
        assert!(failure.reason().ends_with(": odd"), "{failure:?}");
    }

    #[tokio::test]
    async fn at_the_time_limit_the_children_die_too() {
        let bench = Bench::new();
        let child = bench.scratch.path().join("child");
        let script = format!("echo started >&2; sleep 1000 & echo $! > {}; wait", child.display());
        let failure = bench.run(&script, json!(null), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(failure, Failure::retry("took longer than 1s and was killed: started"));
        assert!(is_gone(pid_in(&child).expect("the script had a second to start")).await);
    }

    #[tokio::test]
    async fn dropping_the_attempt_kills_program_and_children() {
        let bench = Bench::new();
        let child = bench.scratch.path().join("child");
        let script = format!("sleep 1000 & echo $! > {}; wait", child.display());
        let started = async {
            loop {
                if let Some(pid) = pid_in(&child) {
                    break pid;
                }
                tokio::task::yield_now().await;
            }
        };
        let pid = tokio::select! {
            ended = bench.run(&script, json!(null), AMPLE) => panic!("it ended: {ended:?}"),
            pid = started => pid,
        };
        assert!(is_gone(pid).await);
    }

    #[tokio::test]
    async fn a_child_in_the_background_does_not_hold_the_result_back_and_is_killed() {
        let bench = Bench::new();
        let child = bench.scratch.path().join("child");
        let script = format!("sleep 1000 & echo $! > {}; echo 42", child.display());
        assert_eq!(bench.run(&script, json!(null), AMPLE).await, Ok(json!(42)));
        assert!(is_gone(pid_in(&child).unwrap()).await);
    }
}
