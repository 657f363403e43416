//! [`Memory`]: one anonymous mapping, and [`prefetch`]. The only module with `unsafe`.
//!
//! The mapping reserves addresses; the system gives pages as they are touched, in huge pages where it can. Nothing else knows
//! addresses: all others work on the bytes as a slice, with checked indices.

#![allow(unsafe_code, reason = "mapping memory and prefetching have no safe interface")]

/// Bytes of a huge page; the mapping begins at a multiple of it.
#[cfg(not(miri))]
const HUGE_BYTES: usize = 2 << 20;

/// No memory could be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system reserves no memory")]
pub struct NoMemory;

/// Zeroed bytes.
///
/// Invariant: `start` points to `bytes` bytes that nothing else refers to, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Memory {
    start: std::ptr::NonNull<u8>,
    bytes: usize,
    #[cfg(not(miri))]
    mapped: (std::ptr::NonNull<std::ffi::c_void>, usize),
}

// SAFETY: the bytes belong to this value alone, and are reached through `&self` and `&mut self` only, like those of a `Box<[u8]>`.
unsafe impl Send for Memory {}

#[cfg(not(miri))]
impl Memory {
    /// Reserves `bytes` bytes. None of them takes memory before it is written.
    pub(crate) fn reserve(bytes: usize) -> Result<Memory, NoMemory> {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
        let whole = bytes.checked_add(HUGE_BYTES).ok_or(NoMemory)?;
        let length = std::num::NonZeroUsize::new(whole).ok_or(NoMemory)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address that the system chooses replaces nothing.
        let mapping = unsafe { mmap_anonymous(None, length, access, flags) };
        let mapping = mapping.map_err(|_| NoMemory)?;
        let skipped = mapping.as_ptr().cast::<u8>().align_offset(HUGE_BYTES);
        assert!(skipped < HUGE_BYTES, "addresses of bytes can be aligned");
        // SAFETY: `skipped < HUGE_BYTES`, so `skipped + bytes <= whole`: this stays inside the mapping.
        let start = unsafe { mapping.cast::<u8>().add(skipped) };
        Ok(Memory { start, bytes, mapped: (mapping, whole) })
    }

    /// Asks for huge pages for the first `bytes` bytes, as far as they fill some: a page that reaches further would take memory that
    /// nobody counts.
    pub(crate) fn use_huge_pages(&mut self, bytes: usize) {
        use nix::sys::mman::{MmapAdvise, madvise};
        let whole = bytes.min(self.bytes) / HUGE_BYTES * HUGE_BYTES;
        // SAFETY: the range is inside our mapping, and this advice changes no content. Whether it is taken does not matter.
        let _taken = unsafe { madvise(self.start.cast(), whole, MmapAdvise::MADV_HUGEPAGE) };
    }

    /// Gives whole pages between `from` and `to` back; they read as zeros afterwards.
    pub(crate) fn release(&mut self, from: usize, to: usize) {
        use nix::sys::mman::{MmapAdvise, madvise};
        const PAGE: usize = 4096;
        let (from, to) = (from.next_multiple_of(PAGE), to.min(self.bytes) / PAGE * PAGE);
        if from >= to {
            return;
        }
        // SAFETY: `from < to <= self.bytes`: this stays inside the mapping.
        let begin = unsafe { self.start.add(from) };
        // SAFETY: the pages are whole, inside our own private anonymous mapping, and `&mut self` means that nobody looks at them.
        let _given = unsafe { madvise(begin.cast(), to - from, MmapAdvise::MADV_DONTNEED) };
    }
}

#[cfg(not(miri))]
impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly what `reserve` has mapped; no reference into it outlives `self`.
        let _gone = unsafe { nix::sys::mman::munmap(self.mapped.0, self.mapped.1) };
    }
}

/// Miri has no mappings: it gets the bytes from the allocator.
#[cfg(miri)]
impl Memory {
    pub(crate) fn reserve(bytes: usize) -> Result<Memory, NoMemory> {
        let boxed = Box::<[u8]>::leak(vec![0; bytes].into_boxed_slice());
        Ok(Memory { start: std::ptr::NonNull::from(boxed).cast(), bytes })
    }

    #[expect(clippy::unused_self, reason = "there are no huge pages")]
    pub(crate) fn use_huge_pages(&mut self, _bytes: usize) {}

    pub(crate) fn release(&mut self, from: usize, to: usize) {
        self.bytes_mut()[from..to].fill(0);
    }
}

#[cfg(miri)]
impl Drop for Memory {
    fn drop(&mut self) {
        let all = std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.bytes);
        // SAFETY: `reserve` has leaked exactly this box, and it is freed once.
        drop(unsafe { Box::from_raw(all) });
    }
}

impl Memory {
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the invariant; all bytes are initialised (zeros at first), and `&self` keeps writers away.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the invariant, and `&mut self` keeps everybody else away.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// Where the bytes begin; a number, for [`prefetch`] alone.
    pub(crate) fn address(&self) -> usize {
        self.start.as_ptr().addr()
    }
}

/// Asks the processor to fetch the cache line at this address. Any number is allowed: nothing is read.
#[inline]
pub(crate) fn prefetch(address: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = std::ptr::without_provenance::<i8>(address);
        // SAFETY: a hint without effect on what the program computes; it does not fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    std::hint::black_box(address);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_writable_and_given_back() {
        let mut memory = Memory::reserve(1 << 16).expect("memory");
        assert_eq!(memory.bytes().len(), 1 << 16);
        memory.bytes_mut().fill(7);
        memory.release(1 << 12, 1 << 13);
        let sum: u64 = memory.bytes().iter().map(|&byte| u64::from(byte)).sum();
        assert_eq!(sum, 7 * ((1 << 16) - (1 << 12)));
        prefetch(memory.address());
        prefetch(usize::MAX);
    }
}
