//! Content encodings of request bodies: identity, gzip, zstd, deflate.
//!
//! Called by `server`. Its rule: the limit holds for what comes out, so a small bomb cannot fill the memory.

use std::io::Read;

/// Why a body could not be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// We do not know the encoding.
    #[error("content encoding `{0}` is not supported; use identity, gzip, zstd or deflate")]
    Unsupported(String),
    /// It is larger than the limit once unpacked.
    #[error("the body is larger than {0} bytes once unpacked (server.body_bytes_max)")]
    TooLarge(usize),
    /// It is not what the header says.
    #[error("the body is not valid {0}")]
    Corrupt(&'static str),
}

/// Unpacks a body.
///
/// # Errors
/// See [`UnpackError`].
pub fn unpack(body: bytes::Bytes, encoding: Option<&str>, limit: usize) -> Result<bytes::Bytes, UnpackError> {
    let name = encoding.map(|e| e.trim().to_ascii_lowercase()).unwrap_or_default();
    match name.as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => read(flate2::read::MultiGzDecoder::new(&body[..]), limit, "gzip"),
        "zstd" => {
            let decoder = zstd::stream::read::Decoder::new(&body[..]).map_err(|_| UnpackError::Corrupt("zstd"))?;
            read(decoder, limit, "zstd")
        }
        // The word means zlib's form; some senders take it for the bare stream.
        "deflate" | "zlib" if is_zlib(&body) => read(flate2::read::ZlibDecoder::new(&body[..]), limit, "deflate"),
        "deflate" => read(flate2::read::DeflateDecoder::new(&body[..]), limit, "deflate"),
        _ => Err(UnpackError::Unsupported(name)),
    }
}

/// Whether it opens with a header of zlib (RFC 1950, 2.2): the method is deflate and the check bits are right.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

fn read(decoder: impl Read, limit: usize, name: &'static str) -> Result<bytes::Bytes, UnpackError> {
    let mut out = Vec::new();
    let wanted = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(wanted).read_to_end(&mut out).map_err(|_| UnpackError::Corrupt(name))?;
    if out.len() > limit { Err(UnpackError::TooLarge(limit)) } else { Ok(out.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> bytes::Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).expect("memory can be written");
        encoder.finish().expect("memory can be written").into()
    }

    #[test]
    fn unpacks_what_it_says() {
        assert_eq!(unpack(gzip(b"hello"), Some("gzip"), 10).expect("valid"), "hello");
        let packed = zstd::encode_all(&b"hello"[..], 1).expect("memory can be written");
        assert_eq!(unpack(packed.into(), Some("zstd"), 10).expect("valid"), "hello");
        assert_eq!(unpack("hello".into(), None, 10).expect("valid"), "hello");
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(b"hello").expect("memory can be written");
        let zlib = zlib.finish().expect("memory can be written");
        let bare = zlib[2..zlib.len() - 4].to_vec();
        for (body, name) in [(zlib.clone(), "deflate"), (zlib, "zlib"), (bare, "Deflate")] {
            assert_eq!(unpack(body.into(), Some(name), 10).expect("valid"), "hello", "{name}");
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        assert_eq!(unpack(gzip(&vec![0; 1 << 20]), Some("gzip"), 1000), Err(UnpackError::TooLarge(1000)));
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(unpack("hello".into(), Some("gzip"), 10), Err(UnpackError::Corrupt("gzip")));
        assert_eq!(unpack("hello".into(), Some("deflate"), 10), Err(UnpackError::Corrupt("deflate")));
        assert!(matches!(unpack("x".into(), Some("br"), 10), Err(UnpackError::Unsupported(_))));
    }
}
