//! Binlog files and offsets: how they are ordered, and how 64-bit offsets come from 32-bit ones. Pure.

use std::cmp::Ordering;

use schemas::record::FilePosition;

/// The order in which a server writes; files are numbered, and the number may outgrow its six digits.
pub(crate) fn compare(a: &FilePosition, b: &FilePosition) -> Ordering {
    file_number(&a.file).cmp(&file_number(&b.file)).then_with(|| a.offset.cmp(&b.offset))
}

/// The number at the end of a file's name; 0 if there is none.
pub(crate) fn file_number(file: &str) -> u64 {
    file.rsplit('.').next().unwrap_or_default().parse().unwrap_or_default()
}

/// The offset after an event whose header says `end` (the low 32 bits) when the file was at `from`; `None` if the event
/// is not in the file (`end` is 0) or not news.
pub(crate) fn advanced(from: u64, end: u32) -> Option<u64> {
    const WRAP: u64 = 1 << 32;
    if end == 0 {
        return None;
    }
    let low = u64::from(end);
    let same = (from & !(WRAP - 1)) | low;
    // An event is shorter than 2 GiB, so an offset that falls by more than that has wrapped.
    let to = if same < from && from.saturating_sub(same) > WRAP / 2 {
        same.saturating_add(WRAP)
    } else {
        same
    };
    (to > from).then_some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_wrap_at_4_gib() {
        assert_eq!(advanced(4, 120), Some(120));
        assert_eq!(advanced(120, 0), None);
        assert_eq!(advanced(120, 120), None);
        assert_eq!(advanced(500, 120), None);
        assert_eq!(advanced(0xffff_ff00, 0x80), Some(0x1_0000_0080));
        assert_eq!(advanced(0x1_0000_0080, 0x100), Some(0x1_0000_0100));
    }

    #[test]
    fn files_are_ordered_by_number() {
        let at = |file: &str, offset| FilePosition { file: file.into(), offset };
        assert_eq!(compare(&at("bin.999999", 9), &at("bin.1000000", 4)), Ordering::Less);
        assert_eq!(compare(&at("bin.000007", 9), &at("bin.000007", 8)), Ordering::Greater);
    }
}
