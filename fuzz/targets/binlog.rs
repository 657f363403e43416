//! Binlog files: never a panic, whatever they announce and hold.
#![no_main]

use binlog::{
    assemble::{Assembler, Change, Part},
    frame::FileReader,
    layout::Layout,
};
use libfuzzer_sys::fuzz_target;
use schemas::gtid::Dialect;

/// A compressed transaction in parts of `size` bytes, whatever it holds.
fn in_parts(dialect: Dialect, bytes: &[u8], size: usize) {
    let mut assembler = Assembler::new(dialect);
    assembler.push_part(Part::Bytes(bytes), &mut |_| {});
    let header = binlog::frame::Header {
        timestamp_s: 0,
        kind: 40,
        server_id: 1,
        event_bytes: 0,
        end_position: 0,
        flags: 0,
    };
    assembler.push_part(Part::Begin(header), &mut |_| {});
    for part in bytes.chunks(size.max(1)) {
        assembler.push_part(Part::Bytes(part), &mut |_| {});
    }
    assembler.push_part(Part::End, &mut |_| {});
}

fuzz_target!(|bytes: &[u8]| {
    in_parts(Dialect::Mysql, bytes, bytes.len() / 3);
    for dialect in [Dialect::Mysql, Dialect::MariaDb] {
        let Ok(mut reader) = FileReader::new(bytes) else { return };
        let mut assembler = Assembler::new(dialect);
        while let Ok(Some(event)) = reader.next_event() {
            assembler.push(event, &mut |change| {
                let Change::Rows(rows) = change else { return };
                let columns: Vec<usize> = (0..rows.table.columns.len()).collect();
                let Ok(layout) = Layout::compile(&rows.table, &columns) else { return };
                drop(layout.walk(&rows, &mut |row| {
                    for &at in &columns {
                        drop((row.before(at), row.after(at), row.changed(at)));
                    }
                }));
            });
        }
    }
});
