#include "runtime/lib/preload/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/lib/preload/images.h"
#include "runtime/lib/preload/page_client.h"

namespace ppdsm::preload {

using abi::Code;
using link::CallHeader;
using link::CallKind;

namespace {

constexpr std::uint64_t kRoot = 1;

/// Of the last call; a process has one virtual thread, which makes one call at a time.
char failure[1024];
char thread_name[256] = "main";
std::uint64_t parent_thread = 0;

Code fail(Code code, const char* text) {
    snprintf(failure, sizeof failure, "%s", text);
    return code;
}

CallHeader call_of(CallKind kind) {
    CallHeader header{};
    header.kind = kind;
    header.timeout_ns = -1;
    return header;
}

/// The call's code; the reply is released unless the code is kDone.
Code ask(CallHeader& header, Reply& reply, const char* text = "", std::uint64_t text_bytes = 0,
         const void* payload = nullptr, std::uint64_t payload_bytes = 0) {
    failure[0] = 0;
    if (!is_claimed()) return fail(abi::kMisuse, "this process is no virtual thread");
    const Code code = make_call(header, text, text_bytes, payload, payload_bytes, reply);
    if (code != abi::kDone) {
        (void)fail(code, reply.text);
        release(reply);
    }
    return code;
}

/// For calls of which only the code matters.
Code tell(CallHeader& header, const char* text = "", std::uint64_t text_bytes = 0,
          const abi::Payload* payload = nullptr) {
    Reply reply{};
    if (payload != nullptr) header.type = payload->type;
    const Code code = payload == nullptr ? ask(header, reply, text, text_bytes)
                                         : ask(header, reply, text, text_bytes, payload->bytes.data,
                                               payload->bytes.size);
    if (code == abi::kDone) release(reply);
    return code;
}

/// Who has it frees it: never null, as the interface's buffers are.
abi::Buffer take_payload(Reply& reply) {
    abi::Buffer buffer = reply.payload;
    reply.payload = {};
    if (buffer.data == nullptr) buffer = {static_cast<unsigned char*>(malloc(1)), 0, nullptr};
    return buffer;
}

abi::Buffer copy_of(const char* text, std::uint64_t size) {
    auto* data = static_cast<unsigned char*>(malloc(size + 1));
    if (data == nullptr) return {};
    memcpy(data, text, size);
    return {data, size, nullptr};
}

Code allocate(std::uint64_t size, abi::Buffer* buffer) {
    auto* data = static_cast<unsigned char*>(malloc(size == 0 ? 1 : size));
    if (data == nullptr) return abi::kNoMemory;
    *buffer = {data, size, nullptr};
    return abi::kDone;
}

void release_buffer(abi::Buffer* buffer) {
    free(buffer->data);
    *buffer = {};
}

const char* failure_text() { return failure; }

Code open(const abi::Options* options) {
    if (const char* why = claim_page()) return fail(abi::kMisuse, why);
    CallHeader header = call_of(CallKind::kOpen);
    header.workers = options->workers;
    header.min_workers = options->min_workers;
    header.threads_per_worker = options->threads_per_worker;
    header.placement = options->placement;
    header.mailbox_bytes = options->mailbox_bytes;
    return tell(header);
}

Code close(std::uint32_t cancel) {
    CallHeader header = call_of(CallKind::kClose);
    header.detail = cancel;
    return tell(header);
}

Code self(std::uint64_t* id, std::uint64_t* parent) {
    if (!is_claimed()) return fail(abi::kMisuse, "this process is no virtual thread");
    *id = thread_of_page();
    *parent = parent_thread;
    return abi::kDone;
}

Code describe(std::uint64_t thread, abi::Field field, abi::Buffer* text) {
    CallHeader header = call_of(CallKind::kDescribe);
    header.thread = thread;
    header.detail = field;
    Reply reply{};
    const Code code = ask(header, reply);
    if (code != abi::kDone) return code;
    *text = take_payload(reply);
    release(reply);
    return code;
}

Code members(abi::Buffer* ids) {
    CallHeader header = call_of(CallKind::kMembers);
    Reply reply{};
    const Code code = ask(header, reply);
    if (code != abi::kDone) return code;
    *ids = take_payload(reply);
    release(reply);
    return code;
}

Code spawn(abi::SpawnRequest* request, std::uint64_t* id) {
    CallHeader header = call_of(CallKind::kSpawn);
    if (!find_place(reinterpret_cast<const void*>(request->entry), header.entry) ||
        !find_place(reinterpret_cast<const void*>(request->function), header.function)) {
        return fail(abi::kMisuse,
                    "the function lies in no image that has a build id, so that other processes "
                    "cannot find it: link its library with -Wl,--build-id");
    }
    if (request->name_size > link::kMaxTextBytes) return fail(abi::kMisuse, "the name is too long");
    header.type = request->arguments.type;
    Reply reply{};
    const Code code = ask(header, reply, request->name, request->name_size,
                          request->arguments.bytes.data, request->arguments.bytes.size);
    if (code != abi::kDone) return code;
    *id = reply.header.thread;
    release(reply);
    release_buffer(&request->arguments.bytes);
    return code;
}

Code cancel(std::uint64_t thread) {
    CallHeader header = call_of(CallKind::kCancel);
    header.thread = thread;
    return tell(header);
}

Code next_event(std::int64_t timeout_ns, std::uint64_t awaited, abi::Event* event) {
    CallHeader header = call_of(CallKind::kNextEvent);
    header.timeout_ns = timeout_ns;
    header.thread = awaited;
    Reply reply{};
    const Code code = ask(header, reply);
    if (code != abi::kDone) return code;
    *event = {};
    event->kind = reply.header.detail;
    event->thread = reply.header.thread;
    event->outcome.kind = reply.header.outcome;
    event->outcome.payload.type = reply.header.type;
    event->outcome.payload.bytes = take_payload(reply);
    event->from = copy_of(reply.text, reply.header.text_bytes);
    release(reply);
    return code;
}

/// The payload passes to the backend when it is done.
Code consume(Code code, abi::Payload* payload) {
    if (code == abi::kDone) release_buffer(&payload->bytes);
    return code;
}

Code report(abi::Payload* payload) {
    CallHeader header = call_of(CallKind::kReport);
    return consume(tell(header, "", 0, payload), payload);
}

Code mailbox(const char* name, std::uint64_t name_size, std::uint64_t type, std::uint64_t* id) {
    if (name_size > link::kMaxTextBytes) return fail(abi::kMisuse, "the name is too long");
    CallHeader header = call_of(CallKind::kMailbox);
    header.type = type;
    Reply reply{};
    const Code code = ask(header, reply, name, name_size);
    if (code != abi::kDone) return code;
    *id = reply.header.mailbox;
    release(reply);
    return code;
}

Code send(const abi::Address* to, abi::Payload* payload, std::int64_t timeout_ns) {
    if (payload->bytes.size > abi::kMaxPayloadBytes) {
        return fail(abi::kOversized, "a message has at most 1 GiB");
    }
    CallHeader header = call_of(CallKind::kSend);
    header.timeout_ns = timeout_ns;
    header.thread = to->thread;
    header.mailbox = to->mailbox;
    return consume(tell(header, "", 0, payload), payload);
}

Code receive(const abi::Filter* filter, std::int64_t timeout_ns, abi::Message* message) {
    CallHeader header = call_of(CallKind::kReceive);
    header.timeout_ns = timeout_ns;
    header.mailbox = filter->mailbox;
    header.thread = filter->sender;
    header.type = filter->type;
    const std::uint64_t length = strnlen(filter->type_name, link::kMaxTextBytes);
    Reply reply{};
    const Code code = ask(header, reply, filter->type_name, length);
    if (code != abi::kDone) return code;
    message->sender = reply.header.thread;
    message->payload.type = reply.header.type;
    message->payload.bytes = take_payload(reply);
    release(reply);
    return code;
}

Code log(const char* text, std::uint64_t size) {
    fprintf(stderr, "[%s] %.*s\n", thread_name, static_cast<int>(size), text);
    return abi::kDone;
}

/// Tells what it came to, when all that it has written is out.
[[noreturn]] void end(std::uint32_t kind, std::uint64_t type, const void* bytes,
                      std::uint64_t size) {
    fflush(nullptr);
    CallHeader header = call_of(CallKind::kEnd);
    header.detail = kind;
    header.type = type;
    Reply reply{};
    if (ask(header, reply, "", 0, bytes, size) == abi::kDone) release(reply);
    exit(0);
}

[[noreturn]] void end_with_text(std::uint32_t kind, const char* text) {
    end(kind, 0, text, strlen(text));
}

}  // namespace

const abi::Backend kBackend{abi::kVersion, sizeof(abi::Backend),
                            allocate,      release_buffer,
                            failure_text,  open,
                            close,         self,
                            describe,      members,
                            spawn,         cancel,
                            next_event,    report,
                            mailbox,       send,
                            receive,       log};

void run_spawned() {
    if (const char* why = claim_page()) {
        fprintf(stderr, "ppdsm: %s\n", why);
        exit(127);
    }
    CallHeader header = call_of(CallKind::kBegin);
    Reply beginning{};
    const Code code = ask(header, beginning);
    if (code == abi::kCancelled) end_with_text(abi::kStopped, failure);
    if (code != abi::kDone) {
        fprintf(stderr, "ppdsm: cannot begin: %s\n", failure);
        exit(127);
    }
    parent_thread = beginning.header.thread;
    snprintf(thread_name, sizeof thread_name, "%s", beginning.text);
    void* entry = find_address(beginning.header.entry);
    void* function = find_address(beginning.header.function);
    if (entry == nullptr || function == nullptr) {
        end_with_text(abi::kCrashed,
                      "the program here is another build than the one that spawned the virtual "
                      "thread, or lacks a library that is loaded there");
    }
    abi::Payload arguments{beginning.header.type, take_payload(beginning)};
    release(beginning);
    abi::Outcome outcome{};
    reinterpret_cast<abi::Entry>(entry)(reinterpret_cast<abi::Function>(function), &arguments,
                                        &outcome);
    end(outcome.kind, outcome.payload.type, outcome.payload.bytes.data, outcome.payload.bytes.size);
}

}  // namespace ppdsm::preload
