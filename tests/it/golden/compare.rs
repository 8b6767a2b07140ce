//! Where two engines differ, one line each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Keys, Left, Step, apply, is_given};
use crate::support::node::BullMq;

/// Something of ours that is not as theirs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Discrepancy {
    pub major: u8,
    pub scene: String,
    /// What it is, such as `q:1.atm is "1", not "2"`.
    pub what: String,
    /// Where it was seen first.
    pub step: String,
}

pub fn scene(version: BullMq, scene: &str, steps: &[Step], ours: &[Left], theirs: &[Left]) -> Vec<Discrepancy> {
    assert_eq!(steps.len(), theirs.len(), "\"{scene}\" is recorded with other steps: make golden");
    let major = if version == BullMq::V5 { 5 } else { 6 };
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let (mut our_keys, mut their_keys) = (Keys::new(), Keys::new());
    for (number, (step, (our, their))) in steps.iter().zip(ours.iter().zip(theirs)).enumerate() {
        apply(&mut our_keys, our);
        apply(&mut their_keys, their);
        let mut lines = Vec::new();
        if !is_given(step) {
            if our.said != their.said {
                lines.push(format!("{} said {}, not {}", step["do"].as_str().unwrap_or("?"), our.said, their.said));
            }
            events(&our.events, &their.events, &mut lines);
        }
        keys(&our_keys, &their_keys, &mut lines);
        for what in lines {
            // What a key holds stays for many steps; it is one discrepancy.
            if seen.insert(what.clone()) {
                let step = format!("step {}, {step}", number + 1);
                found.push(Discrepancy { major, scene: scene.to_owned(), what, step });
            }
        }
    }
    found
}

fn events(ours: &[String], theirs: &[String], lines: &mut Vec<String>) {
    let mut counts = BTreeMap::<&String, i32>::new();
    for event in ours {
        *counts.entry(event).or_default() += 1;
    }
    for event in theirs {
        *counts.entry(event).or_default() -= 1;
    }
    let before = lines.len();
    for (event, count) in counts {
        match count {
            0 => {}
            1.. => lines.push(format!("event too many: {event}")),
            _ => lines.push(format!("event missing: {event}")),
        }
    }
    if lines.len() == before && ours != theirs {
        lines.push(format!("events in another order: {ours:?}, not {theirs:?}"));
    }
}

fn keys(ours: &Keys, theirs: &Keys, lines: &mut Vec<String>) {
    let all: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    for key in all {
        values(key, ours.get(key.as_str()), theirs.get(key.as_str()), lines);
    }
}

/// Goes into objects: a hash field by field, a sorted set member by member, options one by one.
fn values(path: &str, ours: Option<&Value>, theirs: Option<&Value>, lines: &mut Vec<String>) {
    let empty = serde_json::Map::new();
    match (ours.map(Value::as_object), theirs.map(Value::as_object)) {
        (Some(None), _) | (_, Some(None)) | (None, None) => {
            if ours != theirs {
                let shown = |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), Value::to_string);
                lines.push(format!("{path} is {}, not {}", shown(ours), shown(theirs)));
            }
        }
        (our, their) => {
            let (our, their) = (our.flatten().unwrap_or(&empty), their.flatten().unwrap_or(&empty));
            let before = lines.len();
            for name in our.keys().chain(their.keys()).collect::<BTreeSet<_>>() {
                // The kinds of keys are no part of what is read.
                let path = match name.as_str() {
                    "hash" | "zset" | "list" | "set" | "text" => path.to_owned(),
                    name => format!("{path}.{name}"),
                };
                values(&path, our.get(name), their.get(name), lines);
            }
            if lines.len() == before && ours.is_some() != theirs.is_some() {
                let (is, not) = if ours.is_some() { ("{}", "absent") } else { ("absent", "{}") };
                lines.push(format!("{path} is {is}, not {not}"));
            }
        }
    }
}
