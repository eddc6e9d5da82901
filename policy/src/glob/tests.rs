use oci::{Digest, Repository};
use proptest::prelude::*;

use super::*;

const SHA256: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn glob(text: &str) -> Glob {
    Glob::parse(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The string that is matched for a repository as a client would spell it, and a digest.
fn image(repository: &str) -> String {
    let repository: Repository = repository.parse().unwrap();
    format!("{}@{SHA256}", repository.canonical())
}

/// What was written for a glob that matches nothing, and what is suggested in its place.
fn instead_of(text: &str) -> String {
    match Glob::parse(text, &["registry".parse().unwrap()]) {
        Err(GlobError::MatchesNothing { instead, .. }) => instead.unwrap_or_else(|| "nothing".to_owned()),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn globs_match_as_in_admission() {
    let digest_glob = format!("ghcr.io/foo@{SHA256}");
    for (text, repository, expected) in [
        ("*", "docker.io/busybox", true),
        ("*", "ghcr.io/foo", false),
        ("*", "docker.io/myuser/myapp", false),
        ("*/*", "docker.io/myuser/myapp", true),
        ("*/*", "docker.io/busybox", true),
        ("*/*", "ghcr.io/foo", false),
        ("**", "ghcr.io/ab/cd/ef", true),
        ("index.docker.io/**", "docker.io/nginx", true),
        ("index.docker.io/**", "registry-1.docker.io/nginx", true),
        ("index.docker.io/myuser/*", "docker.io/myuser/myapp", true),
        ("ghcr.io/foo/bar*", "ghcr.io/foo/barbaz", true),
        ("ghcr.io/foo/bar*", "ghcr.io/foo/bar", true),
        ("ghcr.io/foo/bar@*", "ghcr.io/foo/bar", true),
        ("ghcr.io/foo/bar@*", "ghcr.io/foo/barbaz", false),
        ("ghcr.io/*/*", "ghcr.io/foo/bar/baz", false),
        ("ghcr.io/*/*", "ghcr.io/foo", false),
        ("ghcr.io/*/*", "ghcr.io/foo/bar", true),
        ("ghcr.io/**", "ghcr.io/foo", true),
        ("ghcr.io**", "ghcr.io.evil.com/foo", true),
        ("ghcr.io/**", "ghcr.io.evil.com/foo", false),
        ("ghcr.io/**", "ghcr.io:443/foo", false),
        ("**demo**", "registry.local:5000/pc/demo", true),
        ("ghcr.io/foo/**/bar*", "ghcr.io/foo/bar", false),
        ("ghcr.io/foo/**/bar*", "ghcr.io/foo/x/y/bar", true),
        (&digest_glob, "ghcr.io/foo", true),
        (&digest_glob, "ghcr.io/bar", false),
        ("ghcr.io/**", "ghcrxio/foo", false),
        ("ghcr.io/foo@*", "prefix-ghcr.io/foo", false),
        ("ghcr.io/foo@*", "ghcr.io/foo-suffix", false),
        ("ghcr.io/foo/*:*", "ghcr.io/foo/bar", true),
        ("ghcr.io/**:*", "ghcr.io/foo/bar", true),
        ("ghcr.io/foo/***", "ghcr.io/foo/bar", true),
        ("localhost/**", "localhost/x", true),
        ("cgr.dev/chainguard/**", "cgr.dev/chainguard/nginx", true),
        ("cgr.dev/chainguard/**", "cgr.dev/chainguard-evil/nginx", false),
        ("cgr.dev/chainguard/**", "evil.dev/cgr.dev/chainguard/nginx", false),
    ] {
        assert_eq!(glob(text).matches(&image(repository)), expected, "{text} on {repository}");
    }
}

#[test]
fn sha512_digests_are_matched_like_others() {
    let digest = Digest::of(oci::Algorithm::Sha512, b"x");
    assert!(glob("ghcr.io/**").matches(&format!("ghcr.io/foo@{digest}")));
    assert!(glob("ghcr.io/foo@sha512:*").matches(&format!("ghcr.io/foo@{digest}")));
    assert!(!glob("ghcr.io/foo@sha512:*").matches(&image("ghcr.io/foo")));
}

#[test]
fn globs_that_match_no_image_are_refused_with_the_glob_to_write() {
    for (text, expected) in [
        ("docker.io/**", "index.docker.io/**"),
        ("registry-1.docker.io/a/b@*", "index.docker.io/a/b@*"),
        ("docker.io/nginx", "index.docker.io/library/nginx@*"),
        ("docker.io/*", "index.docker.io/library/*"),
        ("index.docker.io/nginx@*", "index.docker.io/library/nginx@*"),
        ("index.docker.io/library/foo:latest", "index.docker.io/library/foo@*"),
        ("busybox*", "index.docker.io/library/busybox*"),
        ("myuser/myapp*", "index.docker.io/myuser/myapp*"),
        ("foo", "index.docker.io/library/foo@*"),
        ("ghcr.io/foo/bar", "ghcr.io/foo/bar@*"),
        ("ghcr.io/foo/bar:*", "ghcr.io/foo/bar@*"),
        ("ghcr.io/foo/bar:v1", "ghcr.io/foo/bar@*"),
        ("ghcr.io/foo/bar:**", "ghcr.io/foo/bar@*"),
        ("ghcr.io/foo/bar:v1@*", "ghcr.io/foo/bar@*"),
        ("ghcr.io/foo@sha256:abc", "ghcr.io/foo@*"),
        ("ghcr.io/foo@sha1:*", "ghcr.io/foo@*"),
        ("ghcr.io", "ghcr.io/**"),
        ("ghcr.io/", "ghcr.io/**"),
        ("ghcr.io/foo/", "ghcr.io/foo/**"),
        ("GHCR.io/**", "ghcr.io/**"),
        ("ghcr.io/Foo/bar", "ghcr.io/foo/bar@*"),
        ("https://cgr.dev/chainguard/nginx", "cgr.dev/chainguard/nginx@*"),
        ("localhost:5000/x", "localhost:5000/x@*"),
        ("localhost/x", "localhost/x@*"),
        ("registry/x:1", "registry/x@*"),
        ("cgr.dev//nginx@*", "nothing"),
        ("ghcr.io/foo..bar@*", "nothing"),
    ] {
        assert_eq!(instead_of(text), expected, "for {text}");
    }
}

#[test]
fn what_is_no_glob_is_refused() {
    for text in [".+", "[a-z]*", "[", "a?", "a b", "ghcr.io/foo\n", "ghcr.io/é*", "a&b", "!ghcr.io/**", "{a,b}/**"] {
        let error = Glob::parse(text, &[]).unwrap_err();
        assert!(matches!(error, GlobError::Character { .. }), "{text}: {error:?}");
    }
    assert_eq!(Glob::parse("", &[]).unwrap_err(), GlobError::Empty);
    let error = Glob::parse(&format!("cgr.dev/{}**", "a".repeat(2000)), &[]).unwrap_err();
    assert!(matches!(error, GlobError::TooLong { .. }), "{error:?}");
}

#[test]
fn an_upstream_without_a_dot_is_a_host_only_where_it_is_configured() {
    assert!(Glob::parse("registry/x@*", &["registry".parse().unwrap()]).is_ok());
    assert!(Glob::parse("registry/x@*", &[]).is_err());
}

#[test]
fn a_repository_may_be_matched_when_some_digest_of_it_is() {
    let digest_glob = format!("ghcr.io/foo@{SHA256}");
    for (text, repository, expected) in [
        ("cgr.dev/chainguard/**", "cgr.dev/chainguard/nginx", true),
        ("cgr.dev/chainguard/**", "cgr.dev/other/nginx", false),
        ("ghcr.io/foo@*", "ghcr.io/foo", true),
        ("ghcr.io/foo@*", "ghcr.io/foobar", false),
        (&digest_glob, "ghcr.io/foo", true),
        (&digest_glob, "ghcr.io/bar", false),
        ("ghcr.io/foo@sha512:*", "ghcr.io/foo", true),
        ("**00", "ghcr.io/foo", true),
        ("ghcr.io/*:*0", "ghcr.io/foo", true),
        ("*", "index.docker.io/library/nginx", true),
        ("*", "index.docker.io/a/nginx", false),
    ] {
        assert_eq!(glob(text).may_match_repository(repository), expected, "{text} on {repository}");
    }
}

#[test]
fn a_host_left_open_is_known() {
    assert_eq!(glob("ghcr.io**").open_ended_host(), Some("ghcr.io"));
    assert_eq!(glob("ghcr.io*/**").open_ended_host(), Some("ghcr.io"));
    assert_eq!(glob("ghcr.io/**").open_ended_host(), None);
    assert_eq!(glob("**demo**").open_ended_host(), None);
}

/// The meaning once more, in the plainest way, to check the compiled one against.
fn matches_plainly(tokens: &[Token], text: &[u8]) -> bool {
    let Some((token, rest)) = tokens.split_first() else {
        return text.is_empty();
    };
    match token {
        Token::Literal(byte) => text.first() == Some(byte) && matches_plainly(rest, &text[1..]),
        Token::WithinSegment | Token::Anything => {
            matches_plainly(rest, text)
                || text.first().is_some_and(|byte| *token == Token::Anything || *byte != b'/')
                    && matches_plainly(tokens, &text[1..])
        }
    }
}

fn print(tokens: &[Token]) -> String {
    tokens
        .iter()
        .map(|token| match token {
            Token::Literal(byte) => char::from(*byte).to_string(),
            Token::WithinSegment => "*".to_owned(),
            Token::Anything => "**".to_owned(),
        })
        .collect()
}

proptest! {
    #[test]
    fn printing_what_was_parsed_gives_the_glob_back(text in "[a-z0-9-_:/*.@]{1,30}") {
        prop_assert_eq!(tokens(&print(&tokens(&text))), tokens(&text));
        if let Ok(glob) = Glob::parse(&text, &[]) {
            prop_assert_eq!(glob.to_string(), text);
        }
    }

    #[test]
    fn compiled_and_plain_meaning_agree(text in "[ab/:@.*]{1,8}", image in "[ab/:@.\n]{0,8}") {
        let tokens = tokens(&text);
        prop_assert_eq!(compile(&tokens).is_match(&image), matches_plainly(&tokens, image.as_bytes()));
    }

    #[test]
    fn what_matches_an_image_is_not_refused(
        host in "[a-z]{1,4}[.][a-z]{2,3}(:[1-9][0-9]{0,3})?",
        path in "[a-z0-9]{1,3}([._-][a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,3}){0,2}",
        cut in 0_usize..40,
        wildcard in prop::sample::select(vec!["*", "**", ""]),
        removed in 0_usize..80,
    ) {
        let image = image(&format!("{host}/{path}"));
        let cut = cut.min(image.len());
        let text = format!("{}{wildcard}{}", &image[..cut], &image[(cut + removed).min(image.len())..]);
        let wanted = matches_plainly(&tokens(expanded(&text)), image.as_bytes());
        match Glob::parse(&text, &[]) {
            Ok(glob) => {
                prop_assert_eq!(glob.matches(&image), wanted);
                prop_assert!(!wanted || glob.may_match_repository(image.split('@').next().unwrap()));
            }
            Err(error) => prop_assert!(!wanted, "{text} matches {image}, yet: {error}"),
        }
    }

    #[test]
    fn no_neighbour_of_a_host_or_path_is_matched(before in "[a-z0-9.-]{0,6}", after in "[a-z0-9.-]{0,6}") {
        let neighbours = !(before.is_empty() && after.is_empty());
        let host = format!("{before}ghcr.io{after}/foo@{SHA256}");
        prop_assert_eq!(glob("ghcr.io/**").matches(&host), !neighbours);
        let path = format!("ghcr.io/{before}foo{after}@{SHA256}");
        prop_assert_eq!(glob("ghcr.io/foo@*").matches(&path), !neighbours);
        let inner = format!("evil.example/{before}ghcr.io/foo@{SHA256}");
        prop_assert!(!glob("ghcr.io/**").matches(&inner));
    }

    #[test]
    fn what_is_suggested_is_a_glob(text in "[a-zA-Z0-9-_:/*.@]{1,30}") {
        if let Err(GlobError::MatchesNothing { instead: Some(instead), .. }) = Glob::parse(&text, &[]) {
            prop_assert!(Glob::parse(&instead, &[]).is_ok(), "{text} -> {instead}");
        }
    }

    #[test]
    fn no_text_makes_parsing_panic(text in "\\PC{0,40}") {
        let _ = Glob::parse(&text, &[]);
    }
}
