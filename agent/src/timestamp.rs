//! The time of a log line: read from the CRI format, written as sinks want it. Knows no time zones but offsets.

use std::{
    ops::RangeInclusive,
    time::{SystemTime, UNIX_EPOCH},
};

/// A moment in nanoseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds of that second.
    pub nanos: u32,
}

/// Reads times; remembers the last minute, because the lines of a log share it.
#[derive(Debug)]
pub struct TimeParser {
    minute: [u8; MINUTE],
    epoch: i64,
}

/// Years 0 to 9999, as seconds since 1970: what RFC 3339 has four digits for.
pub const YEARS: RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// Length of `2026-11-23T10:15`.
const MINUTE: usize = 16;

impl Default for TimeParser {
    fn default() -> Self {
        Self {
            minute: *b"1970-01-01T00:00",
            epoch: 0,
        }
    }
}

impl TimeParser {
    /// Reads a time of the CRI log format: RFC 3339 with up to nine digits of a second.
    pub fn parse(&mut self, text: &[u8]) -> Option<Timestamp> {
        let (minute, rest) = text.split_first_chunk::<MINUTE>()?;
        if *minute != self.minute {
            self.epoch = minute_epoch(minute)?;
            self.minute = *minute;
        }
        let [b':', tens, ones, rest @ ..] = rest else {
            return None;
        };
        // The last second of a day can be a leap second.
        let second = two_digits(*tens, *ones).filter(|second| *second <= 60)?;
        let (nanos, zone) = fraction(rest)?;
        let seconds = self.epoch + second - offset(zone)?;
        YEARS
            .contains(&seconds)
            .then_some(Timestamp { seconds, nanos })
    }
}

fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    Some(digit(tens)? * 10 + digit(ones)?)
}

fn minute_epoch(text: &[u8; MINUTE]) -> Option<i64> {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        i1,
        i2,
    ] = *text
    else {
        return None;
    };
    let year = two_digits(y1, y2)? * 100 + two_digits(y3, y4)?;
    let month = two_digits(m1, m2)?;
    let day = two_digits(d1, d2)?;
    let hour = two_digits(h1, h2)?;
    let minute = two_digits(i1, i2)?;
    let plausible = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute);
    plausible.then(|| days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60)
}

fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let [b'.', digits @ ..] = text else {
        return Some((0, text));
    };
    let mut nanos = 0_u32;
    let mut count = 0;
    let mut unit = 1_000_000_000;
    while let Some(byte) = digits.get(count)
        && byte.is_ascii_digit()
    {
        if count == 9 {
            return None;
        }
        unit /= 10;
        nanos += u32::from(byte - b'0') * unit;
        count += 1;
    }
    (count > 0).then(|| (nanos, &digits[count..]))
}

