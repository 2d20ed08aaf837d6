// The start of threads, made to fail.
#pragma once

namespace thread_start {

// Makes start number `number` from now on fail, and with it all after it; 1 is the next, 0 none.
void fail(long number);

// Whether one has failed since then.
bool failed();

}  // namespace thread_start
