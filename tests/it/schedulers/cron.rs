//! The cron dialect against npm's cron-parser, which Node workers use: the same next times, the same refusals.

mod node_cron {
    use onetake::queue::Cron;

    use crate::support::node::{BullMq, CronParsers};

    const ZONES: &[&str] = &["Europe/Berlin", "America/New_York", "UTC", "Asia/Kolkata"];

    /// Around changes of the clock, leap days and ends of months and years.
    const INSTANTS: &[&str] = &[
        "2026-03-28T12:00:00Z",
        "2026-03-29T00:29:59.500Z",
        "2026-03-29T01:00:00Z",
        "2026-10-24T23:59:59Z",
        "2026-10-25T00:15:00Z",
        "2026-10-25T00:59:59.999Z",
        "2026-10-25T01:30:00Z",
        "2026-03-08T06:45:00Z",
        "2026-11-01T05:10:00Z",
        "2026-11-01T06:30:00Z",
        "2027-12-31T23:59:30Z",
        "2028-02-28T22:59:59Z",
        "2026-11-21T09:00:00.001Z",
    ];

    const PATTERNS: &[&str] = &[
        "* * * * *",
        "* * * * * *",
        "*/5 * * * * *",
        "*/7 * * * *",
        "*/30 * * * *",
        "*/20 * * * *",
        "30 2 * * *",
        "0 2 * * *",
        "15 2 * * *",
        "0 2,3 * * *",
        "0 */2 * * *",
        "0 */3 * * *",
        "*/10 2 * * *",
        "*/15 1-3 * * *",
        "15,45 0-4 * * *",
        "0 0 * * *",
        "0 12 * * *",
        "5/20 * * * *",
        "10-40/15 * * * *",
        "0 9-17/4 * * 1-5",
        "0 8 * * mon-fri",
        "0 8 * * MON,Wed,fri",
        "0 8 * jan-mar *",
        "0 0 1 * *",
        "0 0 31 * *",
        "0 0 29 2 *",
        "0 0 30 * *",
        "0 0 L * *",
        "0 12 L 2 *",
        "0 0 1,15 * *",
        "0 0 1,L * *",
        "0 0 * * 0",
        "0 0 * * 7",
        "0 0 * * sun",
        "0 0 * * 5L",
        "0 0 * * 1L,3L",
        "0 0 * * 1#1",
        "0 0 * * 5#3",
        "0 0 * * 2#5",
        "0 0 13 * 5",
        "0 0 1 * 1",
        "0 0 */10 * 3",
        "0 0 ? * 2",
        "0 0 10 * ?",
        "0 0 1-31 * 1",
        "0 0 * * 0-6",
        "0 0 * * 1-7",
        "0 0 10 * 0-6",
        "0 0 * * 5-7",
        "0 0 1 1 *",
        "59 59 23 31 12 *",
        "0 0 0 * * *",
        "30 30 2 * * *",
        "@daily",
        "@hourly",
        "@weekly",
        "@monthly",
        "@yearly",
        "0 22-23 * * *",
        "0,30 1,2 * * *",
        "17 3 */2 */3 *",
        "0 0 12 */5 * 6",
        "0 0 * * 4,*/7",
        "0 0 * * 1,5L",
        "0 0 * * MONL",
        "? ? * * * ?",
        "3 2",
    ];

    /// Where the two parsers differ: the older one takes days that are all named for free ones, and `?` for days alone.
    const ONLY_SIX: &[&str] = &["0 0 1-31 * 1", "? ? * * * ?"];

    fn told(times: &[i64]) -> Vec<String> {
        let shown = |ms: &i64| jiff::Timestamp::from_millisecond(*ms).expect("a time").to_string();
        times.iter().map(shown).collect()
    }

    /// Compares `count` times, each asked for after the one before.
    async fn compare(version: BullMq, zones: &[&str], instants: &[&str], count: usize) -> usize {
        let mut node = CronParsers::start().await;
        let (mut compared, mut apart) = (0, Vec::new());
        for pattern in PATTERNS.iter().filter(|pattern| version == BullMq::V6 || !ONLY_SIX.contains(pattern)) {
            for zone in zones {
                let cron = Cron::parse(pattern, Some(zone)).unwrap_or_else(|error| panic!("{pattern}: {error}"));
                for instant in instants {
                    let after = instant.parse::<jiff::Timestamp>().expect("a time").as_millisecond();
                    let mut times = vec![after];
                    for _ in 0..count {
                        times.extend(cron.next_after(times[times.len() - 1]));
                    }
                    let (ours, theirs) = (&times[1..], node.times(version, pattern, zone, after, count).await);
                    compared += 1;
                    if theirs.as_deref() != Ok(ours) {
                        let (ours, theirs) = (told(ours), theirs.as_deref().map(told));
                        apart.push(format!("{pattern} in {zone} after {instant}:\n  {ours:?}\n  {theirs:?}"));
                    }
                }
            }
        }
        assert!(apart.is_empty(), "{} of {compared} differ:\n{}", apart.len(), apart.join("\n"));
        compared
    }

    #[tokio::test]
    async fn next_times_are_those_of_bullmq_6() {
        assert!(compare(BullMq::V6, ZONES, INSTANTS, 3).await >= 200);
        compare(BullMq::V6, &["UTC-3:30", "europe/berlin"], &INSTANTS[..2], 1).await;
    }

    #[tokio::test]
    async fn next_times_are_those_of_bullmq_5() {
        assert!(compare(BullMq::V5, &ZONES[..1], &INSTANTS[..5], 1).await >= 200);
    }

    const REFUSED: &[&str] = &[
        "x",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * 0 *",
        "* * * * 8",
        "0 0 0 0 0 0 0",
        "*/0 * * * *",
        "5-1 * * * *",
        "* * * * 1#6",
        "* * * * 1#0",
        "0 0 30 2 *",
        "0 0 31 2,4 *",
        "0 0 15W * *",
        "a * * * *",
        "1,,2 * * * *",
        "1/2/3 * * * *",
        "-1 * * * *",
        "1.5 * * * *",
        "* * * foo *",
        "* * L * L * *",
        "5,5 * * * *",
        "1-5,3 * * * *",
        "0 0 * * 0,7",
        "0 0 * * L",
        "0 0 * * 5L,5L",
        "0 0 * * 1#1,3",
        "0 0 l * *",
        "@DAILY",
        "@reboot",
    ];

    #[tokio::test]
    async fn what_bullmq_6_refuses_is_refused() {
        let mut node = CronParsers::start().await;
        for pattern in REFUSED {
            assert!(Cron::parse(pattern, Some("UTC")).is_err(), "{pattern} is taken");
            let theirs = node.times(BullMq::V6, pattern, "UTC", 1_795_169_113_796, 1).await;
            assert!(theirs.is_err(), "{pattern}: {theirs:?}");
        }
    }
}
