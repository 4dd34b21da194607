// What the typed layer keeps of the calling virtual thread: who serves it, which virtual threads it
// has spawned, and their events on the way to the program's callbacks.
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "ppdsm/backend.h"
#include "ppdsm/errors.h"
#include "ppdsm/plain.h"
#include "ppdsm/portable.h"

// Weak, so that nothing need be linked where the C library has it elsewhere.
extern "C" __attribute__((weak)) decltype(dlsym) dlsym;

namespace ppdsm {

/// Names a virtual thread within its virtual computer; a value that travels.
struct VirtualThreadId {
    std::uint64_t value = 0;  ///< 0 names none.

    friend bool operator==(VirtualThreadId a, VirtualThreadId b) { return a.value == b.value; }
    friend bool operator!=(VirtualThreadId a, VirtualThreadId b) { return a.value != b.value; }
    friend bool operator<(VirtualThreadId a, VirtualThreadId b) { return a.value < b.value; }
};

/// What happened to a peer that works for a virtual computer, or where a virtual thread went.
struct WorkerEvent {
    enum class Kind { kJoined, kLost, kMoved };
    Kind kind = Kind::kJoined;
    std::string peer;        ///< That joined, was lost, or has the virtual thread now.
    std::string from;        ///< kMoved: where it was.
    VirtualThreadId thread;  ///< kMoved: which.
};

namespace detail {

/// The runtime library's, where there is one, else the plain run. A program without -fPIE does not
/// look for weak symbols when it is loaded, so it is asked by name too.
inline const abi::Backend& find_backend() {
    auto announce = &ppdsm_runtime;
    if (announce == nullptr && dlsym != nullptr) {
        announce = reinterpret_cast<decltype(announce)>(dlsym(nullptr, "ppdsm_runtime"));
    }
    if (announce == nullptr) return plain::kBackend;
    const abi::Backend* backend = announce(abi::kVersion);
    if (backend == nullptr || backend->version != abi::kVersion ||
        backend->size < sizeof(abi::Backend)) {
        throw Disconnected(
            "this ppdsm cannot run a program built against version " +
            std::to_string(abi::kVersion) +
            " of the interface of its headers: build the program anew, or install the "
            "ppdsm it was built against");
    }
    return *backend;
}

/// One a process, shared libraries included.
__attribute__((visibility("default"))) inline const abi::Backend& backend() {
    static const abi::Backend& found = find_backend();
    return found;
}

/// A buffer of the backend's, given back at the end of its scope unless it was passed on.
class Bytes {
public:
    Bytes() = default;
    explicit Bytes(const abi::Buffer& buffer) : buffer_(buffer) {}
    Bytes(Bytes&& other) noexcept : buffer_(std::exchange(other.buffer_, {})) {}
    Bytes& operator=(Bytes&& other) noexcept {
        std::swap(buffer_, other.buffer_);
        return *this;
    }
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;
    ~Bytes() {
        if (buffer_.data != nullptr) backend().release(&buffer_);
    }

