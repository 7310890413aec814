//! Small kernels run through the driver's interface: what they compute, and what stops them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "the interface is CUDA's; all pointers are to live values"
)]

use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};

use cuda::driver as cu;

const LAUNCH_FAILED: i32 = 719;
const INVALID_PTX: i32 = 218;

/// Global memory with numbers in it.
struct Buffer(u64, usize);

impl Buffer {
    fn new<T: Copy>(values: &[T]) -> Self {
        let bytes = size_of_val(values);
        let mut pointer = 0;
        unsafe {
            assert_eq!(cu::cuMemAlloc_v2(&mut pointer, bytes), 0);
            assert_eq!(cu::cuMemcpyHtoDAsync_v2(pointer, values.as_ptr().cast(), bytes, null_mut()), 0);
        }
        Self(pointer, bytes)
    }

    fn read<T: Copy + Default>(&self) -> Vec<T> {
        let mut values = vec![T::default(); self.1 / size_of::<T>()];
        let code =
            unsafe { cu::cuMemcpyDtoHAsync_v2(values.as_mut_ptr().cast(), self.0, self.1, null_mut()) };
        assert_eq!(code, 0);
        values
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        unsafe { cu::cuMemFree_v2(self.0) };
    }
}

fn load(body: &str, params: usize) -> Result<*mut c_void, i32> {
    let params: Vec<String> = (0..params).map(|i| format!(".param .u64 p{i}")).collect();
    let text = format!(
        ".version 9.0\n.target sm_90a\n.address_size 64\n.extern .shared .align 16 .b8 dynamic[];\n\
         .visible .entry kernel({})\n{{\n{body}\n}}\n",
        params.join(", ")
    );
    let text = CString::new(text).unwrap();
    let (mut module, mut function) = (null_mut(), null_mut());
    let code = unsafe { cu::cuModuleLoadData(&mut module, text.as_ptr().cast()) };
    if code != 0 {
        return Err(code);
    }
    let code = unsafe { cu::cuModuleGetFunction(&mut function, module, c"kernel".as_ptr()) };
    if code == 0 { Ok(function) } else { Err(code) }
}

/// Runs a kernel whose parameters are addresses; the error is the driver's.
fn run(body: &str, blocks: u32, threads: u32, shared: u32, buffers: &[&Buffer]) -> Result<(), i32> {
    let function = load(body, buffers.len())?;
    let mut addresses: Vec<u64> = buffers.iter().map(|buffer| buffer.0).collect();
    let mut params: Vec<*mut c_void> = addresses.iter_mut().map(|a| std::ptr::from_mut(a).cast()).collect();
    let code = unsafe {
        cu::cuLaunchKernel(
            function,
            blocks,
            1,
            1,
            threads,
            1,
            1,
            shared,
            null_mut(),
            params.as_mut_ptr(),
            null::<c_void>() as *mut *mut c_void,
        )
    };
    if code == 0 { Ok(()) } else { Err(code) }
}

/// Registers, the thread's number in %r0 and the address of its word in p0 in %rd0.
const HEAD: &str = "
    .reg .pred %p<9>;
    .reg .b16 %h<9>;
    .reg .b32 %r<40>;
    .reg .f32 %f<40>;
    .reg .b64 %rd<20>;
    mov.u32 %r0, %tid.x;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mad.lo.s32 %r0, %r1, %r2, %r0;
    ld.param.u64 %rd0, [p0];
    cvta.to.global.u64 %rd0, %rd0;
    mul.wide.u32 %rd1, %r0, 4;
    add.s64 %rd0, %rd0, %rd1;
";

/// What the body leaves in %r9 for each of `count` threads, whose word in memory is `input`.
fn words(body: &str, input: &[u32]) -> Vec<u32> {
    let buffer = Buffer::new(input);
    let body = format!("{HEAD} ld.global.u32 %r8, [%rd0];\n{body}\nst.global.u32 [%rd0], %r9;\nret;");
    run(&body, 1, input.len() as u32, 256, &[&buffer]).unwrap();
    buffer.read()
}

fn of_each(body: &str, input: &[u32], expected: impl Fn(u32) -> u32) {
    let expected: Vec<u32> = input.iter().map(|&x| expected(x)).collect();
    assert_eq!(words(body, input), expected, "{body}");
}

const SAMPLES: [u32; 9] = [0, 1, 7, 31, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1234_5678, 0xDEAD_BEEF];

