//! Times of the disk as people read them.

use fs_core::attr::Timestamp;

/// `time` as a date in UTC, in the form of ISO 8601.
pub(super) fn date(time: Timestamp) -> String {
    let (days, second) = (time.sec.div_euclid(86400), time.sec.rem_euclid(86400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", time.nsec)
}

/// Year, month and day of a day counted from 1970-01-01, by the Gregorian calendar. Years are counted from March, so that
/// the leap day is the last one, and in eras of 400 years, which all have 146097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = i128::from(days) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    // All days of a 64-bit number of seconds are in years of far less than 64 bits.
    let small = |number: i128| i64::try_from(number).unwrap_or(i64::MAX);
    (small(year), small(month), small(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
            (-5_000_000_000, "1811-07-23T15:06:40.000000000Z"),
            (1 << 35, "3058-10-26T03:46:08.000000000Z"),
        ];
        for (sec, text) in cases {
            assert_eq!(date(Timestamp { sec, nsec: 0 }), text);
        }
        for sec in [i64::MIN, i64::MAX] {
            assert!(date(Timestamp { sec, nsec: 5 }).ends_with(".000000005Z"));
        }
    }
}
