mod answers;
mod bounds;
mod clock;
mod examples;
mod loading;
mod negation;
mod pattern;
mod policy_input;

use super::*;

/// 2001-09-09T01:46:40Z: no machine that runs this has that time.
const LONG_AGO: UnixTime = UnixTime::from_millis(1_000_000_000_000);

fn bounds() -> RegoBounds {
    RegoBounds { timeout: Duration::from_secs(5), input_bytes_max: 1 << 20 }
}

fn evaluated(text: &str, input: &str) -> Result<Ruling, RegoFault> {
    let rule = Rego::compile(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    rule.evaluate(&RegoInput::parse(input.as_bytes(), &bounds())?, &bounds(), LONG_AGO)
}

/// Why not, or nothing.
fn why(text: &str, input: &str) -> Option<String> {
    match evaluated(text, input).unwrap_or_else(|fault| panic!("{fault}: {text}")).outcome {
        Compliance::Compliant => None,
        Compliance::NotCompliant { why } => Some(why),
    }
}

/// The body of a rule, in v0.
fn body(statements: &str) -> String {
    format!("package sigstore\n\ndefault isCompliant = false\n\nisCompliant {{\n{statements}\n}}\n")
}

fn refused(text: &str) -> RegoError {
    match Rego::compile(text) {
        Ok(_) => panic!("was loaded: {text}"),
        Err(error) => error,
    }
}

#[test]
fn rules_can_be_shared_between_threads_and_are_equal_by_text() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Rego>();
    shared::<RegoInput>();
    let (one, other) = (body("input.a == 1"), body("input.a == 2"));
    assert_eq!(Rego::compile(&one), Rego::compile(&one));
    assert_ne!(Rego::compile(&one), Rego::compile(&other));
    assert_eq!(Rego::compile(&one).unwrap().text(), one);
}

#[test]
fn one_evaluation_leaves_nothing_to_the_next() {
    let rule = Rego::compile(&body("input.a == 1\ntime.now_ns() > 0")).unwrap();
    let input = |json: &str| RegoInput::parse(json.as_bytes(), &bounds()).unwrap();
    let says = |json: &str| rule.evaluate(&input(json), &bounds(), LONG_AGO).unwrap();
    assert_eq!(says(r#"{"a":1}"#).outcome, Compliance::Compliant);
    assert_ne!(says(r#"{"a":2}"#).outcome, Compliance::Compliant);
    assert_ne!(says("{}").outcome, Compliance::Compliant);
    assert!(says(r#"{"a":1}"#).read_clock);
    assert!(!says("{}").read_clock, "the rule fails before it asks for the time");
}