#[test]
fn whole_numbers() {
    of_each("add.s32 %r9, %r8, -3;", &SAMPLES, |x| x.wrapping_sub(3));
    of_each("mul.hi.u32 %r9, %r8, 0xCCCCCCCD;", &SAMPLES, |x| ((u64::from(x) * 0xCCCC_CCCD) >> 32) as u32);
    of_each("mad.lo.s32 %r9, %r8, 5, 2;", &SAMPLES, |x| x.wrapping_mul(5).wrapping_add(2));
    of_each("shr.s32 %r9, %r8, 40;", &SAMPLES, |x| (x as i32 >> 31) as u32);
    of_each("shl.b32 %r9, %r8, 32;", &SAMPLES, |_| 0);
    of_each("shf.l.wrap.b32 %r9, %r8, %r8, 9;", &SAMPLES, |x| x.rotate_left(9));
    of_each("lop3.b32 %r9, %r8, 0xFF00, 0x0FF0, 0xE8;", &SAMPLES, |x| {
        x & 0xFF00 | x & 0x0FF0 | 0xFF00 & 0x0FF0
    });
    of_each("prmt.b32 %r9, %r8, 0, 0x0123;", &SAMPLES, u32::swap_bytes);
    of_each("bfi.b32 %r9, 5, %r8, 4, 8;", &SAMPLES, |x| x & !0xFF0 | 0x50);
    of_each("bfe.u32 %r9, %r8, 4, 8;", &SAMPLES, |x| x >> 4 & 0xFF);
    of_each("bfind.u32 %r9, %r8;", &SAMPLES, |x| x.checked_ilog2().unwrap_or(u32::MAX));
    of_each("bfind.shiftamt.u32 %r9, %r8;", &SAMPLES, |x| x.checked_ilog2().map_or(u32::MAX, |bit| 31 - bit));
    of_each("min.s32 %r9, %r8, 5;", &SAMPLES, |x| (x as i32).min(5) as u32);
    of_each("rem.u32 %r9, %r8, 7;", &SAMPLES, |x| x % 7);
    of_each("cvt.s16.s32 %h0, %r8; cvt.s32.s16 %r9, %h0;", &SAMPLES, |x| i32::from(x as i16) as u32);
    of_each("mul.wide.s32 %rd2, %r8, %r8; shr.u64 %rd2, %rd2, 32; cvt.u32.u64 %r9, %rd2;", &SAMPLES, |x| {
        (i64::from(x as i32).pow(2) >> 32) as u32
    });
}

#[test]
fn real_numbers() {
    let reals = [0f32, 1.0, -2.5, 1e-3, 3.7e9, -7.25e-9, f32::INFINITY, f32::NAN].map(f32::to_bits);
    let of = |f: fn(f32) -> f32| move |x: u32| f(f32::from_bits(x)).to_bits();
    let head = "mov.b32 %f0, %r8;";
    let body = |op: &str| format!("{head} {op} mov.b32 %r9, %f1;");
    of_each(&body("fma.rn.f32 %f1, %f0, 0f40400000, 0fBF800000;"), &reals[..6], of(|x| x.mul_add(3.0, -1.0)));
    of_each(&body("max.f32 %f1, %f0, 0f00000000;"), &reals[1..], of(|x| x.max(0.0)));
    of_each(&body("div.rn.f32 %f1, %f0, 0f40400000;"), &reals[..7], of(|x| x / 3.0));
    of_each(&format!("{head} cvt.rzi.s32.f32 %r9, %f0;"), &reals, |x| f32::from_bits(x) as i32 as u32);
    of_each(&format!("{head} cvt.rn.bf16.f32 %h0, %f0; cvt.u32.u16 %r9, %h0;"), &reals[..7], |x| {
        u32::from(half::bf16::from_f32(f32::from_bits(x)).to_bits())
    });
    of_each(&format!("{head} cvt.rn.f16x2.f32 %r9, %f0, 0f3F800000;"), &reals[..7], |x| {
        u32::from(half::f16::from_f32(f32::from_bits(x)).to_bits()) << 16 | 0x3C00
    });
    // A comparison with what is no number is true only where that is asked for.
    of_each(&format!("{head} setp.gt.f32 %p0, %f0, 0f00000000; selp.u32 %r9, 1, 0, %p0;"), &reals, |x| {
        u32::from(f32::from_bits(x) > 0.0)
    });
    of_each(&format!("{head} setp.gtu.f32 %p0, %f0, 0f00000000; selp.u32 %r9, 1, 0, %p0;"), &reals, |x| {
        u32::from(f32::from_bits(x) > 0.0 || f32::from_bits(x).is_nan())
    });
    // Two predicates at once: the second is the first's opposite.
    of_each(
        &format!("{head} setp.lt.f32 %p0|%p1, %f0, 0f00000000; selp.u32 %r9, 1, 0, %p1;"),
        &reals[..7],
        |x| u32::from(f32::from_bits(x) >= 0.0),
    );
}

