#include "runtime/peer/vthreads/call_link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <utility>

#include "runtime/lib/link/call_layout.h"
#include "runtime/lib/link/call_page.h"

namespace ppdsm {

namespace fs = std::filesystem;
using link::CallPage;

Status create_call_page(const fs::path& path, ThreadId thread) {
    PPDSM_ASSIGN(const OwnedFd file, open_file(path, O_RDWR | O_CREAT | O_EXCL, 0600));
    if (::ftruncate(file.get(), static_cast<off_t>(link::kPageFileBytes)) != 0) {
        return fail_errno("make room in " + path.string());
    }
    const auto number = static_cast<std::uint64_t>(thread);
    const auto put = [&](const void* field, std::size_t size, std::size_t offset) {
        return write_all_at(file, {static_cast<const std::uint8_t*>(field), size}, offset);
    };
    PPDSM_TRY(put(&link::kPageMagic, sizeof link::kPageMagic, offsetof(CallPage, magic)));
    PPDSM_TRY(put(&link::kPageVersion, sizeof link::kPageVersion, offsetof(CallPage, version)));
    return put(&number, sizeof number, offsetof(CallPage, thread));
}

struct CallLink::Mapping {
    explicit Mapping(void* mapped) : page(static_cast<CallPage*>(mapped)) {}
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping() { ::munmap(page, link::kPageFileBytes); }
    CallPage* page;
};

Result<std::unique_ptr<CallLink>> CallLink::attach(const fs::path& path, Callbacks callbacks) {
    PPDSM_ASSIGN(const OwnedFd file, open_file(path, O_RDWR | O_NOFOLLOW));
    struct stat status{};
    if (::fstat(file.get(), &status) != 0) return fail_errno("look at " + path.string());
    if (std::cmp_not_equal(status.st_size, link::kPageFileBytes)) {
        return fail(Code::kCorrupt,
                    fmt::format("the link page {} has {} bytes instead of {}", path.string(),
                                status.st_size, link::kPageFileBytes));
    }
    void* mapped =
        ::mmap(nullptr, link::kPageFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (mapped == MAP_FAILED) return fail_errno("map " + path.string());
    auto mapping = std::make_unique<Mapping>(mapped);
    if (mapping->page->magic != link::kPageMagic || mapping->page->version != link::kPageVersion) {
        return fail(Code::kCorrupt, "the link page " + path.string() + " is of another version");
    }
    return std::unique_ptr<CallLink>(new CallLink(std::move(mapping), std::move(callbacks)));
}

CallLink::CallLink(std::unique_ptr<Mapping> mapping, Callbacks callbacks)
    : mapping_(std::move(mapping)), callbacks_(std::move(callbacks)) {
    epoch_ = mapping_->page->epoch.fetch_add(1, std::memory_order_acq_rel) + 1;
    thread_ = std::thread([this] { serve(); });
}

CallLink::~CallLink() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    answered_.notify_all();
    futex_wake(mapping_->page->calls.written);
    futex_wake(mapping_->page->answers.taken);
    thread_.join();
}

void CallLink::answer(std::uint64_t number, Bytes bytes) {
    {
        const std::lock_guard lock(mutex_);
        if (number != under_way_) return;
        answer_ = std::move(bytes);
        under_way_ = 0;
    }
    answered_.notify_all();
}

/// The last call's answer may have reached the process, or be on its way.
std::uint64_t CallLink::answered_calls() {
    const std::lock_guard lock(mutex_);
    return last_number_ == 0 ? 0 : last_number_ - 1;
}

void CallLink::serve() {
    while (!is_stopping()) {
        Result<std::optional<Bytes>> call = read_call();
        if (!call) return callbacks_.on_broken(call.error());
        if (!*call) return;
        begin(**call);
        callbacks_.on_call(*std::move(*call));
        if (!write_answer()) return;
    }
}

/// It has a whole header.
void CallLink::begin(ByteView call) {
    const std::lock_guard lock(mutex_);
    link::CallHeader header{};
    std::memcpy(&header, call.data(), sizeof header);
    under_way_ = last_number_ = header.number;
    answer_.reset();
}

/// Nothing: the link is being closed.
Result<std::optional<Bytes>> CallLink::read_call() {
    link::Lane& lane = mapping_->page->calls;
    Bytes call;
    std::uint64_t total_bytes = 0;
    while (true) {
        link::PartHeader part{};
        if (!link::await_part(lane, part, [this] { return is_stopping(); })) return std::nullopt;
        if (part.epoch != epoch_) {  // Of before the process was restored.
            link::take_part(lane);
            continue;
        }
        // Between epochs the process begins anew, so a first part is always welcome.
        if (part.offset == 0) {
            call.clear();
            total_bytes = part.total_bytes;
        }
        const bool is_sound = part.part_bytes > 0 && part.part_bytes <= link::kLaneBytes &&
                              part.offset == call.size() && part.total_bytes == total_bytes &&
                              total_bytes >= sizeof(link::CallHeader) &&
                              total_bytes <= link::kMaxCallBytes &&
                              part.part_bytes <= total_bytes - call.size();
        if (!is_sound) {
            return fail(Code::kCorrupt,
                        fmt::format("the program has damaged its link page: a part of {} bytes at "
                                    "{} of {}, after {}",
                                    part.part_bytes, part.offset, part.total_bytes, call.size()));
        }
        call.insert(call.end(), lane.bytes, lane.bytes + part.part_bytes);
        link::take_part(lane);
        if (call.size() == total_bytes) return call;
    }
}

/// False: the link is being closed.
bool CallLink::write_answer() {
    Bytes answer;
    {
        std::unique_lock lock(mutex_);
        answered_.wait(lock, [this] { return answer_.has_value() || is_stopping(); });
        if (is_stopping()) return false;
        answer = *std::exchange(answer_, std::nullopt);
    }
    link::LaneWriter writer(mapping_->page->answers, epoch_, answer.size());
    return writer.write(answer.data(), answer.size(), [this] { return is_stopping(); });
}

}  // namespace ppdsm
