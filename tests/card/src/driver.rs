//! CUDA's driver interface, as much of it as Burn's CUDA backend calls: one card, every call done before it returns.
//!
//! | variable | what it is | unset |
//! | --- | --- | --- |
//! | `IMPASTO_CARD` | compute capability without the point: 75, 80, 90 | 90 |
//! | `IMPASTO_CARD_MEMORY` | megabytes of memory | 8192 |
//! | `IMPASTO_CARD_PTXAS` | NVIDIA's assembler, which must take each kernel too | not asked |
//! | `IMPASTO_CARD_KERNELS` | a folder into which each kernel's PTX is written | none |
//! | `IMPASTO_CARD_LOG` | a file that gets a line a launch: kernel, blocks, threads, instructions of warps, bytes of global memory asked for | none |

#![allow(clippy::missing_safety_doc, reason = "the functions are CUDA's, and so are their contracts")]

use std::alloc::Layout;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::lower::lower;
use crate::machine::{Launch, Processor, Program};
use crate::memory::Ranges;
use crate::ptx::{Space, parse};
use crate::tensor::Map;

const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const INVALID_DEVICE: c_int = 101;
const INVALID_PTX: c_int = 218;
const NOT_FOUND: c_int = 500;
const LAUNCH_FAILED: c_int = 719;

/// As CUDA's own allocations are.
const ALIGNMENT: usize = 512;
/// Allocations up to here are filled with what is no number.
const FILLED: usize = 64 << 20;

struct Module {
    programs: HashMap<String, *const Program>,
}

/// The last launch, while memory is as it left it: tuning runs the same thing ten times.
static LAST: Mutex<Option<LaunchKey>> = Mutex::new(None);

/// A kernel's address, its grid and block, and its parameters.
type LaunchKey = (usize, [u32; 7], Vec<u8>);

static RANGES: Mutex<Option<Ranges>> = Mutex::new(None);
static CALLS: AtomicU64 = AtomicU64::new(1);

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn capability() -> u64 {
    static VALUE: OnceLock<u64> = OnceLock::new();
    *VALUE.get_or_init(|| setting("IMPASTO_CARD", 90))
}

fn with_ranges<R>(f: impl FnOnce(&mut Ranges) -> R) -> R {
    let mut ranges = RANGES.lock().unwrap_or_else(PoisonError::into_inner);
    f(ranges.get_or_insert_with(Ranges::default))
}

/// Memory is about to change, other than by a launch.
fn forget_last_launch() {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "card: {text}");
}

fn memory() -> u64 {
    setting("IMPASTO_CARD_MEMORY", 8192) << 20
}

/// A handle: a number that means nothing.
fn handle() -> *mut c_void {
    CALLS.fetch_add(1, Ordering::Relaxed) as *mut c_void
}

macro_rules! calls {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $T:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, reason = "CUDA's names")]
        pub unsafe extern "C" fn $name($($arg: $T),*) -> c_int $body
    )*};
}