#[test]
fn lanes_go_apart_and_come_together() {
    // Each lane goes around as often as its number says (Collatz), then the warp votes together.
    let body = "
        mov.u32 %r9, 0;
        AGAIN:
        setp.le.u32 %p0, %r8, 1;
        @%p0 bra DONE;
        add.s32 %r9, %r9, 1;
        and.b32 %r10, %r8, 1;
        setp.eq.s32 %p1, %r10, 0;
        @%p1 bra EVEN;
        mad.lo.s32 %r8, %r8, 3, 1;
        bra.uni AGAIN;
        EVEN:
        shr.u32 %r8, %r8, 1;
        bra.uni AGAIN;
        DONE:
        vote.sync.ballot.b32 %r11, %p0, 0xFFFFFFFF;
        shl.b32 %r11, %r11, 16;
        or.b32 %r9, %r9, %r11;";
    let input: Vec<u32> = (1..=32).collect();
    of_each(body, &input, |mut x| {
        let mut steps = 0;
        while x > 1 {
            x = if x % 2 == 0 { x / 2 } else { 3 * x + 1 };
            steps += 1;
        }
        steps | 0xFFFF_0000
    });
}

#[test]
fn lanes_read_each_other() {
    let input: Vec<u32> = (0..32).map(|x| x * x).collect();
    let shuffled = |mode: &str, by: u32, clamp: &str| {
        words(&format!("shfl.sync.{mode}.b32 %r9, %r8, {by}, {clamp}, 0xFFFFFFFF;"), &input)
    };
    let at = |f: &dyn Fn(usize) -> usize| (0..32).map(|lane| input[f(lane)]).collect::<Vec<u32>>();
    assert_eq!(shuffled("bfly", 5, "31"), at(&|lane| lane ^ 5));
    assert_eq!(shuffled("down", 3, "31"), at(&|lane| if lane + 3 < 32 { lane + 3 } else { lane }));
    assert_eq!(shuffled("up", 3, "0"), at(&|lane| if lane >= 3 { lane - 3 } else { lane }));
    assert_eq!(shuffled("idx", 9, "31"), at(&|_| 9));
    // Segments of eight lanes.
    assert_eq!(shuffled("idx", 2, "0x181F"), at(&|lane| lane / 8 * 8 + 2));
}

/// Lane 0 waits for what another warp does, and the others of its warp for lane 0.
#[test]
fn lanes_wait_for_each_other() {
    let body = "
        .shared .align 8 .b64 barrier;
        mov.u32 %r10, barrier;
        mov.u32 %r9, 0;
        setp.ne.s32 %p0, %r0, 0;
        @%p0 bra READY;
        mbarrier.init.shared.b64 [%r10], 1;
        READY:
        bar.sync 0;
        setp.ge.u32 %p1, %r0, 32;
        @%p1 bra OTHERS;
        @%p0 bra TOGETHER;
        ASK:
        mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r10], 0;
        @!%p2 bra ASK;
        mov.u32 %r8, 55;
        TOGETHER:
        shfl.sync.idx.b32 %r9|%p3, %r8, 0, 31, -1;
        bra.uni END;
        OTHERS:
        setp.ne.s32 %p4, %r0, 40;
        @%p4 bra END;
        mbarrier.arrive.release.cta.shared::cta.b64 _, [%r10];
        END:";
    let found = words(body, &[7; 64]);
    assert_eq!(found, [[55; 32], [0; 32]].concat());
}

/// PTX asks for all lanes of the mask to shuffle, not for all to stand at the same instruction.
#[test]
fn lanes_meet_at_different_instructions() {
    let body = "
        setp.eq.s32 %p0, %r0, 0;
        @%p0 bra ELECTED;
        shfl.sync.idx.b32 %r9, %r8, 0, 31, -1;
        bra.uni END;
        ELECTED:
        add.s32 %r8, %r8, 100;
        shfl.sync.idx.b32 %r9, %r8, 5, 31, -1;
        END:";
    let found = words(body, &(0..32).collect::<Vec<u32>>());
    assert_eq!(found, [vec![5], vec![100; 31]].concat());
}

