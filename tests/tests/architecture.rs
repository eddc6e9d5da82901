//! The rules about who may know whom, executable. Dependencies are read from Cargo, names from the source text without comments,
//! literals and test modules.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a rule that cannot be read is a rule that failed")]

#[path = "architecture/packages.rs"]
mod packages;
#[path = "architecture/source.rs"]
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use packages::{is_meant, packages, root};
use source::{code_of, names, product_sources, product_texts};

/// Which of our crates each of our crates may depend on, tests included: the arrows `oci ← config ← {storage, policy} ← proxy ← {tests, benches}`.
const DIRECTIONS: [(&str, &[&str]); 7] = [
    ("oci", &[]),
    ("config", &["oci"]),
    ("storage", &["oci", "config"]),
    ("policy", &["oci", "config"]),
    ("proxy", &["oci", "config", "storage", "policy"]),
    ("tests", &["oci", "config", "storage", "policy", "proxy"]),
    ("benches", &["oci", "config", "storage", "policy", "proxy", "tests"]),
];

/// What each crate never depends on outside its tests. A name that ends in `*` stands for all that begin so.
const NEVER: [(&str, &[&str]); 4] = [
    ("oci", &["tokio*", "hyper*", "http*", "rustls*", "figment", "redb", "sigstore-*"]),
    ("config", &["tokio*", "hyper*", "http*", "rustls*", "redb", "sled", "sigstore-*"]),
    ("storage", &["hyper*", "http*", "rustls*", "figment", "sigstore-*", "tower*"]),
    ("policy", &["tokio*", "hyper*", "http*", "rustls*", "figment", "redb", "tower*", "tracing*"]),
];

/// What unpacks: no crate in the lock file does, so that no layer and no answer can make it.
const UNPACKERS: [&str; 9] =
    ["tar", "flate2", "miniz_oxide", "zip", "zstd*", "brotli*", "async-compression", "lz4*", "xz2"];

/// Crates that only one of ours may know, so that they can be replaced; `tests` makes its own signatures. The first line that fits a
/// crate holds: TUF is spoken by whoever has the HTTP client, and vouches for bytes that `policy` then reads.
const OWNERS: [(&str, &[&str]); 8] = [
    ("redb", &["storage"]),
    ("sled", &["storage"]),
    ("figment", &["config"]),
    ("sigstore-tuf", &["proxy", "tests"]),
    ("sigstore-*", &["policy", "tests"]),
    ("regorus", &["policy"]),
    ("serde-saphyr", &["policy"]),
    ("hyper*", &["proxy", "tests", "benches"]),
];

/// Names that only these files (or folders) of the product's sources may contain. The first line that fits a name holds.
const NAMED_IN: [(&str, &[&str]); 10] = [
    ("redb", &["storage/src/facts.rs", "storage/src/facts/open.rs", "storage/src/facts/redb.rs"]),
    ("sled", &["storage/src/facts.rs", "storage/src/facts/open.rs", "storage/src/facts/sled.rs"]),
    ("sigstore_tuf", &["proxy/src/trust/"]),
    ("jiff", &["proxy/src/trust/", "proxy/src/upstream/client.rs"]),
    ("sigstore_*", &["policy/src/sigstore.rs", "policy/src/sigstore/"]),
    ("regorus", &["policy/src/rego.rs", "policy/src/rego/"]),
    ("figment", &["config/src/"]),
    ("SystemTime", &["proxy/src/clock.rs"]),
    ("vars_os", &["config/src/environment.rs"]),
    // sendfile's pages are for sockets; the binary reads its configuration before there is a store
    ("spawn_blocking", &["storage/src/work.rs", "proxy/src/listen/zero_copy.rs", "proxy/src/bin/pratique/serve.rs"]),
];

/// How often `policy/src/admit.rs`, and nothing else, asserts an admission (an image, a piece of evidence) and a permit.
const ADMITTED_ASSERTIONS: usize = 2;
const PERMIT_ASSERTIONS: usize = 1;

#[test]
fn crates_depend_on_each_other_in_one_direction_only() {
    let packages = packages();
    let allowed: BTreeMap<_, _> = DIRECTIONS.into();
    let members: BTreeSet<_> = packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(members, allowed.keys().copied().collect(), "every member has its place in DIRECTIONS");
    for package in &packages {
        for (dependency, _) in &package.dependencies {
            let is_ours = members.contains(dependency.as_str());
            let is_allowed = allowed[package.name.as_str()].contains(&dependency.as_str());
            assert!(!is_ours || is_allowed, "{} must not depend on {dependency}", package.name);
        }
    }
}

