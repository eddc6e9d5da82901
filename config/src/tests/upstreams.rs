//! The registries behind.

use super::*;

#[test]
fn docker_hub_is_asked_where_it_answers_and_brings_its_realm() {
    let settings = Case::of("[[upstreams]]\nname = \"docker.io\"").settings();
    let hub = &settings.upstreams[0];
    assert_eq!((hub.name.as_str(), hub.url.to_string().as_str()), ("docker.io", "https://registry-1.docker.io"));
    assert!(hub.realms[0].matches("auth.docker.io", 443));
    let settings = Case::of("[[upstreams]]\nname = \"docker.io\"\nurl = \"https://mirror.example.com\"").settings();
    assert!(settings.upstreams[0].realms.is_empty(), "a mirror's credentials are not Docker's");
}

#[test]
fn the_default_prefix_is_none_for_an_only_upstream_and_else_the_name() {
    let case = Case::of(
        "[[upstreams]]\nname = \"cgr.dev\"\nprefix = \"\"\n[[upstreams]]\nname = \"docker.io\"\n[[upstreams]]\nname = \"ghcr.io\"\nprefix = \"a/b\"",
    );
    let prefixes: Vec<_> = case.settings().upstreams.into_iter().map(|upstream| upstream.prefix).collect();
    assert_eq!(prefixes, ["", "docker.io", "a/b"]);
    let case = Case::of("[[upstreams]]\nname = \"cgr.dev\"\n[[upstreams]]\nname = \"docker.io\"");
    assert!(case.notes().contains(
        &"no upstream has prefix = \"\": a pull that names neither a prefix nor ?ns= finds nothing".to_owned()
    ));
}

#[test]
fn upstreams_that_cannot_be_told_apart_are_refused() {
    for other in ["index.docker.io", "registry-1.docker.io", "docker.io"] {
        refused(&[(
            &format!("[[upstreams]]\nname = \"docker.io\"\n[[upstreams]]\nname = \"{other}\"\nprefix = \"x\""),
            &format!(
                "upstreams[1].name: \"{other}\" names the same registry as upstreams[0] (\"docker.io\")\nhint: give each registry once"
            ),
        )]);
    }
    refused(&[(
        "[[upstreams]]\nname = \"a.b\"\nprefix = \"x\"\n[[upstreams]]\nname = \"c.d\"\nprefix = \"x\"",
        "upstreams[1].prefix: \"x\" is also the prefix of upstreams[0]\nhint: give each upstream a prefix of its own",
    )]);
}

#[test]
fn malformed_upstreams_are_refused() {
    let name = "want a registry's lower-case host, with its port where it has one, such as \"cgr.dev\"";
    let prefix = "want \"\", or lower-case path segments without a slash at either end, such as \"hub\"";
    refused(&[
        (
            "upstreams = []",
            "upstreams: want at least one upstream, got an empty list\nhint: without the key, cgr.dev is served",
        ),
        ("[[upstreams]]\nurl = \"https://cgr.dev\"", &format!("upstreams[0].name: {name}, got nothing")),
        ("[[upstreams]]\nname = \"https://cgr.dev\"", &format!("upstreams[0].name: {name}, got \"https://cgr.dev\"")),
        ("[[upstreams]]\nname = \"a.b\"\nprefix = \"/x\"", &format!("upstreams[0].prefix: {prefix}, got \"/x\"")),
        ("[[upstreams]]\nname = \"a.b\"\nprefix = \"x/\"", &format!("upstreams[0].prefix: {prefix}, got \"x/\"")),
        ("[[upstreams]]\nname = \"a.b\"\nprefix = \"x//y\"", &format!("upstreams[0].prefix: {prefix}, got \"x//y\"")),
        ("[[upstreams]]\nname = \"a.b\"\nprefix = \"..\"", &format!("upstreams[0].prefix: {prefix}, got \"..\"")),
        (
            "[[upstreams]]\nname = \"a.b\"\n[[upstreams]]\nname = \"localhost:5\"",
            "upstreams[1].prefix: want a prefix, as the name \"localhost:5\" cannot be one, got nothing",
        ),
        (
            "[[upstreams]]\nname = \"a.b\"\nurl = \"https://a.b/v2/\"",
            "upstreams[0].url: want a URL without path, query or fragment (paths belong into prefix or the pull), got \"https://a.b/v2/\"",
        ),
        (
            "[[upstreams]]\nname = \"a.b\"\nca_file = \"none.pem\"",
            "upstreams[0].ca_file: want a file that exists, got \"none.pem\"",
        ),
        (
            "[[upstreams]]\nname = \"a.b\"\nrealms = [\"ok\", \"https://no\"]",
            "upstreams[0].realms[1]: want a host and optionally a port, such as \"auth.example.com\" or \"10.0.0.7:8443\", got \"https://no\"",
        ),
    ]);
}

