//! One layer of an image, read from where it stands in the artifact and applied to the tree; its
//! bytes are hashed on the way.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use mote_core::error::Error;
use sha2::{Digest as _, Sha256};

use super::apply::{As, apply};
use super::entries::Entries;
use super::failure::{bad, system, unsupported};
use super::image::{Layer, other_bytes};
use super::root::Root;
use super::source::{Source, Span};
use super::table::Table;

/// Bytes read from the artifact at once.
const READ_BYTES: usize = 64 << 10;

/// Applies a layer; says how many devices and pipes it left out. What it made is to be thrown away
/// after an error, for a wrong digest shows at the end.
pub(super) fn unpack(table: &Table<'_>, layer: &Layer, root: &mut Root) -> Result<u64, Error> {
    let span = || Span::new(table.file(), layer.part.at, layer.part.bytes);
    let unreadable = |error: io::Error| system("read the artifact", &error);
    let mut head = Vec::new();
    span().take(4).read_to_end(&mut head).map_err(unreadable)?;
    let mut stored = Hashed::new(span(), layer.digest);
    let buffered = BufReader::with_capacity(READ_BYTES, &mut stored);
    let plain: Box<dyn Read + '_> = match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(buffered)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            return Err(unsupported("the image has a layer that is compressed with zstd")
                .with_hint("build the image with layers of gzip: docker buildx build --output type=oci,compression=gzip"));
        }
        _ => Box::new(buffered),
    };
    let mut entries = Entries::new(Hashed::new(plain, layer.diff_id), false);
    let skipped =
        apply(&mut entries, root, As::Layer).map_err(|error| error.context(&layer.name))?;
    let mut plain = entries.into_source();
    if layer.diff_id.is_some() {
        // The padding behind the end mark; it counts, for it may be compressed to nothing.
        let mut padding = [0; 4096];
        loop {
            let read = plain.read(&mut padding).map_err(|error| {
                bad(format!(
                    "{}: the end of the layer is damaged: {error}",
                    layer.name
                ))
            })?;
            if read == 0 {
                break;
            }
            root.budget.bytes(read as u64, layer.name.as_bytes())?;
        }
    }
    let diff_id_holds = plain.holds();
    io::copy(&mut stored, &mut io::sink()).map_err(unreadable)?;
    if !diff_id_holds || !stored.holds() {
        return Err(other_bytes(&layer.name));
    }
    Ok(skipped)
}

/// Hashes what passes, when something is expected of it.
struct Hashed<R> {
    inner: R,
    expect: Option<([u8; 32], Sha256)>,
}

impl<R: Read> Hashed<R> {
    fn new(inner: R, expect: Option<[u8; 32]>) -> Self {
        Self {
            inner,
            expect: expect.map(|digest| (digest, Sha256::new())),
        }
    }

    /// Whether all that passed is what was expected.
    fn holds(self) -> bool {
        match self.expect {
            Some((expect, hasher)) => hasher.finalize().as_slice() == expect,
            None => true,
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some((_, hasher)) = &mut self.expect {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}

impl<R: Read> Source for Hashed<R> {}
