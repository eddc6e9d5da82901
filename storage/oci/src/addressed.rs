//! Bytes together with the digest that was computed from them.

use bytes::Bytes;

use crate::{Algorithm, Digest};

/// Bytes whose digest has been computed: the first step from the network to a response. Says nothing about who signed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    digest: Digest,
    bytes: Bytes,
}

/// Content is not what its digest says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("content does not match its digest: want {want}, got {got} after {bytes} bytes")]
pub struct DigestMismatch {
    /// The digest that was asked for.
    pub want: Digest,
    /// The digest of what came.
    pub got: Digest,
    /// How many bytes came.
    pub bytes: u64,
}

impl Addressed {
    /// Checks `bytes` against the digest under which they were asked for.
    ///
    /// # Errors
    /// When the digest of `bytes` is another.
    pub fn check(want: &Digest, bytes: Bytes) -> Result<Self, DigestMismatch> {
        let got = Digest::of(want.algorithm(), &bytes);
        if &got == want {
            Ok(Self { digest: got, bytes })
        } else {
            Err(DigestMismatch { want: want.clone(), got, bytes: bytes.len() as u64 })
        }
    }

    /// Computes the digest of bytes that were asked for by another name, such as a tag.
    #[must_use]
    pub fn hash(algorithm: Algorithm, bytes: Bytes) -> Self {
        Self { digest: Digest::of(algorithm, &bytes), bytes }
    }

    /// The computed digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes, handed on.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_not_taken_for_a_digest() {
        let want = Digest::sha256(b"good");
        assert!(Addressed::check(&want, Bytes::from_static(b"good")).is_ok());
        let error = Addressed::check(&want, Bytes::from_static(b"evil!")).unwrap_err();
        assert_eq!((error.want, error.bytes), (want, 5));
    }
}
