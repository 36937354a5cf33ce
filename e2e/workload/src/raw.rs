//! Output that readers of logs get wrong: each kind once, between lines that say where it is.

use std::io::{self, Write as _};

/// Prints it all; the last line has no newline.
pub fn print() -> io::Result<()> {
    let mut output = io::stdout().lock();
    let long = vec![b'x'; 1 << 20];
    let kinds: [(&str, &[u8]); 6] = [
        ("invalid UTF-8", b"invalid \xff\xfe\xc3( bytes"),
        ("NUL", b"before\0after"),
        ("empty line", b""),
        ("1 MiB line", &long),
        ("control characters", b"\x1b[31mred\x1b[0m\ttab\rreturn\x08"),
        ("spaces at both ends", b"  two  "),
    ];
    for (name, bytes) in kinds {
        writeln!(output, "next: {name}")?;
        output.write_all(bytes)?;
        output.write_all(b"\n")?;
    }
    output.write_all(b"last line without newline")?;
    output.flush()
}