    [[nodiscard]] abi::Buffer& get() { return buffer_; }
    [[nodiscard]] const abi::Buffer& get() const { return buffer_; }
    /// It belongs to the receiver now.
    abi::Buffer pass() { return std::exchange(buffer_, {}); }
    [[nodiscard]] std::string text() const {
        if (buffer_.size == 0) return {};
        return {reinterpret_cast<const char*>(buffer_.data), buffer_.size};
    }

private:
    abi::Buffer buffer_{};
};

/// Throws what the code stands for, unless it is kDone.
inline void check(abi::Code code) {
    if (code == abi::kDone) return;
    const std::string text = backend().failure_text();
    switch (code) {
        case abi::kDeadlock: throw Deadlock(text);
        case abi::kCancelled: throw Cancelled(text);
        case abi::kThreadEnded: throw ThreadEnded(text);
        case abi::kOversized: throw Oversized(text);
        case abi::kTypeMismatch: throw TypeMismatch(text);
        case abi::kNoPeer: throw NoPeer(text);
        case abi::kNoMemory: throw std::bad_alloc();
        case abi::kDisconnected: throw Disconnected(text);
        default: throw Misuse(text);
    }
}

inline Bytes allocate(std::uint64_t size) {
    if (size > abi::kMaxPayloadBytes) {
        throw Oversized("a value of " + std::to_string(size) +
                        " bytes cannot travel; 1 GiB is the most");
    }
    abi::Buffer buffer{};
    check(backend().allocate(size, &buffer));
    return Bytes(buffer);
}

template <class T>
Bytes pack(const T& value) {
    Sink counter;
    Codec<T>::write(counter, value);
    Bytes bytes = allocate(counter.size());
    Sink sink(bytes.get().data, bytes.get().size);
    Codec<T>::write(sink, value);
    return bytes;
}

template <class T>
T unpack(const Bytes& bytes) {
    Source source(bytes.get().data, bytes.get().size);
    T value = Codec<T>::read(source);
    if (source.left() != 0) {
        throw TypeMismatch("a value goes on after its type ends: the sides disagree about it");
    }
    return value;
}

inline Bytes pack_text(const std::string& text) {
    Bytes bytes = allocate(text.size());
    if (!text.empty()) std::memcpy(bytes.get().data, text.data(), text.size());
    return bytes;
}

/// A time limit for a whole call, which may wait more than once.
class TimeLimit {
public:
    TimeLimit() = default;  ///< None.
    template <class Rep, class Period>
    explicit TimeLimit(std::chrono::duration<Rep, Period> limit) {
        const auto now = std::chrono::steady_clock::now();
        const std::chrono::duration<double> most =
            std::chrono::steady_clock::time_point::max() - now;
        if (std::chrono::duration<double>(limit) >= most) return;
        if (limit <= limit.zero()) {
            end_ = now;
            return;
        }
        end_ = now + std::chrono::ceil<std::chrono::steady_clock::duration>(limit);
    }
    [[nodiscard]] std::int64_t left_ns() const {
        if (!end_) return -1;
        const auto left = *end_ - std::chrono::steady_clock::now();
        const auto left_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
        return left_ns > 0 ? left_ns : 0;
    }

private:
    std::optional<std::chrono::steady_clock::time_point> end_;
};

class Context;

/// What a spawner knows of a virtual thread: shared by the VirtualThread and the context, either
/// may be gone before the other.
struct Child {
    std::uint64_t id = 0;
    std::string name;
    Context* spawner = nullptr;   ///< Null when that is gone.
    std::uint64_t end_order = 0;  ///< 0: it has not ended, as far as was delivered.
    bool taken = false;
    std::uint32_t outcome = abi::kResult;
    std::uint64_t type = 0;
    Bytes bytes;
    /// By type; shared, since one may replace itself while it runs.
    std::map<std::uint64_t, std::shared_ptr<std::function<void(const Bytes&)>>> handlers;
};

/// No two contexts of a process have one number, so that handles know those they were made in.
__attribute__((visibility("default"))) inline std::uint64_t next_serial() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

/// One a virtual thread, used by its own thread only.
class Context {
public:
    Context() { check(backend().self(&id_, &parent_)); }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    ~Context() {
        for (auto& [id, child] : children_) child->spawner = nullptr;
    }

    [[nodiscard]] std::uint64_t id() const { return id_; }
    [[nodiscard]] std::uint64_t parent() const { return parent_; }
    [[nodiscard]] std::uint64_t serial() const { return serial_; }
    [[nodiscard]] bool is_delivering() const { return delivering_; }
    [[nodiscard]] bool all_have_ended() const {
        return std::all_of(children_.begin(), children_.end(),
                           [](const auto& child) { return child.second->end_order != 0; });
    }
    void set_on_worker(std::function<void(const WorkerEvent&)> callback) {
        on_worker_ = std::make_shared<std::function<void(const WorkerEvent&)>>(std::move(callback));
    }

    std::shared_ptr<Child> spawn(const std::string& name, abi::Entry entry, abi::Function function,
                                 std::uint64_t arguments_type, Bytes arguments);

    /// Takes what events there are, without waiting, and runs their callbacks.
    void poll();
    /// Delivers events until `done`, or until the time is over: then false. `awaited`: as in the
    /// backend.
    template <class Done>
    bool wait_until(const Done& done, std::uint64_t awaited, const TimeLimit& limit = {});
    /// Repeats a call of the backend's for as long as it is events that it gives.
    template <class Call>
    abi::Code through_events(const Call& call);

private:
    struct Happening {
        abi::Event event;
        Bytes bytes;
        Bytes from;
    };

    bool take_event(std::int64_t timeout_ns, std::uint64_t awaited);
    void note_end(Happening& happening);
    void deliver();
    void deliver_one(Happening& happening);

