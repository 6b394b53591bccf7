//! Pages ahead of need. A page's first touch costs a fault: about 2 us for 4 KiB and, since it must
//! be cleared, hundreds for 2 MiB; a thread that serves should take neither. So a thread of its own
//! keeps a few [`UNIT_BYTES`] blocks mapped and filled (huge pages where the kernel gives them), and
//! an arena whose pages come from that stock is given to the thread that serves.
//!
//! ```text
//!  filler thread                 slots              allocating thread
//!  mmap, MADV_HUGEPAGE,  ──►  [addr][addr][ 0 ]  ──►  arena's hook takes one when jemalloc grows
//!  MADV_POPULATE_WRITE                                (none left: maps one unfilled, counts a miss)
//!          ▲                                                │ wakes
//!          └────────────────────────────────────────────────┘
//! ```
//! A block belongs to whoever swapped its address out of the slot. Blocks are never unmapped: the
//! arena keeps what it was given.

use std::ffi::{c_uint, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;
use std::{io, ptr};

use tikv_jemalloc_ctl::raw;
use tikv_jemalloc_sys::{extent_alloc_t, extent_hooks_t};

/// Size and alignment of a block of the stock: one huge page.
pub const UNIT_BYTES: usize = 2 << 20;
/// No stock holds more blocks.
pub const UNITS_MAX: usize = 64;
/// Address space is asked for in pieces of this size, so that blocks lie side by side.
const REGION_BYTES: usize = 64 << 20;

static SLOTS: [AtomicUsize; UNITS_MAX] = [const { AtomicUsize::new(0) }; UNITS_MAX];
static FILLER: OnceLock<Thread> = OnceLock::new();
static TAKEN: AtomicU64 = AtomicU64::new(0);
static MISSED: AtomicU64 = AtomicU64::new(0);
static DEFAULT_ALLOC: OnceLock<extent_alloc_t> = OnceLock::new();

struct Hooks(extent_hooks_t);
// SAFETY: a table of function pointers that nobody changes once it is made.
unsafe impl Sync for Hooks {}
// SAFETY: as above.
unsafe impl Send for Hooks {}
static HOOKS: OnceLock<Hooks> = OnceLock::new();

/// What a stock should be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Blocks kept ready, at most [`UNITS_MAX`].
    pub units: usize,
    /// Whether huge pages are asked for.
    pub huge: bool,
}

/// Why there is no stock.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The allocator refused; `what` names the control.
    #[error("the allocator refused {what}: {reason}")]
    Allocator {
        /// The control.
        what: &'static str,
        /// Its words.
        reason: String,
    },
    /// The filler thread could not be started.
    #[error("can't start the filler thread: {0}")]
    Thread(io::Error),
}

/// How a stock is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes ready.
    pub ready_bytes: usize,
    /// Blocks handed out filled.
    pub taken: u64,
    /// Blocks that were wanted when none was ready.
    pub missed: u64,
}

/// Reads the counters.
#[must_use]
pub fn stats() -> Stats {
    Stats {
        ready_bytes: SLOTS.iter().filter(|slot| slot.load(Ordering::Relaxed) != 0).count() * UNIT_BYTES,
        taken: TAKEN.load(Ordering::Relaxed),
        missed: MISSED.load(Ordering::Relaxed),
    }
}

/// Starts the filler if there is none yet, and gives the calling thread an arena of its own that
/// grows from the stock. With `units` 0 it does nothing. The filler runs `on_filler_start` first: it
/// should see to it that it runs near the memory's user, for the kernel places a page near the
/// processor that touches it first.
///
/// # Errors
/// [`Error`]; the thread then goes on with the arena it had.
pub fn serve_this_thread(options: Options, on_filler_start: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    if options.units == 0 {
        return Ok(());
    }
    let refused = |what| move |error: tikv_jemalloc_ctl::Error| Error::Allocator { what, reason: error.to_string() };
    // SAFETY: the control's type is a pointer to a table of hooks, which lives as long as the arena.
    let hooks = unsafe { raw::read::<*const extent_hooks_t>(b"arena.0.extent_hooks\0") }
        .map_err(refused("arena.0.extent_hooks"))?;
    // SAFETY: arena 0's table is jemalloc's own, a constant.
    let mut own = unsafe { ptr::read(hooks) };
    if let Some(alloc) = own.alloc {
        DEFAULT_ALLOC.get_or_init(|| alloc);
    }
    own.alloc = Some(alloc_extent);
    let own = HOOKS.get_or_init(|| Hooks(own));
    start_filler(options, on_filler_start)?;
    let arena = create_arena(&raw const own.0)?;
    let limit = format!("arena.{arena}.retain_grow_limit\0");
    // SAFETY: the control's type is size_t.
    unsafe { raw::write(limit.as_bytes(), UNIT_BYTES) }.map_err(refused("arena.<i>.retain_grow_limit"))?;
    // SAFETY: the control's type is unsigned.
    unsafe { raw::write(b"thread.arena\0", arena) }.map_err(refused("thread.arena"))
}