#[test]
fn no_crate_depends_on_what_it_must_not_know() {
    let packages = packages();
    for (name, never) in NEVER {
        let package = packages.iter().find(|package| package.name == name).unwrap();
        for dependency in package.shipped() {
            let broken = never.iter().find(|pattern| is_meant(pattern, dependency));
            assert_eq!(broken, None, "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn nothing_that_unpacks_is_a_dependency() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let crates = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let mut seen = 0;
    for name in crates {
        assert!(!UNPACKERS.iter().any(|pattern| is_meant(pattern, name)), "{name} unpacks");
        seen += 1;
    }
    assert!(seen > 100, "{seen} crates only");
}

/// The scenarios and advisories that `docs/faults.md` answers for.
fn faults() -> BTreeSet<String> {
    (1..=90).map(|number| number.to_string()).chain((27..=43).map(|number| format!("A{number}"))).collect()
}

#[test]
fn every_fault_has_its_row_and_every_row_tests_that_are_there() {
    let text = fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let mut rows = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if !cells[0].trim_start_matches('A').starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        assert_eq!(cells.len(), 4, "{line}");
        assert!(rows.insert(cells[0].to_owned()), "{} has two rows", cells[0]);
        let tests: Vec<_> = cells[3].split('`').filter_map(|cell| cell.split_once("::")).collect();
        assert!(!tests.is_empty() || cells[3].starts_with("not tested: "), "{} has no test and no reason", cells[0]);
        for (path, name) in tests {
            let source = fs::read_to_string(root().join(path)).unwrap_or_else(|_| panic!("{}: no {path}", cells[0]));
            assert!(is_test(&source, name), "{}: no test {name} in {path}", cells[0]);
        }
    }
    assert_eq!(rows, faults());
}

/// Whether `name` is a test in `source`: a function below `#[test]` or `#[tokio::test]`, or one that a macro makes of its line.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let is_it = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").and_then(|line| line.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    };
    let is_made = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(" => "));
    lines.iter().enumerate().any(|(at, line)| {
        let above = lines[..at].iter().rev().take_while(|above| above.starts_with("#[") || above.starts_with("//"));
        is_made(line) || is_it(line) && above.into_iter().any(|above| above.contains("test"))
    })
}

#[test]
fn a_name_that_is_no_test_is_not_taken_for_one() {
    let source =
        "#[test]\nfn a() {}\n\n#[tokio::test(start_paused = true)]\nasync fn b() {}\nfn c() {}\neach! { d => D, }";
    let source = source.replace("{ d", "{\nd");
    let tests: String = ["a", "b", "c", "d", "e"].into_iter().filter(|name| is_test(&source, name)).collect();
    assert_eq!(tests, "abd");
}

#[test]
fn replaceable_crates_are_known_to_their_owners_only() {
    let packages = packages();
    for package in &packages {
        for (dependency, _) in &package.dependencies {
            let rule = OWNERS.iter().find(|(pattern, _)| is_meant(pattern, dependency));
            let is_allowed = rule.is_none_or(|(_, owners)| owners.contains(&package.name.as_str()));
            assert!(is_allowed, "{} must not depend on {dependency}", package.name);
        }
    }
}

#[test]
fn the_only_feature_adds_a_store_and_none_is_on_by_default() {
    for package in packages() {
        let known: &[&str] = if ["storage", "proxy"].contains(&package.name.as_str()) { &["sled"] } else { &[] };
        assert_eq!(package.features, known, "{} has other features", package.name);
    }
}

#[test]
fn operators_are_told_of_every_metric() {
    let told = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let is_metric = |literal: &&str| {
        let name = literal.strip_prefix("pratique_").unwrap_or_default();
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let texts = product_texts();
    let metrics: BTreeSet<_> = texts.iter().flat_map(|(_, text)| text.split('"').filter(is_metric)).collect();
    assert!(metrics.len() > 20, "found {metrics:?} only");
    for metric in metrics {
        assert!(told.contains(&format!("`{metric}`")), "docs/operations.md does not tell of {metric}");
    }
}

/// `tests/broken/run` takes hours; that its patches still fit is seen at once.
#[test]
fn every_broken_build_can_be_made() {
    let mut builds = 0;
    for entry in fs::read_dir(root().join("tests/broken")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let (text, mut file) = (fs::read_to_string(&path).unwrap(), String::new());
        let mut hunks: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("--- a/") {
                file = fs::read_to_string(root().join(name)).unwrap();
            } else if line.starts_with("@@ ") {
                hunks.push((file.clone(), String::new()));
            } else if let (Some(kept), Some((_, before))) = (line.strip_prefix([' ', '-']), hunks.last_mut())
                && !line.starts_with("--- ")
            {
                before.push_str(kept);
                before.push('\n');
            }
        }
        assert!(!hunks.is_empty(), "{}: no hunk", path.display());
        for (file, before) in hunks {
            assert_eq!(file.matches(&before).count(), 1, "{} does not fit:\n{before}", path.display());
        }
        builds += 1;
    }
    assert!(builds > 10, "{builds} patches");
}