#[test]
fn user_info_in_a_url_is_refused_and_not_repeated() {
    for text in ["https://user:hunter2@a.b", "https://hunter2@a.b", "https://x:hunter2@y@a.b"] {
        let error = Case::of(&format!("[[upstreams]]\nname = \"a.b\"\nurl = \"{text}\"")).error();
        assert!(error.contains("upstreams[0].url: want a URL without user or password"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = Case::of("[[upstreams]]\nname = \"a.b\"\nrealms = [\"u:hunter2@h\"]").error();
    assert!(error.contains("realms[0]") && !error.contains("hunter2"), "{error}");
}

#[test]
fn credentials_are_both_or_neither() {
    refused(&[
        (
            "[[upstreams]]\nname = \"a.b\"\nusername = \"u\"",
            "upstreams[0].password_file: want a file, as username is set, got nothing",
        ),
        (
            "[[upstreams]]\nname = \"a.b\"\npassword_file = \"p\"",
            "upstreams[0].username: want a user, as password_file is set, got nothing",
        ),
    ]);
}

#[test]
fn credentials_do_not_travel_unencrypted_beyond_loopback() {
    let with_url = |url: &str| {
        let text = format!("[[upstreams]]\nname = \"a.b\"\nurl = \"{url}\"\nusername = \"u\"\npassword_file = \"pw\"");
        Case::of(&text).file("pw", "hunter2\n")
    };
    assert_eq!(
        with_url("http://a.b").error(),
        "pratique.toml: upstreams[0].username: these credentials would travel unencrypted to http://a.b\nhint: write https:// in url, or leave the credentials out"
    );
    for url in ["https://a.b", "http://127.0.0.1:5005", "http://localhost", "http://[::1]:9"] {
        let case = with_url(url);
        let settings = case.settings();
        let credentials = settings.upstreams[0].credentials.clone().unwrap();
        assert_eq!(credentials.read_password().unwrap().expose(), "hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}

#[test]
fn a_password_that_cannot_be_read_or_is_empty_is_refused() {
    let text = "[[upstreams]]\nname = \"a.b\"\nusername = \"u\"\npassword_file = \"pw\"";
    assert_eq!(Case::of(text).error(), "pw: could not be read");
    assert_eq!(Case::of(text).file("pw", "\n").error(), "pw: want a password, got an empty file");
}

#[test]
fn a_docker_configuration_is_named_and_stands_alone() {
    let text = |more: &str| format!("[[upstreams]]\nname = \"cgr.dev\"\ndocker_config = \"config.json\"\n{more}");
    let case = Case::of(&text("")).file("config.json", "{}");
    let path = case.path("config.json");
    assert_eq!(case.settings().upstreams[0].docker_config.as_deref(), Some(path.as_path()));
    assert!(Case::of("[[upstreams]]\nname = \"cgr.dev\"").settings().upstreams[0].docker_config.is_none());
    for (more, problem) in [
        ("username = \"me\"\npassword_file = \"config.json\"", "username and password_file say who pratique is there"),
        ("url = \"http://registry.example\"", "these credentials would travel unencrypted to http://registry.example"),
    ] {
        let error = Case::of(&text(more)).file("config.json", "{}").load().unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let absent = Case::of(&text("")).load().unwrap_err().to_string();
    assert!(absent.contains("a file that exists"), "{absent}");
}

#[test]
fn who_lends_the_login_of_a_docker_configuration_to_everybody_is_told_so() {
    let text = "listen = \"10.0.0.1:5000\"\ninsecure = true\n[[upstreams]]\nname = \"cgr.dev\"\ndocker_config = \"config.json\"";
    let notes = Case::of(text).file("config.json", "{}").weakened();
    assert!(notes.iter().any(|note| note.contains("pulls from cgr.dev with the configured credentials")), "{notes:?}");
}

#[test]
fn the_end_of_a_password_is_a_date_or_a_time() {
    let text = |value: &str| format!("[[upstreams]]\nname = \"cgr.dev\"\npassword_expires = \"{value}\"");
    let ends = Case::of(&text("2026-12-31")).settings().upstreams[0].password_expires.unwrap();
    assert_eq!(ends.to_string(), "2026-12-31T00:00:00Z");
    let error = Case::of(&text("soon")).load().unwrap_err().to_string();
    assert!(error.contains("upstreams[0].password_expires: want a date"), "{error}");
}