fn offset(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let hours = two_digits(h1, h2).filter(|hours| *hours < 24)?;
            let minutes = two_digits(m1, m2).filter(|minutes| *minutes < 60)?;
            let seconds = hours * 3600 + minutes * 60;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar: counts from 1 March, so that the leap day is the last.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_of`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        }
    }
}

impl Timestamp {
    /// Whole milliseconds since 1970; 0 for what was before.
    pub fn millis(self) -> u64 {
        u64::try_from(self.seconds).map_or(0, |seconds| {
            seconds
                .saturating_mul(1000)
                .saturating_add(u64::from(self.nanos / 1_000_000))
        })
    }

    /// Whole microseconds since 1970; every year that has four digits has some.
    pub fn micros(self) -> i64 {
        let of_second = i64::from(self.nanos / 1000);
        self.seconds
            .saturating_mul(1_000_000)
            .saturating_add(of_second)
    }

    /// Appends seconds since 1970 with nine decimals, as Splunk takes them.
    pub fn write_epoch(self, out: &mut Vec<u8>) {
        if self.seconds < 0 {
            out.push(b'-');
        }
        write_decimal(out, self.seconds.unsigned_abs());
        out.push(b'.');
        write_padded(out, u64::from(self.nanos), 9);
    }

    /// Appends RFC 3339 in UTC with nine decimals.
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        self.write_date_and_time(out);
        out.push(b'.');
        write_padded(out, u64::from(self.nanos), 9);
        out.push(b'Z');
    }

    /// Appends RFC 3339 in UTC with six decimals, the most that syslog has (RFC 5424 §6.2.3).
    pub fn write_rfc3339_micros(self, out: &mut Vec<u8>) {
        self.write_date_and_time(out);
        out.push(b'.');
        write_padded(out, u64::from(self.nanos / 1000), 6);
        out.push(b'Z');
    }

    fn write_date_and_time(self, out: &mut Vec<u8>) {
        let (year, month, day) = date_of(self.seconds.div_euclid(86_400));
        let second = self.seconds.rem_euclid(86_400).unsigned_abs();
        write_padded(out, year.unsigned_abs(), 4);
        out.push(b'-');
        write_padded(out, month.unsigned_abs(), 2);
        out.push(b'-');
        write_padded(out, day.unsigned_abs(), 2);
        out.push(b'T');
        write_padded(out, second / 3600, 2);
        out.push(b':');
        write_padded(out, second / 60 % 60, 2);
        out.push(b':');
        write_padded(out, second % 60, 2);
    }
}

/// Appends a number in decimal.
pub fn write_decimal(out: &mut Vec<u8>, number: u64) {
    write_padded(out, number, 1);
}

fn write_padded(out: &mut Vec<u8>, mut number: u64, width: usize) {
    // 20 digits hold every u64.
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while number > 0 {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let start = start.min(digits.len() - width);
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<Timestamp> {
        TimeParser::default().parse(text.as_bytes())
    }

    fn at(seconds: i64, nanos: u32) -> Timestamp {
        Timestamp { seconds, nanos }
    }

    fn rfc3339(time: Timestamp) -> String {
        let mut out = Vec::new();
        time.write_rfc3339(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_of_runtimes_are_read() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(at(0, 0)));
        assert_eq!(
            parse("2026-11-23T10:15:07.5Z"),
            Some(at(1_795_428_907, 500_000_000))
        );
        assert_eq!(
            parse("2026-11-23T11:15:07.000000001+01:00"),
            Some(at(1_795_428_907, 1))
        );
        assert_eq!(
            parse("2026-11-23T04:45:07-05:30"),
            Some(at(1_795_428_907, 0))
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-11-23",
            "2026-13-23T10:15:07Z",
            "2026-11-23T10:15:07",
            "2026-11-23T10:15:07.Z",
            "2026-11-23T10:15:07.0123456789Z",
            "2026-11-23 10:15:07Z",
            "2026-11-23T10:15:07+1:00",
            "2026-11-23T10:15:61Z",
            "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0:07Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_remembered_minute_is_the_same_minute() {
        let mut parser = TimeParser::default();
        for text in [
            "2026-11-23T10:15:07Z",
            "2026-11-23T10:15:08Z",
            "2026-11-23T10:16:08Z",
        ] {
            assert_eq!(parser.parse(text.as_bytes()), parse(text));
        }
        assert_eq!(parser.parse(b"2026-1x-23T10:16:08Z"), None);
        assert_eq!(
            parser.parse(b"2026-11-23T10:16:08Z"),
            parse("2026-11-23T10:16:08Z")
        );
    }

    #[test]
    fn splunk_gets_seconds_with_nine_decimals() {
        let mut out = Vec::new();
        Timestamp {
            seconds: 1_795_428_907,
            nanos: 5,
        }
        .write_epoch(&mut out);
        assert_eq!(out, b"1795428907.000000005");
    }

    proptest! {
        #[test]
        fn a_time_survives_being_written_and_read(seconds in 0_i64..253_402_300_800, nanos in 0_u32..1_000_000_000) {
            let time = Timestamp { seconds, nanos };
            prop_assert_eq!(parse(&rfc3339(time)), Some(time));
        }

        #[test]
        fn garbage_never_panics(text in proptest::collection::vec(any::<u8>(), 0..48)) {
            let _ = TimeParser::default().parse(&text);
        }
    }
}
