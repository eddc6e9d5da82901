//! No rule and no input takes the process down.

use std::time::Duration;

use super::*;

#[test]
fn a_rule_without_end_is_ended() {
    // Ten million pairs of pairs.
    let text = body("n := numbers.range(1, 3000)\ncount([1 | a := n[_]; b := n[_]; c := n[_]; a + b + c == 0]) == 1");
    let rule = Rego::compile(&text).unwrap();
    let limit = Duration::from_millis(200);
    let bounds = RegoBounds { timeout: limit, input_bytes_max: 100 };
    let input = RegoInput::parse(b"{}", &bounds).unwrap();
    assert_eq!(rule.evaluate(&input, &bounds, LONG_AGO), Err(RegoFault::TimedOut { limit }));
}

#[test]
fn what_is_ended_is_not_a_no_that_a_rule_can_turn_into_a_yes() {
    let slow = "slow { n := numbers.range(1, 3000); a := n[_]; b := n[_]; c := n[_]; a + b + c == 0 }\n";
    let bounds = RegoBounds { timeout: Duration::from_millis(100), input_bytes_max: 100 };
    let input = RegoInput::parse(b"{}", &bounds).unwrap();
    for statement in
        ["not slow", "count([1 | slow]) == 0", "x := object.get({\"a\": [y | slow; y := 1]}, \"a\", 1)\nx == []"]
    {
        let rule = Rego::compile(&(body(statement) + slow)).unwrap();
        let answer = rule.evaluate(&input, &bounds, LONG_AGO);
        assert!(matches!(answer, Err(RegoFault::TimedOut { .. })), "{statement}: {answer:?}");
    }
}

#[test]
fn what_would_fill_the_memory_at_once_fails_and_is_no_undefined() {
    for statement in [
        "numbers.range(0, 1000000000000)",
        "numbers.range(input.n, 0)",
        "numbers.range(-9000000000000000000, 9000000000000000000)",
        "numbers.range(0, 100000000000000000000)",
        "numbers.range_step(0, 10, 0)",
        "numbers.range_step(0, 10, -1)",
        "numbers.range_step(0, 1000000000000, 1)",
        "bits.lsh(1, 4000000000)",
        "bits.lsh(1, input.n)",
        "sprintf(\"%2000000000d\", [1])",
        "sprintf(input.format, [1])",
        "units.parse(\"1e2000000000\")",
        "units.parse_bytes(input.power)",
    ] {
        let input = "{\"n\":1000000000000,\"format\":\"%\u{663}d\",\"power\":\"1E+999999\"}";
        let answer = evaluated(&format!("{}wrong {{ {statement} }}\n", body("not wrong")), input);
        assert!(matches!(answer, Err(RegoFault::Failed { .. })), "{statement}: {answer:?}");
    }
}

#[test]
fn bounded_functions_work_within_their_bounds() {
    let statements = r#"numbers.range(1, 3) == [1, 2, 3]
numbers.range(3, 1) == [3, 2, 1]
numbers.range_step(1, 5, 2) == [1, 3, 5]
bits.lsh(1, 10) == 1024
sprintf("%s-%05d-%.2f 100%% date20240101", ["a", 7, 1.5]) == "a-00007-1.50 100% date20240101"
units.parse_bytes("1.5GiB") == 1610612736
units.parse("10e2") == 1000
trace("noted")
trace("noted") == true"#;
    assert_eq!(why(&body(statements), "{}"), None);
}

#[test]
fn an_input_beyond_the_cap_is_not_read() {
    let bounds = RegoBounds { timeout: Duration::from_secs(1), input_bytes_max: 10 };
    assert!(RegoInput::parse(b"{\"a\":1234}", &bounds).is_ok());
    let answer = RegoInput::parse(b"{\"a\":12345}", &bounds);
    assert_eq!(answer, Err(RegoFault::InputTooLarge { bytes: 11, max: 10 }));
}

#[test]
fn an_input_that_means_two_things_is_not_read() {
    let nested = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for json in
        ["", "{", "{} {}", "{\"a\":1,\"a\":1}", "{\"a\":1,\"\\u0061\":1}", "\u{feff}{}", "{\"a\":1e999}", &nested]
    {
        let answer = RegoInput::parse(json.as_bytes(), &bounds());
        assert!(matches!(answer, Err(RegoFault::InputUnreadable { .. })), "{json}: {answer:?}");
    }
    assert!(RegoInput::parse(b"{\"a\":\"\xff\"}", &bounds()).is_err());
}

#[test]
fn the_deepest_input_and_the_longest_chain_fit_on_a_small_stack() {
    let chain: String = (1..31).map(|n| format!("f{n}(x) = y {{ y := f{}(x) }}\n", n + 1)).collect::<Vec<_>>().concat();
    let many: String = (0..120).map(|n| format!("v{n} := input.one[_]\n")).collect::<Vec<_>>().concat();
    let text =
        body(&format!("walk(input.a, [_, 1])\nf1(input.a) == input.a\n{many}")) + &chain + "f31(x) = x { true }\n";
    let rule = Rego::compile(&text).unwrap();
    let input = format!("{{\"a\":{}1{},\"one\":[1]}}", "[".repeat(62), "]".repeat(62));
    let evaluated = move || {
        let input = RegoInput::parse(input.as_bytes(), &bounds()).unwrap();
        rule.evaluate(&input, &RegoBounds { timeout: Duration::from_secs(60), ..bounds() }, LONG_AGO)
    };
    // Two MiB: what a thread of the runtime has.
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(evaluated).unwrap();
    assert_eq!(thread.join().unwrap().unwrap().outcome, Compliance::Compliant);
}
