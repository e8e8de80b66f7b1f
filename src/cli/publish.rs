//! `publish`: orders from files, a list, or one a line, with confirms and a progress bar.
//!
//! Every order is checked here before it leaves, by the same rules as at the receiver; refused
//! orders are named by file and line, and all others are published.

use clap::Args;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::{StreamExt, stream};
use serde_json::value::RawValue;

use crate::cli::change::whoever;
use crate::cli::exit::Exit;
use crate::cli::output::progress;
use crate::domain::order::document::Order;
use crate::ops::intake::Taken;
use crate::ops::verbs::Ops;

/// Orders in progress at a time.
const IN_FLIGHT: usize = 500;

/// One order and its place. Bytes, because text that is not UTF-8 is refused, not converted.
struct Piece {
    place: String,
    bytes: Vec<u8>,
}

/// `publish FILE...`
pub async fn publish(ops: &Ops, command: &Publish, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (mut done, mut known, mut refused) = (0u64, 0u64, 0u64);
    for path in &command.files {
        let is_stdin = path == Path::new("-");
        let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
        let reader: Box<dyn Read + Send> = match is_stdin {
            true => Box::new(std::io::stdin()),
            false => {
                Box::new(std::fs::File::open(path).with_context(|| format!("cannot open {name}"))?)
            }
        };
        let bar = progress(0, "publishing");
        let mut pieces = Pieces::new(name, reader);
        loop {
            let chunk = pieces.next_chunk(IN_FLIGHT * 4)?;
            if chunk.is_empty() {
                break;
            }
            bar.inc_length(chunk.len() as u64);
            let mut results = stream::iter(chunk)
                .map(|piece| publish_one(ops, piece, command.dry_run))
                .buffer_unordered(IN_FLIGHT);
            while let Some((place, result)) = results.next().await {
                bar.inc(1);
                match result? {
                    Ok(Taken::Accepted) => done += 1,
                    Ok(Taken::Duplicate) => known += 1,
                    Ok(Taken::Conflict) => {
                        refused += 1;
                        bar.suspend(|| {
                            eprintln!(
                                "{place}: the order is known with different content, which stays"
                            );
                        });
                    }
                    Ok(Taken::NumberTaken) => {
                        refused += 1;
                        bar.suspend(|| {
                            eprintln!(
                                "{place}: its number belongs to a finished order that is no longer in the ledger"
                            );
                        });
                    }
                    Err(fault) => {
                        refused += 1;
                        bar.suspend(|| eprintln!("{place}: {fault}"));
                    }
                }
            }
        }
        bar.finish_and_clear();
    }
    let verb = if command.dry_run { "would be published" } else { "published" };
    write!(out, "{done} {verb}")?;
    if known > 0 {
        write!(out, ", {known} known already")?;
    }
    writeln!(out, ", {refused} refused")?;
    Ok(match (done + known, refused) {
        (_, 0) => Exit::Done,
        (0, _) => Exit::Failed,
        _ => Exit::Partly,
    })
}

async fn publish_one(
    ops: &Ops,
    piece: Piece,
    dry_run: bool,
) -> (String, anyhow::Result<Result<Taken, crate::domain::order::fault::Fault>>) {
    let result = match Order::parse(&piece.bytes, ops.intake()) {
        Err(fault) => Ok(Err(fault)),
        Ok(_) if dry_run => Ok(Ok(Taken::Accepted)),
        Ok(order) => {
            ops.publish_order(&whoever(), order).await.map(Ok).map_err(anyhow::Error::from)
        }
    };
    (piece.place, result)
}

/// Cuts a file into orders: a line each, or, when its first line is not a whole document, the whole
/// file as one order or a list of orders.
struct Pieces {
    name: String,
    reader: BufReader<Box<dyn Read + Send>>,
    line: usize,
    rest: Vec<Piece>,
    is_whole: bool,
}

impl Pieces {
    fn new(name: String, reader: Box<dyn Read + Send>) -> Self {
        Self { name, reader: BufReader::new(reader), line: 0, rest: Vec::new(), is_whole: false }
    }

    fn next_chunk(&mut self, size: usize) -> anyhow::Result<Vec<Piece>> {
        let mut chunk = Vec::new();
        while chunk.len() < size {
            match self.next_piece()? {
                Some(piece) => chunk.push(piece),
                None => break,
            }
        }
        Ok(chunk)
    }

    fn next_piece(&mut self) -> anyhow::Result<Option<Piece>> {
        while !self.is_whole {
            let Some(bytes) = self.read_line()? else { return Ok(None) };
            if bytes.is_empty() {
                continue;
            }
            if self.line == 1 && !is_object(&bytes) {
                self.take_whole(bytes)?;
                break;
            }
            let place = format!("{}:{}", self.name, self.line);
            return Ok(Some(Piece { place, bytes }));
        }
        Ok(self.rest.pop())
    }

    fn read_line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = self.reader.read_until(b'\n', &mut bytes);
        let read = read.with_context(|| format!("cannot read {}", self.name))?;
        self.line += 1;
        Ok((read > 0).then(|| bytes.trim_ascii_end().to_vec()))
    }

    /// The file as one document or a list; if the first line is not valid, it is read line by line,
    /// so that each fault has its line.
    fn take_whole(&mut self, first: Vec<u8>) -> anyhow::Result<()> {
        let mut bytes = first;
        bytes.push(b'\n');
        let read = self.reader.read_to_end(&mut bytes);
        read.with_context(|| format!("cannot read {}", self.name))?;
        self.is_whole = true;
        let name = &self.name;
        self.rest = if let Ok(list) = serde_json::from_slice::<Vec<Box<RawValue>>>(&bytes) {
            let pieces = list.into_iter().enumerate().map(|(index, order)| Piece {
                place: format!("{name} /{index}"),
                bytes: order.get().as_bytes().to_vec(),
            });
            pieces.collect()
        } else if is_object(&bytes) {
            vec![Piece { place: name.clone(), bytes }]
        } else {
            let lines = bytes.split(|byte| *byte == b'\n').enumerate();
            let filled = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
            filled
                .map(|(index, line)| Piece {
                    place: format!("{name}:{}", index + 1),
                    bytes: line.to_vec(),
                })
                .collect()
        };
        self.rest.reverse();
        Ok(())
    }
}

fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

/// `publish`
#[derive(Debug, Args)]
pub struct Publish {
    /// Files with one order, a list of orders, or one order per line; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Only check the orders
    #[arg(long)]
    pub dry_run: bool,
}
