// A ring of stages in shared memory, and who may be where in it. Who waits for what is said by two barriers of each
// place: `full`, at which what fills a stage arrives, and `empty`, at which those arrive who have read it.
//
// A barrier goes from phase to phase, and a wait names the phase by its parity alone. It ends at once if the phase
// before the present one has that parity, so it tells a phase from its neighbours, but not from the last but one.
// Whoever waits at a barrier must therefore have waited for every phase of it: one behind is well, two is not. Where
// several teams take stages in turn, a `full` barrier must be one team's alone, and where several producers do, an
// `empty` one must be one producer's. Else, in a ring of 3 with 2 teams, the one that has read stage 1 may come to the
// place of stage 3 before stage 0, which the other team reads there, has arrived: it takes the phase before the first
// for its own, and reads what is not there. That needs stage 0 to arrive later than stage 1 by the time that it takes
// to read a stage, so it is rare; it was seen.
//
// There are two ways to it. The ring's length is a multiple of the teams and of the producers, whole_rounds(), and a
// place has one barrier of each kind. Or there are more of each than places, ring_turns(), and each stage in turn takes
// the next place, and the next barriers. tests/kernels/device/ring.cpp goes through all that can happen.
#pragma once

#include <cstdint>
#include <numeric>

#include "format/hd.hpp"

namespace nf4 {

// A place in a ring, and the parity of the phase that its barriers are in. Who fills it begins with parity 1: waiting
// for a stage to be empty then takes no time in the first round.
struct RingPlace {
  int slot = 0;
  uint32_t parity = 0;

  NF4_HD void advance(int ring, int stages = 1) {
    for (slot += stages; slot >= ring; slot -= ring) parity ^= 1;
  }
};

// Where the barriers of a place lie, full, then empty: bytes from those of the first place.
constexpr int kStageBarrierBytes = 16;
constexpr int kEmptyBarrier = 8;

// The longest ring of up to `most` stages in which each place has its team; 0 if there is none.
constexpr int whole_rounds(int most, int teams) { return most / teams * teams; }

// Barriers of each kind for a ring of any length, of which each has its own of the `takers` that take stages in turn.
constexpr int ring_turns(int ring, int takers) { return std::lcm(ring, takers); }

// Where to wait before a stage is filled whose barriers are at `turn`, one of `turns`: at the `empty` barrier of the
// stage that was in its place before. In the first round the wait takes no time.
NF4_HD RingPlace turn_before(RingPlace turn, int ring, int turns) {
  const int slot = turn.slot - ring;
  return slot < 0 ? RingPlace{slot + turns, turn.parity ^ 1} : RingPlace{slot, turn.parity};
}

}  // namespace nf4
