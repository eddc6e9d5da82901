//! Keys in policies.

use super::*;

fn with_key(data: &str) -> String {
    with_authority(&format!("key: {{data: {data:?}}}"))
}

#[test]
fn what_is_not_one_public_key_in_pem_is_refused() {
    insta::assert_snapshot!(flaws(&with_key("not a key")), @r"
own.yaml:9: spec.authorities[0].key.data: is not one PEM block and nothing else
hint: write the block from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----, under data: |
");
    insta::assert_snapshot!(flaws(&with_key(&PUBLIC_KEY.repeat(2))), @r"
own.yaml:9: spec.authorities[0].key.data: holds 2 PEM blocks, of which the controller reads only the first; expected one
hint: keep one key; for several, write an authority for each (any of them suffices)
");
    insta::assert_snapshot!(flaws(&with_key(&PUBLIC_KEY.replace("PUBLIC KEY", "CERTIFICATE"))), @r#"
own.yaml:9: spec.authorities[0].key.data: is a PEM block "CERTIFICATE"; expected PUBLIC KEY or RSA PUBLIC KEY
hint: openssl x509 -pubkey -noout prints the certificate's key
"#);
    insta::assert_snapshot!(flaws(&with_key(&PUBLIC_KEY.replace("PUBLIC KEY", "EC PRIVATE KEY"))), @r#"
own.yaml:9: spec.authorities[0].key.data: is a PEM block "EC PRIVATE KEY"; expected PUBLIC KEY or RSA PUBLIC KEY
hint: a private key has no place in a policy: openssl pkey -pubout prints the public one
"#);
    insta::assert_snapshot!(flaws(&with_key(&PUBLIC_KEY.replace("END PUBLIC KEY", "END RSA PUBLIC KEY"))), @r"
own.yaml:9: spec.authorities[0].key.data: does not end in -----END PUBLIC KEY-----
hint: write the block from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----, under data: |
");
    insta::assert_snapshot!(flaws(&with_key(&PUBLIC_KEY.replace("MFk", "M*k"))), @r"
own.yaml:9: spec.authorities[0].key.data: is a PEM block that is no base64: Invalid symbol 42, offset 1.
hint: write the block from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----, under data: |
");
    insta::assert_snapshot!(flaws(&with_key("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n")), @r"
own.yaml:9: spec.authorities[0].key.data: is an empty PEM block
hint: write the block from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----, under data: |
");
    for data in [
        format!("text before\n{PUBLIC_KEY}"),
        format!("{PUBLIC_KEY}text after"),
        PUBLIC_KEY.replace("-----END PUBLIC KEY-----", ""),
        PUBLIC_KEY.replace("-----BEGIN PUBLIC KEY-----", ""),
        "-----BEGIN ".to_owned(),
        "-----BEGIN PUBLIC KEY-----".to_owned(),
        "-----BEGIN PUBLIC KEY-----END PUBLIC KEY-----".to_owned(),
    ] {
        assert!(load(&with_key(&data)).is_err(), "{data} was taken");
    }
}

#[test]
fn a_private_key_is_never_repeated_in_a_message() {
    let secret = "c2VjcmV0IGtleSBtYXRlcmlhbA==";
    let text = with_key(&format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"));
    assert!(!flaws(&text).contains(secret));
    let bare = with_key(secret);
    assert!(!flaws(&bare).contains(secret));
}

#[test]
fn layout_of_the_pem_text_does_not_matter() {
    let key = |text: &str| match &load(text).unwrap_or_else(|errors| panic!("{errors}")).set.policies()[0].authorities()
        [0]
    .kind
    {
        AuthorityKind::Key(key) => key.pem.clone(),
        other @ (AuthorityKind::Keyless(_) | AuthorityKind::Static(_)) => panic!("{other:?}"),
    };
    let crlf = format!("\n  {}", PUBLIC_KEY.replace('\n', "\r\n"));
    assert_eq!(key(&with_key(&crlf)), PUBLIC_KEY);
    assert_eq!(key(&with_key(PUBLIC_KEY)), PUBLIC_KEY);
}

#[test]
fn hash_algorithms_are_known_or_refused() {
    let with_hash = |hash: &str| with_authority(&format!("key: {{data: {PUBLIC_KEY:?}, hashAlgorithm: {hash}}}"));
    insta::assert_snapshot!(flaws(&with_hash("shaINVALID")), @r#"
own.yaml:9: spec.authorities[0].key.hashAlgorithm: is "shaINVALID"; expected sha256, sha384 or sha512
hint: leave it out for sha256; sha224 is not supported
"#);
    for hash in ["sha224", "sha1", "md5", "''", "256"] {
        assert!(load(&with_hash(hash)).is_err(), "{hash} was taken");
    }
    assert!(load(&with_hash("SHA256")).is_ok());
}

#[test]
fn a_key_that_the_verifier_cannot_use_is_a_flaw_of_its_file() {
    let beyond = "\n  -----BEGIN PUBLIC KEY-----\n  AAAA\n  -----END PUBLIC KEY-----";
    let unfit = with_authority(&format!("key: {{data: {PUBLIC_KEY:?}, hashAlgorithm: sha512}}"));
    insta::assert_snapshot!(format!("{}\n{}", flaws(&with_key(beyond)), flaws(&unfit)));
}
