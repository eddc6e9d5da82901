//! The shapes that the controller's short names go through. (Facts: the field lists of in-toto's and cosign's Go types.)

use super::shape::{Member, Shape};

const TEXTS: Shape = Shape::Map(&Shape::Text);

/// Of every statement.
pub(super) const SUBJECTS: Shape =
    Shape::List(&Shape::Object(&[Member::always("name", &Shape::Text), Member::always("digest", &TEXTS)]));

/// `slsaprovenance`: SLSA provenance v0.2.
pub(super) const PROVENANCE: Shape = Shape::Object(&[
    Member::always("builder", &Shape::Object(&[Member::always("id", &Shape::Text)])),
    Member::always("buildType", &Shape::Text),
    Member::always("invocation", &INVOCATION),
    Member::unless_empty("buildConfig", &Shape::Any),
    Member::always("metadata", &Shape::Maybe(&METADATA)),
    Member::unless_empty("materials", &Shape::List(&MATERIAL)),
]);

const INVOCATION: Shape = Shape::Object(&[
    Member::always(
        "configSource",
        &Shape::Object(&[
            Member::unless_empty("uri", &Shape::Text),
            Member::unless_empty("digest", &TEXTS),
            Member::unless_empty("entryPoint", &Shape::Text),
        ]),
    ),
    Member::unless_empty("parameters", &Shape::Any),
    Member::unless_empty("environment", &Shape::Any),
]);

const METADATA: Shape = Shape::Object(&[
    Member::unless_empty("buildInvocationID", &Shape::Text),
    Member::always("buildStartedOn", &Shape::Maybe(&Shape::Time)),
    Member::always("buildFinishedOn", &Shape::Maybe(&Shape::Time)),
    Member::always(
        "completeness",
        &Shape::Object(&[
            Member::always("parameters", &Shape::Bool),
            Member::always("environment", &Shape::Bool),
            Member::always("materials", &Shape::Bool),
        ]),
    ),
    Member::always("reproducible", &Shape::Bool),
]);

const MATERIAL: Shape =
    Shape::Object(&[Member::unless_empty("uri", &Shape::Text), Member::unless_empty("digest", &TEXTS)]);

/// `link`: in-toto's link.
pub(super) const LINK: Shape = Shape::Object(&[
    Member::always("_type", &Shape::Text),
    Member::always("name", &Shape::Text),
    Member::always("materials", &Shape::Map(&TEXTS)),
    Member::always("products", &Shape::Map(&TEXTS)),
    Member::always("byproducts", &Shape::Map(&Shape::Any)),
    Member::always("command", &Shape::List(&Shape::Text)),
    Member::always("environment", &Shape::Map(&Shape::Any)),
]);

/// `vuln`: cosign's scan result.
pub(super) const VULNERABILITIES: Shape = Shape::Object(&[
    Member::always(
        "invocation",
        &Shape::Object(&[
            Member::always("parameters", &Shape::Any),
            Member::always("uri", &Shape::Text),
            Member::always("event_id", &Shape::Text),
            Member::always("builder.id", &Shape::Text),
        ]),
    ),
    Member::always(
        "scanner",
        &Shape::Object(&[
            Member::always("uri", &Shape::Text),
            Member::always("version", &Shape::Text),
            Member::always(
                "db",
                &Shape::Object(&[Member::always("uri", &Shape::Text), Member::always("version", &Shape::Text)]),
            ),
            Member::always("result", &Shape::Any),
        ]),
    ),
    Member::always(
        "metadata",
        &Shape::Object(&[
            Member::always("scanStartedOn", &Shape::Time),
            Member::always("scanFinishedOn", &Shape::Time),
        ]),
    ),
]);

/// A time as Go reads and writes it again: RFC 3339, nine digits of a second at most, none of them a trailing zero.
pub(super) fn go_time(text: &str) -> Option<String> {
    let (date, rest) = (text.get(..19)?, text.get(19..)?);
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("", rest),
    };
    if !is_date_time(date) || (rest.starts_with('.') && fraction.is_empty()) {
        return None;
    }
    let zone = match zone {
        "Z" | "+00:00" | "-00:00" => "Z",
        zone => is_offset(zone).then_some(zone)?,
    };
    let fraction = fraction.get(..9).unwrap_or(fraction).trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{date}{point}{fraction}{zone}"))
}

fn is_date_time(text: &str) -> bool {
    let form = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    };
    let number = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<u32>().ok());
    let [Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)] =
        [number(0, 4), number(5, 7), number(8, 10), number(11, 13), number(14, 16), number(17, 19)]
    else {
        return false;
    };
    text.len() == 19
        && text.bytes().enumerate().all(form)
        && (1..=days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
}

/// In a month; none in one that there is not.
fn days(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 0,
    }
}

fn is_offset(zone: &str) -> bool {
    let number = |from: usize, to: usize| {
        let digits = zone.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u32>().ok())
    };
    let hours_and_minutes =
        matches!((number(1, 3), number(4, 6)), (Some(hours), Some(minutes)) if hours < 24 && minutes < 60);
    zone.len() == 6 && zone.starts_with(['+', '-']) && zone.get(3..4) == Some(":") && hours_and_minutes
}
