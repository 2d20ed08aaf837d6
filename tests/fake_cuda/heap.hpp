// The program's heap, counted, and made to run out.
#pragma once

namespace heap {

// Blocks from operator new that have not been deleted.
long live();

// Makes allocation number `number` from now on fail, and with it all after it; 1 is the next, 0 none.
void fail_allocation(long number);

// Whether one has failed since then.
bool failed();

}  // namespace heap
