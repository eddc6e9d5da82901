//! When credentials end.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use oci::UnixTime;
use serde::Deserialize;

const JSON_DEPTH_MAX: usize = 16;

#[derive(Deserialize)]
struct Claims {
    exp: u64,
}

/// When `password` ends, as it says itself: pull tokens, and other JSON Web Tokens, do. Nothing is verified; whoever handed it out knows.
pub(super) fn of_password(password: &str) -> Option<UnixTime> {
    let mut parts = password.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Claims = oci::json::parse(&claims, JSON_DEPTH_MAX).ok()?;
    Some(UnixTime::from_millis(claims.exp.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_when_it_ends_and_a_password_does_not() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let ends = |password: &str| of_password(password).map(UnixTime::as_secs);
        assert_eq!(ends(&token(r#"{"sub":"pull-token","exp":1798675200,"aud":["x"]}"#)), Some(1_798_675_200));
        for opaque in [
            "",
            "hunter2",
            "a.b",
            "a.b.c",
            "a.e30.c",
            &token(r#"{"exp":"soon"}"#),
            &token(r#"{"exp":-1}"#),
            &format!("{}.x", token("{\"exp\":1}")),
        ] {
            assert_eq!(ends(opaque), None, "{opaque}");
        }
    }
}
