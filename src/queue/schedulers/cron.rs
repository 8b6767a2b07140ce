//! The cron dialect of BullMQ's schedulers: that of npm's cron-parser, which Node workers read the same patterns with.
//!
//! Its grammar is checked here, so that nothing is accepted at which a Node worker would stop; `croner` finds the days
//! and times; what a clock that is set forward or back does to them is cron-parser's rule again. A time that is left out
//! comes as much later. A time that comes twice counts once, unless the pattern names every hour. Who asks after the
//! change, in the same hour, is told as if there had been none.
//!
//! Where the parsers of BullMQ 5 and 6 differ, 6 is followed: a day field is free only if it is `*` or `?`, so that
//! `1-31` together with a weekday means every day; and no value is named twice. Not taken: `H`, which only BullMQ 6
//! knows, and for which each process rolls dice of its own; and slips of the pen that the parsers let pass (`1-5-7`).

use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::clock::Millis;

/// When, again and again.
#[derive(Clone, Debug)]
pub struct Cron {
    times: croner::Cron,
    zone: TimeZone,
    is_hourly: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("{0}")]
    Pattern(String),
    #[error("\"{0}\" is no time zone of the IANA database, such as Europe/Berlin")]
    TimeZone(String),
}

impl Cron {
    /// Without a zone, this machine's counts: then it matters who takes a run, as with Node workers.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn parse(pattern: &str, zone: Option<&str>) -> Result<Self, CronError> {
        let zone = match zone {
            Some(name) => named_zone(name).ok_or_else(|| CronError::TimeZone(name.to_owned()))?,
            None => TimeZone::system(),
        };
        let fields = canonical(pattern).map_err(CronError::Pattern)?;
        let times = croner::Cron::from_str(&fields.join(" ")).map_err(|e| CronError::Pattern(e.to_string()))?;
        Ok(Self { times, zone, is_hourly: fields[2] == "*" })
    }

    /// The first time after `after`; `None` if there is none.
    pub fn next_after(&self, after: Millis) -> Option<Millis> {
        let after = Timestamp::from_millisecond(after).ok()?;
        // Around a change of the clock, readings and instants are not in the same order: look at a little more.
        let mut from = self.reading(after)?.checked_sub(self.shift_near(after)).ok()?;
        let mut is_inclusive = true;
        let mut best: Option<(Timestamp, DateTime)> = None;
        while let Ok(at) = self.times.find_next_occurrence(&from, is_inclusive) {
            if best.is_some_and(|(_, last)| at > last) {
                break;
            }
            for instant in self.instants(at, after) {
                if instant > after && best.is_none_or(|(earliest, _)| instant < earliest) {
                    let last = self.reading(instant)?.checked_add(self.shift_near(instant)).ok()?;
                    best = Some((instant, last));
                }
            }
            (from, is_inclusive) = (at, false);
        }
        best.map(|(instant, _)| instant.as_millisecond())
    }

    /// What the clock on the wall shows, in whole seconds.
    fn reading(&self, instant: Timestamp) -> Option<DateTime> {
        self.zone.to_datetime(instant).with().subsec_nanosecond(0).build().ok()
    }

    /// When it is time for what the clock on the wall shows as `at`, in the eyes of somebody who asks at `now`.
    fn instants(&self, at: DateTime, now: Timestamp) -> impl Iterator<Item = Timestamp> + use<> {
        let at = self.zone.to_ambiguous_timestamp(at);
        let (earlier, later) = (at.earlier().ok(), at.later().ok());
        // The clock is set between the two.
        let is_set =
            earlier.and_then(|earlier| self.zone.following(earlier).next()).is_some_and(|set| set.timestamp() <= now);
        let (first, second) = match at.offset() {
            AmbiguousOffset::Unambiguous { .. } => (earlier, None),
            AmbiguousOffset::Gap { .. } => (later.filter(|_| !is_set), None),
            AmbiguousOffset::Fold { .. } => (earlier, later.filter(|_| self.is_hourly || is_set)),
        };
        first.into_iter().chain(second)
    }

    /// By how much the clock is set within some hours.
    fn shift_near(&self, instant: Timestamp) -> SignedDuration {
        let offset = |hours| {
            let near = instant.checked_add(SignedDuration::from_hours(hours)).unwrap_or(instant);
            self.zone.to_offset(near).seconds()
        };
        SignedDuration::from_secs(i64::from((offset(-3) - offset(3)).abs()))
    }
}

/// Names of the database, and `UTC+3` as luxon writes it.
fn named_zone(name: &str) -> Option<TimeZone> {
    let hours_of = |rest: &str| -> Option<TimeZone> {
        let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        let seconds = hours * 3600 + hours.signum() * minutes * 60;
        Some(TimeZone::fixed(Offset::from_seconds(seconds).ok()?))
    };
    TimeZone::get(name).ok().or_else(|| {
        let rest = name.get(..3).filter(|utc| utc.eq_ignore_ascii_case("utc")).and_then(|_| name.get(3..))?;
        rest.starts_with(['+', '-']).then(|| hours_of(rest))?
    })
}

