//! A program's process group: what starts with the program ends with it, even if we are killed ourselves.
//!
//! A program runs as the leader of a group of its own, and so do the children it starts. [`Group`] kills them all when
//! it is dropped. If this process dies without dropping anything (SIGKILL, out of memory), the [`Watch`] does it: one
//! small shell per server that reads a pipe from us, learns which groups are alive, and kills them when the pipe ends.
//! (A parent-death signal would fire when the *thread* that spawned ends, and would not reach the grandchildren.)
//!
//! Not promised: a process that leaves its group (`setsid`) is out of reach, and one started within the last
//! microseconds before our own death may be missed. What such an orphan does is fenced off: its result has no way in.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tracing::warn;

/// The process group of a program that was started with `process_group(0)`. Dropping it kills whoever is left in it.
#[derive(Debug)]
pub(crate) struct Group(Pid);

impl Group {
    /// Starts the watch, so that a program that starts next is told to it at once.
    pub(crate) fn prepare() {
        WATCH.with(|_| Ok(()));
    }

    /// Takes charge of the group that the program with this process id leads.
    pub(crate) fn led_by(leader: u32) -> Self {
        let group = Pid::from_raw(leader.cast_signed());
        WATCH.tell('+', group);
        Self(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // An error means that nobody is left in it.
        let _ = killpg(self.0, Signal::SIGKILL);
        WATCH.tell('-', self.0);
    }
}

static WATCH: Watch = Watch(Mutex::new(None));

/// The shell that outlives us for a moment.
struct Watch(Mutex<Option<Watcher>>);

struct Watcher {
    pipe: ChildStdin,
    shell: Child,
}

/// Keeps the list of living groups from lines such as "+ 123" and "- 123"; the end of the input is our death.
const SCRIPT: &str = r#"
groups=
while read -r sign group; do
    left=
    for other in $groups; do
        [ "$other" = "$group" ] || left="$left $other"
    done
    groups=$left
    [ "$sign" = + ] && groups="$groups $group"
done
for group in $groups; do
    kill -s KILL -- "-$group" 2>/dev/null
done
"#;

impl Watch {
    fn tell(&self, sign: char, group: Pid) {
        self.with(|watcher| watcher.pipe.write_all(format!("{sign} {group}\n").as_bytes()));
    }

    /// Never fails: without a watch, programs run as well, only their orphans live on.
    fn with(&self, told: impl FnOnce(&mut Watcher) -> std::io::Result<()>) {
        let mut watcher = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.is_none() {
            match Watcher::start() {
                Ok(started) => *watcher = Some(started),
                Err(error) => return warn!(%error, "programs will outlive this process if it is killed: no shell"),
            }
        }
        if let Some(Err(_)) = watcher.as_mut().map(told)
            && let Some(mut ended) = watcher.take()
        {
            // Somebody ended the shell. The next program gets a new one, which knows nothing of those that run now.
            let _ = ended.shell.kill();
            let _ = ended.shell.wait();
        }
    }
}

impl Watcher {
    fn start() -> std::io::Result<Self> {
        // In a group of its own, so that Ctrl-C in a terminal ends us and leaves it to tidy up.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "onetake-watch"])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = shell.stdin.take().expect("stdin was asked for above");
        Ok(Self { pipe, shell })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn when_we_die_the_watch_kills_the_groups_that_were_left() {
        let mut sleeper = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let mut finished = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let mut watcher = Watcher::start().unwrap();
        for (sign, child) in [('+', &sleeper), ('+', &finished), ('-', &finished)] {
            writeln!(watcher.pipe, "{sign} {}", child.id()).unwrap();
        }

        drop(watcher.pipe); // what the kernel does for a process that dies
        assert!(watcher.shell.wait().unwrap().code().is_some());

        assert!(!sleeper.wait().unwrap().success());
        assert!(finished.try_wait().unwrap().is_none(), "a group that was signed off is nobody's business");
        finished.kill().unwrap();
        finished.wait().unwrap();
    }

    #[test]
    fn dropping_a_group_kills_the_children_too() {
        let mut leader = Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(leader.stdout.take().unwrap());
        let mut child = String::new();
        said.read_line(&mut child).unwrap();

        drop(Group::led_by(leader.id()));

        // Both held the pipe open: its end says that both are gone.
        assert_eq!(said.read_line(&mut String::new()).unwrap(), 0);
        assert!(!leader.wait().unwrap().success());
    }
}
