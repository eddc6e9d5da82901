//! Which functions a rule may call: those of the engine, but for what looks out of the judgement or grows without bound.
//!
//! The engine asks its own functions last, so that one offered under the same name takes their place.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use oci::UnixTime;
use regorus::{
    Engine, LimitError, Source, Value,
    unstable::{BUILTINS, Expr, Ref, Span},
};

use super::pattern::MATCHING;

/// Longest array that `numbers.range` may make.
const RANGE_ITEMS_MAX: i64 = 1_000_000;
/// Most bits by which a number may be shifted to the left.
const SHIFT_BITS_MAX: i64 = 4096;
/// Most digits of a width in a format, and of a power of ten: beyond, a few characters of input would fill the memory.
const DIGITS_MAX: usize = 4;

const REACHES_OUT: &str = "which reaches out of the judgement";
const RANDOM: &str = "which answers differently each time";
const UNBOUNDED: &str = "whose time and memory nothing bounds";
pub(super) const DIFFERENT: &str = "which the controller answers differently";

/// What no rule may call, and why. OPA's names, offered by this engine or not.
const FORBIDDEN: [(&str, &str); 8] = [
    ("http.", REACHES_OUT),
    ("net.lookup_ip_addr", REACHES_OUT),
    ("opa.", REACHES_OUT),
    ("rand.", RANDOM),
    ("uuid.rfc4122", RANDOM),
    ("graph.reachable_paths", UNBOUNDED),
    ("glob.quote_meta", DIFFERENT),
    ("regex.template_match", DIFFERENT),
];

/// The time functions that take a time with the name of its zone: `Local` would be this machine's.
const ZONED: [(&str, u8); 6] = [
    ("time.add_date", 4),
    ("time.clock", 1),
    ("time.date", 1),
    ("time.diff", 2),
    ("time.format", 1),
    ("time.weekday", 1),
];

/// Functions of the engine that need a bound, which refuses the arguments beyond it.
const BOUNDED: [Bounded; 6] = [
    ("numbers.range", 2, range_is_short),
    ("numbers.range_step", 3, stepped_range_is_short),
    ("bits.lsh", 2, shift_is_short),
    ("sprintf", 2, widths_are_short),
    ("units.parse", 1, powers_are_short),
    ("units.parse_bytes", 1, powers_are_short),
];

/// A function, the number of its arguments, and which of them it does not take.
pub(super) type Bounded = (&'static str, u8, fn(&[Value]) -> Result<(), Beyond>);

/// The one function that an evaluation brings along.
const NOW: &str = "time.now_ns";
const TRACE: &str = "trace";
/// Taken out of the text where it is a statement, as the controller does.
pub(super) const PRINT: &str = "print";

/// Arguments beyond a bound: the evaluation fails, lest `not` make a yes of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Beyond(pub(super) &'static str);

/// Why `name` may not be called, if so.
pub(super) fn forbidden(name: &str) -> Option<&'static str> {
    let matches = |written: &str| if written.ends_with('.') { name.starts_with(written) } else { name == written };
    FORBIDDEN.iter().find(|(written, _)| matches(written)).map(|(_, why)| *why)
}

pub(super) fn is_offered(name: &str) -> bool {
    BUILTINS.contains_key(name) && forbidden(name).is_none()
}

/// The number of arguments of those functions to which the engine cannot give one more for the result.
pub(super) fn exact_arguments(name: &str) -> Option<u8> {
    let zoned = ZONED.iter().copied();
    let bounded = BOUNDED.iter().chain(&MATCHING).map(|(name, arguments, _)| (*name, *arguments));
    let own = [(NOW, 0), (TRACE, 1)].into_iter();
    zoned.chain(bounded).chain(own).find(|(offered, _)| *offered == name).map(|(_, arguments)| arguments)
}

/// Offers what does not differ between evaluations.
pub(super) fn offer(engine: &mut Engine) -> Result<(), Box<dyn Error + Send + Sync>> {
    for (name, arguments) in ZONED {
        let zoned = move |given: Vec<Value>| Ok(called(name, &given.into_iter().map(in_utc).collect::<Vec<_>>())?);
        engine.add_extension(name.to_owned(), arguments, Box::new(zoned))?;
    }
    for (name, arguments, guard) in BOUNDED.into_iter().chain(MATCHING) {
        let guarded = move |given: Vec<Value>| {
            guard(&given)?;
            Ok(called(name, &given)?)
        };
        engine.add_extension(name.to_owned(), arguments, Box::new(guarded))?;
    }
    // The engine's own answers with the note, which need not compare equal to true.
    let noted = |given: Vec<Value>| {
        Ok(match given.first() {
            Some(Value::String(_)) => Value::Bool(true),
            _ => Value::Undefined,
        })
    };
    Ok(engine.add_extension(TRACE.to_owned(), 1, Box::new(noted))?)
}

/// The time of the judgement, as a rule may ask for it.
pub(super) struct Clock {
    now_ns: Option<i64>,
    read: Arc<AtomicBool>,
}

