//! Reads the entries of a tar archive, one after the other: ustar, pax, and GNU's long names and
//! sparse files.
//!
//! It is a loop of its own over the headers of the `tar` crate, because nothing that an archive
//! says may be taken on trust here: extensions are bounded before they are read into memory, sizes
//! are counted before they are read at all, and an archive that ends early is told by its offset.

use std::io::{self, Write};

use mote_core::error::Error;
use tar::{EntryType, GnuExtSparseHeader, Header};

use super::budget::Budget;
use super::failure::{bad, shown, system, unsupported};
use super::source::Source;

const BLOCK: u64 = 512;

/// Most bytes of a pax extension. Attributes of files can take some kilobytes, names take fewer.
const PAX_BYTES_MAX: u64 = 1 << 20;

/// Most pieces of a sparse file.
const PIECES_MAX: usize = 65_536;

/// Bytes copied at once.
const COPY_BYTES: usize = 128 << 10;

/// One thing in an archive, its name and target as they are written there.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) what: What,
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) mtime: u64,
    /// Bytes in the archive.
    pub(super) bytes: u64,
    /// Where they begin, from the start of the archive.
    pub(super) at: u64,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    File,
    /// A file with holes: its length, and offset and length of each piece that is there.
    Sparse(u64, Vec<(u64, u64)>),
    Folder,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    /// A device or a pipe, by its name for people.
    Special(&'static str),
}

/// What extension headers said about the next entry.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    bytes: Option<u64>,
    mtime: Option<u64>,
}

/// An archive being read.
pub(super) struct Entries<S> {
    source: S,
    /// Bytes read so far.
    offset: u64,
    /// Of the current entry: bytes not read yet, then bytes up to the next block.
    left: u64,
    padding: u64,
    /// Whether the archive must have an end mark. Where a digest covers it, some writers leave it out.
    end_mark: bool,
    buffer: Vec<u8>,
}

impl<S: Source> Entries<S> {
    pub(super) fn new(source: S, end_mark: bool) -> Self {
        Self {
            source,
            offset: 0,
            left: 0,
            padding: 0,
            end_mark,
            buffer: Vec::new(),
        }
    }

    /// The next entry. Each takes from the budget, and so do all bytes that are passed over.
    pub(super) fn next(&mut self, budget: &mut Budget) -> Result<Option<Entry>, Error> {
        let mut extended = Extended::default();
        loop {
            self.pass()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            budget.entry()?;
            let kind = header.entry_type();
            if kind.is_pax_local_extensions() {
                let text = self.extension(&header, PAX_BYTES_MAX, budget)?;
                pax(&text, &mut extended)?;
            } else if kind.is_pax_global_extensions() {
                // Of the whole archive: comments, the id of a commit. Nothing that is needed here.
                self.extension(&header, PAX_BYTES_MAX, budget)?;
            } else if kind.is_gnu_longname() || kind.is_gnu_longlink() {
                // The zero byte at its end and a margin, so that the name itself can be told.
                let most = budget.path_bytes_max() as u64 + BLOCK;
                let mut text = self.extension(&header, most, budget)?;
                while text.last() == Some(&0) {
                    text.pop();
                }
                if kind.is_gnu_longname() {
                    extended.name = Some(text);
                } else {
                    extended.target = Some(text);
                }
            } else {
                return self.entry(&header, extended, budget).map(Some);
            }
        }
    }

    /// Copies what is left of the current entry.
    pub(super) fn copy(&mut self, name: &[u8], to: &mut impl Write) -> Result<(), Error> {
        self.copy_some(self.left, name, to)
    }

