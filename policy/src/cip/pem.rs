//! PEM: blocks one after another, and nothing else.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::report::shown;

/// One block, decoded.
pub(super) struct Block<'t> {
    pub(super) label: &'t str,
    pub(super) der: Vec<u8>,
}

/// Reads all blocks. What is wrong, in one clause, never repeats the data: it may be a private key.
pub(super) fn blocks(text: &str) -> Result<Vec<Block<'_>>, String> {
    let mut rest = text.trim();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let opened = rest.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----"));
        let (label, after) = opened.ok_or("holds something else than PEM blocks")?;
        let end = format!("-----END {label}-----");
        let (body, after) =
            after.split_once(end.as_str()).ok_or_else(|| format!("holds a PEM block {} without end", shown(label)))?;
        let base64: String = body.split_whitespace().collect();
        let der = STANDARD.decode(base64).map_err(|error| format!("holds a PEM block that is no base64: {error}"))?;
        blocks.push(Block { label, der });
        rest = after.trim_start();
    }
    Ok(blocks)
}