#[test]
fn every_member_inherits_the_lints_and_no_code_is_unsafe() {
    let read =
        |path: PathBuf| -> Vec<String> { fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect() };
    let has = |lines: &[String], section: &str, line: &str| {
        lines.windows(2).any(|pair| pair[0].trim() == section && pair[1].trim() == line)
    };
    for package in packages() {
        assert!(
            has(&read(package.manifest.clone()), "[lints]", "workspace = true"),
            "{} has lints of its own",
            package.name
        );
    }
    assert!(has(&read(root().join("Cargo.toml")), "[workspace.lints.rust]", "unsafe_code = \"forbid\""));
}

#[test]
fn names_stay_in_the_files_that_own_them() {
    let files = product_sources();
    for (pattern, owners) in NAMED_IN {
        let naming: Vec<_> = files
            .iter()
            .filter(|(_, code)| names(code).any(|name| rule_for(name) == Some(pattern)))
            .map(|(path, _)| path)
            .collect();
        assert!(!naming.is_empty(), "{pattern} is named nowhere: this rule guards nothing");
        for path in naming {
            assert!(owners.iter().any(|owner| path.starts_with(owner)), "{path} names {pattern}");
        }
    }
}

fn rule_for(name: &str) -> Option<&'static str> {
    NAMED_IN.iter().map(|(pattern, _)| *pattern).find(|pattern| is_meant(pattern, name))
}

#[test]
fn deciding_and_parsing_touch_no_file_socket_clock_or_task() {
    for (path, code) in product_sources() {
        if path.starts_with("policy/src/") || path.starts_with("storage/oci/src/") {
            for name in names(&code) {
                let is_effect = matches!(
                    name,
                    "fs" | "net"
                        | "env"
                        | "process"
                        | "thread"
                        | "File"
                        | "TcpStream"
                        | "SystemTime"
                        | "Instant"
                        | "tokio"
                        | "async"
                );
                assert!(!is_effect, "{path} names {name}");
            }
        }
    }
}

#[test]
fn handlers_reach_the_world_through_resolve_and_admission_only() {
    for (path, code) in product_sources() {
        if path.starts_with("proxy/src/handle") {
            for door in
                ["upstream::", "storage::", "hyper::", "hyper_util::", "tokio::net", "tokio::fs", "std::fs", "std::net"]
            {
                assert!(!code.contains(door), "{path} names {door}");
            }
        }
    }
}

#[test]
fn only_respond_makes_bodies() {
    let mut makers = BTreeSet::new();
    for (path, code) in product_sources().into_iter().filter(|(path, _)| path.starts_with("proxy/src/")) {
        if code.contains("ServedBody::") || code.contains("ServedBody(") && !code.contains("pub struct ServedBody(") {
            makers.insert(path.clone());
        }
        for conversion in
            ["From<Bytes> for ServedBody", "Into<ServedBody>", "Default for ServedBody", "for Admitted", "for Permit"]
        {
            assert!(!code.contains(conversion), "{path} has {conversion}");
        }
    }
    assert_eq!(makers, BTreeSet::from(["proxy/src/respond.rs".to_owned()]));
}

#[test]
fn admissions_are_asserted_at_known_places_only() {
    let mut found = BTreeMap::new();
    for (path, code) in product_sources() {
        for assertion in ["Admitted::assertion(", "Permit::assertion("] {
            let count = code.matches(assertion).count();
            if count > 0 {
                found.insert((path.clone(), assertion), count);
            }
        }
    }
    let admit = || "policy/src/admit.rs".to_owned();
    let known = [
        ((admit(), "Admitted::assertion("), ADMITTED_ASSERTIONS),
        ((admit(), "Permit::assertion("), PERMIT_ASSERTIONS),
    ];
    assert_eq!(found, known.into());
}

#[test]
fn an_admission_has_one_constructor_and_no_conversion() {
    let (_, code) = product_sources().into_iter().find(|(path, _)| path == "policy/src/admit/admitted.rs").unwrap();
    for name in names(&code) {
        let makes_one = matches!(
            name,
            "Deserialize" | "Default" | "From" | "TryFrom" | "Into" | "DerefMut" | "AsMut" | "map" | "new"
        );
        assert!(!makes_one, "admitted.rs names {name}");
    }
    assert_eq!(code.matches("fn assertion").count(), 2, "one for Admitted, one for Permit");
    assert_eq!(code.matches("pub(super) fn assertion").count(), 2, "visible to admit.rs alone");
}

#[test]
fn comments_literals_and_test_modules_are_not_code() {
    let text = "use a::b; // redb\n/* redb /* redb */ */ let c = \"redb \\\" redb\"; let d = r#\"redb \" redb\"#; let e = '\"'; fn f<'x>() {}\n\
                #[cfg(test)]\nmod tests { use redb; }";
    let code = code_of(text);
    assert!(!code.contains("redb"), "{code}");
    assert_eq!(names(&code).filter(|name| name.len() == 1).collect::<String>(), "abcdefx");
}
