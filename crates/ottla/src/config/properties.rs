//! Reads Java's `.properties` format: `key=value`, `key: value` or `key value` lines, `#` and `!`
//! comments, backslash escapes, `\uXXXX`, and lines continued with a backslash at their end.
//!
//! Text is UTF-8 (Java's `load(Reader)`); `\uXXXX` escapes of files written for Latin-1 readers
//! work as well. Unlike Java, a malformed escape names its line.

/// One property: the line it starts on, its key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) line: u32,
    pub(super) key: String,
    pub(super) value: String,
}

/// What is wrong, and on which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: u32,
    pub(super) what: String,
}

/// Every property of `text`, in order; a key given twice appears twice.
pub(super) fn parse(text: &str) -> Result<Vec<Property>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Lines {
        rest: text,
        number: 0,
    };
    let mut properties = Vec::new();
    while let Some((line, logical)) = lines.next_logical() {
        let (key, value) = split(&logical);
        let unescape = |part| unescape(part).map_err(|what| SyntaxError { line, what });
        let (key, value) = (unescape(key)?, unescape(value)?);
        if key.is_empty() {
            return Err(SyntaxError {
                line,
                what: "the line has a value but no key".into(),
            });
        }
        properties.push(Property { line, key, value });
    }
    Ok(properties)
}

/// Walks natural lines, which end at `\n`, `\r` or `\r\n`, and joins continued ones.
struct Lines<'a> {
    rest: &'a str,
    number: u32,
}

impl<'a> Lines<'a> {
    /// The next logical line that is neither blank nor a comment, without its leading white space.
    fn next_logical(&mut self) -> Option<(u32, String)> {
        loop {
            let first = self.next_natural()?.trim_start_matches(WHITE);
            if first.is_empty() || first.starts_with(['#', '!']) {
                continue;
            }
            let number = self.number;
            let mut logical = String::new();
            let mut line = first;
            while let Some(continued) = continued(line) {
                logical.push_str(continued);
                match self.next_natural() {
                    Some(next) => line = next.trim_start_matches(WHITE),
                    None => return Some((number, logical)).filter(|(_, l)| !l.is_empty()),
                }
            }
            logical.push_str(line);
            if !logical.is_empty() {
                return Some((number, logical));
            }
        }
    }

    fn next_natural(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let end = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
        let (line, after) = self.rest.split_at(end);
        self.rest = after
            .strip_prefix("\r\n")
            .or_else(|| after.strip_prefix(['\n', '\r']))
            .unwrap_or(after);
        Some(line)
    }
}

/// The line without the backslash that continues it: one that no other backslash escapes.
fn continued(line: &str) -> Option<&str> {
    let backslashes = line.bytes().rev().take_while(|b| *b == b'\\').count();
    (backslashes % 2 == 1).then(|| &line[..line.len() - 1])
}

/// Key and value, both still escaped: the key ends at the first unescaped `=`, `:` or white space.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .find(|c: char| {
            let ends = !escaped && (matches!(c, '=' | ':') || WHITE.contains(&c));
            escaped = c == '\\' && !escaped;
            ends
        })
        .unwrap_or(line.len());
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(WHITE);
    let value = rest
        .strip_prefix(['=', ':'])
        .unwrap_or(rest)
        .trim_start_matches(WHITE);
    (key, value)
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    // Characters outside the basic plane are written as two escapes, a surrogate pair.
    let mut high: Option<u16> = None;
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let unit = unicode(&mut chars)?;
                    match (high.take(), unit) {
                        (None, 0xd800..=0xdbff) => {
                            high = Some(unit);
                            continue;
                        }
                        (Some(high), 0xdc00..=0xdfff) => {
                            let code = 0x1_0000
                                + ((u32::from(high) - 0xd800) << 10)
                                + (u32::from(unit) - 0xdc00);
                            char::from_u32(code).ok_or("an impossible surrogate pair")?
                        }
                        (None, _) => char::from_u32(u32::from(unit)).ok_or_else(|| {
                            format!("\\u{unit:04x} is the second half of a pair without its first")
                        })?,
                        (Some(high), _) => return Err(lone(high)),
                    }
                }
                Some(other) => other,
                None => continue,
            },
            plain => plain,
        };
        if let Some(high) = high {
            return Err(lone(high));
        }
        out.push(c);
    }
    match high {
        Some(high) => Err(lone(high)),
        None => Ok(out),
    }
}

