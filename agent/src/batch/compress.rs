//! Compression of bodies as they come. Knows nothing of records.

use flate2::{Compress, FlushCompress, Status};
use katonic_log_config::Compression;
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// The output grows by so much at a time.
const STEP: usize = 32 << 10;

/// The window of gzip: 2^15 bytes.
const GZIP_WINDOW: u8 = 15;

/// The window of zstd: 2^15 bytes. A larger one finds little more in log lines and takes three times the memory.
const ZSTD_WINDOW: u32 = 15;

/// The fastest level of zstd that is not a negative one.
const ZSTD_LEVEL: i32 = 1;

/// Compressors with their state, each made when a sink first needs it and kept.
#[derive(Default)]
pub(super) struct Compressor {
    coding: Compression,
    gzip: Option<Compress>,
    zstd: Option<Encoder<'static>>,
}

impl Compressor {
    /// Begins a body.
    pub(super) fn begin(&mut self, coding: Compression) {
        self.coding = coding;
        match coding {
            Compression::Gzip => {
                if let Some(gzip) = &mut self.gzip {
                    gzip.reset();
                } else {
                    // The fastest level: repeated metadata shrinks by any, and a sidecar must not cost a core.
                    let level = flate2::Compression::fast();
                    self.gzip = Some(Compress::new_gzip(level, GZIP_WINDOW));
                }
            }
            Compression::Zstd => {
                let ready = self.zstd.as_mut().map(Operation::reinit);
                if !matches!(ready, Some(Ok(()))) {
                    self.zstd = encoder().ok();
                }
            }
            Compression::None => {}
        }
    }

    /// Compresses some more; with `finish`, to the end of the body.
    pub(super) fn write(&mut self, plain: &[u8], finish: bool, packed: &mut Vec<u8>) {
        match self.coding {
            Compression::Gzip => {
                if let Some(gzip) = &mut self.gzip {
                    write_gzip(gzip, plain, finish, packed);
                }
            }
            Compression::Zstd => {
                if let Some(zstd) = &mut self.zstd {
                    // A broken stream would be refused by the sink and told.
                    let _ = write_zstd(zstd, plain, finish, packed);
                }
            }
            Compression::None => packed.extend_from_slice(plain),
        }
    }
}

fn write_gzip(gzip: &mut Compress, plain: &[u8], finish: bool, packed: &mut Vec<u8>) {
    let flush = if finish {
        FlushCompress::Finish
    } else {
        FlushCompress::None
    };
    let mut done = 0;
    loop {
        packed.reserve(STEP);
        let before = gzip.total_in();
        let status = gzip.compress_vec(&plain[done..], packed, flush);
        done += usize::try_from(gzip.total_in() - before).unwrap_or_default();
        let finished = if finish {
            matches!(status, Ok(Status::StreamEnd))
        } else {
            done == plain.len()
        };
        // Deflate has no error for valid calls; a broken stream would be refused by the sink and told.
        if finished || status.is_err() {
            break;
        }
    }
}

fn encoder() -> std::io::Result<Encoder<'static>> {
    let mut encoder = Encoder::new(ZSTD_LEVEL)?;
    encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW))?;
    Ok(encoder)
}

fn write_zstd(
    zstd: &mut Encoder<'static>,
    plain: &[u8],
    finish: bool,
    packed: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut input = InBuffer::around(plain);
    while input.pos() < plain.len() {
        packed.reserve(STEP);
        let at = packed.len();
        zstd.run(&mut input, &mut OutBuffer::around_pos(packed, at))?;
    }
    if finish {
        loop {
            packed.reserve(STEP);
            let at = packed.len();
            if zstd.finish(&mut OutBuffer::around_pos(packed, at), true)? == 0 {
                break;
            }
        }
    }
    Ok(())
}
