#include "runtime/lib/preload/page_client.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace ppdsm::preload {

using link::AnswerHeader;
using link::CallHeader;
using link::CallPage;

namespace {

CallPage* page = nullptr;
pid_t claimed_by = 0;
std::uint64_t last_number = 0;
char no_text[] = "";

/// Takes the bytes of an answer, in parts of any size, to where they belong.
class ReplyReader {
public:
    explicit ReplyReader(Reply& reply) : reply_(reply) {}

    /// False: there is no memory, or it is no answer.
    bool take(const std::uint8_t* bytes, std::uint64_t size) {
        while (size > 0) {
            if (left_ == 0 && !next_target()) return false;
            const std::uint64_t count = size < left_ ? size : left_;
            memcpy(target_, bytes, count);
            target_ += count;
            left_ -= count;
            bytes += count;
            size -= count;
        }
        return true;
    }

private:
    bool next_target() {
        switch (stage_++) {
            case 0: return aim(&reply_.header, sizeof reply_.header);
            case 1: return begin_text();
            case 2: return begin_payload();
            default: return false;
        }
    }
    bool begin_text() {
        const std::uint32_t size = reply_.header.text_bytes;
        if (size > link::kMaxTextBytes) return false;
        if (size == 0) return next_target();
        auto* text = static_cast<char*>(malloc(size + 1));
        if (text == nullptr) return false;
        text[size] = 0;
        reply_.text = text;
        return aim(text, size);
    }
    bool begin_payload() {
        const std::uint64_t size = reply_.header.payload_bytes;
        if (size > abi::kMaxPayloadBytes || size == 0) return false;
        auto* data = static_cast<unsigned char*>(malloc(size));
        if (data == nullptr) return false;
        reply_.payload = {data, size, nullptr};
        return aim(data, size);
    }
    bool aim(void* target, std::uint64_t size) {
        target_ = static_cast<std::uint8_t*>(target);
        left_ = size;
        return true;
    }

    Reply& reply_;
    std::uint8_t* target_ = nullptr;
    std::uint64_t left_ = 0;
    int stage_ = 0;
};

enum class Came { kAnswer, kNewEpoch, kNoMemory };

Came read_answer(std::uint32_t epoch, Reply& reply) {
    const auto stop = [&] { return page->epoch.load(std::memory_order_acquire) != epoch; };
    ReplyReader reader(reply);
    std::uint64_t read = 0;
    bool has_room = true;
    while (true) {
        link::PartHeader part{};
        if (!link::await_part(page->answers, part, stop)) return Came::kNewEpoch;
        const bool is_current =
            part.epoch == epoch && part.offset == read && part.part_bytes <= link::kLaneBytes;
        if (is_current && has_room) has_room = reader.take(page->answers.bytes, part.part_bytes);
        link::take_part(page->answers);
        // It may have been overwritten while it was copied, if the host is another now.
        if (stop()) return Came::kNewEpoch;
        if (!is_current) continue;
        read += part.part_bytes;
        if (read >= part.total_bytes) return has_room ? Came::kAnswer : Came::kNoMemory;
    }
}

}  // namespace

const char* claim_page() {
    if (page != nullptr) {
        return claimed_by == getpid() ? nullptr : "a child process has no virtual computer";
    }
    const char* path = getenv("PPDSM_LINK");
    if (path == nullptr) return "PPDSM_LINK is not set: the program was not started by ppdsm exec";
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return "the link page that PPDSM_LINK names cannot be opened";
    struct stat status{};
    void* mapped = MAP_FAILED;
    if (fstat(fd, &status) == 0 &&
        static_cast<std::uint64_t>(status.st_size) >= link::kPageFileBytes) {
        mapped = mmap(nullptr, link::kPageFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (mapped == MAP_FAILED) return "the link page cannot be mapped";
    auto* found = static_cast<CallPage*>(mapped);
    std::uint32_t unclaimed = 0;
    if (found->magic != link::kPageMagic || found->version != link::kPageVersion) {
        munmap(mapped, link::kPageFileBytes);
        return "the link page is of another version of ppdsm";
    }
    if (!found->claimed.compare_exchange_strong(unclaimed, 1)) {
        munmap(mapped, link::kPageFileBytes);
        return "another process of this program has opened the virtual computer; a computation has "
               "one";
    }
    page = found;
    claimed_by = getpid();
    return nullptr;
}

bool is_claimed() { return page != nullptr && claimed_by == getpid(); }

std::uint64_t thread_of_page() { return page->thread; }

abi::Code make_call(CallHeader& header, const char* text, std::uint64_t text_bytes,
                    const void* payload, std::uint64_t payload_bytes, Reply& reply) {
    reply = {};
    reply.text = no_text;
    header.number = ++last_number;
    header.text_bytes = static_cast<std::uint32_t>(text_bytes);
    header.payload_bytes = payload_bytes;
    while (true) {
        const std::uint32_t epoch = page->epoch.load(std::memory_order_acquire);
        const auto stop = [&] { return page->epoch.load(std::memory_order_acquire) != epoch; };
        link::take_part(page->answers);
        link::LaneWriter writer(page->calls, epoch, sizeof header + text_bytes + payload_bytes);
        if (!writer.write(&header, sizeof header, stop) || !writer.write(text, text_bytes, stop) ||
            !writer.write(payload, payload_bytes, stop)) {
            continue;
        }
        switch (read_answer(epoch, reply)) {
            case Came::kAnswer:
                if (reply.header.number != header.number) break;
                return static_cast<abi::Code>(reply.header.code);
            case Came::kNoMemory: release(reply); return abi::kNoMemory;
            case Came::kNewEpoch: break;
        }
        release(reply);
    }
}

void release(Reply& reply) {
    if (reply.text != no_text) free(reply.text);
    free(reply.payload.data);
    reply = {};
    reply.text = no_text;
}

}  // namespace ppdsm::preload
