//! The time of the judgement, and no other.

use super::*;

#[test]
fn the_time_is_that_of_the_judgement() {
    let ruling = evaluated(&body("time.now_ns() == 1000000000000000000"), "{}").unwrap();
    assert_eq!(ruling, Ruling { outcome: Compliance::Compliant, read_clock: true });
    let text = body("t := time.date(time.now_ns())\nt == [2001, 9, 9]\ntime.clock(time.now_ns()) == [1, 46, 40]");
    assert_eq!(why(&text, "{}"), None);
}

#[test]
fn each_way_to_ask_for_the_time_is_told_the_same() {
    for statement in [
        "time[\"now_ns\"]() == 1000000000000000000",
        "x := [t | t := time.now_ns()]; x == [1000000000000000000]",
        "{time.now_ns()} == {1000000000000000000}",
        "count({t | t := [time.now_ns(), time.now_ns()][_]}) == 1",
        "now == 1000000000000000000",
    ] {
        let text = format!("{}\nnow = time.now_ns()\n", body(statement));
        let ruling = evaluated(&text, "{}").unwrap();
        assert_eq!(ruling, Ruling { outcome: Compliance::Compliant, read_clock: true }, "{statement}");
    }
}

#[test]
fn a_rule_that_does_not_ask_for_the_time_did_not_read_it() {
    let text = body("time.parse_rfc3339_ns(\"2001-09-09T01:46:40Z\") == 1000000000000000000");
    assert_eq!(evaluated(&text, "{}").unwrap(), Ruling { outcome: Compliance::Compliant, read_clock: false });
    let instead =
        body("f(1) == 1000000000000000000 with f as now") + "\nf(x) = x { true }\nnow(_) = t { t := time.now_ns() }\n";
    assert_eq!(evaluated(&instead, "{}").unwrap(), Ruling { outcome: Compliance::Compliant, read_clock: true });
    let replaced = body("fresh with time.now_ns as 5") + "\nfresh { time.now_ns() == 5 }\n";
    assert_eq!(evaluated(&replaced, "{}").unwrap(), Ruling { outcome: Compliance::Compliant, read_clock: false });
}

#[test]
fn an_attestation_can_be_too_old() {
    let text = body(
        "finished := time.parse_rfc3339_ns(input.finished)\ntime.now_ns() - finished < time.parse_duration_ns(\"24h\")",
    );
    assert_eq!(why(&text, r#"{"finished":"2001-09-09T00:00:00Z"}"#), None);
    assert!(why(&text, r#"{"finished":"2001-09-07T00:00:00Z"}"#).is_some());
    assert!(why(&text, r#"{"finished":"today"}"#).is_some());
}

#[test]
fn the_zone_of_the_machine_is_utc() {
    let noon = "1000036800000000000";
    for zone in ["UTC", "", "Local"] {
        let statement = format!(
            "time.clock([{noon}, \"{zone}\"]) == [12, 0, 0]\ntime.weekday([{noon}, \"{zone}\"]) == \"Sunday\"\ntime.date([{noon}, \"{zone}\"]) == [2001, 9, 9]"
        );
        assert_eq!(why(&body(&statement), "{}"), None, "{zone}");
    }
    let other = body(&format!("time.clock([{noon}, \"America/New_York\"]) == [8, 0, 0]"));
    assert_eq!(why(&other, "{}"), None);
}

#[test]
fn a_time_that_nanoseconds_cannot_tell_is_a_failure() {
    let rule = Rego::compile(&body("now := time.now_ns()\nnot now > 0")).unwrap();
    let input = RegoInput::parse(b"{}", &bounds()).unwrap();
    let answer = rule.evaluate(&input, &bounds(), UnixTime::from_millis(u64::MAX));
    assert!(matches!(answer, Err(RegoFault::Failed { .. })), "{answer:?}");
}
