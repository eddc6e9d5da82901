//! `docs/differences.md` names a test for each difference; here each of these is looked up.

#[test]
#[expect(clippy::disallowed_methods, reason = "the tests that are named are in other crates, too")]
fn every_test_that_the_differences_name_exists() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let text = std::fs::read_to_string(format!("{root}/docs/differences.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| case"));
    let named: Vec<_> = rows.map(|row| (row, row.trim_end_matches('|').rsplit_once('|').unwrap().1)).collect();
    let mut sources = String::new();
    for folder in ["policy", "config", "proxy", "tests", "storage"] {
        let mut folders = vec![std::path::PathBuf::from(format!("{root}/{folder}"))];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else if entry.extension().is_some_and(|extension| extension == "rs") {
                    sources += &std::fs::read_to_string(entry).unwrap();
                }
            }
        }
    }
    assert!(named.len() >= 30, "{} differences", named.len());
    for (row, tests) in named {
        let tests: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            // as a function, or as a row of a table that a macro makes functions of
            let is_there = sources.contains(&format!("fn {test}(")) || sources.contains(&format!(" {test} => "));
            assert!(is_there, "there is no test {test}: {row}");
        }
    }
}
