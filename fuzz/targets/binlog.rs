//! Binlog files: never a panic, whatever they announce and hold.
#![no_main]

use binlog::{
    assemble::{Assembler, Change},
    frame::FileReader,
    layout::Layout,
};
use libfuzzer_sys::fuzz_target;
use schemas::gtid::Dialect;

fuzz_target!(|bytes: &[u8]| {
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