    /// Copies the next bytes of the current entry.
    pub(super) fn copy_some(
        &mut self,
        bytes: u64,
        name: &[u8],
        to: &mut impl Write,
    ) -> Result<(), Error> {
        if self.buffer.is_empty() {
            self.buffer.resize(COPY_BYTES, 0);
        }
        let mut rest = bytes.min(self.left);
        while rest > 0 {
            let most = usize::try_from(rest).unwrap_or(usize::MAX).min(COPY_BYTES);
            let read = match self.source.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(self.truncated(&format!("inside of `{}`", shown(name)))),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.unreadable(&error)),
            };
            to.write_all(&self.buffer[..read])
                .map_err(|error| system(format!("write `{}`", shown(name)), &error))?;
            self.offset += read as u64;
            self.left -= read as u64;
            rest -= read as u64;
        }
        Ok(())
    }

    /// Gives the source back.
    pub(super) fn into_source(self) -> S {
        self.source
    }

    fn entry(
        &mut self,
        header: &Header,
        extended: Extended,
        budget: &mut Budget,
    ) -> Result<Entry, Error> {
        let kind = header.entry_type();
        let name = match extended.name {
            Some(name) => name,
            None => header.path_bytes().into_owned(),
        };
        // A name without an end may be the name of anything; one with a slash is a folder's.
        let target = || {
            let own = header.link_name_bytes().map(|target| target.into_owned());
            extended.target.clone().or(own).unwrap_or_default()
        };
        let mut bytes = match extended.bytes {
            Some(bytes) => bytes,
            None => number(header.entry_size(), "size", &name)?,
        };
        let what = match kind {
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => What::Folder,
            EntryType::Regular | EntryType::Continuous => What::File,
            EntryType::GNUSparse => What::Sparse(0, Vec::new()),
            EntryType::Directory => What::Folder,
            EntryType::Symlink => What::Symlink(target()),
            EntryType::Link => What::HardLink(target()),
            EntryType::Char => What::Special("a character device"),
            EntryType::Block => What::Special("a block device"),
            EntryType::Fifo => What::Special("a pipe"),
            other => {
                return Err(unsupported(format!(
                    "`{}` is of the unknown type {:?}",
                    shown(&name),
                    char::from(other.as_byte())
                )));
            }
        };
        // These have no bytes, whatever their header says (as Go's reader has it, which wrote most images).
        let has_bytes = matches!(
            kind,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse
        );
        if !has_bytes {
            bytes = 0;
        }
        budget.bytes(bytes, &name)?;
        let what = match what {
            What::Sparse(..) => self.sparse(header, bytes, &name, budget)?,
            what => what,
        };
        self.expect(bytes);
        Ok(Entry {
            mode: header.mode().unwrap_or(0o644),
            mtime: extended.mtime.or_else(|| header.mtime().ok()).unwrap_or(0),
            at: self.offset,
            name,
            what,
            bytes,
        })
    }

    /// The map of a sparse file in GNU's old form: four pieces in the header, 21 in each block after it.
    fn sparse(
        &mut self,
        header: &Header,
        bytes: u64,
        name: &[u8],
        budget: &mut Budget,
    ) -> Result<What, Error> {
        let wrong = || {
            bad(format!(
                "`{}` has a map of holes that makes no sense",
                shown(name)
            ))
        };
        let gnu = header.as_gnu().ok_or_else(wrong)?;
        let length = number(gnu.real_size(), "length", name)?;
        // The holes count as well: they are free here, and are not wherever the tree is copied to.
        budget.bytes(length.saturating_sub(bytes), name)?;
        let mut pieces = Vec::new();
        let (mut end, mut total) = (0, 0_u64);
        let mut add = |piece: &tar::GnuSparseHeader| {
            if piece.is_empty() {
                return Ok(());
            }
            let offset = piece.offset().map_err(|_| wrong())?;
            let bytes = piece.length().map_err(|_| wrong())?;
            if offset < end || pieces.len() == PIECES_MAX {
                return Err(wrong());
            }
            end = offset.checked_add(bytes).ok_or_else(wrong)?;
            total = total.saturating_add(bytes);
            pieces.push((offset, bytes));
            Ok(())
        };
        gnu.sparse.iter().try_for_each(&mut add)?;
        let mut extended = gnu.is_extended();
        while extended {
            let mut more = GnuExtSparseHeader::new();
            if !self.block(more.as_mut_bytes())? {
                return Err(self.truncated("inside of a map of holes"));
            }
            more.sparse.iter().try_for_each(&mut add)?;
            extended = more.is_extended();
            if extended {
                budget.entry()?;
            }
        }
        if end > length || total != bytes {
            return Err(wrong());
        }
        Ok(What::Sparse(length, pieces))
    }

    /// Reads an extension header's text, which must be short.
    fn extension(
        &mut self,
        header: &Header,
        most: u64,
        budget: &mut Budget,
    ) -> Result<Vec<u8>, Error> {
        let name = header.path_bytes();
        let bytes = number(header.entry_size(), "size", &name)?;
        if bytes > most {
            return Err(bad(format!(
                "an extension header of {bytes} bytes is over the {most} bytes that one may have"
            )));
        }
        budget.bytes(bytes, &name)?;
        self.expect(bytes);
        let mut text = Vec::new();
        self.copy(b"extension header", &mut text)?;
        Ok(text)
    }

    fn expect(&mut self, bytes: u64) {
        self.left = bytes;
        self.padding = bytes.next_multiple_of(BLOCK) - bytes;
    }

    /// Passes over what is left of the current entry.
    fn pass(&mut self) -> Result<(), Error> {
        let skipped = self
            .source
            .skip(self.left)
            .map_err(|error| self.unreadable(&error))?;
        self.offset += skipped;
        if skipped < self.left {
            return Err(self.truncated("inside of an entry"));
        }
        // Padding that is missing at the very end harms nobody; the next header tells.
        let skipped = self
            .source
            .skip(self.padding)
            .map_err(|error| self.unreadable(&error))?;
        self.offset += skipped;
        self.left = 0;
        self.padding = 0;
        Ok(())
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let mut header = Header::new_old();
        let at = self.offset;
        if !self.block(header.as_mut_bytes())? {
            if self.end_mark {
                return Err(self.truncated("before its end mark"));
            }
            return Ok(None);
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !is_header(&header) {
            return Err(bad(format!(
                "the archive is damaged at offset {at}: no header stands there"
            )));
        }
        Ok(Some(header))
    }

    /// Fills one block; `false` where the archive ends.
    fn block(&mut self, block: &mut [u8]) -> Result<bool, Error> {
        let mut filled = 0;
        while filled < block.len() {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.truncated("inside of a header")),
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(&error)),
            }
        }
        Ok(true)
    }

    fn truncated(&self, place: &str) -> Error {
        bad(format!(
            "the archive is cut off at offset {}, {place}",
            self.offset
        ))
        .with_hint("upload it again")
    }

    /// Damage found by a decompressor is the archive's; other failures are the disk's.
    fn unreadable(&self, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated("inside of its compression"),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => bad(format!(
                "the archive is damaged at offset {}: {error}",
                self.offset
            )),
            _ => system("read the archive", error),
        }
    }
}

