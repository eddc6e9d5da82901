//! What a token endpoint answers.

use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;

/// A token that does not say how long it lasts lasts this long, by the token specification.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(60);
/// Asked again at least this often, whatever it says.
const LIFETIME_MAX: Duration = Duration::from_secs(3600);
/// Not used in its last moments, so that it does not end on its way.
const MARGIN_MAX: Duration = Duration::from_secs(10);

/// A token as a header, and for how long it may be sent.
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) usable_for: Duration,
}

#[derive(Deserialize)]
struct Document {
    token: Option<String>,
    access_token: Option<String>,
    /// Any JSON: some endpoints write a string, and one bad number is no reason to be without a token.
    expires_in: Option<serde_json::Value>,
}

impl Token {
    /// None unless `body` is the JSON of a token that can be sent as a header.
    pub(super) fn parse(body: &[u8], depth_max: usize) -> Option<Self> {
        let document: Document = oci::json::parse(body, depth_max).ok()?;
        let text = [document.token, document.access_token].into_iter().flatten().find(|text| !text.is_empty())?;
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok().filter(|_| is_plain)?;
        header.set_sensitive(true);
        Some(Self { header, usable_for: usable_for(document.expires_in.as_ref()) })
    }
}

/// Zero for a token that has already ended: it is tried once and not kept.
fn usable_for(expires_in: Option<&serde_json::Value>) -> Duration {
    let lifetime = match expires_in.and_then(serde_json::Value::as_i64) {
        None => LIFETIME_DEFAULT,
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
    };
    let lifetime = lifetime.min(LIFETIME_MAX);
    lifetime.saturating_sub(MARGIN_MAX.min(lifetime / 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(body: &str) -> u64 {
        Token::parse(body.as_bytes(), 8).unwrap().usable_for.as_secs()
    }

    #[test]
    fn a_token_is_used_until_shortly_before_its_end() {
        assert_eq!(seconds(r#"{"token":"t"}"#), 50);
        assert_eq!(seconds(r#"{"token":"t","expires_in":300}"#), 290);
        assert_eq!(seconds(r#"{"token":"t","expires_in":5}"#), 4);
        assert_eq!(seconds(r#"{"token":"t","expires_in":0}"#), 0);
        assert_eq!(seconds(r#"{"token":"t","expires_in":-1}"#), 0);
        assert_eq!(seconds(r#"{"token":"t","expires_in":9223372036854775807}"#), 3590);
        assert_eq!(seconds(r#"{"token":"t","expires_in":"soon"}"#), 50);
        assert_eq!(seconds(r#"{"token":"t","expires_in":null}"#), 50);
    }

    #[test]
    fn either_name_of_the_token_is_taken() {
        for body in
            [r#"{"token":"abc"}"#, r#"{"access_token":"abc"}"#, r#"{"token":"","access_token":"abc","issued_at":"x"}"#]
        {
            assert_eq!(Token::parse(body.as_bytes(), 8).unwrap().header, "Bearer abc", "{body}");
        }
    }

    #[test]
    fn what_is_not_a_token_is_refused() {
        for body in [
            "",
            "{}",
            "[]",
            r#"["abc", "abc", 60]"#,
            "null",
            "<html>",
            r#"{"token":""}"#,
            r#"{"token":null}"#,
            r#"{"token":7}"#,
            r#"{"token":"a b"}"#,
            r#"{"token":"a\r\nX-Evil: 1"}"#,
            r#"{"token":"ä"}"#,
            r#"{"token":"a","token":"b"}"#,
            r#"{"token":"a"}{}"#,
        ] {
            assert!(Token::parse(body.as_bytes(), 8).is_none(), "{body} was taken");
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = Token::parse(br#"{"token":"canary"}"#, 8).unwrap();
        assert!(!format!("{:?}", token.header).contains("canary"));
    }
}