fn unicode(chars: &mut std::str::Chars<'_>) -> Result<u16, String> {
    let digits: String = chars.by_ref().take(4).collect();
    // `from_str_radix` alone would take a sign.
    if digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        u16::from_str_radix(&digits, 16).map_err(|e| e.to_string())
    } else {
        Err(format!(
            "\\u must be followed by four hexadecimal digits, not {digits:?}"
        ))
    }
}

fn lone(high: u16) -> String {
    format!("\\u{high:04x} is the first half of a pair without its second")
}

/// White space between tokens, in Java's sense.
const WHITE: [char; 3] = [' ', '\t', '\u{c}'];

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(u32, String, String)> {
        parse(text)
            .unwrap()
            .into_iter()
            .map(|p| (p.line, p.key, p.value))
            .collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = pairs(text);
        assert_eq!(all.len(), 1, "{text:?}: {all:?}");
        all.pop().map(|(_, k, v)| (k, v)).unwrap()
    }

    fn kv(k: &str, v: &str) -> (String, String) {
        (k.into(), v.into())
    }

    #[test]
    fn separators_and_white_space() {
        for text in [
            "a=b",
            "a = b",
            "  a\t=\tb",
            "a:b",
            "a : b",
            "a b",
            "a   b",
            "\u{c}a=b\r\n",
        ] {
            assert_eq!(one(text), kv("a", "b"), "{text:?}");
        }
        assert_eq!(one("a"), kv("a", ""));
        assert_eq!(one("a="), kv("a", ""));
        assert_eq!(one("a==b"), kv("a", "=b"));
        assert_eq!(one("a b=c"), kv("a", "b=c"));
        // White space at the end belongs to the value.
        assert_eq!(one("a = b "), kv("a", "b "));
    }

    #[test]
    fn comments_and_blank_lines_count_as_lines() {
        let text = "# one\n\n  ! two\r\na=1\rb=2\n   \nc=3";
        let lines: Vec<_> = pairs(text)
            .into_iter()
            .map(|(line, k, _)| (line, k))
            .collect();
        assert_eq!(lines, [(4, "a".into()), (5, "b".into()), (7, "c".into())]);
    }

    #[test]
    fn continued_lines_are_one() {
        let text = "a = one,\\\n    two,\\\r\n\tthree\nb=4";
        assert_eq!(
            pairs(text),
            [
                (1, "a".into(), "one,two,three".into()),
                (4, "b".into(), "4".into())
            ]
        );
        assert_eq!(one("a=b\\\\"), kv("a", "b\\"));
        assert_eq!(one("a=b\\"), kv("a", "b"));
        // A comment is not continued, and a continuation may look like a comment.
        assert_eq!(one("# no \\\na=1"), kv("a", "1"));
        assert_eq!(one("a=1\\\n# 2"), kv("a", "1# 2"));
        assert!(pairs("\\\n").is_empty());
    }

    #[test]
    fn escapes() {
        assert_eq!(
            one(r"a\ b\=c\:d=e\tf\n\r\f\q\\"),
            kv("a b=c:d", "e\tf\n\r\u{c}q\\")
        );
        assert_eq!(one(r"k=\u00e9\u4E2D"), kv("k", "é中"));
        assert_eq!(one(r"k=\uD83D\uDE00!"), kv("k", "😀!"));
        assert_eq!(one("k=é"), kv("k", "é"));
        assert_eq!(one("\u{feff}k=v"), kv("k", "v"));
    }

    #[test]
    fn malformed_escapes_name_their_line() {
        for bad in [
            r"\u12",
            r"\u12G4",
            r"\u+123",
            r"\ud83d",
            r"\ud83dx",
            r"\ud83d\u0041",
            r"\ude00",
        ] {
            let error = parse(&format!("a=1\nb={bad}")).unwrap_err();
            assert_eq!(error.line, 2, "{bad}: {error:?}");
        }
        assert_eq!(parse("a=1\n=2").unwrap_err().line, 2);
    }
}
