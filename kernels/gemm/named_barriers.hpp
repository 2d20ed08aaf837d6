// The barriers of a CTA (bar.sync, by number) of the products on the tensor cores. A warp that only lets others know
// passes one without waiting.
#pragma once

namespace nf4 {

enum NamedBarrier : int {
  kTableBarrier = 1,      // the pair table is filled: consumers wait
  kReadBarrier = 2,       // all stages have come and been read: consumers wait, and put their sums where the ring was
  kProducersBarrier = 3,  // what the producers prepare for one another, such as maps of nested scales, is there
};

}  // namespace nf4
