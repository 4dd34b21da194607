// What carries virtual threads and their messages, as bytes: the interface between the typed layer
// of these headers, compiled into every program, and whoever runs the program. There are two: the
// plain run (plain.h, threads of this process) and the runtime library that `ppdsm exec` preloads,
// which announces itself through ppdsm_runtime(). Programs use ppdsm.h; only the two sides of the
// interface use this.
//
// Policy. Standard layout only: both sides are built by different compilers at different times. A
// field is never moved or given another meaning; functions are appended and `size` says which are
// there. Each function may be called on any virtual thread's own thread, and none throws.
#pragma once

#include <cstdint>

namespace ppdsm::abi {

/// Raised when what is there changes its meaning. A runtime that cannot serve a header's version
/// gives null.
inline constexpr std::uint32_t kVersion = 1;

/// What a call came to. For all but kDone, kTimedOut, kEvents and kFull, failure_text() says more.
enum Code : std::int32_t {
    kDone = 0,
    kTimedOut,      ///< The time given has passed.
    kEvents,        ///< Events wait for the caller: take them with next_event, then call again.
    kFull,          ///< There was no room, and the caller did not want to wait.
    kDeadlock,      ///< Every virtual thread of the computer waits, and nothing is in flight.
    kCancelled,     ///< The calling virtual thread was cancelled.
    kThreadEnded,   ///< The virtual thread addressed has ended.
    kOversized,     ///< More than kMaxPayloadBytes.
    kTypeMismatch,  ///< Two sides mean different types by one name.
    kNoPeer,        ///< Nobody may run the virtual thread; the text gives each peer's reason.
    kMisuse,        ///< A call that makes no sense here.
    kNoMemory,      ///< Bytes could not be had.
    kDisconnected,  ///< The runtime cannot reach what it needs any more.
};

/// 1 GiB of content, and what types add to describe it.
inline constexpr std::uint64_t kMaxPayloadBytes =
    (std::uint64_t{1} << 30) + (std::uint64_t{1} << 20);

/// Bytes from Backend::allocate; who holds it gives it back with Backend::release, or passes it on.
struct Buffer {
    unsigned char* data;
    std::uint64_t size;  ///< In bytes.
    void* owner;         ///< The backend's own.
};

/// A value, and the fingerprint of its type (portable.h): what is taken as another type is refused.
struct Payload {
    std::uint64_t type;
    Buffer bytes;
};

enum OutcomeKind : std::uint32_t {
    kResult,     ///< The payload is what the function returned.
    kException,  ///< `type` is one of errors.h's tags, the bytes are the text.
    kCrashed,    ///< The process ended otherwise; the bytes say how and where.
    kStopped,    ///< Cancelled before it could begin, or by force.
    kUnplaced,   ///< Nobody may run it; the bytes give each peer's reason.
};

struct Outcome {
    std::uint32_t kind;
    Payload payload;
};

enum EventKind : std::uint32_t {
    kPartial,       ///< `thread` reported `outcome.payload`.
    kEnded,         ///< `thread` came to `outcome`; the last event of that thread.
    kWorkerJoined,  ///< The payload's bytes name the peer; so too in the next.
    kWorkerLost,
    kThreadMoved,  ///< `thread` went to the peer in the payload's bytes, from the peer in `from`.
};

/// What happened to a virtual thread that the receiver spawned, or to a worker of its computer.
struct Event {
    std::uint32_t kind;
    std::uint64_t thread;
    Outcome outcome;
    Buffer from;
};

struct Message {
    std::uint64_t sender;
    Payload payload;
};

/// Where a message goes: the mailbox of a virtual thread, or (`thread` 0) a named one.
struct Address {
    std::uint64_t thread;
    std::uint64_t mailbox;
};

/// Which message is wanted.
struct Filter {
    std::uint64_t mailbox;  ///< A named one, or 0 for the receiver's own.
    std::uint64_t sender;   ///< 0: anyone.
    std::uint64_t type;
    const char* type_name;  ///< For people to read.
};

using Function = void (*)();

/// Turns argument bytes into the outcome: one instantiation a signature. It sets up its virtual
/// thread's context, takes the arguments, never throws, and fills the outcome, which passes to the
/// caller.
using Entry = void (*)(Function function, Payload* arguments, Outcome* outcome);

/// Both addresses lie in images of the calling process; a backend that starts another process sends
/// them relative to their image, with its build id.
struct SpawnRequest {
    Entry entry;
    Function function;
    Payload arguments;
    const char* name;  ///< Empty: the backend gives one.
    std::uint64_t name_size;
};

struct Options {
    std::uint32_t workers;  ///< 0: as the backend sees fit.
    std::uint32_t min_workers;
    std::uint32_t threads_per_worker;
    std::uint32_t placement;
    std::uint64_t
        mailbox_bytes;  ///< Bound of each mailbox; one message more than fits is let in when empty.
};

enum Field : std::uint32_t { kName, kPeer };

/// Times are in nanoseconds from now: 0 does not wait, less than 0 waits for ever. Payloads that go
/// in pass to the backend when the call gives kDone, and stay with the caller otherwise. What comes
/// out passes to the caller. Calls that wait give kEvents instead of waiting while the caller has
/// events.
struct Backend {
    std::uint32_t version;
    std::uint32_t size;  ///< sizeof(Backend) as the backend knows it.

    Code (*allocate)(std::uint64_t size, Buffer* buffer);
    void (*release)(Buffer* buffer);
    /// What went wrong in this thread's last call; valid until its next.
    const char* (*failure_text)();

    /// The calling thread becomes the first virtual thread of a new computer.
    Code (*open)(const Options* options);
    /// Waits until all other virtual threads of the caller's computer have ended, asking them to if
    /// `cancel`; then the caller is none any more.
    Code (*close)(std::uint32_t cancel);

    Code (*self)(std::uint64_t* id, std::uint64_t* parent);
    Code (*describe)(std::uint64_t thread, Field field, Buffer* text);
    /// The ids of the computer's virtual threads that were spawned and have not ended, 8 bytes
    /// each.
    Code (*members)(Buffer* ids);
    Code (*spawn)(SpawnRequest* request, std::uint64_t* id);
    Code (*cancel)(std::uint64_t thread);

    /// `awaited` is whose end the caller wants, for people to read; 0: of any.
    Code (*next_event)(std::int64_t timeout_ns, std::uint64_t awaited, Event* event);
    Code (*report)(Payload* payload);
    Code (*mailbox)(const char* name, std::uint64_t name_size, std::uint64_t type,
                    std::uint64_t* id);
    Code (*send)(const Address* to, Payload* payload, std::int64_t timeout_ns);
    Code (*receive)(const Filter* filter, std::int64_t timeout_ns, Message* message);
    Code (*log)(const char* text, std::uint64_t size);
};

}  // namespace ppdsm::abi

/// Defined by the runtime library that `ppdsm exec` preloads, and by nothing else: what serves
/// headers of that version, or null when it cannot.
extern "C" __attribute__((weak)) const ppdsm::abi::Backend* ppdsm_runtime(
    std::uint32_t header_version);
