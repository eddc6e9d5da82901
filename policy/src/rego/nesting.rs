//! How deeply the brackets of a text nest. The engine's parser tries each of them in several ways, and doubles its work with
//! every level: thirty levels are a text of one line, and hours.

use super::RegoError;

/// Deepest nesting of brackets. Policies need six or seven.
pub(super) const NESTING_MAX: usize = 12;

/// An error where brackets nest too deeply. Strings and comments are passed over; in a text that is not well formed this may
/// see more brackets than the parser would, never fewer before the place where the parser stops.
pub(super) fn check(text: &str) -> Result<(), RegoError> {
    let (mut depth, mut line) = (0_usize, 1_u32);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            '[' | '{' | '(' => depth += 1,
            ']' | '}' | ')' => depth = depth.saturating_sub(1),
            '#' => line += u32::from(chars.by_ref().any(|c| c == '\n')),
            '"' => pass_string(&mut chars),
            '`' => line += pass_raw_string(&mut chars),
            _ => {}
        }
        if depth > NESTING_MAX {
            let what = format!("nests brackets more than {NESTING_MAX} deep");
            return Err(RegoError::at(line, what, "give inner parts rules of their own"));
        }
    }
    Ok(())
}

/// To its end, or the end of its line: a string has one line.
fn pass_string(chars: &mut std::str::Chars<'_>) {
    while let Some(c) = chars.clone().next() {
        if c == '\n' {
            return;
        }
        chars.next();
        match c {
            '"' => return,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
}

/// To its end, over the lines it has.
fn pass_raw_string(chars: &mut std::str::Chars<'_>) -> u32 {
    let mut lines = 0;
    for c in chars {
        match c {
            '`' => break,
            '\n' => lines += 1,
            _ => {}
        }
    }
    lines
}
