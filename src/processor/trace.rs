//! Where a job belongs in a distributed trace: the W3C trace context, on its way from producer to processor.
//!
//! BullMQ keeps telemetry in the job's option `tm`, a text whose shape is its author's. OpenTelemetry's package for BullMQ
//! writes the carrier as JSON, `{"traceparent": "...", "tracestate": "..."}`; that is read and written here.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest `tracestate` that is passed on.
const LONGEST_STATE: usize = 512;

/// A place in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    #[serde(rename = "traceparent")]
    parent: String,
    #[serde(rename = "tracestate", default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

impl Trace {
    /// From the two headers. A context that is none counts as not given: so the standard wants it.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let parent = parent.trim();
        let fields: Vec<&str> = parent.split('-').collect();
        let [version, trace, span, flags, rest @ ..] = &fields[..] else { return None };
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_set = |text: &str| text.bytes().any(|byte| byte != b'0');
        let fits = is_hex(version, 2) && *version != "ff" && (*version != "00" || rest.is_empty());
        let fits = fits && is_hex(trace, 32) && is_set(trace) && is_hex(span, 16) && is_set(span) && is_hex(flags, 2);
        let is_plain =
            |text: &&str| (1..=LONGEST_STATE).contains(&text.len()) && text.bytes().all(|b| (32..127).contains(&b));
        let state = state.map(str::trim).filter(is_plain).map(str::to_owned);
        fits.then(|| Self { parent: parent.to_owned(), state })
    }

    /// Of a job, by its options that no queue knows.
    pub fn of_options(options: &Map<String, Value>) -> Option<Self> {
        if options.get("omc") == Some(&Value::Bool(true)) {
            return None; // the producer wants the job to stand alone
        }
        let text = options.get("tm")?.as_str()?;
        match serde_json::from_str::<Self>(text) {
            Ok(Self { parent, state }) => Self::parse(&parent, state.as_deref()),
            Err(_) => Self::parse(text, None),
        }
    }

    /// As the option `tm` has it.
    pub fn metadata(&self) -> String {
        serde_json::to_string(self).expect("two texts are JSON")
    }

    /// As the header `traceparent` has it.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The id of the whole trace.
    pub fn id(&self) -> &str {
        self.parent.split('-').nth(1).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(options: Value) -> Option<Trace> {
        Trace::of_options(options.as_object().unwrap())
    }

    #[test]
    fn a_context_goes_into_the_options_and_comes_out() {
        let trace = Trace::parse(PARENT, Some("vendor=1")).unwrap();
        assert_eq!((trace.id(), trace.parent()), ("4bf92f3577b34da6a3ce929d0e0e4736", PARENT));
        assert_eq!(of(json!({"tm": trace.metadata()})), Some(trace.clone()));
        assert_eq!(of(json!({"tm": trace.metadata(), "omc": true})), None);
        assert_eq!(of(json!({"tm": PARENT})).unwrap().parent(), PARENT);
        assert_eq!(Trace::parse(PARENT, None).unwrap().metadata(), format!("{{\"traceparent\":\"{PARENT}\"}}"));
    }

    #[test]
    fn what_is_no_context_counts_as_not_given() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nx",
        ] {
            assert_eq!(Trace::parse(bad, None), None, "{bad}");
        }
        assert_eq!(Trace::parse(PARENT, Some("a\nb")).unwrap().state(), None);
        for odd in [json!({}), json!({"tm": 5}), json!({"tm": "{}"}), json!({"tm": "hello"})] {
            assert_eq!(of(odd.clone()), None, "{odd}");
        }
    }
}