    std::uint64_t id_ = 0;
    std::uint64_t parent_ = 0;
    std::uint64_t serial_ = next_serial();
    /// Those whose last event is not delivered.
    std::map<std::uint64_t, std::shared_ptr<Child>> children_;
    std::uint64_t ends_ = 0;
    std::deque<Happening> happenings_;
    bool delivering_ = false;
    std::shared_ptr<std::function<void(const WorkerEvent&)>> on_worker_;
};

__attribute__((visibility("default"))) inline Context*& current_context() {
    static thread_local Context* context = nullptr;
    return context;
}

inline Context& context() {
    if (current_context() == nullptr) {
        throw Misuse(
            "this thread is not a virtual thread: it needs a VirtualComputer, or to be spawned by "
            "one");
    }
    return *current_context();
}

inline std::shared_ptr<Child> Context::spawn(const std::string& name, abi::Entry entry,
                                             abi::Function function, std::uint64_t arguments_type,
                                             Bytes arguments) {
    auto child = std::make_shared<Child>();
    abi::SpawnRequest request{};
    request.entry = entry;
    request.function = function;
    request.arguments = {arguments_type, arguments.get()};
    request.name = name.data();
    request.name_size = name.size();
    check(backend().spawn(&request, &child->id));
    arguments.pass();
    child->spawner = this;
    child->name = name.empty() ? "vthread " + std::to_string(child->id) : name;
    children_.emplace(child->id, child);
    return child;
}

inline bool Context::take_event(std::int64_t timeout_ns, std::uint64_t awaited) {
    Happening happening{};
    const auto code = backend().next_event(timeout_ns, awaited, &happening.event);
    if (code == abi::kTimedOut) return false;
    check(code);
    happening.bytes = Bytes(std::exchange(happening.event.outcome.payload.bytes, {}));
    happening.from = Bytes(std::exchange(happening.event.from, {}));
    if (happening.event.kind == abi::kEnded && delivering_) {
        // A callback may wait for this end, so it must not wait for the callback. The child stays
        // known until its partial results, which came before, are delivered.
        note_end(happening);
    }
    happenings_.push_back(std::move(happening));
    return true;
}

inline void Context::note_end(Happening& happening) {
    const auto found = children_.find(happening.event.thread);
    if (found == children_.end() || found->second->end_order != 0) return;
    Child& child = *found->second;
    child.outcome = happening.event.outcome.kind;
    child.type = happening.event.outcome.payload.type;
    child.bytes = std::move(happening.bytes);
    child.end_order = ++ends_;
}

inline void Context::deliver() {
    if (delivering_) return;  // Callbacks do not interrupt each other.
    struct Guard {
        bool& flag;
        explicit Guard(bool& guarded) : flag(guarded) { flag = true; }
        Guard(const Guard&) = delete;
        Guard& operator=(const Guard&) = delete;
        ~Guard() { flag = false; }
    } const guard(delivering_);
    while (!happenings_.empty()) {
        Happening happening = std::move(happenings_.front());
        happenings_.pop_front();
        deliver_one(happening);
    }
}

inline void Context::deliver_one(Happening& happening) {
    const abi::Event& event = happening.event;
    if (event.kind == abi::kPartial || event.kind == abi::kEnded) {
        const auto found = children_.find(event.thread);
        if (found == children_.end()) return;
        const std::shared_ptr<Child> child = found->second;
        if (event.kind == abi::kPartial) {
            const auto handler = child->handlers.find(event.outcome.payload.type);
            if (handler == child->handlers.end()) return;
            const auto callback = handler->second;
            (*callback)(happening.bytes);
            return;
        }
        note_end(happening);
        children_.erase(found);
        return;
    }
    if (on_worker_ == nullptr || !*on_worker_) return;
    const auto kind = event.kind == abi::kWorkerJoined ? WorkerEvent::Kind::kJoined
                      : event.kind == abi::kWorkerLost ? WorkerEvent::Kind::kLost
                                                       : WorkerEvent::Kind::kMoved;
    const auto callback = on_worker_;
    (*callback)({kind, happening.bytes.text(), happening.from.text(), {event.thread}});
}

inline void Context::poll() {
    while (take_event(0, 0)) {
    }
    if (delivering_) {
        // The callback that calls may wait for an end, which must not wait for the callback. The
        // child stays known until its partial results, which came before, are delivered.
        for (Happening& happening : happenings_) {
            if (happening.event.kind == abi::kEnded) note_end(happening);
        }
    }
    deliver();
}

template <class Done>
bool Context::wait_until(const Done& done, std::uint64_t awaited, const TimeLimit& limit) {
    for (poll(); !done(); poll()) {
        if (!take_event(limit.left_ns(), awaited)) return done();
    }
    return true;
}

template <class Call>
abi::Code Context::through_events(const Call& call) {
    while (true) {
        const auto code = call();
        if (code != abi::kEvents) return code;
        poll();
    }
}

}  // namespace detail
}  // namespace ppdsm

template <>
struct std::hash<ppdsm::VirtualThreadId> {
    std::size_t operator()(ppdsm::VirtualThreadId id) const noexcept {
        return std::hash<std::uint64_t>{}(id.value);
    }
};
