#include "runtime/peer/vthreads/call_codec.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "runtime/lib/link/call_layout.h"

namespace ppdsm {

using link::AnswerHeader;
using link::CallHeader;
using link::CallKind;
using link::ContentKind;

namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

std::string hex_of(const link::Place& place) {
    std::string text;
    for (const std::uint8_t byte : place.build_id) {
        text += kHexDigits[byte >> 4];
        text += kHexDigits[byte & 15];
    }
    return text;
}

link::Place place_of(const std::string& build_id, std::uint64_t offset) {
    link::Place place{};
    place.offset = offset;
    for (std::size_t i = 0; i + 1 < build_id.size() && i / 2 < link::kBuildIdBytes; i += 2) {
        const auto digit = [&](char c) { return static_cast<unsigned>(kHexDigits.find(c)) & 15U; };
        place.build_id[i / 2] =
            static_cast<std::uint8_t>(digit(build_id[i]) << 4 | digit(build_id[i + 1]));
    }
    return place;
}

/// The parts of a call, of sizes that have been checked.
struct Parts {
    CallHeader header{};
    std::string text;
    Value payload;
};

Result<Parts> take_apart(ByteView bytes) {
    Parts parts;
    if (bytes.size() < sizeof parts.header) {
        return fail(Code::kCorrupt, fmt::format("a call of {} bytes", bytes.size()));
    }
    std::memcpy(&parts.header, bytes.data(), sizeof parts.header);
    const CallHeader& header = parts.header;
    if (header.text_bytes > link::kMaxTextBytes || header.payload_bytes > abi::kMaxPayloadBytes ||
        bytes.size() != sizeof header + header.text_bytes + header.payload_bytes) {
        return fail(Code::kCorrupt,
                    fmt::format("a call of {} bytes says that it has {} of text and {} of payload",
                                bytes.size(), header.text_bytes, header.payload_bytes));
    }
    const ByteView text = bytes.subspan(sizeof header, header.text_bytes);
    parts.text = as_text(text);
    const ByteView payload = bytes.subspan(sizeof header + header.text_bytes);
    parts.payload.type = header.type;
    if (!payload.empty()) {
        parts.payload.bytes = std::make_shared<const Bytes>(payload.begin(), payload.end());
    }
    return parts;
}

abi::Options options_of(const CallHeader& header) {
    return {header.workers, header.min_workers, header.threads_per_worker, header.placement,
            header.mailbox_bytes};
}

Result<Call> call_of(Parts parts) {
    const CallHeader& header = parts.header;
    const ThreadId thread{header.thread};
    const MailboxId mailbox{header.mailbox};
    switch (header.kind) {
        case CallKind::kBegin: return call::Begin{};
        case CallKind::kOpen: return call::Open{options_of(header)};
        case CallKind::kClose: return call::Close{header.detail != 0};
        case CallKind::kDescribe:
            return call::Describe{thread, header.detail == abi::kPeer ? abi::kPeer : abi::kName};
        case CallKind::kMembers: return call::Members{};
        case CallKind::kSpawn: {
            EntryPoint place{hex_of(header.entry), header.entry.offset, hex_of(header.function),
                             header.function.offset};
            return call::Spawn{std::move(place), std::move(parts.payload), std::move(parts.text)};
        }
        case CallKind::kCancel: return call::Cancel{thread};
        case CallKind::kNextEvent: return call::NextEvent{thread};
        case CallKind::kReport: return call::Report{std::move(parts.payload)};
        case CallKind::kMailbox: return call::OpenMailbox{std::move(parts.text), header.type};
        case CallKind::kSend: return call::Send{thread, mailbox, std::move(parts.payload)};
        case CallKind::kReceive:
            return call::Receive{mailbox, thread, header.type, std::move(parts.text)};
        case CallKind::kEnd:
            if (header.detail > abi::kStopped) break;
            return call::End{
                {static_cast<abi::OutcomeKind>(header.detail), std::move(parts.payload)}};
    }
    return fail(Code::kCorrupt,
                fmt::format("a call of kind {}, detail {}, which there is not",
                            static_cast<std::uint32_t>(header.kind), header.detail));
}

/// Fills in a header, and says what goes behind it.
struct Writer {
    AnswerHeader& header;
    std::string_view text;
    ByteView payload;
    Bytes own;  ///< Where `payload` lies, if nowhere else.

    void put(const Value& value) {
        header.type = value.type;
        if (value.bytes != nullptr) payload = *value.bytes;
    }
    void operator()(std::monostate) {}
    void operator()(ThreadId id) {
        header.content = ContentKind::kThread;
        header.thread = static_cast<std::uint64_t>(id);
    }
    void operator()(MailboxId id) {
        header.content = ContentKind::kMailbox;
        header.mailbox = static_cast<std::uint64_t>(id);
    }
    void operator()(const std::string& said) {
        header.content = ContentKind::kText;
        payload = as_bytes(said);
    }
    void operator()(const std::vector<ThreadId>& ids) {
        header.content = ContentKind::kThreads;
        own.resize(ids.size() * sizeof(ThreadId));
        if (!ids.empty()) std::memcpy(own.data(), ids.data(), own.size());
        payload = own;
    }
    void operator()(const ThreadEvent& event) {
        header.content = ContentKind::kEvent;
        header.detail = event.kind;
        header.outcome = event.outcome.kind;
        header.thread = static_cast<std::uint64_t>(event.thread);
        text = event.from;
        put(event.outcome.value);
    }
    void operator()(const ThreadMessage& message) {
        header.content = ContentKind::kMessage;
        header.thread = static_cast<std::uint64_t>(message.sender);
        put(message.value);
    }
    void operator()(const Beginning& beginning) {
        header.content = ContentKind::kBeginning;
        header.thread = static_cast<std::uint64_t>(beginning.parent);
        header.entry = place_of(beginning.place.build_id, beginning.place.entry_offset);
        header.function =
            place_of(beginning.place.function_build_id, beginning.place.function_offset);
        text = beginning.name;
        put(beginning.arguments);
    }
};

}  // namespace

Result<ThreadCall> decode_call(ThreadId thread, ByteView bytes) {
    PPDSM_ASSIGN(Parts parts, take_apart(bytes));
    ThreadCall decoded;
    decoded.thread = thread;
    decoded.number = parts.header.number;
    decoded.timeout_ns = parts.header.timeout_ns;
    decoded.digest = XXH3_64bits(bytes.data(), bytes.size());
    PPDSM_ASSIGN(decoded.call, call_of(std::move(parts)));
    return decoded;
}

Bytes encode_answer(std::uint64_t number, const CallAnswer& answer) {
    AnswerHeader header{};
    Writer writer{header, answer.text, {}, {}};
    std::visit(writer, answer.content);
    header.number = number;
    header.code = answer.code;
    writer.text = writer.text.substr(0, link::kMaxTextBytes);
    header.text_bytes = static_cast<std::uint32_t>(writer.text.size());
    header.payload_bytes = writer.payload.size();
    Bytes bytes(sizeof header + writer.text.size() + writer.payload.size());
    std::memcpy(bytes.data(), &header, sizeof header);
    auto* rest = bytes.data() + sizeof header;
    rest = std::copy(writer.text.begin(), writer.text.end(), rest);
    std::copy(writer.payload.begin(), writer.payload.end(), rest);
    return bytes;
}

}  // namespace ppdsm
