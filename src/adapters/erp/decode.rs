//! From the bytes of a reply to its text: content encodings, charsets, byte order marks.
//!
//! ERPs name what they send, and sometimes name it wrongly: what the bytes themselves say wins.
//! Decompressing stops at a limit of our own, so that a small reply cannot fill the memory. Nothing
//! here knows what a text means.

use std::fmt;
use std::io::Read;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// What is asked for with `Accept-Encoding`.
pub const ACCEPTED: &str = "gzip, deflate, br";
/// Most encodings on top of each other.
const MAX_LAYERS: usize = 3;
/// How much of a document is searched for an XML declaration, in bytes.
const XML_DECLARATION: usize = 200;

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecodable {
    /// It is longer than the limit, in bytes.
    TooLong(usize),
    /// It is not what its `Content-Encoding` says.
    Broken(String),
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(limit) => write!(f, "the reply is longer than {limit} bytes"),
            Self::Broken(encoding) => write!(f, "the reply cannot be decoded as {encoding}"),
        }
    }
}

/// The text of `body`; `encoding` and `content_type` are the headers of those names.
pub fn text(
    body: Vec<u8>,
    encoding: Option<&str>,
    content_type: Option<&str>,
    limit: usize,
) -> Result<String, Undecodable> {
    let body = decompress(body, encoding.unwrap_or_default(), limit)?;
    Ok(characters(&body, content_type.and_then(charset)))
}

fn decompress(mut body: Vec<u8>, encodings: &str, limit: usize) -> Result<Vec<u8>, Undecodable> {
    let named: Vec<String> = encodings
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "identity")
        .collect();
    if named.len() > MAX_LAYERS {
        return Err(Undecodable::Broken(encodings.to_owned()));
    }
    // The one that was applied last stands last (RFC 9110, 8.4).
    for name in named.iter().rev() {
        body = layer(body, name, limit)?;
    }
    if is_gzip(&body) { layer(body, "gzip", limit) } else { Ok(body) }
}

fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b])
}

/// A zlib header: method deflate, and a check sum over two bytes (RFC 1950, 2.2).
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [first, second, ..]
        if first & 0x0f == 8 && (u16::from(*first) * 256 + u16::from(*second)) % 31 == 0)
}

fn layer(body: Vec<u8>, name: &str, limit: usize) -> Result<Vec<u8>, Undecodable> {
    if body.is_empty() {
        return Ok(body);
    }
    match name {
        "gzip" | "x-gzip" if is_gzip(&body) => bounded(MultiGzDecoder::new(&body[..]), name, limit),
        // A proxy that unpacked the body and left the header.
        "gzip" | "x-gzip" => Ok(body),
        "deflate" if is_zlib(&body) => bounded(ZlibDecoder::new(&body[..]), name, limit),
        "deflate" => bounded(DeflateDecoder::new(&body[..]), name, limit),
        "br" => bounded(brotli_decompressor::Decompressor::new(&body[..], 4096), name, limit),
        _ => Err(Undecodable::Broken(name.to_owned())),
    }
}

fn bounded(reader: impl Read, name: &str, limit: usize) -> Result<Vec<u8>, Undecodable> {
    let mut unpacked = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(most).read_to_end(&mut unpacked);
    if unpacked.len() > limit {
        return Err(Undecodable::TooLong(limit));
    }
    read.map(|_| unpacked).map_err(|_| Undecodable::Broken(name.to_owned()))
}

/// The charset that a `Content-Type` names.
fn charset(content_type: &str) -> Option<&'static Encoding> {
    let parameters = content_type.split(';').skip(1);
    let named = parameters.filter_map(|parameter| parameter.split_once('='));
    let label = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let label = label.map(|(_, value)| value.trim().trim_matches(['"', '\'']).trim()).next()?;
    Encoding::for_label(label.as_bytes())
}

fn characters(body: &[u8], named: Option<&'static Encoding>) -> String {
    if let Some((encoding, mark)) = Encoding::for_bom(body) {
        return decoded(encoding, &body[mark..]);
    }
    if let Some(wide) = wide(body) {
        return decoded(wide, body);
    }
    match named.or_else(|| declared(body)).unwrap_or(UTF_8) {
        // Said or assumed to be UTF-8: what is not can only be the old Western charset.
        encoding if encoding == UTF_8 => match std::str::from_utf8(body) {
            Ok(text) => decoded_text(text),
            Err(_) => decoded(WINDOWS_1252, body),
        },
        encoding => decoded(encoding, body),
    }
}