calls! {
    /// Nothing to start.
    fn cuInit(_flags: c_uint) { SUCCESS }

    /// CUDA 13.0.
    fn cuDriverGetVersion(version: *mut c_int) {
        // SAFETY: the caller's pointer.
        unsafe { version.write(13000) };
        SUCCESS
    }

    /// One.
    fn cuDeviceGetCount(count: *mut c_int) {
        // SAFETY: the caller's pointer.
        unsafe { count.write(1) };
        SUCCESS
    }

    /// The handle is the index.
    fn cuDeviceGet(device: *mut c_int, index: c_int) {
        if index != 0 {
            return INVALID_DEVICE;
        }
        // SAFETY: the caller's pointer.
        unsafe { device.write(0) };
        SUCCESS
    }

    /// A name that cannot be taken for a card's.
    fn cuDeviceGetName(name: *mut c_char, length: c_int, _device: c_int) {
        let text = format!("PTX interpreter (compute capability {}.{})\0", capability() / 10, capability() % 10);
        let count = text.len().min(length.max(0) as usize);
        // SAFETY: the caller's buffer has `length` bytes.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, count) };
        SUCCESS
    }

    /// `IMPASTO_CARD_MEMORY`.
    fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) {
        // SAFETY: the caller's pointer.
        unsafe { bytes.write(memory() as usize) };
        SUCCESS
    }

    /// What is left of it.
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let used = with_ranges(|ranges| ranges.total());
        // SAFETY: the caller's pointers.
        unsafe {
            free.write(memory().saturating_sub(used) as usize);
            total.write(memory() as usize);
        }
        SUCCESS
    }

    /// Those of an H100, A100 or T4.
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) {
        let (processors, shared) = match capability() {
            90.. => (132, 232_448),
            80..90 => (108, 166_912),
            _ => (40, 65_536),
        };
        let found = match attribute {
            1..=3 => 1024,
            4 => 64,
            5 => c_int::MAX,
            6 | 7 => 65_535,
            8 => 49_152,
            10 => 32,
            16 => processors,
            75 => (capability() / 10) as c_int,
            76 => (capability() % 10) as c_int,
            97 => shared,
            _ => 0,
        };
        // SAFETY: the caller's pointer.
        unsafe { value.write(found) };
        SUCCESS
    }

    /// There is one context.
    fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, _device: c_int) {
        // SAFETY: the caller's pointer.
        unsafe { context.write(handle()) };
        SUCCESS
    }

    /// Nothing to do.
    fn cuCtxSetCurrent(_context: *mut c_void) { SUCCESS }

    /// Nothing to do.
    fn cuCtxSynchronize() { SUCCESS }

    /// Streams are done at once.
    fn cuStreamCreate(stream: *mut *mut c_void, _flags: c_uint) {
        // SAFETY: the caller's pointer.
        unsafe { stream.write(handle()) };
        SUCCESS
    }

    /// Nothing is under way.
    fn cuStreamSynchronize(_stream: *mut c_void) { SUCCESS }

    /// Nothing to free.
    fn cuStreamDestroy_v2(_stream: *mut c_void) { SUCCESS }

    /// What is waited for has happened.
    fn cuStreamWaitEvent(_stream: *mut c_void, _event: *mut c_void, _flags: c_uint) { SUCCESS }

    /// An event holds when it was recorded.
    fn cuEventCreate(event: *mut *mut c_void, _flags: c_uint) {
        let held: Box<Option<Instant>> = Box::new(None);
        // SAFETY: the caller's pointer; `cuEventDestroy_v2` frees the box.
        unsafe { event.write(Box::into_raw(held).cast()) };
        SUCCESS
    }

    /// Now.
    fn cuEventRecord(event: *mut c_void, _stream: *mut c_void) {
        // SAFETY: a handle that `cuEventCreate` gave.
        unsafe { *event.cast::<Option<Instant>>() = Some(Instant::now()) };
        SUCCESS
    }

    /// It has happened.
    fn cuEventSynchronize(_event: *mut c_void) { SUCCESS }

    /// It has happened.
    fn cuEventQuery(_event: *mut c_void) { SUCCESS }

    /// Milliseconds between two.
    fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: *mut c_void, end: *mut c_void) {
        // SAFETY: handles that `cuEventCreate` gave, and the caller's pointer.
        unsafe {
            let (start, end) = (*start.cast::<Option<Instant>>(), *end.cast::<Option<Instant>>());
            let (Some(start), Some(end)) = (start, end) else { return INVALID_VALUE };
            milliseconds.write(end.duration_since(start).as_secs_f32() * 1000.0);
        }
        SUCCESS
    }

    /// Frees it.
    fn cuEventDestroy_v2(event: *mut c_void) {
        // SAFETY: a handle that `cuEventCreate` gave, destroyed once.
        drop(unsafe { Box::from_raw(event.cast::<Option<Instant>>()) });
        SUCCESS
    }

    /// The host's memory.
    fn cuMemAlloc_v2(pointer: *mut u64, bytes: usize) {
        if bytes == 0 {
            return INVALID_VALUE;
        }
        let Ok(layout) = Layout::from_size_align(bytes, ALIGNMENT) else { return OUT_OF_MEMORY };
        if with_ranges(|ranges| ranges.total()) + bytes as u64 > memory() {
            return OUT_OF_MEMORY;
        }
        // SAFETY: the size is not zero.
        let found = unsafe { std::alloc::alloc_zeroed(layout) };
        if found.is_null() {
            return OUT_OF_MEMORY;
        }
        forget_last_launch();
        if bytes <= FILLED {
            // SAFETY: just allocated, of that size.
            unsafe { std::ptr::write_bytes(found, 0xFF, bytes) };
        }
        with_ranges(|ranges| ranges.insert(found as u64, bytes as u64));
        // SAFETY: the caller's pointer.
        unsafe { pointer.write(found as u64) };
        SUCCESS
    }

    /// As `cuMemAlloc_v2`.
    fn cuMemAllocAsync(pointer: *mut u64, bytes: usize, _stream: *mut c_void) {
        // SAFETY: as the caller's.
        unsafe { cuMemAlloc_v2(pointer, bytes) }
    }

    /// Gives it back.
    fn cuMemFree_v2(pointer: u64) {
        let Some(bytes) = with_ranges(|ranges| ranges.remove(pointer)) else { return INVALID_VALUE };
        let Ok(layout) = Layout::from_size_align(bytes as usize, ALIGNMENT) else { return INVALID_VALUE };
        // SAFETY: allocated by `cuMemAlloc_v2` with this layout, and no range any more.
        unsafe { std::alloc::dealloc(pointer as *mut u8, layout) };
        SUCCESS
    }

    /// As `cuMemFree_v2`.
    fn cuMemFreeAsync(pointer: u64, _stream: *mut c_void) {
        // SAFETY: as the caller's.
        unsafe { cuMemFree_v2(pointer) }
    }

    /// The host's memory; its size is kept in front of it.
    fn cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize) {
        let Ok(layout) = Layout::from_size_align(bytes + ALIGNMENT, ALIGNMENT) else { return OUT_OF_MEMORY };
        // SAFETY: the size is not zero; the size fits in front.
        unsafe {
            let found = std::alloc::alloc_zeroed(layout);
            if found.is_null() {
                return OUT_OF_MEMORY;
            }
            found.cast::<usize>().write(bytes);
            pointer.write(found.add(ALIGNMENT).cast());
        }
        SUCCESS
    }

    /// Gives it back.
    fn cuMemFreeHost(pointer: *mut c_void) {
        // SAFETY: `cuMemAllocHost_v2` gave it, with its size in front.
        unsafe {
            let start = pointer.cast::<u8>().sub(ALIGNMENT);
            let bytes = start.cast::<usize>().read();
            if let Ok(layout) = Layout::from_size_align(bytes + ALIGNMENT, ALIGNMENT) {
                std::alloc::dealloc(start, layout);
            }
        }
        SUCCESS
    }

    /// Done at once.
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, _stream: *mut c_void) {
        if !allocated(to, bytes) {
            return INVALID_VALUE;
        }
        // SAFETY: within an allocation, as just seen; the caller's source.
        unsafe { replace(from.cast(), to as *mut u8, bytes) };
        SUCCESS
    }

    /// Done at once.
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, _stream: *mut c_void) {
        if !allocated(from, bytes) {
            return INVALID_VALUE;
        }
        // SAFETY: within an allocation, as just seen; the caller's target.
        unsafe { std::ptr::copy(from as *const u8, to.cast::<u8>(), bytes) };
        SUCCESS
    }

    /// Row by row.
    fn cuMemcpy2DAsync_v2(what: *const Copy2d, _stream: *mut c_void) {
        // SAFETY: the caller's pointer.
        let what = unsafe { &*what };
        let last = (what.height.max(1) - 1) * what.to_pitch + what.width;
        let to = match what.to_kind {
            1 => what.to_host as u64,
            2 if allocated(what.to_device, last) => what.to_device,
            _ => return INVALID_VALUE,
        };
        let last = (what.height.max(1) - 1) * what.from_pitch + what.width;
        let from = match what.from_kind {
            1 => what.from_host as u64,
            2 if allocated(what.from_device, last) => what.from_device,
            _ => return INVALID_VALUE,
        };
        for row in 0..what.height {
            // SAFETY: device sides are within allocations, host sides are the caller's.
            unsafe {
                replace(
                    (from as *const u8).add((what.from_y + row) * what.from_pitch + what.from_x),
                    (to as *mut u8).add((what.to_y + row) * what.to_pitch + what.to_x),
                    what.width,
                );
            }
        }
        SUCCESS
    }

    /// Reads the PTX and makes every kernel in it ready.
    fn cuModuleLoadData(module: *mut *mut c_void, image: *const c_void) {
        // SAFETY: the caller's text, which ends with a zero.
        let text = unsafe { CStr::from_ptr(image.cast()) }.to_string_lossy().into_owned();
        match load(&text) {
            Ok(found) => {
                // SAFETY: the caller's pointer. Modules are kept: nobody here unloads one.
                unsafe { module.write(Box::into_raw(Box::new(found)).cast()) };
                SUCCESS
            }
            Err(error) => {
                complain(&error);
                INVALID_PTX
            }
        }
    }

    /// Nothing to free.
    fn cuModuleUnload(_module: *mut c_void) { SUCCESS }

    /// A kernel by its name.
    fn cuModuleGetFunction(function: *mut *mut c_void, module: *mut c_void, name: *const c_char) {
        // SAFETY: a module that `cuModuleLoadData` gave, the caller's text and pointer.
        unsafe {
            let module = &*module.cast::<Module>();
            match module.programs.get(CStr::from_ptr(name).to_string_lossy().as_ref()) {
                Some(&program) => function.write(program.cast_mut().cast()),
                None => return NOT_FOUND,
            }
        }
        SUCCESS
    }

    /// More shared memory than 48 KB is asked for here; what there is was told.
    fn cuFuncSetAttribute(_function: *mut c_void, _attribute: c_int, _value: c_int) { SUCCESS }

    /// Runs it, blocks shared among the host's cores.
    fn cuLaunchKernel(
        function: *mut c_void,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        _stream: *mut c_void,
        params: *mut *mut c_void,
        _extra: *mut *mut c_void,
    ) {
        // SAFETY: a function that `cuModuleGetFunction` gave.
        let program = unsafe { &*function.cast::<Program>() };
        let mut bytes = vec![0u8; program.params.last().map_or(0, |(at, size)| at + size)];
        for (index, &(at, size)) in program.params.iter().enumerate() {
            // SAFETY: CUDA's contract: as many pointers as parameters, each to its bytes.
            unsafe {
                std::ptr::copy_nonoverlapping((*params.add(index)).cast::<u8>(), bytes[at..].as_mut_ptr(), size);
            }
        }
        let shape = [grid_x, grid_y, grid_z, block_x, block_y, block_z, shared];
        let key = (function as usize, shape, bytes.clone());
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if program.repeatable && last.as_ref() == Some(&key) {
            return SUCCESS;
        }
        *last = Some(key);
        let ranges = with_ranges(|ranges| ranges.clone());
        let launch = Launch {
            program,
            grid: [grid_x, grid_y, grid_z],
            threads: [block_x, block_y, block_z],
            dynamic_shared: shared as usize,
            params: bytes,
            ranges: &ranges,
        };
        match run(&launch) {
            Ok(()) => SUCCESS,
            Err(fault) => {
                complain(&fault);
                LAUNCH_FAILED
            }
        }
    }

    /// A map of a tensor, for copies of boxes.
    fn cuTensorMapEncodeTiled(
        map: *mut [u64; 16],
        kind: c_int,
        rank: c_uint,
        address: *mut c_void,
        extents: *const u64,
        strides: *const u64,
        box_extents: *const u32,
        element_strides: *const u32,
        interleave: c_int,
        swizzle: c_int,
        _promotion: c_int,
        _fill: c_int,
    ) {
        // CUtensorMapDataType: u8, u16, u32, s32, u64, s64, f16, f32, f64, bf16, …
        let size = match kind {
            0 => 1,
            1 | 6 | 9 => 2,
            2 | 3 | 7 | 10 | 11 | 12 => 4,
            4 | 5 | 8 => 8,
            _ => return INVALID_VALUE,
        };
        let rank = rank as usize;
        if !(1..=5).contains(&rank) || interleave != 0 || !(0..=3).contains(&swizzle) || !(address as u64).is_multiple_of(16) {
            return INVALID_VALUE;
        }
        let mut found =
            Map { address: address as u64, rank, size, swizzle: swizzle as usize, ..Map::default() };
        // SAFETY: the caller's arrays have `rank` numbers, that of strides one less.
        unsafe {
            for d in 0..rank {
                found.extents[d] = *extents.add(d);
                found.box_extents[d] = *box_extents.add(d);
                found.element_strides[d] = *element_strides.add(d);
                if d > 0 {
                    found.strides[d - 1] = *strides.add(d - 1);
                }
            }
            if found.strides[..rank - 1].iter().any(|stride| stride % 16 != 0)
                || found.box_extents[..rank].iter().any(|extent| !(1..=256).contains(extent))
                || found.element_strides[..rank].iter().any(|stride| !(1..=8).contains(stride))
            {
                return INVALID_VALUE;
            }
            map.write(found.encode());
        }
        SUCCESS
    }

    /// The name of an error: its number.
    fn cuGetErrorName(code: c_int, name: *mut *const c_char) {
        let _ = code;
        // SAFETY: the caller's pointer; the text is static.
        unsafe { name.write(c"an error of the interpreter".as_ptr()) };
        SUCCESS
    }

    /// As `cuGetErrorName`.
    fn cuGetErrorString(code: c_int, text: *mut *const c_char) {
        // SAFETY: as the caller's.
        unsafe { cuGetErrorName(code, text) }
    }
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
pub struct Copy2d {
    from_x: usize,
    from_y: usize,
    from_kind: c_uint,
    from_host: *const c_void,
    from_device: u64,
    from_array: *const c_void,
    from_pitch: usize,
    to_x: usize,
    to_y: usize,
    to_kind: c_uint,
    to_host: *mut c_void,
    to_device: u64,
    to_array: *mut c_void,
    to_pitch: usize,
    width: usize,
    height: usize,
}

