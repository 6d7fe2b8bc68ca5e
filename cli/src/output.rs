//! What commands print: fields and tables, as text for people or as one JSON object for programs.
//!
//! Laws
//! * Both forms come from the same calls, so neither can say what the other does not.
//! * Output is written as it arises: a table of millions of rows needs no memory.
//! * JSON is always complete: what goes wrong on the way becomes its field `error`.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

/// Version of the shape of all JSON output: rises when a field changes its meaning or goes away.
const OUTPUT_VERSION: u32 = 1;
/// Width of the labels of text output.
const LABEL_WIDTH: usize = 18;

/// In which form to print.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A value with a reading for people beside it.
pub(crate) struct Explained<V>(pub(crate) V, pub(crate) String);

/// What can be printed.
pub(crate) trait Show {
    /// For programs.
    fn value(&self) -> Value;
    /// For people.
    fn text(&self) -> String;
}

impl<V: Clone + Into<Value>> Show for V {
    fn value(&self) -> Value {
        self.clone().into()
    }
    fn text(&self) -> String {
        match self.clone().into() {
            Value::String(text) => text,
            Value::Null => "-".to_owned(),
            Value::Bool(true) => "yes".to_owned(),
            Value::Bool(false) => "no".to_owned(),
            Value::Array(values) => values.iter().map(Show::text).collect::<Vec<_>>().join(" "),
            other => other.to_string(),
        }
    }
}

impl<V: Show> Show for Explained<V> {
    fn value(&self) -> Value {
        self.0.value()
    }
    fn text(&self) -> String {
        format!("{} ({})", self.0.text(), self.1)
    }
}

/// Writes fields, sections and tables to stdout.
pub(crate) struct Printer<W: Write = BufWriter<io::Stdout>> {
    out: W,
    json: bool,
    /// Closing brackets of what is open, and whether something stands in it already.
    open: Vec<(char, bool)>,
    /// Keys and widths of the columns of the open table.
    columns: Vec<(&'static str, usize)>,
}

impl Printer {
    /// Starts the output.
    pub(crate) fn new(format: Format) -> Self {
        Self::on(BufWriter::new(io::stdout()), format)
    }
}

impl<W: Write> Printer<W> {
    /// Starts the output on `out`.
    pub(crate) fn on(out: W, format: Format) -> Self {
        Self { out, json: format.json, open: Vec::new(), columns: Vec::new() }
    }

    /// One named value.
    pub(crate) fn field(&mut self, key: &str, value: impl Show) -> io::Result<()> {
        if self.json {
            self.key(key)?;
            return write!(self.out, "{}", value.value());
        }
        let indent = 2 * self.open.len();
        let label = key.replace('_', " ");
        let text = value.text();
        let space = LABEL_WIDTH.saturating_sub(indent);
        writeln!(self.out, "{:indent$}{label:space$} {text}", "")
    }

    /// A named value, if there is one.
    pub(crate) fn field_if(&mut self, key: &str, value: Option<impl Show>) -> io::Result<()> {
        value.map_or(Ok(()), |value| self.field(key, value))
    }

    /// Fields that belong together, until [`Self::end`].
    pub(crate) fn section(&mut self, key: &str) -> io::Result<()> {
        self.start(key, '{', '}')
    }

    /// Rows with these columns (key and least width), until [`Self::end`].
    pub(crate) fn table(&mut self, key: &str, columns: &[(&'static str, usize)]) -> io::Result<()> {
        self.start(key, '[', ']')?;
        self.columns = columns.to_vec();
        if self.json {
            return Ok(());
        }
        let labels: Vec<String> = columns.iter().map(|(key, _)| key.replace('_', " ")).collect();
        self.line(&labels)
    }

    /// One row of the open table.
    pub(crate) fn row(&mut self, cells: &[&dyn Show]) -> io::Result<()> {
        if !self.json {
            let cells: Vec<String> = cells.iter().map(|cell| cell.text()).collect();
            return self.line(&cells);
        }
        let object: serde_json::Map<String, Value> =
            self.columns.iter().zip(cells).map(|((key, _), cell)| ((*key).to_owned(), cell.value())).collect();
        self.comma()?;
        write!(self.out, "{}", Value::Object(object))
    }

    /// Ends the innermost section or table.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        match self.open.pop() {
            Some((close, _)) if self.json => write!(self.out, "{close}"),
            _ => Ok(()),
        }
    }

    /// Lines of text as they are: people see them as a block, programs as a list of lines.
    pub(crate) fn lines(&mut self, key: &str, lines: impl Iterator<Item = String>) -> io::Result<()> {
        self.start(key, '[', ']')?;
        for line in lines {
            if self.json {
                self.comma()?;
                write!(self.out, "{}", Value::String(line))?;
            } else {
                writeln!(self.out, "  {line}")?;
            }
        }
        self.end()
    }

    /// Completes the output of a command that succeeded.
    pub(crate) fn finish(self) -> anyhow::Result<ExitCode> {
        self.complete(Ok(ExitCode::SUCCESS))
    }

