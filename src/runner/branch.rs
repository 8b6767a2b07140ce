//! Children that a processor gives the job it works on, and what they leave for the job's next step.
//!
//! They are added in the call that lets the job wait for them. So a processor or a server that dies before has added nothing,
//! and the step is run again; one that dies after has nothing left to do. Nobody adds them twice.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::admit::for_good;
use crate::clock::Millis;
use crate::id;
use crate::processor::{Child, Children};
use crate::queue::{self, ChildKind, Ended, Error, Flow, How, MOST_JOBS, Plan, Queue};

/// Reads the JSON list of flows that a processor wants to be children of its job; an error says for people what is wrong.
pub type ReadFlows = Arc<dyn Fn(&str) -> Result<Vec<Flow>, String> + Send + Sync>;

/// What becomes of a job that would be `moved` to its children, and is given those of `list` first.
pub(super) fn branch(queue: &Queue, id: &str, list: &str, read: &ReadFlows, moved: How, now: Millis) -> How {
    let flows = match read(list) {
        Ok(flows) => flows,
        Err(reason) => return for_good(reason),
    };
    match moved {
        How::Move { data, step, .. } if !flows.is_empty() => {
            match Plan::of_children(queue, id, &flows, &format!("f-{}", id::new_id()), now) {
                Ok(children) => How::Branch { children, data, step },
                Err(error) => for_good(error.told("add")),
            }
        }
        moved => moved,
    }
}

/// How many of `ended` may ride in one call without holding Redis up by their new children.
pub(super) fn together(ended: &[Ended]) -> usize {
    let mut children = 0;
    let fits = |ended: &&Ended| {
        if let How::Branch { children: plan, .. } = &ended.how {
            children += plan.size();
        }
        children <= MOST_JOBS
    };
    ended.iter().take_while(fits).count()
}

/// What the children of a job left for it; nothing if it has none that have ended.
pub(super) async fn children_of(queue: &Queue, id: &str) -> Result<Option<Children>, Error> {
    let Some(found) = queue.children_results(id).await? else { return Ok(Some(Children::TooMuch)) };
    let child = |(kind, queue::Child { key, told }): (ChildKind, queue::Child)| match kind {
        ChildKind::Processed => {
            let result = told.and_then(|text| RawValue::from_string(text).ok());
            let result = Some(result.unwrap_or_else(|| RawValue::NULL.to_owned()));
            Child { key, kind: kind.as_str(), result, failed_reason: None }
        }
        _ => Child { key, kind: kind.as_str(), result: None, failed_reason: told },
    };
    let told: Vec<_> = found.into_iter().map(child).collect();
    Ok((!told.is_empty()).then_some(Children::Told(told)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::QueueName;
    use crate::queue::Add;
    use crate::redis::testing::Server;

    #[tokio::test]
    async fn many_new_children_ride_in_several_calls() {
        let server = Server::start();
        let queue = Queue::new(server.connect().await, "bull", QueueName::parse("q").unwrap());
        let flow = Flow::new(queue.clone(), Add::new("n", RawValue::NULL.to_owned()));
        let branches = |count: usize| {
            let children = Plan::of_children(&queue, "p", &vec![flow.clone(); count], "f", 0).unwrap();
            How::Branch { children, data: None, step: 1 }
        };
        let seen = |hows: &[How]| {
            let ended = |how: &How| Ended { id: "p".into(), token: "t".into(), how: how.clone() };
            together(&hows.iter().map(ended).collect::<Vec<_>>())
        };
        assert_eq!(seen(&[branches(400), How::Wait, branches(600), How::Wait, branches(1), How::Wait]), 4);
        assert_eq!(seen(&[branches(MOST_JOBS), branches(MOST_JOBS)]), 1, "one always fits");
        assert_eq!(seen(&[How::Wait, How::Wait]), 2);
        assert_eq!(seen(&[]), 0);
    }
}
