#include "runtime/peer/vthreads/call_journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstring>

#include "runtime/lib/link/call_layout.h"
#include "runtime/peer/vthreads/call_codec.h"

namespace ppdsm {

using namespace switchboard;

namespace {

constexpr std::size_t kHeadBytes = 12;
constexpr std::size_t kFixedBytes = 25;

struct Fields {
    std::int64_t at_us = 0;
    std::uint8_t kind = 0;  ///< The place among Event's alternatives.
    std::uint64_t thread = 0;
    std::uint64_t calls = 0;
    Bytes rest;
};

template <typename Number>
void put(Bytes& bytes, Number number) {
    const std::size_t at = bytes.size();
    bytes.resize(at + sizeof number);
    std::memcpy(bytes.data() + at, &number, sizeof number);
}

template <typename Number>
Number take(ByteView& bytes) {
    Number number{};
    std::memcpy(&number, bytes.data(), sizeof number);
    bytes = bytes.subspan(sizeof number);
    return number;
}

/// What of an event its fields hold.
struct Describe {
    Fields& fields;
    void text(const std::string& said) const { fields.rest.assign(said.begin(), said.end()); }
    void of(ThreadId id) const { fields.thread = static_cast<std::uint64_t>(id); }
    void operator()(const Tick&) const {}
    void operator()(const Called& event) const { of(event.call.thread); }
    void operator()(const Placed& event) const { of(event.thread), text(event.peer); }
    void operator()(const NotPlaced& event) const { of(event.thread), text(event.why); }
    void operator()(const Covered& event) const { of(event.thread), fields.calls = event.calls; }
    void operator()(const RolledBack& event) const { of(event.thread), fields.calls = event.calls; }
    void operator()(const Gone& event) const { of(event.thread), text(event.how); }
    void operator()(const WorkerJoined& event) const { text(event.peer); }
    void operator()(const WorkerLost& event) const { text(event.peer); }
};

Result<Event> event_of(const Fields& fields) {
    const ThreadId thread{fields.thread};
    const std::string text(fields.rest.begin(), fields.rest.end());
    switch (fields.kind) {
        case 0: return Tick{};
        case 1: {
            PPDSM_ASSIGN(ThreadCall call, decode_call(thread, fields.rest));
            return Called{std::move(call)};
        }
        case 2: return Placed{thread, text};
        case 3: return NotPlaced{thread, text};
        case 4: return Covered{thread, fields.calls};
        case 5: return RolledBack{thread, fields.calls};
        case 6: return Gone{thread, text};
        case 7: return WorkerJoined{text};
        case 8: return WorkerLost{text};
        default: return fail(Code::kCorrupt, "a journal of calls of a later release");
    }
}
static_assert(std::variant_size_v<Event> == 9);

/// The record at `offset`; nothing when it is torn.
Result<std::optional<Bytes>> read_record(const OwnedFd& file, std::uint64_t offset,
                                         std::uint64_t file_bytes) {
    Bytes head(kHeadBytes);
    if (file_bytes - offset < kHeadBytes) return std::nullopt;
    PPDSM_TRY(read_exactly_at(file, head, offset));
    ByteView rest = head;
    const auto size = take<std::uint32_t>(rest);
    const auto checksum = take<std::uint64_t>(rest);
    const std::uint64_t left = file_bytes - offset - kHeadBytes;
    if (size < kFixedBytes || size > left) return std::nullopt;
    Bytes record(size);
    PPDSM_TRY(read_exactly_at(file, record, offset + kHeadBytes));
    if (XXH3_64bits(record.data(), record.size()) != checksum) return std::nullopt;
    return record;
}

}  // namespace

Result<CallJournal> CallJournal::open(const std::filesystem::path& path, const Replay& replay) {
    PPDSM_ASSIGN(OwnedFd file, open_file(path, O_RDWR | O_CREAT | O_APPEND, 0600));
    struct stat status{};
    if (::fstat(file.get(), &status) != 0) return fail_errno("look at " + path.string());
    const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
    CallJournal journal(std::move(file));
    std::uint64_t offset = 0;
    while (offset < file_bytes) {
        PPDSM_ASSIGN(const std::optional<Bytes> record,
                     read_record(journal.file_, offset, file_bytes));
        if (!record) break;
        ByteView view = *record;
        Fields fields;
        fields.at_us = take<std::int64_t>(view);
        fields.kind = take<std::uint8_t>(view);
        fields.thread = take<std::uint64_t>(view);
        fields.calls = take<std::uint64_t>(view);
        fields.rest.assign(view.begin(), view.end());
        PPDSM_ASSIGN(const Event event, event_of(fields));
        replay(fields.at_us, event);
        journal.last_us_ = fields.at_us;
        offset += kHeadBytes + record->size();
    }
    if (offset < file_bytes && ::ftruncate(journal.file_.get(), static_cast<off_t>(offset)) != 0) {
        return fail_errno("cut " + path.string());
    }
    return journal;
}

Status CallJournal::append(std::int64_t at_us, const Event& event, ByteView call) {
    Fields fields;
    fields.at_us = last_us_ = at_us;
    fields.kind = static_cast<std::uint8_t>(event.index());
    std::visit(Describe{fields}, event);
    if (std::holds_alternative<Called>(event)) fields.rest.assign(call.begin(), call.end());
    Bytes body;
    put(body, fields.at_us);
    put(body, fields.kind);
    put(body, fields.thread);
    put(body, fields.calls);
    body.insert(body.end(), fields.rest.begin(), fields.rest.end());
    Bytes record;
    put(record, static_cast<std::uint32_t>(body.size()));
    put(record, static_cast<std::uint64_t>(XXH3_64bits(body.data(), body.size())));
    record.insert(record.end(), body.begin(), body.end());
    return write_all(file_, record);
}

}  // namespace ppdsm
