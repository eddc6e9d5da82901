//! Errors name file, key, what was wanted and what was written.

use super::*;

#[test]
fn unknown_keys_are_refused_with_the_key_that_was_meant() {
    refused(&[
        ("listn = \"x\"", "listn: unknown key\nhint: did you mean listen?"),
        ("[tags]\ntll = \"1s\"", "tags.tll: unknown key\nhint: did you mean tags.ttl?"),
        (
            "[zzz]\na = 1",
            "zzz: unknown key\nhint: known here: listen, insecure, admin_listen, tls, storage, upstreams, tags, verdicts, policy, limits, log, evidence",
        ),
        (
            "[limits]\nmanifest_byte_max = 5",
            "limits.manifest_byte_max: unknown key\nhint: did you mean limits.manifest_bytes_max?",
        ),
        (
            "[[upstreams]]\nname = \"a.b\"\n[[upstreams]]\nname = \"c.d\"\npassword = \"hunter2\"",
            "upstreams[1].password: unknown key\nhint: did you mean upstreams[1].password_file?",
        ),
    ]);
}

#[test]
fn unknown_variables_are_refused_by_name() {
    for (name, error) in [
        ("PRATIQUE_LISTN", "PRATIQUE_LISTN: unknown key\nhint: did you mean listen?"),
        ("PRATIQUE_TAGS__TLL", "PRATIQUE_TAGS__TLL: unknown key\nhint: did you mean tags.ttl?"),
        ("PRATIQUE_", "PRATIQUE_: unknown key"),
        ("PRATIQUE_TAGS__", "PRATIQUE_TAGS__: unknown key"),
        ("PRATIQUE_TAGS", "PRATIQUE_TAGS: want a table, got 5"),
    ] {
        assert_eq!(Case::new().variable(name, "5").error(), error);
    }
}

#[test]
fn values_of_another_kind_are_refused_with_what_was_wanted() {
    let duration = "want a duration such as \"60s\", \"5m\", \"1h30m\" or \"7d\"";
    refused(&[
        ("[tags]\nttl = 60", &format!("tags.ttl: {duration}, got 60")),
        ("[tags]\nttl = \"60\"", &format!("tags.ttl: {duration}, got \"60\"")),
        ("[verdicts]\nabsent_ttl = \"-1s\"", &format!("verdicts.absent_ttl: {duration}, got \"-1s\"")),
        ("insecure = \"yes\"", "insecure: want true or false, got \"yes\""),
        (
            "listen = \"localhost:5000\"",
            "listen: want an IP address and a port such as \"127.0.0.1:5000\" or \"[::1]:5000\", got \"localhost:5000\"",
        ),
        ("[policy]\nno_match = \"ignore\"", "policy.no_match: want \"deny\" or \"warn\" or \"allow\", got \"ignore\""),
        ("[policy]\nfiles = \"p.yaml\"", "policy.files: want a list such as [\"…\"], got \"p.yaml\""),
        ("[policy]\nfiles = [5]", "policy.files[0]: want a path, got 5"),
        ("[storage]\npath = \"\"", "storage.path: want a directory, got \"\""),
        ("[storage]\nhigh_water = 101", "storage.high_water: want at most 100, hundredths of the budget, got \"101\""),
        ("[storage]\nlow_water = 96", "storage.low_water: want at most storage.high_water (95), got \"96\""),
        ("storage = 5", "storage: want a table, got 5"),
        ("[log]\nformat = \"xml\"", "log.format: want \"human\" or \"json\", got \"xml\""),
    ]);
}

#[test]
fn no_limit_can_be_zero_negative_or_boundless() {
    refused(&[
        ("[limits]\nfills_max = 0", "limits.fills_max: want a whole number from 1 to 4294967295, got 0"),
        (
            "[limits]\nfills_max = 4294967296",
            "limits.fills_max: want a whole number from 1 to 4294967295, got 4294967296",
        ),
        ("[limits]\nfills_max = -1", "limits.fills_max: want a whole number from 1 to 4294967295, got -1"),
        ("[limits]\nfills_max = \"32\"", "limits.fills_max: want a whole number from 1 to 4294967295, got \"32\""),
        (
            "[limits]\nblob_bytes_max = \"0B\"",
            "limits.blob_bytes_max: want a size above zero such as \"4MiB\", got \"0B\"",
        ),
        ("[limits]\nblob_bytes_max = 1.5", "limits.blob_bytes_max: want a size above zero such as \"4MiB\", got 1.5"),
        (
            "[limits]\ndrain_timeout = \"0s\"",
            "limits.drain_timeout: want a duration above zero such as \"60s\", \"5m\", \"1h30m\" or \"7d\", got \"0s\"",
        ),
        (
            "[policy]\ntrust_root_max_age = \"0d\"",
            "policy.trust_root_max_age: want a duration above zero such as \"60s\", \"5m\", \"1h30m\" or \"7d\", got \"0d\"",
        ),
        (
            "[limits]\nevidence_bytes_max = \"1GiB\"",
            "limits.evidence_bytes_max: 1073741824 bytes for one piece of evidence do not fit into evidence_memory_bytes_max, 536870912 bytes\nhint: raise evidence_memory_bytes_max as well",
        ),
        (
            "[limits]\nmanifest_memory_bytes_max = \"8MiB\"",
            "limits.manifest_memory_bytes_max: 8388608 bytes are less than four thirds of manifest_cache_bytes_max and twice manifest_bytes_max, 33554432 bytes\nhint: raise it",
        ),
        (
            "[limits]\nevidence_bytes_max = \"1MiB\"\nevidence_memory_bytes_max = \"1MiB\"",
            "limits.attestation_bytes_max: 134217728 bytes for one piece of evidence do not fit into evidence_memory_bytes_max, 1048576 bytes\nhint: raise evidence_memory_bytes_max as well",
        ),
    ]);
}

#[test]
fn an_error_in_a_merged_value_names_the_source_that_wrote_it() {
    let case = Case::of("[[upstreams]]\nname = \"cgr.dev\"").variable("PRATIQUE_STORAGE__PATH", "");
    assert_eq!(case.error(), "PRATIQUE_STORAGE__PATH: want a directory, got \"\"");
    let mut case = Case::of("[policy]\nfiles = [\"p.yaml\"]").file("p.yaml", "");
    case.overrides.policy = vec!["nowhere.yaml".into()];
    assert_eq!(
        case.error(),
        "--policy: want a file, or a pattern that matches one, got \"nowhere.yaml\", which matches no file"
    );
    case.overrides.listen = Some("5000".into());
    assert!(case.error().starts_with("--listen: want an IP address and a port"), "{}", case.error());
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line_and_without_quoting_it() {
    let error = Case::of("listen = \"127.0.0.1:1\"\nurl = \"https://user:hunter2@host\n").error();
    assert!(error.starts_with("pratique.toml:2: not TOML: "), "{error}");
    assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
    let error = Case::of("listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"").error();
    assert!(error.starts_with("pratique.toml:2: not TOML: duplicate key"), "{error}");
}

#[test]
fn a_configuration_file_that_is_not_there_is_an_error() {
    let mut case = Case::new();
    case.overrides.config = Some(case.path("none.toml"));
    assert_eq!(case.error(), "none.toml: could not be read");
}

#[test]
fn without_any_directory_to_store_in_the_path_must_be_given() {
    let mut case = Case::new();
    case.environment.state_directory = None;
    assert_eq!(
        case.error(),
        "storage.path: want a directory, as none of $STATE_DIRECTORY, $XDG_DATA_HOME and $HOME is set, got nothing"
    );
}
