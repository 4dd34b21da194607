// Calls and answers between bytes (runtime/lib/link/call_layout.h) and values
// (runtime/core/thread_call.h).
#pragma once

#include "dsm/base/result.h"
#include "runtime/core/thread_call.h"

namespace ppdsm {

/// Of a program's process, which may send anything: kCorrupt says what is wrong.
Result<ThreadCall> decode_call(ThreadId thread, ByteView bytes);
Bytes encode_answer(std::uint64_t number, const CallAnswer& answer);

}  // namespace ppdsm
