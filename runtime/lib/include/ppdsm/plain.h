// The plain run as a backend: what serves a program that is started without ppdsm.
#pragma once

#include <cstdio>
#include <cstring>

#include "ppdsm/plain_calls.h"

namespace ppdsm::detail::plain {

__attribute__((visibility("default"))) inline std::string& failure() {
    static thread_local std::string text;
    return text;
}

/// Runs a call of the calling virtual thread, or says that it is none; nothing is thrown across.
template <class Call>
abi::Code on_seat(Call call) noexcept {
    try {
        failure().clear();
        const Seat here = seat();
        if (here.member == nullptr) {
            failure() = "this thread is not a virtual thread";
            return abi::kMisuse;
        }
        return call(*here.computer, *here.member, failure());
    } catch (const std::bad_alloc&) {
        return abi::kNoMemory;
    } catch (const std::exception& error) {
        failure() = error.what();
        return abi::kMisuse;
    }
}

inline abi::Code allocate(std::uint64_t size, abi::Buffer* buffer) {
    return allocate_buffer(size, *buffer);
}

inline void release(abi::Buffer* buffer) { release_buffer(*buffer); }

inline const char* failure_text() { return failure().c_str(); }

inline abi::Code open(const abi::Options* options) {
    if (seat().member != nullptr) {
        failure() = "this thread belongs to a virtual computer already";
        return abi::kMisuse;
    }
    try {
        auto computer = std::make_unique<Computer>(*options);
        Member& root = computer->root();
        seat() = {computer.release(), &root};
        return abi::kDone;
    } catch (const std::bad_alloc&) {
        return abi::kNoMemory;
    }
}

inline abi::Code close(std::uint32_t cancel) {
    const Seat here = std::exchange(seat(), {});
    if (here.member == nullptr) return abi::kMisuse;
    const std::unique_ptr<Computer> computer(here.computer);
    return computer->close(*here.member, cancel != 0);
}

inline abi::Code self(std::uint64_t* id, std::uint64_t* parent) {
    return on_seat([&](Computer&, Member& me, std::string&) {
        *id = me.id;
        *parent = me.parent;
        return abi::kDone;
    });
}

inline abi::Code describe(std::uint64_t thread, abi::Field field, abi::Buffer* text) {
    return on_seat([&](Computer& computer, Member&, std::string& why) {
        std::string name;
        const auto code = computer.name(thread, name, why);
        if (code == abi::kDone) *text = text_buffer(field == abi::kPeer ? kPeer : name);
        return code;
    });
}

inline abi::Code members(abi::Buffer* ids) {
    return on_seat([&](Computer& computer, Member&, std::string&) {
        const auto all = computer.spawned();
        const auto code = allocate_buffer(all.size() * sizeof all[0], *ids);
        if (code == abi::kDone && !all.empty()) std::memcpy(ids->data, all.data(), ids->size);
        return code;
    });
}

inline abi::Code spawn(abi::SpawnRequest* request, std::uint64_t* id) {
    return on_seat([&](Computer& computer, Member& me, std::string& why) {
        return computer.spawn(me, *request, *id, why);
    });
}

inline abi::Code cancel(std::uint64_t thread) {
    return on_seat([&](Computer& computer, Member&, std::string& why) {
        return computer.cancel(thread, why);
    });
}

inline abi::Code next_event(std::int64_t timeout_ns, std::uint64_t awaited, abi::Event* event) {
    return on_seat([&](Computer& computer, Member& me, std::string& why) {
        return computer.next_event(me, timeout_ns, awaited, *event, why);
    });
}

inline abi::Code report(abi::Payload* payload) {
    return on_seat([&](Computer& computer, Member& me, std::string& why) {
        return computer.report(me, *payload, why);
    });
}

inline abi::Code mailbox(const char* name, std::uint64_t name_size, std::uint64_t type,
                         std::uint64_t* id) {
    return on_seat([&](Computer& computer, Member&, std::string& why) {
        return computer.mailbox(std::string(name, name_size), type, *id, why);
    });
}

inline abi::Code send(const abi::Address* to, abi::Payload* payload, std::int64_t timeout_ns) {
    return on_seat([&](Computer& computer, Member& me, std::string& why) {
        return computer.send(me, *to, *payload, timeout_ns, why);
    });
}

inline abi::Code receive(const abi::Filter* filter, std::int64_t timeout_ns,
                         abi::Message* message) {
    return on_seat([&](Computer& computer, Member& me, std::string& why) {
        return computer.receive(me, *filter, timeout_ns, *message, why);
    });
}

/// One line on standard error.
inline abi::Code log(const char* text, std::uint64_t size) {
    return on_seat([&](Computer& computer, Member& me, std::string& why) {
        std::string name;
        const auto code = computer.name(me.id, name, why);
        const std::string line = "[" + name + "] " + std::string(text, size) + "\n";
        std::fputs(line.c_str(), stderr);
        return code;
    });
}

inline const abi::Backend kBackend{abi::kVersion, sizeof(abi::Backend),
                                   allocate,      release,
                                   failure_text,  open,
                                   close,         self,
                                   describe,      members,
                                   spawn,         cancel,
                                   next_event,    report,
                                   mailbox,       send,
                                   receive,       log};

}  // namespace ppdsm::detail::plain
