//! A program that needs nothing but a kernel, to run from a scratch image.

use std::path::PathBuf;

use support::needs;
use tokio::{process::Command, sync::OnceCell};

use crate::command::{read, run};

const SOURCE: &str = r#"fn main() {
    println!("{}", std::env::args().skip(1).collect::<Vec<_>>().join(" "));
}
"#;

/// A static program for this machine that prints its arguments; compiled once.
pub async fn binary() -> Vec<u8> {
    static BINARY: OnceCell<Vec<u8>> = OnceCell::const_new();
    let compiled = BINARY.get_or_init(|| async {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| -> PathBuf { directory.path().join(name) };
        std::fs::write(at("hello.rs"), SOURCE).unwrap();
        let mut rustc = Command::new("rustc");
        rustc.args([
            "--edition",
            "2024",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "opt-level=s",
            "-C",
            "strip=symbols",
        ]);
        rustc.arg("-o").arg(at("hello")).arg(at("hello.rs"));
        let said = run(rustc).await;
        if said.is_ok {
            return read(&at("hello"));
        }
        needs::skip(&format!(
            "no static program can be linked here, so images hold one that cannot run: {}",
            said.text
        ));
        SOURCE.into()
    });
    compiled.await.clone()
}

/// This machine's platform as images name it.
pub fn platform() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}