#[test]
fn threads_of_a_block_meet() {
    // Turned around through shared memory, by warps that must wait for each other.
    let body = "
        mov.u32 %r10, dynamic;
        mad.lo.s32 %r11, %r0, 4, %r10;
        st.shared.u32 [%r11], %r8;
        bar.sync 0;
        sub.s32 %r12, 99, %r0;
        mad.lo.s32 %r11, %r12, 4, %r10;
        ld.shared.u32 %r9, [%r11];";
    let input: Vec<u32> = (0..100).map(|x| x + 1000).collect();
    let buffer = Buffer::new(&input);
    let body = format!("{HEAD} ld.global.u32 %r8, [%rd0];{body} st.global.u32 [%rd0], %r9; ret;");
    run(&body, 1, 100, 400, &[&buffer]).unwrap();
    assert_eq!(buffer.read::<u32>(), input.iter().rev().copied().collect::<Vec<_>>());
}

#[test]
fn threads_of_all_blocks_add_up() {
    let sum = Buffer::new(&[0f32, 0.0]);
    let body = "
        .reg .f32 %f<3>; .reg .b32 %r<3>; .reg .b64 %rd<3>;
        ld.param.u64 %rd0, [p0];
        mov.u32 %r0, %ctaid.x;
        cvt.rn.f32.u32 %f0, %r0;
        atom.global.add.f32 %f1, [%rd0], %f0;
        red.relaxed.gpu.global.add.f32 [%rd0+4], 0f3F800000;
        ret;";
    run(body, 100, 64, 0, &[&sum]).unwrap();
    assert_eq!(sum.read::<f32>(), [99.0 * 50.0 * 64.0, 6400.0]);
}

#[test]
fn a_barrier_in_memory_is_waited_for() {
    // One thread arrives late, after lanes of its own warp have begun to ask.
    let body = "
        .shared .align 8 .b64 barrier;
        mov.u32 %r10, barrier;
        setp.ne.s32 %p0, %r0, 0;
        @%p0 bra READY;
        mbarrier.init.shared.b64 [%r10], 2;
        mbarrier.arrive.shared.b64 %rd5, [%r10];
        READY:
        bar.sync 0;
        mov.u32 %r9, 0;
        setp.eq.s32 %p1, %r0, 40;
        @%p1 bra LATE;
        ASK:
        mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r10], 0;
        @!%p2 bra ASK;
        ld.shared.u32 %r9, [dynamic];
        bra.uni END;
        LATE:
        st.shared.u32 [dynamic], 77;
        mbarrier.arrive.release.cta.shared::cta.b64 _, [%r10];
        mov.u32 %r9, 1;
        END:";
    let found = words(body, &[0; 64]);
    assert!(found.iter().enumerate().all(|(thread, &x)| x == if thread == 40 { 1 } else { 77 }), "{found:?}");
}

/// Rows of a matrix product against one in plain numbers: a 16×16, b 16×8, every element another.
#[test]
fn a_warp_multiplies_matrices() {
    let value = |row: usize, column: usize| ((row * 7 + column * 3) % 11) as f32 - 5.0;
    let a: Vec<half::f16> = (0..256).map(|i| half::f16::from_f32(value(i / 16, i % 16))).collect();
    let b: Vec<half::f16> = (0..128).map(|i| half::f16::from_f32(value(i % 8, i / 8))).collect();
    let (a, b) = (Buffer::new(&a), Buffer::new(&b));
    let sums = Buffer::new(&[0f32; 128]);
    // a and b go through shared memory, from where `ldmatrix` takes them; c is written where the ISA says it lies.
    let body = "
        .reg .b32 %r<40>; .reg .f32 %f<9>; .reg .b64 %rd<9>;
        .shared .align 16 .b8 a_shared[512];
        .shared .align 16 .b8 b_shared[256];
        ld.param.u64 %rd0, [p0];
        ld.param.u64 %rd1, [p1];
        ld.param.u64 %rd2, [p2];
        mov.u32 %r0, %laneid;
        mul.wide.u32 %rd3, %r0, 16;
        mul.wide.u32 %rd4, %r0, 8;
        add.s64 %rd5, %rd0, %rd3;
        mov.u32 %r1, a_shared;
        mad.lo.s32 %r2, %r0, 16, %r1;
        cp.async.cg.shared.global [%r2], [%rd5], 16;
        add.s64 %rd6, %rd1, %rd4;
        mov.u32 %r3, b_shared;
        mad.lo.s32 %r4, %r0, 8, %r3;
        cp.async.ca.shared.global [%r4], [%rd6], 8;
        cp.async.wait_all;
        bar.warp.sync -1;
        // Lane's row of a: rows 0..15 of the left half, then of the right one.
        and.b32 %r5, %r0, 15;
        shr.u32 %r6, %r0, 4;
        mad.lo.s32 %r7, %r5, 32, %r1;
        mad.lo.s32 %r7, %r6, 16, %r7;
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r7];
        mad.lo.s32 %r8, %r5, 16, %r3;
        ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r14, %r15}, [%r8];
        mov.f32 %f0, 0f3F800000;
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r10, %r11, %r12, %r13},
            {%r14, %r15}, {%f0, %f0, %f0, %f0};
        // Row lane / 4 (and 8 below), column lane % 4 · 2.
        shr.u32 %r20, %r0, 2;
        and.b32 %r21, %r0, 3;
        shl.b32 %r22, %r20, 5;
        shl.b32 %r23, %r21, 3;
        add.s32 %r22, %r22, %r23;
        cvt.u64.u32 %rd7, %r22;
        add.s64 %rd8, %rd2, %rd7;
        st.global.v2.f32 [%rd8], {%f1, %f2};
        st.global.v2.f32 [%rd8+256], {%f3, %f4};
        ret;";
    run(body, 1, 32, 0, &[&a, &b, &sums]).unwrap();
    let found = sums.read::<f32>();
    for row in 0..16 {
        for column in 0..8 {
            let expected: f32 = 1.0 + (0..16).map(|k| value(row, k) * value(column, k)).sum::<f32>();
            assert_eq!(found[row * 8 + column], expected, "row {row}, column {column}");
        }
    }
}

