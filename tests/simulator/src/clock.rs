//! Wall-clock time for signatures, `Date` headers and ingestion stamps: the only file that asks what time it is.
//!
//! Calendar arithmetic is done here in a dozen lines instead of taking a date library for three formats.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_NAMES: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTH_NAMES: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_SECONDS: u64 = 86_400;

/// Seconds since the Unix epoch, now.
#[expect(clippy::disallowed_methods, reason = "the simulator's one look at the wall clock")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// `2026-11-21T10:20:30Z`. Texts of this form sort like the moments they name.
pub(crate) fn iso(epoch: u64) -> String {
    let (year, month, day) = civil(epoch / DAY_SECONDS);
    let (hour, minute, second) = time_of_day(epoch);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `2026-11-21T10:20:30.0000000Z`, with the seven digits of REST's dates.
pub(crate) fn precise(epoch: u64) -> String {
    iso(epoch).replace('Z', ".0000000Z")
}

/// `Sat, 21 Nov 2026 10:20:30 GMT` (RFC 9110 §5.6.7).
pub(crate) fn http_date(epoch: u64) -> String {
    let days = epoch / DAY_SECONDS;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = time_of_day(epoch);
    let day_name = DAY_NAMES[(days % 7) as usize];
    let month_name =
        MONTH_NAMES.into_iter().zip(1..).find(|(_, number)| *number == month).map_or("", |(name, _)| name);
    format!("{day_name}, {day:02} {month_name} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

fn time_of_day(epoch: u64) -> (u64, u64, u64) {
    let seconds = epoch % DAY_SECONDS;
    (seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Year, month (1-12) and day of a day number counted from 1970-01-01, by the era method (400-year cycles).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_in_both_forms() {
        let rows = [
            (0, "1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "2000-02-29T00:00:00Z", "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_795_256_430, "2026-11-21T10:20:30Z", "Sat, 21 Nov 2026 10:20:30 GMT"),
        ];
        for (epoch, expected_iso, expected_http) in rows {
            assert_eq!(iso(epoch), expected_iso);
            assert_eq!(http_date(epoch), expected_http);
        }
    }
}