impl Clock {
    pub(super) fn at(now: UnixTime) -> Self {
        let now_ns = i64::try_from(now.as_millis()).ok().and_then(|millis| millis.checked_mul(1_000_000));
        Self { now_ns, read: Arc::default() }
    }

    /// Takes the place of the engine's own clock, which would be the machine's.
    pub(super) fn offer(&self, engine: &mut Engine) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (now_ns, read) = (self.now_ns, Arc::clone(&self.read));
        let answer = move |_: Vec<Value>| {
            read.store(true, Ordering::Relaxed);
            Ok(Value::from(now_ns.ok_or(Beyond("the time is beyond what nanoseconds can tell"))?))
        };
        Ok(engine.add_extension(NOW.to_owned(), 0, Box::new(answer))?)
    }

    pub(super) fn was_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }
}

/// What the engine's own function answers. Its errors make a call undefined, as they do in OPA, but for those of its limits,
/// which OPA does not have.
fn called(name: &str, given: &[Value]) -> Result<Value, Beyond> {
    let Some((function, _)) = BUILTINS.get(name) else {
        return Ok(Value::Undefined);
    };
    // The engine wants a place in a text for its errors, which nobody reads here.
    let Ok(source) = Source::from_contents(name.to_owned(), name.to_owned()) else {
        return Ok(Value::Undefined);
    };
    let span = Span { source, line: 1, col: 1, start: 0, end: 0 };
    let expression = |_| Ref::new(Expr::Null { span: span.clone(), value: Value::Null, eidx: 0 });
    let expressions: Vec<Ref<Expr>> = given.iter().map(expression).collect();
    match function(&span, &expressions, given, false) {
        Err(error) if error.is::<LimitError>() => Err(Beyond("a limit of the engine is reached")),
        answer => Ok(answer.unwrap_or(Value::Undefined)),
    }
}

/// The zone of this machine is UTC: its own would differ from the next machine's.
fn in_utc(value: Value) -> Value {
    let Ok(parts) = value.as_array() else {
        return value;
    };
    if parts.get(1) != Some(&Value::from("Local")) {
        return value;
    }
    let zoned = |(at, part): (usize, &Value)| if at == 1 { Value::from("UTC") } else { part.clone() };
    Value::from(parts.iter().enumerate().map(zoned).collect::<Vec<_>>())
}

fn integer(given: &[Value], at: usize) -> Option<i64> {
    given.get(at)?.as_i64().ok()
}

fn is_number(given: &[Value], at: usize) -> bool {
    matches!(given.get(at), Some(Value::Number(_)))
}

fn range_is_short(given: &[Value]) -> Result<(), Beyond> {
    const LONG: Beyond = Beyond("numbers.range of more than a million numbers");
    if !is_number(given, 0) || !is_number(given, 1) {
        return Ok(());
    }
    let (Some(from), Some(to)) = (integer(given, 0), integer(given, 1)) else {
        // Fractions, which the engine leaves undefined, or numbers beyond 64 bits.
        return Err(Beyond("numbers.range of numbers that are no 64-bit integers"));
    };
    match to.checked_sub(from).and_then(i64::checked_abs) {
        Some(length) if length < RANGE_ITEMS_MAX => Ok(()),
        _ => Err(LONG),
    }
}

/// The engine would divide by a step of zero, and not end with one below.
fn stepped_range_is_short(given: &[Value]) -> Result<(), Beyond> {
    range_is_short(given)?;
    match integer(given, 2) {
        Some(step) if step > 0 => Ok(()),
        _ => Err(Beyond("numbers.range_step with a step that is no positive integer")),
    }
}

fn shift_is_short(given: &[Value]) -> Result<(), Beyond> {
    match integer(given, 1) {
        Some(bits) if bits > SHIFT_BITS_MAX => Err(Beyond("bits.lsh by more than 4096 bits")),
        Some(_) => Ok(()),
        None => Err(Beyond("bits.lsh by a number that is no 64-bit integer")),
    }
}

/// The engine pads to any width that a format names, and panics at digits that are not ASCII.
fn widths_are_short(given: &[Value]) -> Result<(), Beyond> {
    let Some(Value::String(format)) = given.first() else {
        return Ok(());
    };
    if format.chars().any(|c| c.is_numeric() && !c.is_ascii()) {
        return Err(Beyond("sprintf with a format whose digits are not ASCII"));
    }
    if format.split('%').skip(1).any(|verb| begins_with_many_digits(verb.trim_start_matches('.'))) {
        return Err(Beyond("sprintf with a width of more than four digits"));
    }
    Ok(())
}

/// The engine writes every power out.
fn powers_are_short(given: &[Value]) -> Result<(), Beyond> {
    let Some(Value::String(number)) = given.first() else {
        return Ok(());
    };
    if number.split(['e', 'E']).skip(1).any(|power| begins_with_many_digits(power.trim_start_matches(['+', '-']))) {
        return Err(Beyond("units.parse of a power of more than four digits"));
    }
    Ok(())
}

fn begins_with_many_digits(text: &str) -> bool {
    text.bytes().take_while(u8::is_ascii_digit).count() > DIGITS_MAX
}
