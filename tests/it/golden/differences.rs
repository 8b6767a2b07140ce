//! Where we differ from Node on purpose, and why.

use super::compare::Discrepancy;

/// A kind of discrepancy that is meant. In texts, `*` stands for anything.
struct Difference {
    /// Of `bullmq`; 0 for both.
    major: u8,
    scene: &'static str,
    what: &'static str,
    #[expect(dead_code, reason = "read by people")]
    why: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        major: 0,
        scene: "*",
        what: "q:meta.opts.maxLenEvents is \"10000\", not absent",
        why: "every verb that tells something sees to it that the stream has an end, not only some",
    },
    Difference {
        major: 0,
        scene: "*",
        what: "q:marker.0 is absent, not \"0\"",
        why: "a worker is woken by a take only if something is left to take (that it is then, is asserted)",
    },
    Difference {
        major: 0,
        scene: "*",
        what: "*.opts.attempts is absent, not 0",
        why: "absent means 0 to every client; BullMQ's own crate writes none either",
    },
    Difference {
        major: 0,
        scene: "walk: failed jobs are not kept",
        what: "q:*.opts.removeOnFail is 1, not {\"count\":1}",
        why: "one shape for one meaning: every client reads both",
    },
    Difference {
        major: 0,
        scene: "walk: held, but not active",
        what: "q:1*",
        why: "what is refused changes nothing: BullMQ removes the lock and writes the failure before it refuses",
    },
    Difference {
        major: 0,
        scene: "walk: waiting, but gone",
        what: "*",
        why: "an id without a job is passed over: BullMQ runs it as a job without a name",
    },
    Difference {
        major: 0,
        scene: "bulk: all failed ones again",
        what: "q:*",
        why: "jobs keep their priorities when all are retried at once, as when one is",
    },
    Difference {
        major: 0,
        scene: "bulk: all promoted",
        what: "q:*",
        why: "jobs keep their priorities when all are promoted at once, and lose their delay, as when one is",
    },
    Difference {
        major: 0,
        scene: "bulk: obliterated",
        what: "event missing: q: paused",
        why: "a queue that is not paused is refused, and not paused by being refused",
    },
    Difference {
        major: 0,
        scene: "flows: a parent is removed with its children",
        what: "event *",
        why: "nobody is told that a parent waits which is being removed with the children that held it up",
    },
    Difference {
        major: 0,
        scene: "flows: drained with a parent elsewhere",
        what: "event too many: p: waiting jobId=P prev=waiting-children",
        why: "whoever watches the other queue learns that the parent waits; BullMQ moves it in silence",
    },
    Difference {
        major: 0,
        scene: "flows: another one's child",
        what: "q:id is *",
        why: "what is refused changes nothing, not even the counter",
    },
    Difference {
        major: 0,
        scene: "flows: a parent that has ended",
        what: "*",
        why: "a job that never runs again is given no children: nobody would read what they make",
    },
    Difference {
        major: 5,
        scene: "*paused*",
        what: "q:*",
        why: "jobs stay in wait while a queue is paused, as with BullMQ 6; where they are is the difference",
    },
    Difference { major: 5, scene: "bulk: obliterated", what: "q:*", why: "the same, between pausing and removing" },
    Difference {
        major: 5,
        scene: "dedupe: *",
        what: "event missing: q: debounced *",
        why: "the older name of deduplicated, told beside it; BullMQ 6 has done away with it",
    },
    Difference {
        major: 5,
        scene: "dedupe: another add puts a delayed one off",
        what: "*",
        why: "an option of BullMQ 6 alone",
    },
    Difference {
        major: 5,
        scene: "dedupe: an owner that is gone",
        what: "*",
        why: "as with BullMQ 6, an id whose owner was deleted is free: otherwise it would be taken for ever",
    },
    Difference {
        major: 5,
        scene: "*",
        what: "q:repeat:s:*.nrjid is absent, not *",
        why: "nobody reads it any more: the scheduler's score says which run is next",
    },
    Difference {
        major: 5,
        scene: "change: a failed one again",
        what: "q:*",
        why: "as with BullMQ 6, a retried job keeps its priority",
    },
];

/// Fails for what is different without being meant to, and for what is meant to be but is not.
pub fn judge(found: &[Discrepancy]) {
    let mut needed = vec![false; DIFFERENCES.len()];
    let mut wrong = Vec::new();
    for discrepancy in found {
        let mut is_meant = false;
        for (difference, needed) in DIFFERENCES.iter().zip(&mut needed) {
            let is_this = (difference.major == 0 || difference.major == discrepancy.major)
                && matches(difference.scene, &discrepancy.scene)
                && matches(difference.what, &discrepancy.what);
            is_meant |= is_this;
            *needed |= is_this;
        }
        if !is_meant {
            let Discrepancy { major, scene, what, step } = discrepancy;
            wrong.push(format!("bullmq {major}, {scene}: {what}\n    since {step}"));
        }
    }
    for (difference, needed) in DIFFERENCES.iter().zip(needed) {
        if !needed {
            wrong.push(format!("needed by nothing: {} in \"{}\"", difference.what, difference.scene));
        }
    }
    assert!(wrong.is_empty(), "{} discrepancies:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether `text` is as `pattern` says, where each `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn patterns_match_what_they_name() {
    assert!(matches("a*c", "abc") && matches("*", "") && matches("abc", "abc") && matches("a*b*c", "a1b2c"));
    assert!(!matches("a*c", "abd") && !matches("abc", "abcd") && !matches("a*b*c", "ac"));
}
