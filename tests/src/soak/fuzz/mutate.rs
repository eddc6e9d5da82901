//! Bends inputs: as bytes, as lines, as JSON, and deeper within the base64 that JSON carries.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::soak::Random;

/// No input grows beyond this.
const BYTES_MAX: usize = 256 * 1024;
/// Bytes at which parsers turn.
const TURNS: &[u8] = b"\0\x01\x7f\x80\xff{}[]\",:\\/@.-_*~%?&=#<>|!'\n\r\t 09azAZ";
/// Words at which parsers turn.
const WORDS: [&str; 24] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "9223372036854775807",
    "\u{212A}",
    "\u{FEFF}",
    "ſ",
    "\\u0000",
    "\\ud800",
    "../",
    "sha256:",
    "sha512:",
    "**",
    "(?i)",
    "(((((((((((a+)+)+)+",
    "[a-z]{1000}",
    "&a [*a,*a]",
    "---\n",
    "<<: *a\n",
    "bytes=0-",
    "%2F",
];

/// One to four bends.
pub(crate) fn mutate(input: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        bytes = match random.below(10) {
            0..=2 => as_json(&bytes, random).unwrap_or_else(|| as_bytes(bytes, random)),
            3 | 4 => as_lines(&bytes, random),
            5 => spliced(&bytes, others, random),
            _ => as_bytes(bytes, random),
        };
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn as_bytes(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let at = random.index(bytes.len());
    let upto = (at + 1 + random.index(32)).min(bytes.len());
    match random.below(7) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let (Some(byte), Some(turn)) = (bytes.get_mut(at), random.pick(TURNS)) {
                *byte = *turn;
            }
        }
        2 => bytes.insert(at, random.any().to_le_bytes()[0]),
        3 => {
            let word = random.pick(&WORDS).copied().unwrap_or_default();
            bytes.splice(at..at, word.bytes());
        }
        4 => drop(bytes.drain(at..upto)),
        5 => {
            let again = bytes.get(at..upto).unwrap_or_default().repeat(1 + random.index(64));
            bytes.splice(at..at, again);
        }
        _ => bytes.truncate(at),
    }
    bytes
}

fn as_lines(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (from, to) = (random.index(lines.len()), random.index(lines.len()));
    match random.below(4) {
        0 => drop(lines.remove(from)),
        1 => {
            let line = lines.get(from).cloned().unwrap_or_default();
            lines.insert(to, line);
        }
        2 => lines.swap(from, to),
        _ => {
            if let Some(line) = lines.get_mut(from) {
                let deeper = random.once_in(2) || !line.starts_with(b"  ");
                let bent = if deeper { [b"  ", line.as_slice()].concat() } else { line.split_off(2) };
                *line = bent;
            }
        }
    }
    lines.join(&b'\n')
}

/// The beginning of one and the end of another.
fn spliced(bytes: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let other = random.pick(others).cloned().unwrap_or_default();
    let (end, start) = (random.index(bytes.len()), random.index(other.len()));
    [bytes.get(..end).unwrap_or_default(), other.get(start..).unwrap_or_default()].concat()
}

fn as_json(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(bytes).ok()?;
    let steps = random.below(12);
    bend(&mut document, steps, random);
    Some(document.to_string().into_bytes())
}

/// Goes down so many steps, or to where there is nothing below, and bends what is there.
fn bend(value: &mut Value, steps: u64, random: &mut Random) {
    let below = match value {
        Value::Object(members) if steps > 0 && !members.is_empty() => {
            let at = random.index(members.len());
            members.values_mut().nth(at)
        }
        Value::Array(items) if steps > 0 && !items.is_empty() => {
            let at = random.index(items.len());
            items.get_mut(at)
        }
        _ => None,
    };
    match below {
        Some(below) => bend(below, steps - 1, random),
        None => bend_here(value, random),
    }
}

fn bend_here(value: &mut Value, random: &mut Random) {
    if let Value::String(text) = value
        && !random.once_in(3)
    {
        *text = bent_text(text, random);
        return;
    }
    *value = match random.below(9) {
        0 => Value::Null,
        1 => json!(random.once_in(2)),
        2 => json!(random.any()),
        3 => json!(-1),
        4 => json!(1e300),
        5 => json!([value, value]),
        6 => json!({ "": value }),
        7 => (0..64).fold(value.take(), |inner, _| json!([inner])),
        _ => json!(random.pick(&WORDS)),
    };
}

fn bent_text(text: &str, random: &mut Random) -> String {
    // Certificates, signatures, log entries: bent within, and packed again.
    if text.len() > 8
        && let Ok(packed) = STANDARD.decode(text)
    {
        let bent = as_json(&packed, random).filter(|_| random.once_in(2)).unwrap_or_else(|| as_bytes(packed, random));
        return STANDARD.encode(bent);
    }
    // JSON within a text, as in cosign's annotations.
    if let Some(bent) = as_json(text.as_bytes(), random).filter(|_| text.starts_with('{')) {
        return String::from_utf8_lossy(&bent).into_owned();
    }
    String::from_utf8_lossy(&as_bytes(text.as_bytes().to_vec(), random)).into_owned()
}
