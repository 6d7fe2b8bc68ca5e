//! Times on their way through fuser, which misreads those before 1970.

use std::time::{Duration, SystemTime};

use fs_core::attr::Timestamp;

/// What the kernel sent, from what fuser 0.18 made of it.
///
/// The kernel sends −1.5 s as (−2 s, +0.5 s). fuser subtracts both parts from 1970 and arrives at −2.5 s. The two parts
/// are still there, so this takes them apart the same way.
pub(super) fn received(time: SystemTime) -> Timestamp {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Timestamp { sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nsec: after.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            // 2⁶³, which does not fit, is the smallest time: its negation wraps to itself.
            let sec = i64::try_from(before.as_secs()).map_or(i64::MIN, |sec| -sec);
            Timestamp { sec, nsec: before.subsec_nanos() }
        }
    }
}

/// The time that fuser turns into exactly this timestamp. Towards the kernel its formula is right.
pub(super) fn to_send(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.sec.unsigned_abs());
    let whole = if time.sec < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    // A disk can contain more than 10⁹ nanoseconds; the result is then a later time, or none.
    whole
        .and_then(|time_whole| time_whole.checked_add(Duration::from_nanos(time.nsec.into())))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fuser 0.18 does with the two parts that the kernel sends.
    fn misread(sec: i64, nsec: u32) -> SystemTime {
        if sec >= 0 {
            SystemTime::UNIX_EPOCH + Duration::new(sec.cast_unsigned(), nsec)
        } else {
            SystemTime::UNIX_EPOCH - Duration::new(sec.wrapping_neg().cast_unsigned(), nsec)
        }
    }

    /// What fuser 0.18 sends for a time.
    fn sent(time: SystemTime) -> (i64, u32) {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => (i64::try_from(after.as_secs()).unwrap(), after.subsec_nanos()),
            Err(before) => {
                let (sec, nsec) = (before.duration().as_secs(), before.duration().subsec_nanos());
                let negated = sec.wrapping_neg().cast_signed();
                if nsec == 0 { (negated, 0) } else { (negated - 1, 1_000_000_000 - nsec) }
            }
        }
    }

    const TIMES: [(i64, u32); 8] = [
        (0, 0),
        (1, 999_999_999),
        (-1, 0),
        (-2, 500_000_000),
        (-1, 1),
        (i64::MIN, 0),
        (i64::MIN + 1, 7),
        (i64::MAX, 999_999_999),
    ];

    #[test]
    fn times_before_1970_arrive_as_they_were_sent() {
        for (sec, nsec) in TIMES {
            assert_eq!(received(misread(sec, nsec)), Timestamp { sec, nsec }, "{sec} {nsec}");
        }
    }

    #[test]
    fn times_leave_as_they_are() {
        for (sec, nsec) in TIMES {
            assert_eq!(sent(to_send(Timestamp { sec, nsec })), (sec, nsec), "{sec} {nsec}");
        }
    }

    #[test]
    fn impossible_nanoseconds_do_not_panic() {
        to_send(Timestamp { sec: i64::MAX, nsec: u32::MAX });
        to_send(Timestamp { sec: i64::MIN, nsec: u32::MAX });
    }
}