/// One of the six places of a pattern.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    names: &'static [&'static str],
    /// If the pattern does not say.
    default: &'static str,
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 6] = [
    Field { name: "second", min: 0, max: 59, names: &[], default: "0" },
    Field { name: "minute", min: 0, max: 59, names: &[], default: "*" },
    Field { name: "hour", min: 0, max: 23, names: &[], default: "*" },
    Field { name: "day of the month", min: 1, max: 31, names: &[], default: "*" },
    Field { name: "month", min: 1, max: 12, names: MONTHS, default: "*" },
    Field { name: "day of the week", min: 0, max: 7, names: WEEKDAYS, default: "*" },
];
const DAY: usize = 3;
const MONTH: usize = 4;
const WEEKDAY: usize = 5;

const NICKNAMES: &[(&str, &str)] = &[
    ("@yearly", "0 0 0 1 1 *"),
    ("@annually", "0 0 0 1 1 *"),
    ("@monthly", "0 0 0 1 * *"),
    ("@weekly", "0 0 0 * * 0"),
    ("@daily", "0 0 0 * * *"),
    ("@hourly", "0 0 * * * *"),
    ("@minutely", "0 * * * * *"),
    ("@secondly", "* * * * * *"),
    ("@weekdays", "0 0 0 * * 1-5"),
    ("@weekends", "0 0 0 * * 0,6"),
];

/// The six fields as lists of numbers, in the words of `croner`; `*` where nothing is left out of a time or a day is free.
fn canonical(pattern: &str) -> Result<[String; 6], String> {
    let pattern = pattern.trim();
    let pattern = NICKNAMES.iter().find(|(name, _)| *name == pattern).map_or(pattern, |(_, meaning)| meaning);
    let given: Vec<&str> = pattern.split_ascii_whitespace().collect();
    if given.is_empty() || given.len() > FIELDS.len() {
        return Err("a pattern has 5 fields, or 6 with the seconds at the front".to_owned());
    }
    let missing = FIELDS.len() - given.len();
    let mut fields: [String; 6] = Default::default();
    let mut days = [Vec::new(), Vec::new(), Vec::new()];
    for (at, field) in FIELDS.iter().enumerate() {
        let text = if at < missing { field.default } else { given[at - missing] };
        let (list, numbers) = list(field, text, at).map_err(|reason| format!("{}: {reason}", field.name))?;
        if at >= DAY {
            days[at - DAY] = numbers;
        }
        fields[at] = list;
    }
    // A day that no named month has, unless a weekday may stand in for it.
    let longest = days[MONTH - DAY].iter().map(|month| days_of(*month)).max().unwrap_or(31);
    let is_never = fields[WEEKDAY] == "*" && !fields[DAY].contains('L') && days[0].iter().all(|day| *day > longest);
    if is_never {
        return Err("day of the month: no such month has so many days".to_owned());
    }
    Ok(fields)
}

fn days_of(month: u8) -> u8 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A field in the words of `croner`, and the plain numbers in it.
fn list(field: &Field, text: &str, at: usize) -> Result<(String, Vec<u8>), String> {
    let mut numbers = Vec::new();
    let mut special = Vec::new();
    for item in text.split(',') {
        let odd = || format!("\"{item}\" cannot stand here");
        if at == DAY && item == "L" {
            special.push("L".to_owned());
        } else if let Some(day) = item.strip_suffix('L').filter(|_| at == WEEKDAY) {
            special.push(format!("{}#L", number(field, day).ok_or_else(odd)? % 7));
        } else if let Some((day, nth)) = item.split_once('#').filter(|_| at == WEEKDAY && item == text) {
            let nth = nth.parse().ok().filter(|nth: &u8| (1..=5).contains(nth)).ok_or_else(odd)?;
            special.push(format!("{}#{nth}", number(field, day).ok_or_else(odd)? % 7));
        } else {
            let mut span = span(field, item).ok_or_else(odd)?;
            if at == WEEKDAY {
                span.iter_mut().for_each(|day| *day %= 7);
                span.sort_unstable();
                span.dedup();
            }
            numbers.append(&mut span);
        }
    }
    numbers.sort_unstable();
    if numbers.windows(2).any(|pair| pair[0] == pair[1])
        || (1..special.len()).any(|n| special[..n].contains(&special[n]))
    {
        return Err("a value is named twice".to_owned());
    }
    let is_day = at == DAY || at == WEEKDAY;
    let is_free =
        if is_day { text == "*" || text == "?" } else { numbers.len() == usize::from(field.max - field.min) + 1 };
    if is_free {
        return Ok(("*".to_owned(), numbers));
    }
    let words: Vec<String> = numbers.iter().map(u8::to_string).chain(special).collect();
    Ok((words.join(","), numbers))
}

/// `*`, `5`, `1-5`, each perhaps with a step: `*/10`, `5/10`, `1-30/10`.
fn span(field: &Field, item: &str) -> Option<Vec<u8>> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step.parse::<u8>().ok().filter(|step| *step > 0)?)),
        None => (item, None),
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(field, first)?, number(field, last)?),
        None if range == "*" || range == "?" => (field.min, field.max),
        None => {
            let first = number(field, range)?;
            (first, if step.is_some() { field.max } else { first })
        }
    };
    (first <= last).then(|| (first..=last).step_by(step.unwrap_or(1).into()).collect())
}

fn number(field: &Field, text: &str) -> Option<u8> {
    if let Some(index) = field.names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
        return u8::try_from(index).ok().map(|index| index + field.min);
    }
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| is_plain && (field.min..=field.max).contains(n))
}