/// UTF-16 without a mark: JSON and XML begin with an ASCII character (RFC 4627, 3).
fn wide(body: &[u8]) -> Option<&'static Encoding> {
    match body {
        [0, second, ..] if second.is_ascii_graphic() => Some(UTF_16BE),
        [first, 0, ..] if first.is_ascii_graphic() => Some(UTF_16LE),
        _ => None,
    }
}

/// `<?xml version="1.0" encoding="..."?>`
fn declared(body: &[u8]) -> Option<&'static Encoding> {
    let begin = String::from_utf8_lossy(&body[..body.len().min(XML_DECLARATION)]);
    let declaration = begin.trim_start().strip_prefix("<?xml")?.split("?>").next()?;
    let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    Encoding::for_label(value[1..].split(quote).next()?.as_bytes())
}

fn decoded(encoding: &'static Encoding, body: &[u8]) -> String {
    decoded_text(&encoding.decode_without_bom_handling(body).0)
}

/// A mark that was written twice is one, too.
fn decoded_text(text: &str) -> String {
    text.trim_start_matches('\u{feff}').to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "{\"error\":\"Lämpchen ist gesperrt\"}";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn every_charset_arrives_as_the_same_text() {
        let utf16 = |big: bool| -> Vec<u8> {
            TEXT.encode_utf16()
                .flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() })
                .collect()
        };
        let with = |mark: &[u8], body: Vec<u8>| [mark.to_vec(), body].concat();
        let latin: Vec<u8> = TEXT.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        for (body, kind) in [
            (TEXT.as_bytes().to_vec(), None),
            (with(b"\xef\xbb\xbf", TEXT.as_bytes().to_vec()), None),
            (with(b"\xef\xbb\xbf", TEXT.as_bytes().to_vec()), Some("a/b; charset=iso-8859-1")),
            (with(b"\xff\xfe", utf16(false)), None),
            (with(b"\xfe\xff", utf16(true)), None),
            (utf16(false), Some("application/json; charset=\"utf-16\"")),
            (utf16(true), Some("application/json; charset=UTF-16")),
            (latin.clone(), Some("application/json; Charset = ISO-8859-15 ")),
            (latin.clone(), Some("application/json; charset=utf-8")),
            (latin, None),
        ] {
            assert_eq!(text(body, None, kind, 1000).unwrap(), TEXT, "{kind:?}");
        }
        let xml = b"<?xml version='1.0' encoding='windows-1251'?><a>\xcf</a>".to_vec();
        assert!(text(xml, None, Some("text/xml"), 1000).unwrap().contains("<a>П</a>"));
    }

    #[test]
    fn every_encoding_is_unpacked_whatever_the_header_says_of_it() {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(TEXT.as_bytes()).unwrap();
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        raw.write_all(TEXT.as_bytes()).unwrap();
        let brotli = [&b"\x8b\x10\x80"[..], TEXT.as_bytes(), b"\x03"].concat();
        for (body, encoding) in [
            (gzip(TEXT.as_bytes()), "gzip"),
            (gzip(TEXT.as_bytes()), "X-GZip"),
            (gzip(TEXT.as_bytes()), ""),
            (gzip(&gzip(TEXT.as_bytes())), "gzip, gzip"),
            (TEXT.as_bytes().to_vec(), "gzip"),
            (TEXT.as_bytes().to_vec(), "identity"),
            (zlib.finish().unwrap(), "deflate"),
            (raw.finish().unwrap(), "deflate"),
            (brotli, "br"),
        ] {
            assert_eq!(text(body, Some(encoding), None, 1000).as_deref(), Ok(TEXT), "{encoding}");
        }
    }

    #[test]
    fn a_bomb_and_a_broken_body_are_told_apart() {
        let bomb = gzip(&vec![b' '; 50_000_000]);
        assert_eq!(text(bomb, Some("gzip"), None, 4096), Err(Undecodable::TooLong(4096)));
        let mut half = gzip(TEXT.as_bytes());
        half.truncate(20);
        let broken = |name: &str| Err(Undecodable::Broken(name.to_owned()));
        assert_eq!(text(half, Some("gzip"), None, 4096), broken("gzip"));
        assert_eq!(text(vec![1], Some("zstd"), None, 4096), broken("zstd"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in any::<Vec<u8>>(), encoding in "gzip|deflate|br|x", kind in ".{0,30}") {
            drop(text(body.clone(), Some(&encoding), Some(&kind), 100));
            drop(text(body, None, Some(&format!("a/b; charset={kind}")), 100));
        }
    }
}
