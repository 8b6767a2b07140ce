//! What must hold whatever happened: said of the tables alone, without the reference.

use super::picture::Picture;

/// # Errors
/// The first sentence that is not true of `now`, which came of `before` in one step. `may_forget`: the step was a release.
pub fn check(before: &Picture, now: &Picture, may_forget: bool) -> Result<(), String> {
    for (key, flight) in &now.flights {
        let has_ended = now.runs.contains_key(&(key.clone(), flight.generation));
        holds(flight.is_open() != has_ended, || {
            format!("{key}: a generation is open or has ended, not both or neither")
        })?;
        let earlier = (1..flight.generation).all(|generation| now.runs.contains_key(&(key.clone(), generation)));
        holds(earlier, || format!("{key}: no run begins before the one before it has ended"))?;
        holds(flight.token.is_some() == (flight.state == "running"), || format!("{key}: who runs has a token"))?;
        if let Some(made) = &flight.result {
            let run = now.runs.get(&(key.clone(), made.generation));
            holds(run.is_some_and(|run| run.state == "succeeded" && run.told == made.value), || {
                format!("{key}: what is served was made by the run that it names")
            })?;
        }
        let Some(was) = before.flights.get(key) else { continue };
        holds(flight.generation >= was.generation, || format!("{key}: generations only rise"))?;
        if flight.result != was.result {
            let is_newer = flight
                .result
                .as_ref()
                .is_some_and(|made| made.generation == was.generation && was.is_open() && flight.state == "succeeded");
            holds(is_newer || may_forget, || format!("{key}: a result is replaced by a success only"))?;
        }
    }
    for (id, request) in &now.requests {
        let has_ended = now.runs.contains_key(&(request.key.clone(), request.generation));
        let has_delivery = now.deliveries.contains_key(id);
        holds(has_ended || !has_delivery, || format!("{id}: nobody is told of a run that has not ended"))?;
        holds(has_delivery || !has_ended || request.state == "left", || format!("{id}: who stayed is told"))?;
    }
    for (id, run) in &before.runs {
        holds(now.runs.get(id) == Some(run), || format!("{id:?}: how a run ended stays as it is"))?;
    }
    for (id, was) in &before.deliveries {
        let Some(delivery) = now.deliveries.get(id) else { return Err(format!("{id}: a delivery does not vanish")) };
        let was_over = was.state == "delivered";
        holds(!was_over || delivery == was, || format!("{id}: what was delivered is not touched again"))?;
    }
    Ok(())
}

fn holds(sentence: bool, told: impl Fn() -> String) -> Result<(), String> {
    if sentence { Ok(()) } else { Err(told()) }
}