/// Copies, and forgets the last launch if that changes anything.
///
/// # Safety
///
/// As for `std::ptr::copy`.
unsafe fn replace(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller's.
    unsafe {
        if std::slice::from_raw_parts(from, bytes) != std::slice::from_raw_parts(to, bytes) {
            forget_last_launch();
            std::ptr::copy(from, to, bytes);
        }
    }
}

fn allocated(address: u64, bytes: usize) -> bool {
    let found = with_ranges(|ranges| ranges.find(address));
    bytes == 0 || found.is_some_and(|range| address + bytes as u64 <= range.1)
}

fn load(text: &str) -> Result<Module, String> {
    if let Ok(folder) = std::env::var("IMPASTO_CARD_KERNELS") {
        let path = format!("{folder}/{}-{}.ptx", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
        std::fs::write(&path, text).map_err(|error| format!("{path}: {error}"))?;
    }
    if let Ok(assembler) = std::env::var("IMPASTO_CARD_PTXAS") {
        assemble(&assembler, text)?;
    }
    let module = parse(text)?;
    let mut globals = HashMap::new();
    for variable in module.variables.iter().filter(|v| v.space == Space::Global) {
        let mut address = 0;
        // SAFETY: the pointer is to a live number.
        if unsafe { cuMemAlloc_v2(&mut address, variable.size.max(1)) } != SUCCESS {
            return Err(format!("no memory for {}", variable.name));
        }
        let mut bytes = variable.init.clone();
        bytes.resize(variable.size, 0);
        // SAFETY: just allocated, of that size.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
        globals.insert(variable.name.clone(), address);
    }
    let mut programs = HashMap::new();
    for function in &module.functions {
        let program = lower(function, &module.variables, &globals)?;
        programs.insert(function.name.clone(), Box::into_raw(Box::new(program)).cast_const());
    }
    Ok(Module { programs })
}

/// NVIDIA's assembler on the same text: registers, shared memory, and whether it is right for the architecture.
fn assemble(assembler: &str, text: &str) -> Result<(), String> {
    let target = text.lines().find_map(|line| line.strip_prefix(".target ")).unwrap_or("sm_90");
    let target = target.split(',').next().unwrap_or(target).trim();
    let path = std::env::temp_dir().join(format!(
        "impasto-card-{}-{}.ptx",
        std::process::id(),
        CALLS.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    let output = Command::new(assembler)
        .args(["-arch", target, "-o", "/dev/null"])
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{assembler}: {error}"));
    let _ = std::fs::remove_file(&path);
    let output = output?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("the assembler refuses it: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// All blocks of a launch.
fn run(launch: &Launch<'_>) -> Result<(), String> {
    let [x, y, z] = launch.grid.map(u64::from);
    let total = x * y * z;
    let place = |index: u64| [(index % x) as u32, (index / x % y) as u32, (index / x / y) as u32];
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64).min(total);
    let next = AtomicU64::new(0);
    let work = Mutex::new([0; 2]);
    let first_fault = Mutex::new(None);
    let take_blocks = || {
        let mut processor = Processor::new(launch);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= total {
                break;
            }
            if let Err(fault) = processor.run(place(index)) {
                next.store(total, Ordering::Relaxed);
                first_fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
                break;
            }
        }
        let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
        *work = std::array::from_fn(|at| work[at] + processor.work()[at]);
    };
    if cores <= 1 {
        take_blocks();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(take_blocks);
            }
        });
    }
    log(launch, work.into_inner().unwrap_or_else(PoisonError::into_inner));
    first_fault.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// A line about a launch, where they are wanted.
fn log(launch: &Launch<'_>, [instructions, bytes]: [u64; 2]) {
    static FILE: OnceLock<Option<std::fs::File>> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let path = std::env::var_os("IMPASTO_CARD_LOG")?;
        std::fs::OpenOptions::new().create(true).append(true).open(path).ok()
    });
    if let Some(mut file) = file.as_ref() {
        let (blocks, threads) = (launch.grid.iter().product::<u32>(), launch.threads.iter().product::<u32>());
        let _ = writeln!(file, "{} {blocks} {threads} {instructions} {bytes}", launch.program.name);
    }
}
