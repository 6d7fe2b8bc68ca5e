//! Hex dumps.

use std::fmt::Write;

/// Bytes in a line.
const LINE_BYTES: usize = 16;

/// The lines of a dump of `bytes`; a line that repeats the one before it is left out, and one `*` stands for all of
/// these.
pub(super) fn dump(bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    let mut previous: Option<&[u8]> = None;
    let mut starred = false;
    let last = bytes.len().saturating_sub(1) / LINE_BYTES;
    bytes.chunks(LINE_BYTES).enumerate().filter_map(move |(number, chunk)| {
        if previous == Some(chunk) && number != last {
            return (!std::mem::replace(&mut starred, true)).then(|| "*".to_owned());
        }
        (previous, starred) = (Some(chunk), false);
        Some(line(number * LINE_BYTES, chunk))
    })
}

fn line(offset: usize, chunk: &[u8]) -> String {
    let mut line = format!("{offset:04x} ");
    for index in 0..LINE_BYTES {
        let gap = if index % 8 == 0 { " " } else { "" };
        // Writing into a string cannot fail.
        let _ = match chunk.get(index) {
            Some(byte) => write!(line, "{gap}{byte:02x} "),
            None => write!(line, "{gap}   "),
        };
    }
    let text = chunk.iter().map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' });
    line.push('|');
    line.extend(text);
    line.push('|');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_become_one_star() {
        let mut bytes = vec![0; 96];
        bytes[80] = b'x';
        bytes.truncate(90);
        let lines: Vec<_> = dump(&bytes).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "0000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00 |................|");
        assert_eq!(lines[1], "*");
        assert!(lines[2].starts_with("0050  78 00") && lines[2].ends_with("|x.........|"));
        assert_eq!(dump(&[]).count(), 0);
        assert_eq!(dump(&[7; 64]).count(), 3);
    }
}
