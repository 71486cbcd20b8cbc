//! Durations in ISO 8601, as values of settings have them in Kafka (`by_duration:PT1H`, KIP-1106).

use std::time::Duration;

/// `PnDTnHnMn.nS` in any case, as Java's `Duration.parse` reads it, without its negative forms; `None` for any other text.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(ottla_wire::iso_duration("PT1M30S"), Some(Duration::from_secs(90)));
/// assert_eq!(ottla_wire::iso_duration("90s"), None);
/// ```
#[must_use]
pub fn iso_duration(text: &str) -> Option<Duration> {
    let lower = text.to_ascii_lowercase();
    let rest = lower.strip_prefix('p')?;
    let (days, time) = match rest.split_once('t') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (rest, ""),
    };
    let mut total = Duration::ZERO;
    let mut any = false;
    let mut add = |digits: &str, seconds: u64| -> Option<()> {
        let n: u64 = digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())??;
        total = total.checked_add(Duration::from_secs(n.checked_mul(seconds)?))?;
        any = true;
        Some(())
    };
    if !days.is_empty() {
        add(days.strip_suffix('d')?, 86_400)?;
    }
    let mut rest = time;
    for (unit, seconds) in [('h', 3600), ('m', 60)] {
        if let Some((digits, after)) = rest.split_once(unit) {
            add(digits, seconds)?;
            rest = after;
        }
    }
    let mut fraction = Duration::ZERO;
    if !rest.is_empty() {
        let (whole, after_point) = match rest.strip_suffix('s')?.split_once('.') {
            Some((whole, after_point)) => (whole, after_point),
            None => (rest.strip_suffix('s')?, ""),
        };
        add(whole, 1)?;
        if !after_point.is_empty() {
            let digits = after_point.bytes().all(|b| b.is_ascii_digit());
            if !digits || after_point.len() > 9 {
                return None;
            }
            fraction = Duration::from_nanos(format!("{after_point:0<9}").parse().ok()?);
        }
    }
    any.then(|| total.checked_add(fraction)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_java_reads_and_is_not_negative() {
        assert_eq!(iso_duration("PT1H"), Some(Duration::from_secs(3600)));
        let all = Some(Duration::from_millis(93_784_500));
        assert_eq!(iso_duration("P1DT2H3M4.5S"), all);
        assert_eq!(
            iso_duration("pt0.000000001s"),
            Some(Duration::from_nanos(1))
        );
        let bad = [
            "",
            "P",
            "PT",
            "1H",
            "PT1",
            "P1H",
            "PT-1H",
            "PT1S1M",
            "PT99999999999999999999H",
            "PT18446744073709551615H",
        ];
        for text in bad {
            assert_eq!(iso_duration(text), None, "{text}");
        }
    }
}
