//! Readers that only this crate can reach, as targets of fuzzing: bytes from outside, and a panic where what must hold does not.
//!
//! What can be attacked through the crate's own doors is in `policy/fuzz/targets.rs`. Nothing of the product calls these.

use std::sync::LazyLock;

use oci::UnixTime;
use serde_json::Value;

pub use crate::sigstore::fuzz_dsse as dsse;

use crate::{
    predicate::PredicateType,
    rego::{Compliance, Rego, RegoBounds},
};

/// Asks one member of the predicate.
static RULE: LazyLock<Rego> = LazyLock::new(|| {
    let text = "package sigstore\ndefault isCompliant = false\nisCompliant {\n  input.predicate.ok == true\n}";
    Rego::compile(text).expect("the rule above is Rego")
});

/// A type whose predicates are shown as they are, and those that go through a shape which has no such member.
const TYPES: [&str; 4] = ["https://example.test/fuzzed", "slsaprovenance", "link", "vuln"];

/// A statement as content rules are shown it: what another reader finds in it the rule finds, and no more.
pub fn rego_input(data: &[u8]) {
    let bounds = RegoBounds::default();
    for written in TYPES {
        let (kind, _) = PredicateType::parse(written).expect("types that a policy may write");
        let Ok(input) = kind.rego_input(data, &bounds) else { continue };
        let statement: Value = serde_json::from_slice(data).expect("what a rule is shown is JSON to any reader");
        // The statement's own members are found whatever their case, as the controller finds them; two of one name are refused.
        let mut members = statement.as_object().into_iter().flatten();
        let predicate = members.find(|(name, _)| name.eq_ignore_ascii_case("predicate")).map(|(_, value)| value);
        let says_so = predicate.and_then(|it| it.get("ok")) == Some(&Value::Bool(true));
        let wanted = says_so && kind.uri() == written;
        let ruling = RULE.evaluate(&input, &bounds, UnixTime::from_millis(0)).expect("a rule that looks at one member");
        let complies = ruling.outcome == Compliance::Compliant;
        assert_eq!(complies, wanted, "the rule was shown another statement than is written, as {written}");
        assert!(!ruling.read_clock, "the rule does not ask for the time");
    }
}
