// The program's side of the link page: makes one call at a time and waits for its answer. The only
// state is the number of the last call; it lies in the process's memory and is restored with it.
#pragma once

#include "runtime/lib/link/call_layout.h"
#include "runtime/lib/link/call_page.h"

namespace ppdsm::preload {

/// What a call comes to; who has one gives it back with release().
struct Reply {
    link::AnswerHeader header;
    char* text;  ///< Ends with a zero; never null.
    abi::Buffer payload;
};

/// Maps the page whose path is in PPDSM_LINK, for this process and no other. Null: done; else why
/// not, for people.
const char* claim_page();
[[nodiscard]] bool is_claimed();
[[nodiscard]] std::uint64_t thread_of_page();

/// `header`'s number and sizes are filled in. kNoMemory, or what the answer says.
abi::Code make_call(link::CallHeader& header, const char* text, std::uint64_t text_bytes,
                    const void* payload, std::uint64_t payload_bytes, Reply& reply);
void release(Reply& reply);

}  // namespace ppdsm::preload
