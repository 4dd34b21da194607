// Calls and answers as bytes: what a virtual thread's process and the switchboard say to each
// other. A call is a CallHeader, then `text_bytes` of text, then `payload_bytes` of payload; an
// answer likewise. runtime/lib/LINK.md has which field means what in which call.
//
// Policy. Plain structs of fixed size, little endian, without padding; reserved bytes are zero.
// Both sides check what they are given: the other one may be another version, or out of its mind.
#pragma once

#include <cstdint>

#include "ppdsm/backend.h"

namespace ppdsm::link {

inline constexpr std::uint32_t kLayoutVersion = 1;
inline constexpr std::uint32_t kMaxTextBytes = 64 << 10;
inline constexpr std::uint32_t kBuildIdBytes = 20;

enum class CallKind : std::uint32_t {
    kBegin = 1,
    kOpen,
    kClose,
    kDescribe,
    kMembers,
    kSpawn,
    kCancel,
    kNextEvent,
    kReport,
    kMailbox,
    kSend,
    kReceive,
    kEnd,
};

/// Where a function lies: the same in every process of one build.
struct Place {
    std::uint64_t offset;  ///< In bytes from the beginning of the image.
    std::uint8_t build_id[kBuildIdBytes];
    std::uint8_t reserved[4];
};

struct CallHeader {
    std::uint64_t number;  ///< Of its thread, from 1.
    std::int64_t timeout_ns;
    CallKind kind;
    std::uint32_t text_bytes;
    std::uint64_t payload_bytes;
    std::uint64_t type;  ///< Of the payload, or of what is wanted.
    std::uint64_t thread;
    std::uint64_t mailbox;
    std::uint32_t detail;  ///< kClose: cancel. kDescribe: the field. kEnd: the outcome's kind.
    std::uint32_t reserved;
    Place entry;
    Place function;
    std::uint32_t workers;
    std::uint32_t min_workers;
    std::uint32_t threads_per_worker;
    std::uint32_t placement;
    std::uint64_t mailbox_bytes;
};
static_assert(sizeof(CallHeader) == 152);

/// What an answer holds beside its code.
enum class ContentKind : std::uint32_t {
    kNothing,
    kThread,   ///< `thread`.
    kMailbox,  ///< `mailbox`.
    kText,     ///< The payload.
    kThreads,  ///< The payload: 8 bytes each.
    kEvent,    ///< `detail`: its kind; `outcome`: that kind; `thread`; the payload; `from` as text.
    kMessage,  ///< `thread`: the sender; the payload.
    kBeginning,  ///< `thread`: the parent; the name as text; the places; the payload: the
                 ///< arguments.
};

struct AnswerHeader {
    std::uint64_t number;
    std::int32_t code;  ///< abi::Code; unless it is kDone the text says what went wrong.
    ContentKind content;
    std::uint32_t text_bytes;
    std::uint32_t detail;
    std::uint32_t outcome;
    std::uint32_t reserved;
    std::uint64_t payload_bytes;
    std::uint64_t type;
    std::uint64_t thread;
    std::uint64_t mailbox;
    Place entry;
    Place function;
};
static_assert(sizeof(AnswerHeader) == 128);

inline constexpr std::uint64_t kMaxCallBytes =
    sizeof(CallHeader) + kMaxTextBytes + abi::kMaxPayloadBytes;
inline constexpr std::uint64_t kMaxAnswerBytes =
    sizeof(AnswerHeader) + kMaxTextBytes + abi::kMaxPayloadBytes;

}  // namespace ppdsm::link
