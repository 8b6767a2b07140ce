//! Breadth-first through all states; the first broken one is shown with the shortest way to it.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

pub trait Model {
    type State: Clone + Eq + Hash + Debug;

    fn first(&self) -> Self::State;

    /// Every state that one step leads to, with the step's name.
    fn next(&self, state: &Self::State) -> Vec<(String, Self::State)>;

    /// What is wrong in this state.
    fn wrong(&self, state: &Self::State) -> Option<String>;
}

/// Takes a step's name, and what it changes.
pub type Go<'a, S> = dyn FnMut(String, &dyn Fn(&mut S)) + 'a;

/// How many states there are; or the steps that lead to the first wrong one, and what is wrong there.
///
/// # Errors
/// The way to a wrong state.
pub fn search<M: Model>(model: &M) -> Result<usize, Vec<String>> {
    let first = model.first();
    let mut seen = vec![(first.clone(), None::<(usize, String)>)];
    let mut known = HashMap::from([(first, 0)]);
    let mut queue = VecDeque::from([0]);
    while let Some(at) = queue.pop_front() {
        let state = seen[at].0.clone();
        if let Some(wrong) = model.wrong(&state) {
            let mut way = vec![wrong, format!("{state:?}")];
            let mut from = at;
            while let Some((before, step)) = &seen[from].1 {
                way.push(step.clone());
                from = *before;
            }
            way.reverse();
            return Err(way);
        }
        for (step, next) in model.next(&state) {
            if !known.contains_key(&next) {
                known.insert(next.clone(), seen.len());
                queue.push_back(seen.len());
                seen.push((next, Some((at, step))));
            }
        }
        assert!(seen.len() < 20_000_000, "the model is too large to be searched whole");
    }
    Ok(seen.len())
}
