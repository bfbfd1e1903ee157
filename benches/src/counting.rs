//! An allocator that counts. A binary that measures declares it:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: benches::counting::Counting = benches::counting::Counting;
//! ```
//!
//! What a thread allocates inside [`counted`] is on its account until it is freed, wherever that happens. Bytes are
//! those that were asked for: what the system's allocator adds (about 16 to a block), and what C code allocates, is
//! not in them.

#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator with a note in front of each block: whether it is on the account.
pub struct Counting;

thread_local! {
    static ACCOUNT: Account = const {
        Account { open: Cell::new(false), allocations: Cell::new(0), bytes: Cell::new(0) }
    };
}

struct Account {
    open: Cell<bool>,
    allocations: Cell<u64>,
    /// Those of a block that another thread frees are taken off that thread's: hence the sign.
    bytes: Cell<isize>,
}

/// Runs `work` with the account open. Inside another such call it changes nothing.
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    let before = ACCOUNT.with(|account| account.open.replace(true));
    let done = work();
    ACCOUNT.with(|account| account.open.set(before));
    done
}

/// Bytes on this thread's account.
pub fn bytes() -> isize {
    ACCOUNT.with(|account| account.bytes.get())
}

/// Allocations that were ever on this thread's account, those that grew a block among them.
pub fn allocations() -> u64 {
    ACCOUNT.with(|account| account.allocations.get())
}

/// Whether the binary runs on [`Counting`]: else nothing is ever counted.
pub fn is_installed() -> bool {
    let before = bytes();
    let block = counted(|| std::hint::black_box(Box::new(0_u64)));
    let counts = bytes() != before;
    drop(block);
    counts
}

/// Room for the note: as much as the block is aligned to, so that it stays aligned.
fn note(layout: Layout) -> usize {
    layout.align().max(align_of::<usize>())
}

fn with_note(layout: Layout, len: usize) -> Option<Layout> {
    Layout::from_size_align(len.checked_add(note(layout))?, note(layout)).ok()
}

/// Where the note of a block lies.
///
/// # Safety
/// `alloc` or `realloc` returned the block for this layout.
unsafe fn note_of(at: *mut u8, layout: Layout) -> *mut u8 {
    // The optimiser knows what an allocation's caller may touch, and nothing in front of it. Where it sees both ends,
    // as with link-time optimisation, it would take this for impossible: so it must not see where `at` is from.
    // SAFETY: in front of the block is the note, in the same allocation of `System`'s.
    unsafe { std::hint::black_box(at).sub(note(layout)) }
}

/// Puts a block on the account where that is open; the note.
fn enter(len: usize) -> bool {
    // A thread that is going away allocates without being measured.
    let entered = ACCOUNT.try_with(|account| {
        if account.open.get() {
            account.allocations.set(account.allocations.get() + 1);
            account.bytes.set(account.bytes.get() + len as isize);
        }
        account.open.get()
    });
    entered.unwrap_or(false)
}

fn leave(len: usize) {
    let _ = ACCOUNT.try_with(|account| account.bytes.set(account.bytes.get() - len as isize));
}

// SAFETY: a block is `System`'s, longer by the note in front of it. The note is as long as the alignment, so what is
// behind it is aligned, too; all three functions compute it from the same layout.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(whole) = with_note(layout, layout.size()) else { return std::ptr::null_mut() };
        // SAFETY: it has room for the note, so its size is not zero.
        let start = unsafe { System.alloc(whole) };
        if start.is_null() {
            return start;
        }
        // SAFETY: the note and the block behind it are what was allocated.
        unsafe {
            start.write(u8::from(enter(layout.size())));
            start.add(note(layout))
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let Some(whole) = with_note(layout, layout.size()) else { return };
        // SAFETY: the caller's block is behind the note that `alloc` wrote, in a block of this layout.
        unsafe {
            let start = note_of(at, layout);
            if start.read() == 1 {
                leave(layout.size());
            }
            System.dealloc(start, whole);
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        let (Some(whole), Some(new)) = (with_note(layout, layout.size()), with_note(layout, len)) else {
            return std::ptr::null_mut();
        };
        // SAFETY: as for `dealloc`; the new layout has the old one's alignment, and its size is valid.
        unsafe {
            let start = note_of(at, layout);
            let was_entered = start.read() == 1;
            let start = System.realloc(start, whole, new.size());
            if start.is_null() {
                return start;
            }
            if was_entered {
                leave(layout.size());
            }
            // What was on the account stays on it, whoever makes it grow.
            start.write(u8::from(if was_entered { counted(|| enter(len)) } else { enter(len) }));
            start.add(note(layout))
        }
    }
}
