//! The last lines of what a program or a server said, for the reason of a failure.

/// How much of the end is kept, in bytes.
const KEPT: usize = 2048;

/// A longer line is looked at in pieces of this many bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // Cut at twice the length only, so that many short pieces do not move the whole each time.
        if self.bytes.len() > 2 * KEPT {
            self.bytes.drain(..self.bytes.len() - KEPT);
            self.cut = true;
        }
    }

    /// As text that any store and terminal takes: no control characters but line breaks, no broken letters.
    pub(crate) fn text(&self) -> String {
        let from = self.bytes.len().saturating_sub(KEPT);
        let text = String::from_utf8_lossy(&self.bytes[from..]);
        let clean: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
        if !self.cut && from == 0 {
            return clean.trim().to_owned();
        }
        format!("... {}", clean.trim().trim_start_matches('\u{fffd}'))
    }
}

/// Cuts a stream into lines and keeps the tail of those that nobody takes.
#[derive(Debug)]
pub(crate) struct Lines<F> {
    takes_line: F,
    open: Vec<u8>,
    tail: Tail,
}

impl<F: FnMut(&str) -> bool> Lines<F> {
    pub(crate) fn new(takes_line: F) -> Self {
        Self { takes_line, open: Vec::new(), tail: Tail::default() }
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.open.extend_from_slice(&bytes[..end]);
            self.close();
            bytes = &bytes[end + 1..];
        }
        self.open.extend_from_slice(bytes);
        if self.open.len() > LONGEST_LINE {
            self.close();
        }
    }

    /// The tail, with a last line that was not ended.
    pub(crate) fn finish(mut self) -> String {
        if !self.open.is_empty() {
            self.close();
        }
        self.tail.text()
    }

    fn close(&mut self) {
        let line = std::mem::take(&mut self.open);
        if !(self.takes_line)(&String::from_utf8_lossy(&line)) {
            self.tail.push(&line);
            self.tail.push(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_the_stream_was_cut() {
        let mut seen = Vec::new();
        let mut lines = Lines::new(|line: &str| {
            seen.push(line.to_owned());
            line.starts_with("take")
        });
        for piece in ["keep on", "e\ntake", " me\nkeep two\n", "last"] {
            lines.push(piece.as_bytes());
        }
        assert_eq!(lines.finish(), "keep one\nkeep two\nlast");
        assert_eq!(seen, ["keep one", "take me", "keep two", "last"]);
    }

    #[test]
    fn a_tail_is_the_end_and_can_be_stored() {
        let mut tail = Tail::default();
        for _ in 0..1000 {
            tail.push("я\0\x1b[31m!".as_bytes());
        }
        tail.push(b"the end \xff");
        let text = tail.text();
        assert!(text.starts_with("... ") && text.contains("the end"), "{text}");
        assert!(text.len() < KEPT + 16 && !text.contains('\0') && !text.contains('\x1b'));
    }
}
