//! Programs that must not compile from outside: ways around admission.
//!
//! Each program in `compile_fail/` has lines marked `//~ FORBIDDEN <text of the error>`. Compiled without them it passes; with each of
//! them alone it must fail with that error. So a program cannot fail for another reason than the one it is about.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at the first surprise, and says so where it skips"
)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

const MARK: &str = "//~ FORBIDDEN ";

#[test]
fn no_program_outside_gets_around_admission() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let forbidden: Vec<_> = text.lines().filter_map(|line| line.split_once(MARK)).collect();
        assert!(!forbidden.is_empty(), "{} forbids nothing", path.display());
        let twin = keeping(&text, None);
        let (passes, said) = compile(&twin);
        assert!(passes, "the twin of {} does not compile:\n{said}", path.display());
        for (line, wanted) in forbidden {
            let (passes, said) = compile(&keeping(&text, Some(line)));
            assert!(!passes, "{} compiles with `{}`", path.display(), line.trim());
            assert!(said.contains(wanted.trim()), "`{}` fails for another reason:\n{said}", line.trim());
            tried += 1;
        }
    }
    assert!(tried >= 8, "only {tried} forbidden lines were tried");
}

/// The program with only this one of its forbidden lines.
fn keeping(text: &str, kept: Option<&str>) -> String {
    let keep = |line: &&str| line.split_once(MARK).is_none_or(|(code, _)| Some(code) == kept);
    text.lines().filter(keep).collect::<Vec<_>>().join("\n")
}

fn compile(text: &str) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("program.rs");
    std::fs::write(&source, text).unwrap();
    let deps = deps();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata"]);
    rustc.arg("-L").arg(format!("dependency={}", deps.display())).arg("--out-dir").arg(directory.path());
    for name in ["policy", "proxy", "oci", "serde_json", "bytes"] {
        rustc.arg("--extern").arg(format!("{name}={}", newest(&deps, name).display()));
    }
    let output = rustc.arg(&source).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Where cargo puts what it compiled: this very test lies there.
fn deps() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

fn newest(deps: &Path, name: &str) -> PathBuf {
    let prefix = format!("lib{name}-");
    let built = |path: &PathBuf| {
        std::fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    std::fs::read_dir(deps)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.starts_with(&prefix) && file.ends_with(".rlib")
        })
        .max_by_key(built)
        .unwrap_or_else(|| panic!("{name} has not been built"))
}
