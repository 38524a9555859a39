//! What the log costs before the disk has it: gathering records, encoding them into the buffer that is written.

mod support;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use drey_core::log::{LogEntry, LogWriter, Record};
use drey_core::{LogIndex, Output, Term, Ticket};
use support::{BATCH, GROUP, VALUE_BYTES, config};

/// Segments that hold something; older ones are released.
const SEGMENTS_KEPT: u64 = 3;

struct Log {
    writer: LogWriter,
    tickets: u64,
    index: u64,
    out: Vec<Output>,
    buffer: Vec<u8>,
    newest_segment: u64,
    released: u64,
}

impl Log {
    fn new() -> Log {
        let writer = LogWriter::new(config(1, 1).log_config(), 1, 0);
        Log { writer, tickets: 0, index: 0, out: Vec::new(), buffer: Vec::new(), newest_segment: 0, released: 0 }
    }

    fn append(&mut self, data: Bytes) {
        self.index += 1;
        let entry = LogEntry { index: LogIndex(self.index), term: Term(1), kind: 0, data, context: Bytes::new() };
        self.writer.push(Record::Append(GROUP, vec![entry]));
        while self.writer.durable_mark() < self.writer.mark() {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let tickets = &mut self.tickets;
        let mut next_ticket = || {
            *tickets += 1;
            Ticket(*tickets)
        };
        self.writer.turn(&mut next_ticket, &mut self.out);
        for output in self.out.drain(..) {
            match output {
                Output::WriteLog(ticket, write) => {
                    self.buffer.resize(write.len(), 0);
                    write.encode_into(&mut self.buffer);
                    self.newest_segment = write.segment.number;
                    self.writer.synced(ticket).expect("it is under way");
                }
                Output::PrepareSegment(segment) => self.writer.segment_ready(segment).expect("it was asked for"),
                _ => {}
            }
        }
        if self.newest_segment - self.released > SEGMENTS_KEPT {
            self.writer.release_oldest();
            self.released += 1;
        }
    }
}

fn log_append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log_append");
    for puts in [1, BATCH] {
        let mut log = Log::new();
        let data = Bytes::from(vec![7; puts as usize * (VALUE_BYTES + 32)]);
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(format!("an entry of {puts} puts"), |bencher| bencher.iter(|| log.append(data.clone())));
    }
}

criterion_group!(benches, log_append);
criterion_main!(benches);
