//! Keys, as far as a policy can name them.

use sigstore_crypto::KeyPair;

use super::*;
use crate::authority::{HashAlgorithm, Key};

#[test]
fn keys_are_checked_before_they_are_used() {
    let pem = |key: &KeyPair| key.public_key_der().unwrap().to_pem();
    let with = |pem: String, hash| check_key(&Key { pem, hash: Some(hash) });
    let p256 = pem(&KeyPair::generate_ecdsa_p256().unwrap());
    assert!(with(p256.clone(), HashAlgorithm::Sha256).is_ok());
    assert!(with(p256.clone(), HashAlgorithm::Sha512).is_err());
    assert!(with(format!("{p256}\n{p256}"), HashAlgorithm::Sha256).is_err());
    assert!(with(p256.replace("PUBLIC", "PRIVATE"), HashAlgorithm::Sha256).is_err());
    assert!(with(p256.replace("PUBLIC KEY", "CERTIFICATE"), HashAlgorithm::Sha256).is_err());
    assert!(with(p256.replace("MFkw", "MFkx"), HashAlgorithm::Sha256).is_err());
    assert!(with(String::new(), HashAlgorithm::Sha256).is_err());
}
