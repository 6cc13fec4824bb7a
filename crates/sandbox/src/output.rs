//! Keeps the first bytes of a stream and reads on without keeping the rest, so that the writer is never blocked.

use std::io::{ErrorKind, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};

const READ_BYTES: usize = 64 * 1024;
/// Reads per turn: a flood on one stream must not keep the loop from its deadline.
const READS_PER_TURN_MAX: usize = 16;

/// The default is an empty stream that has ended.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pipe: Option<PipeReader>,
    kept: Vec<u8>,
    bytes_max: usize,
    truncated: bool,
}

impl Output {
    /// `pipe` must not block.
    pub(crate) fn new(pipe: PipeReader, bytes_max: usize) -> Output {
        Output { pipe: Some(pipe), kept: Vec::new(), bytes_max, truncated: false }
    }

    /// None once the last writer is gone.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is there now; true when nothing was left to take.
    pub(crate) fn read(&mut self, buffer: &mut Vec<u8>) -> bool {
        buffer.resize(READ_BYTES, 0);
        for _ in 0..READS_PER_TURN_MAX {
            let Some(pipe) = self.pipe.as_mut() else {
                return true;
            };
            match pipe.read(buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.keep(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => self.pipe = None,
            }
        }
        false
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.bytes_max.saturating_sub(self.kept.len()).min(bytes.len());
        self.truncated |= room < bytes.len();
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    pub(crate) fn into_text(mut self) -> (String, bool) {
        // The cut may have gone through a character, which is not the writer's fault.
        if self.truncated
            && let Some(last) = self.kept.utf8_chunks().last()
            && std::str::from_utf8(last.invalid()).is_err_and(|error| error.error_len().is_none())
        {
            let whole = self.kept.len() - last.invalid().len();
            self.kept.truncate(whole);
        }
        (String::from_utf8_lossy(&self.kept).into_owned(), self.truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn check(input: &[u8], bytes_max: usize, expect: (&str, bool)) {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(input).unwrap();
        drop(writer);
        let mut output = Output::new(reader, bytes_max);
        assert!(output.read(&mut Vec::new()));
        assert_eq!(output.into_text(), (expect.0.to_owned(), expect.1));
    }

    #[test]
    fn a_stream_is_cut_between_characters() {
        check("abc".as_bytes(), 3, ("abc", false));
        check("abcd".as_bytes(), 3, ("abc", true));
        check("aéb".as_bytes(), 2, ("a", true));
        check(b"a\xffb", 9, ("a\u{fffd}b", false));
        check(b"a\xffbc", 2, ("a\u{fffd}", true));
    }
}
