//! Bytes, taken apart into what a target needs. Where there are none left, everything is zero or empty.

/// What is left of the bytes.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    pub(crate) fn number(&mut self) -> u64 {
        let mut number = [0; 8];
        let length = self.0.len().min(number.len());
        let (bytes, rest) = self.0.split_at(length);
        number[..length].copy_from_slice(bytes);
        self.0 = rest;
        u64::from_le_bytes(number)
    }

    /// Up to the next line feed.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let length = self.0.iter().position(|byte| *byte == b'\n');
        let (line, rest) = self.0.split_at(length.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        line
    }

    /// The next line as text.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.line()).into_owned()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}