/// Whether a block is the header of an entry: its checksum says so, with signed or unsigned bytes.
pub(super) fn is_header(header: &Header) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let Ok(expect) = header.cksum() else {
        return false;
    };
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in header.as_bytes().iter().enumerate() {
        let byte = if SUM.contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    i64::from(expect) == unsigned || i64::from(expect) == signed
}

/// Reads the records of a pax header, `length key=value\n` each (POSIX.1-2001, pax, extended header).
fn pax(mut text: &[u8], extended: &mut Extended) -> Result<(), Error> {
    let wrong = || bad("a pax header makes no sense");
    while !text.is_empty() {
        let space = text
            .iter()
            .take(20)
            .position(|byte| *byte == b' ')
            .ok_or_else(wrong)?;
        let length: usize = ascii(&text[..space]).ok_or_else(wrong)?;
        if length <= space + 1 || length > text.len() || text[length - 1] != b'\n' {
            return Err(wrong());
        }
        let record = &text[space + 1..length - 1];
        text = &text[length..];
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(wrong)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        // An empty value takes back what was said before.
        let given = (!value.is_empty()).then_some(value);
        match key {
            b"path" => extended.name = given.map(<[u8]>::to_vec),
            b"linkpath" => extended.target = given.map(<[u8]>::to_vec),
            b"size" => {
                extended.bytes = match given {
                    Some(value) => Some(ascii(value).ok_or_else(wrong)?),
                    None => None,
                };
            }
            // Fractions of a second and times before 1970 are left out.
            b"mtime" => {
                extended.mtime = value.split(|byte| *byte == b'.').next().and_then(ascii);
            }
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(unsupported("the archive holds a sparse file in pax form")
                    .with_hint("write the archive without --sparse"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn ascii<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn number(read: io::Result<u64>, what: &str, name: &[u8]) -> Result<u64, Error> {
    read.map_err(|_| bad(format!("the {what} of `{}` is no number", shown(name))))
}
