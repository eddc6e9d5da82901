//! Trust roots, narrowed.

use super::*;

#[test]
fn the_compiled_in_roots_are_the_published_ones() {
    let Some(folder) = vectors() else { return };
    for (name, compiled_in) in [("public-good", PUBLIC_GOOD), ("staging", STAGING)] {
        let published =
            std::fs::read_to_string(folder.join(format!("trusted-roots/{name}.trusted_root.json"))).unwrap();
        assert_eq!(published, compiled_in, "{name}");
    }
}

#[test]
fn an_authority_is_trusted_no_longer_than_its_certificates_are_valid() {
    let mut document: Value = serde_json::from_str(PUBLIC_GOOD).unwrap();
    let all = document.get_mut("certificateAuthorities").unwrap().as_array_mut().unwrap();
    for authority in all.iter_mut() {
        *authority.get_mut("validFor").unwrap() = json!({ "start": "2000-01-01T00:00:00Z" });
    }
    let root = root::load(&document.to_string()).unwrap();
    for authority in &root.certificate_authorities {
        let window = authority.valid_for.unwrap();
        assert!(window.start.to_string().as_str() >= "2021-03-07");
        assert!(window.end.unwrap().to_string().as_str() <= "2031-10-06");
        assert_eq!(authority.cert_chain.certificates.len(), 1);
    }
    let never = json!({ "start": "1999-01-01T00:00:00Z", "end": "2000-01-01T00:00:00Z" });
    let all = document.get_mut("certificateAuthorities").unwrap().as_array_mut().unwrap();
    *all.first_mut().unwrap().get_mut("validFor").unwrap() = never;
    assert!(root::load(&document.to_string()).unwrap_err().contains("valid at no time"));
}

#[test]
fn no_log_of_a_trust_root_reaches_the_crates() {
    let sigstore = Sigstore::new(&TrustRoot::public_good()).unwrap();
    let other = Sigstore::new(&TrustRoot::public_good()).unwrap();
    let own = |sigstore: &Sigstore| sigstore.own_log.trusted().unwrap().log_id.key_id;
    assert_ne!(own(&sigstore), own(&other), "every judge has a log of its own");
}