/// A launch that could change nothing is left out; one that could is not.
#[test]
fn what_is_repeated_is_still_right() {
    let body = |load: &str| {
        format!(
            ".reg .b32 %r<3>; .reg .b64 %rd<3>; ld.param.u64 %rd0, [p0]; ld.param.u64 %rd1, [p1];
            {load} %r0, [%rd0]; add.s32 %r0, %r0, 1; st.global.u32 [%rd1], %r0; ret;"
        )
    };
    let (from, to) = (Buffer::new(&[5u32]), Buffer::new(&[0u32]));
    let kernel = load(&body("ld.global.nc.u32"), 2).unwrap();
    let launch = |kernel: *mut c_void, from: &Buffer, to: &Buffer| {
        let mut addresses = [from.0, to.0];
        let mut params = addresses.each_mut().map(|a| std::ptr::from_mut(a).cast::<c_void>());
        let none = null_mut();
        let code =
            unsafe { cu::cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, none, params.as_mut_ptr(), null_mut()) };
        assert_eq!(code, 0);
    };
    launch(kernel, &from, &to);
    launch(kernel, &from, &to);
    assert_eq!(to.read::<u32>(), [6]);
    // Other input, other output.
    unsafe { cu::cuMemcpyHtoDAsync_v2(from.0, (&raw const ADDED).cast(), 4, null_mut()) };
    launch(kernel, &from, &to);
    assert_eq!(to.read::<u32>(), [ADDED + 1]);
    // Reads what it writes: every launch counts.
    let kernel = load(&body("ld.global.u32"), 2).unwrap();
    (0..3).for_each(|_| launch(kernel, &to, &to));
    assert_eq!(to.read::<u32>(), [ADDED + 4]);
}

static ADDED: u32 = 70;

/// What would stop a card stops this one.
#[test]
fn wrong_accesses_are_faults() {
    let buffer = Buffer::new(&[0u32; 4]);
    let head = ".reg .b32 %r<3>; .reg .b64 %rd<3>; ld.param.u64 %rd0, [p0];";
    let fails = |body: &str, shared: u32| {
        assert_eq!(
            run(&format!("{head} {body} ret;"), 1, 1, shared, &[&buffer]),
            Err(LAUNCH_FAILED),
            "{body}"
        );
    };
    fails("ld.global.u32 %r0, [%rd0+16];", 0);
    fails("ld.global.u32 %r0, [%rd0+-4];", 0);
    fails("ld.global.u32 %r0, [%rd0+2];", 0);
    fails("st.shared.u32 [16], 1;", 16);
    fails("trap;", 0);
    run(&format!("{head} st.shared.u32 [12], 1; st.global.u32 [%rd0+12], 9; ret;"), 1, 1, 16, &[&buffer])
        .unwrap();
    assert_eq!(buffer.read::<u32>(), [0, 0, 0, 9]);
}

#[test]
fn what_is_not_known_is_refused() {
    assert_eq!(load("wgmma.fence.sync.aligned; ret;", 0), Err(INVALID_PTX));
    assert_eq!(load(".reg .b32 %r<2>; add.s32 %r0, %r1, nobody; ret;", 0), Err(INVALID_PTX));
    assert_eq!(load("bra NOWHERE; ret;", 0), Err(INVALID_PTX));
}