    /// Completes the output with the result of the command, which is returned.
    pub(crate) fn complete(mut self, result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
        if self.json {
            while !self.open.is_empty() && self.open.len() > 1 {
                self.end()?;
            }
            if let Err(error) = &result {
                self.field("error", format!("{error:#}"))?;
            }
            if self.open.is_empty() {
                self.begin_object()?;
            }
            self.end()?;
            writeln!(self.out)?;
        }
        self.out.flush()?;
        result
    }

    /// The outermost object, whose first field is the version of its shape.
    fn begin_object(&mut self) -> io::Result<()> {
        write!(self.out, "{{\"output_version\":{OUTPUT_VERSION}")?;
        self.open.push(('}', true));
        Ok(())
    }

    fn key(&mut self, key: &str) -> io::Result<()> {
        if self.open.is_empty() {
            self.begin_object()?;
        }
        self.comma()?;
        write!(self.out, "{}:", Value::from(key))
    }

    fn comma(&mut self) -> io::Result<()> {
        let filled = self.open.last_mut().is_some_and(|(_, filled)| std::mem::replace(filled, true));
        if filled { write!(self.out, ",") } else { Ok(()) }
    }

    fn start(&mut self, key: &str, open: char, close: char) -> io::Result<()> {
        if self.json {
            self.key(key)?;
            write!(self.out, "{open}")?;
        } else {
            let indent = 2 * self.open.len();
            writeln!(self.out, "{:indent$}{}:", "", key.replace('_', " "))?;
        }
        self.open.push((close, false));
        Ok(())
    }

    /// A row of text. The last column is not padded, and never cut.
    fn line(&mut self, cells: &[String]) -> io::Result<()> {
        let mut line = " ".repeat(2 * self.open.len().saturating_sub(1));
        for (index, (cell, (_, width))) in cells.iter().zip(&self.columns).enumerate() {
            let last = index + 1 == cells.len();
            // Writing into a string cannot fail.
            let _ = if last { write!(line, "  {cell}") } else { write!(line, "  {cell:<width$}") };
        }
        writeln!(self.out, "{}", line.trim_end())
    }
}

/// `bytes` as people read amounts, in powers of two.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) != 0 {
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    let whole = bytes >> (10 * unit);
    let tenth = if unit == 0 { 0 } else { ((bytes >> (10 * (unit - 1))) & 1023) * 10 / 1024 };
    if tenth == 0 || whole >= 100 { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") }
}

/// `name` with everything that is no printable text escaped, so that a terminal shows it and nothing happens.
pub(crate) fn escape(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\\' => text.push_str("\\\\"),
                char if char.is_control() || is_invisible(char) => text.extend(char.escape_default()),
                char => text.push(char),
            }
        }
        for byte in chunk.invalid() {
            // Writing into a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Characters that change how others are shown.
const fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(
        json: bool,
        print: impl FnOnce(&mut Printer<&mut Vec<u8>>) -> io::Result<()>,
        error: Option<&str>,
    ) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::on(&mut out, Format { json });
        print(&mut printer).unwrap();
        let result = error.map_or(Ok(ExitCode::SUCCESS), |error| Err(anyhow::anyhow!(error.to_owned())));
        assert_eq!(printer.complete(result).is_err(), error.is_some());
        String::from_utf8(out).unwrap()
    }

    fn sample(printer: &mut Printer<&mut Vec<u8>>) -> io::Result<()> {
        printer.field("block_size", Explained(4096, "4 KiB".to_owned()))?;
        printer.section("root")?;
        printer.field("address", 7_u64)?;
        printer.end()?;
        printer.table("rows", &[("name", 6), ("count", 3)])?;
        printer.row(&[&"a", &1])?;
        printer.row(&[&"b\"", &2])
    }

    #[test]
    fn json_is_complete_even_after_an_error_in_a_table() {
        let text = printed(true, sample, Some("block 9: broken"));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["output_version"], 1);
        assert_eq!(value["rows"][1]["name"], "b\"");
        assert_eq!(value["root"]["address"], 7);
        assert_eq!(value["error"], "block 9: broken");
        let nothing: Value = serde_json::from_str(&printed(true, |_| Ok(()), Some("no"))).unwrap();
        assert_eq!(nothing["error"], "no");
    }

    #[test]
    fn text_is_aligned() {
        let text = printed(false, sample, None);
        let wanted = "block size         4096 (4 KiB)\nroot:\n  address          7\nrows:\n  name    count\n  a       1\n  b\"      2\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn names_with_odd_bytes_cannot_reach_the_terminal() {
        assert_eq!(escape(b"a\x1b[2J\\\xff\n"), r"a\u{1b}[2J\\\xff\n");
        assert_eq!(escape("gr\u{fc}n\u{202e}".as_bytes()), "gr\u{fc}n\\u{202e}");
    }

    #[test]
    fn amounts_are_readable() {
        let cases = [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1536, "1.5 KiB"), (10 << 40, "10 TiB")];
        for (bytes, text) in cases {
            assert_eq!(human_bytes(bytes), text);
        }
        assert_eq!(human_bytes(u64::MAX), "15.9 EiB");
    }
}
