//! What must never be printed.

use std::fmt;

/// A value that no `Debug`, `Display` or log line shows; [`Secret::expose`] is the one way to it, easy to search for.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides `value`.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that sends it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_in_any_form() {
        let secret = Secret::new("hunter2".to_owned());
        let nested = Some(&secret);
        for text in [format!("{secret}"), format!("{secret:?}"), format!("{nested:#?}")] {
            assert!(text.contains("[secret]") && !text.contains("hunter2"), "{text}");
        }
        assert_eq!(secret.expose(), "hunter2");
    }
}
