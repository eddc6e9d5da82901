//! Source text without what is not code.

use std::{fs, path::Path};

use super::packages::root;

/// Path from the root, and code, of every file that is shipped.
pub fn product_sources() -> Vec<(String, String)> {
    product_texts().into_iter().map(|(path, text)| (path, code_of(&text))).collect()
}

/// The same with comments, literals and inline tests.
pub fn product_texts() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for source in ["config/src", "storage/oci/src", "storage/src", "policy/src", "proxy/src"] {
        collect(&root().join(source), &mut files);
    }
    assert!(files.len() > 40, "found {} files only", files.len());
    files
}

fn collect(folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap();
        // Test modules in files of their own are all called so.
        if stem == "tests" {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let from_root = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            files.push((from_root, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Identifiers and keywords.
pub fn names(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|name| !name.is_empty())
}

/// The text up to its inline test module, with comments and literals blanked out.
pub fn code_of(text: &str) -> String {
    let (shipped, _) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((text, ""));
    let mut code = String::with_capacity(shipped.len());
    let mut rest = shipped;
    while let Some(first) = rest.chars().next() {
        let blank = skipped_bytes(rest, code.chars().last());
        if blank == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[blank..];
        }
    }
    code
}

/// How many bytes at the start of `rest` are a comment or a literal.
fn skipped_bytes(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if rest.starts_with('\'') {
        // A lifetime is not a literal: 'a' and '\n' are, 'a> and 'static are not.
        let mut chars = rest.chars().skip(1);
        let is_literal = chars.next() == Some('\\') || chars.next() == Some('\'');
        return if is_literal { quoted(rest, '\'') } else { 0 };
    }
    let starts_word = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let hashes = rest.strip_prefix('r').map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
    if starts_word && rest.starts_with('r') && rest[1 + hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = 2 + hashes;
        return rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len());
    }
    0
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().unwrap().len_utf8();
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    rest.len()
}
