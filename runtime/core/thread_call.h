// What a virtual thread asks of its computer, and what it is answered, as values: the calls of
// `abi::Backend` (runtime/lib/include/ppdsm/backend.h) on their way through the mesh. A call's
// number counts the calls of its thread from 1; a thread makes one call at a time.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "dsm/base/files.h"
#include "ppdsm/backend.h"

namespace ppdsm {

/// Names a virtual thread within its computer, or (0) none.
enum class ThreadId : std::uint64_t {};
inline constexpr ThreadId kNoThread{0};
inline constexpr ThreadId kRootThread{1};
/// Names a mailbox within its computer, or (0) the one that its virtual thread has of its own.
enum class MailboxId : std::uint64_t {};
inline constexpr MailboxId kOwnMailbox{0};

/// Bytes and the fingerprint of their type. The bytes are shared and never change.
struct Value {
    std::uint64_t type = 0;
    std::shared_ptr<const Bytes> bytes;  ///< Null: none.
    [[nodiscard]] std::uint64_t size() const { return bytes == nullptr ? 0 : bytes->size(); }
};

/// Where a spawned function lies: the same in every process of one build.
struct EntryPoint {
    std::string build_id;            ///< Of the image, as hexadecimal digits.
    std::uint64_t entry_offset = 0;  ///< Of the abi::Entry, in bytes from the image's beginning.
    std::string function_build_id;
    std::uint64_t function_offset = 0;
};

struct ThreadOutcome {
    abi::OutcomeKind kind = abi::kResult;
    Value value;
};

namespace call {

/// Of a spawned virtual thread, its first: what am I to do?
struct Begin {};
struct Open {
    abi::Options options{};
};
struct Close {
    bool cancel = false;
};
struct Describe {
    ThreadId thread{};
    abi::Field field = abi::kName;
};
struct Members {};
struct Spawn {
    EntryPoint place;
    Value arguments;
    std::string name;
};
struct Cancel {
    ThreadId thread{};
};
struct NextEvent {
    ThreadId awaited{};
};
struct Report {
    Value value;
};
struct OpenMailbox {
    std::string name;
    std::uint64_t type = 0;
};
struct Send {
    ThreadId thread{};  ///< Whose own mailbox; kNoThread: `mailbox`.
    MailboxId mailbox{};
    Value value;
};
struct Receive {
    MailboxId mailbox{};
    ThreadId sender{};  ///< kNoThread: anyone.
    std::uint64_t type = 0;
    std::string type_name;
};
/// The last: what the function came to.
struct End {
    ThreadOutcome outcome;
};

}  // namespace call

using Call = std::variant<call::Begin, call::Open, call::Close, call::Describe, call::Members,
                          call::Spawn, call::Cancel, call::NextEvent, call::Report,
                          call::OpenMailbox, call::Send, call::Receive, call::End>;

struct ThreadCall {
    ThreadId thread{};
    std::uint64_t number = 0;
    std::int64_t timeout_ns = -1;  ///< 0 does not wait, less waits for ever.
    std::uint64_t digest = 0;      ///< Of all that the call says: the same again is the same call.
    Call call;
};

// What answers hold.

struct ThreadEvent {
    abi::EventKind kind = abi::kPartial;
    ThreadId thread{};
    ThreadOutcome outcome;  ///< Of worker events: the peer's name as its bytes.
    std::string from;       ///< kThreadMoved: the peer it was at.
};
struct ThreadMessage {
    ThreadId sender{};
    Value value;
};
struct Beginning {
    ThreadId parent{};
    std::string name;
    EntryPoint place;
    Value arguments;
};
using AnswerContent = std::variant<std::monostate, ThreadId, MailboxId, std::string,
                                   std::vector<ThreadId>, ThreadEvent, ThreadMessage, Beginning>;

struct CallAnswer {
    abi::Code code = abi::kDone;
    std::string text;  ///< What went wrong, for people.
    AnswerContent content;
};

}  // namespace ppdsm
