//! Sizes as people type them.

const MIB: u64 = 1 << 20;
/// Numbers without a unit below this cannot mean bytes where a size has to have megabytes.
const MIB_NUMBER_MAX: u64 = 1 << 16;

/// Bytes: a number, alone or with K, M, G, T or P (also KiB, …) for powers of 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write 4096, 512M or 10G");
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let power = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 1,
        "M" | "MIB" => 2,
        "G" | "GIB" => 3,
        "T" | "TIB" => 4,
        "P" | "PIB" => 5,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << (10 * power)).ok_or_else(|| format!("{text} is too large"))
}

/// As [`bytes`]; a small number alone is MiB, as mkfs.gfs2 has it.
pub(super) fn bytes_or_mib(text: &str) -> Result<u64, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    bytes(text).map(|size| if is_number && size < MIB_NUMBER_MAX { size * MIB } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, size) in
            [("0", 0), ("4096", 4096), ("4k", 4096), ("512M", 512 * MIB), ("10GiB", 10 << 30), ("16T", 16 << 40)]
        {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "10GB", "1X", "99999999999999999999", "16777216T", "\u{661}"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_small_number_is_mebibytes_where_only_those_make_sense() {
        assert_eq!(bytes_or_mib("32"), Ok(32 * MIB));
        assert_eq!(bytes_or_mib("33554432"), Ok(32 * MIB));
        assert_eq!(bytes_or_mib("32M"), Ok(32 * MIB));
    }
}
