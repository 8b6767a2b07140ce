//! A job's place in a distributed trace, from its producer to its processor.

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TELL: &str = r#"printf '{"parent":"%s","state":"%s"}' "$TRACEPARENT" "$TRACESTATE""#;

#[tokio::test]
async fn the_headers_of_a_request_reach_the_program_and_the_log() {
    let mut world = world(&shell("traced", TELL)).await;
    world.setup = world.setup.env("ONETAKE_LOG__FILTER", "info,onetake::runner=debug");
    let server = world.server().await;
    let traced = server.with("traceparent", PARENT).with("tracestate", "vendor=1");
    let path = add(&traced, "traced", json!({})).await;
    let job = until_state(&server, &path, "completed").await;
    assert_eq!(job["result"], json!({"parent": PARENT, "state": "vendor=1"}));
    let logged = server.log().iter().any(|line| line.contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    assert!(logged, "{:?}", server.log());
    for bad in ["", "00-zz-zz-01", "nonsense"] {
        let path = add(&server.with("traceparent", bad), "traced", json!({})).await;
        let job = until_state(&server, &path, "completed").await;
        assert_eq!((&job["result"]["parent"], &job["options"]["tm"]), (&json!(""), &Value::Null), "{bad}");
    }
}

mod node_trace {
    use super::*;
    use crate::support::node::{BullMq, Observer, Producer};

    async fn of(version: BullMq) {
        let (world, server) = start(&shell("traced", TELL)).await;
        let peer = world.peer(version, "traced");
        let (mut producer, mut observer) = tokio::join!(Producer::start(&peer), Observer::start(&peer));
        // As OpenTelemetry's package for BullMQ has it.
        let metadata = json!({"traceparent": PARENT}).to_string();
        let telemetry =
            |omit: bool| json!({"data": {}, "opts": {"telemetry": {"metadata": metadata, "omitContext": omit}}});
        producer.give(&[telemetry(false), telemetry(true)]);
        let parents: Vec<_> =
            producer.ended().await.into_iter().map(|ended| ended.value.unwrap()["parent"].clone()).collect();
        assert_eq!(parents, [json!(PARENT), json!("")]);
        // And the other way round.
        let path = add(&server.with("traceparent", PARENT), "traced", json!({})).await;
        let id = path.rsplit('/').next().unwrap();
        let shown = observer.job(id).await;
        assert_eq!(shown["opts"]["telemetry"]["metadata"], json!(metadata), "{shown}");
    }

    #[tokio::test]
    async fn a_trace_comes_from_bullmq_5_and_goes_there() {
        of(BullMq::V5).await;
    }

    #[tokio::test]
    async fn a_trace_comes_from_bullmq_6_and_goes_there() {
        of(BullMq::V6).await;
    }
}
