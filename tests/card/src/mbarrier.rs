//! Barriers in shared memory that threads arrive at and copies report to (`mbarrier`).
//!
//! PTX ISA 9.0, chapter 9.7.13.15. The eight bytes of one: expected arrivals (20 bits), pending ones (20 bits), bytes
//! still to come (22 bits around 2²¹), and the phase.

use crate::access::addresses;
use crate::lanes::lanes;
use crate::machine::{Block, Fault, Op, Warp};
use crate::ptx::Space;

const COUNT: u64 = (1 << 20) - 1;
const NO_BYTES: i64 = 1 << 21;

struct State {
    expected: u64,
    pending: u64,
    bytes: i64,
    phase: u64,
}

impl State {
    fn read(bits: u64) -> Self {
        Self {
            expected: bits & COUNT,
            pending: bits >> 20 & COUNT,
            bytes: (bits >> 40 & ((1 << 22) - 1)) as i64 - NO_BYTES,
            phase: bits >> 62 & 1,
        }
    }

    fn bits(&self) -> u64 {
        self.expected | self.pending << 20 | ((self.bytes + NO_BYTES) as u64) << 40 | self.phase << 62
    }

    /// The phase ends when nobody and nothing is waited for.
    fn settle(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.phase ^= 1;
            self.pending = self.expected;
        }
    }
}

/// What is done to a barrier.
#[derive(Clone, Copy, PartialEq)]
pub enum Act {
    Init,
    Arrive,
    ArriveExpect,
    Expect,
    Complete,
}

fn update(
    w: &mut Warp,
    block: &mut Block<'_>,
    address: u64,
    lane: usize,
    change: impl FnOnce(&mut State) -> Result<(), Fault>,
) -> Result<u64, Fault> {
    let at = w.memory.resolve(block, Space::Generic, address, 8, lane)?.cast::<u64>();
    // SAFETY: `resolve` vouches for eight aligned bytes; a block is run by one thread of the host.
    let old = unsafe { at.read() };
    let mut state = State::read(old);
    change(&mut state)?;
    // SAFETY: as above.
    unsafe { at.write(state.bits()) };
    Ok(old)
}

fn generic(address: u64, space: usize) -> u64 {
    if space == crate::access::space_number(Space::Shared) {
        address | crate::memory::SHARED
    } else {
        address
    }
}

/// `r[1]`: the address, `imm` added, `r[2]`: the space, `r[4] & 1`: one row of address, `r[3]`: the row of a count or of
/// bytes (0: one), `list[0]`: the act, `list[1]`: a row pair for the state that was, if it is wanted.
pub fn act(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let at = addresses(w, op.r[1], op.r[4] & 1 != 0, op.imm);
    for lane in lanes(mask) {
        let number = if op.r[3] == 0 { 1 } else { w.rows[op.r[3]][lane] };
        let what = [Act::Init, Act::Arrive, Act::ArriveExpect, Act::Expect, Act::Complete][op.list[0]];
        let old = update(w, block, generic(at[lane], op.r[2]), lane, |state| {
            match what {
                Act::Init => {
                    let count = u64::from(number) & COUNT;
                    *state = State { expected: count, pending: count, bytes: 0, phase: 0 };
                    return Ok(());
                }
                Act::Arrive | Act::ArriveExpect => {
                    let arrivals = if what == Act::Arrive { u64::from(number) } else { 1 };
                    if what == Act::ArriveExpect {
                        state.bytes += i64::from(number);
                    }
                    state.pending =
                        state.pending.checked_sub(arrivals).ok_or("more arrivals than a barrier expects")?;
                }
                Act::Expect => state.bytes += i64::from(number),
                Act::Complete => state.bytes -= i64::from(number),
            }
            if what != Act::Expect {
                state.settle();
            }
            Ok(())
        })?;
        if let Some(&row) = op.list.get(1) {
            w.rows[row][lane] = old as u32;
            w.rows[row + 1][lane] = (old >> 32) as u32;
        }
    }
    Ok(())
}

/// Bytes that a copy has brought are taken off what its barrier waits for.
pub fn complete(
    w: &mut Warp,
    block: &mut Block<'_>,
    barrier: u64,
    bytes: usize,
    lane: usize,
) -> Result<(), Fault> {
    update(w, block, barrier, lane, |state| {
        state.bytes -= bytes as i64;
        state.settle();
        Ok(())
    })?;
    Ok(())
}

/// `mbarrier.try_wait`, `.test_wait`: `r[0]`: the predicate, `r[1]`: the address and so on, `r[3]`: the row of the phase's
/// parity (`r[4] & 2`) or the rows of a state.
pub fn test(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let at = addresses(w, op.r[1], op.r[4] & 1 != 0, op.imm);
    let mut done = 0;
    for lane in lanes(mask) {
        let bits = update(w, block, generic(at[lane], op.r[2]), lane, |_| Ok(()))?;
        let parity = if op.r[4] & 2 != 0 {
            u64::from(w.rows[op.r[3]][lane] & 1)
        } else {
            u64::from(w.rows[op.r[3] + 1][lane]) >> 30 & 1
        };
        // The phase asked about is over when the barrier is in the other one.
        done |= u32::from(State::read(bits).phase != parity) << lane;
    }
    w.set_predicate(op.r[0], done, mask);
    Ok(())
}
