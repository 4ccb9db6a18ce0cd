//! Where an archive's bytes come from: a part of the artifact, or what a decompressor makes of one.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;

/// Where an archive's bytes come from.
pub(super) trait Source: Read {
    /// Passes over so many bytes and says over how many it went; fewer only at the end.
    fn skip(&mut self, bytes: u64) -> io::Result<u64>
    where
        Self: Sized,
    {
        io::copy(&mut self.by_ref().take(bytes), &mut io::sink())
    }
}

/// A part of a file, read by offset, so that several can be read from one descriptor.
#[derive(Debug)]
pub(super) struct Span<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl<'a> Span<'a> {
    pub(super) fn new(file: &'a File, at: u64, bytes: u64) -> Self {
        Self {
            file,
            at,
            end: at.saturating_add(bytes),
        }
    }
}

impl Read for Span<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Source for BufReader<Span<'_>> {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let buffered = self.buffer().len() as u64;
        if bytes <= buffered {
            return io::copy(&mut self.by_ref().take(bytes), &mut io::sink());
        }
        // What the file has behind the buffer, and no more: a span may be longer than its file.
        let span = self.get_ref();
        let length = span.file.metadata()?.len().min(span.end);
        let rest = (bytes - buffered).min(length.saturating_sub(span.at));
        let at = span.at + rest;
        let (file, end) = (span.file, span.end);
        let capacity = self.capacity();
        *self = BufReader::with_capacity(capacity, Span { file, at, end });
        Ok(buffered + rest)
    }
}
