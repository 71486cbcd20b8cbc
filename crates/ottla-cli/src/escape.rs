//! Backslash escapes in delimiters and formats, as kcat has them: `\n`, `\r`, `\t`, `\0`, `\\` and
//! `\xHH`.

/// The bytes that `text` stands for.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let (byte, after) = escape(&rest[at + 1..])?;
        out.push(byte);
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// The byte that the escape after a backslash stands for, and what follows it.
pub(crate) fn escape(after: &str) -> Result<(u8, &str), String> {
    let mut chars = after.chars();
    let byte = match chars.next() {
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('t') => b'\t',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let digits = after
                .get(1..3)
                .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
            let byte = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
            let byte = byte.ok_or("`\\x` must be followed by two hexadecimal digits")?;
            return Ok((byte, &after[3..]));
        }
        Some(other) => {
            return Err(format!(
                "unknown escape `\\{other}`; known are \\n \\r \\t \\0 \\\\ and \\xHH"
            ));
        }
        None => return Err("a lone backslash at the end; write `\\\\` for one".into()),
    };
    Ok((byte, chars.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escape() {
        assert_eq!(
            unescape(r"a\tb\n\r\0\\\x00\xfFé").unwrap(),
            b"a\tb\n\r\0\\\x00\xff\xc3\xa9"
        );
        assert_eq!(unescape("").unwrap(), b"");
        for bad in [r"\", r"\q", r"\x", r"\x1", r"\xg0", r"\x+1", r"\xé"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }
}