/// Makes an arena with these hooks and returns its number.
fn create_arena(mut hooks: *const extent_hooks_t) -> Result<c_uint, Error> {
    let mut arena: c_uint = 0;
    let mut arena_len = size_of::<c_uint>();
    // SAFETY: the control takes a pointer to hooks, which are static, and writes the new arena's
    // number into the unsigned it is given.
    let status = unsafe {
        tikv_jemalloc_sys::mallctl(
            c"arenas.create".as_ptr(),
            (&raw mut arena).cast(),
            &raw mut arena_len,
            (&raw mut hooks).cast(),
            size_of::<*const extent_hooks_t>(),
        )
    };
    if status == 0 {
        return Ok(arena);
    }
    Err(Error::Allocator { what: "arenas.create", reason: io::Error::from_raw_os_error(status).to_string() })
}

/// jemalloc's way to ask for address space: a block of the stock if that is what it wants.
///
/// # Safety
/// Called by jemalloc alone, under its contract for `extent_alloc_t`.
unsafe extern "C" fn alloc_extent(
    hooks: *mut extent_hooks_t,
    wanted: *mut c_void,
    size: usize,
    alignment: usize,
    zero: *mut bool,
    commit: *mut bool,
    arena: c_uint,
) -> *mut c_void {
    if size == UNIT_BYTES && alignment <= UNIT_BYTES && wanted.is_null() {
        let block = take();
        if block != 0 {
            // SAFETY: jemalloc gives valid places for both answers. The block is fresh from the
            // kernel and was only read since: it is zero and committed.
            unsafe {
                *zero = true;
                *commit = true;
            }
            return ptr::with_exposed_provenance_mut(block);
        }
    }
    let Some(default_alloc) = DEFAULT_ALLOC.get() else { return ptr::null_mut() };
    // SAFETY: jemalloc's own function with jemalloc's own arguments.
    unsafe { default_alloc(hooks, wanted, size, alignment, zero, commit, arena) }
}

/// Takes a filled block and has another one made; 0 if there is none. Allocates nothing: jemalloc
/// holds locks here.
fn take() -> usize {
    let block = SLOTS.iter().map(|slot| slot.swap(0, Ordering::Acquire)).find(|&block| block != 0).unwrap_or(0);
    let counter = if block == 0 { &MISSED } else { &TAKEN };
    counter.fetch_add(1, Ordering::Relaxed);
    if let Some(filler) = FILLER.get() {
        filler.unpark();
    }
    block
}

fn start_filler(options: Options, on_start: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    let (units, huge) = (options.units.min(UNITS_MAX), options.huge);
    let filler = std::thread::Builder::new().name("page-stock".to_owned()).spawn(move || {
        on_start();
        let mut region = Region { next: 0, end: 0, huge };
        loop {
            for slot in &SLOTS[..units] {
                // Nobody else fills slots, so an empty one stays empty until it is stored to.
                if slot.load(Ordering::Relaxed) == 0
                    && let Some(block) = region.block()
                {
                    slot.store(block, Ordering::Release);
                }
            }
            std::thread::park();
        }
    });
    match filler {
        Ok(filler) => {
            FILLER.get_or_init(|| filler.thread().clone());
            Ok(())
        }
        Err(error) => {
            STARTED.store(false, Ordering::Release);
            Err(Error::Thread(error))
        }
    }
}

/// Mapped address space that blocks are cut from.
struct Region {
    next: usize,
    end: usize,
    huge: bool,
}

impl Region {
    /// The next block, filled if there is memory; `None` if there is no address space.
    fn block(&mut self) -> Option<usize> {
        if self.next == self.end {
            // One block more than needed, since the start must be aligned.
            let len = REGION_BYTES + UNIT_BYTES;
            // SAFETY: a new private mapping at an address of the kernel's choice.
            let base = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                    -1,
                    0,
                )
            };
            if base == libc::MAP_FAILED {
                return None;
            }
            self.next = base.expose_provenance().next_multiple_of(UNIT_BYTES);
            self.end = self.next + REGION_BYTES;
            if self.huge {
                // SAFETY: within the mapping just made. A kernel without huge pages refuses, which is no harm.
                unsafe {
                    libc::madvise(ptr::with_exposed_provenance_mut(self.next), REGION_BYTES, libc::MADV_HUGEPAGE)
                };
            }
        }
        let block = self.next;
        self.next += UNIT_BYTES;
        let pointer: *mut u8 = ptr::with_exposed_provenance_mut(block);
        // SAFETY: the block lies in the mapping and is nobody's yet.
        let filled = unsafe { libc::madvise(pointer.cast(), UNIT_BYTES, libc::MADV_POPULATE_WRITE) } == 0;
        if !filled && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
            // Before Linux 5.14: touch each page. Out of memory is left to whoever really writes there.
            for offset in (0..UNIT_BYTES).step_by(4096) {
                // SAFETY: as above; it writes the zero that is there already.
                unsafe { pointer.add(offset).write_volatile(0) };
            }
        }
        Some(block)
    }
}
