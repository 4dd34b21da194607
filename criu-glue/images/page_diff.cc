#include "criu-glue/images/page_diff.h"

#include <algorithm>
#include <cstring>

namespace ppdsm::images {
namespace {

// Read at once: enough to make the reads cheap, little beside what else is in memory.
constexpr std::uint64_t kBatchBytes = std::uint64_t{1} << 20;

class PageWalk {
public:
    PageWalk(const Side& before, const Side& after, const PageComparator& comparator,
             const std::function<void(std::uint64_t, PageFate)>& sink)
        : before_(before), after_(after), comparator_(comparator), sink_(sink) {}

    Status run() {
        std::size_t b = 0;
        std::size_t a = 0;
        std::uint64_t at = 0;
        const auto& old_extents = before_.space.extents;
        const auto& new_extents = after_.space.extents;
        while (b < old_extents.size() || a < new_extents.size()) {
            const Extent* old_extent = b < old_extents.size() ? &old_extents[b] : nullptr;
            const Extent* new_extent = a < new_extents.size() ? &new_extents[a] : nullptr;
            const std::uint64_t start =
                std::min(next_start(old_extent, at), next_start(new_extent, at));
            const std::uint64_t end =
                std::min(next_end(old_extent, start), next_end(new_extent, start));
            const bool in_old = old_extent != nullptr && old_extent->start <= start;
            const bool in_new = new_extent != nullptr && new_extent->start <= start;
            if (in_old && in_new) {
                PPDSM_TRY(compare(*old_extent, *new_extent, start, end));
            } else {
                tell(start, end, in_new ? PageFate::kAdded : PageFate::kRemoved);
            }
            at = end;
            if (old_extent != nullptr && old_extent->end <= at) ++b;
            if (new_extent != nullptr && new_extent->end <= at) ++a;
        }
        return {};
    }

private:
    static std::uint64_t next_start(const Extent* extent, std::uint64_t at) {
        return extent == nullptr ? UINT64_MAX : std::max(extent->start, at);
    }
    // Where it begins to matter or ceases to.
    static std::uint64_t next_end(const Extent* extent, std::uint64_t start) {
        if (extent == nullptr) return UINT64_MAX;
        return extent->start > start ? extent->start : extent->end;
    }

    void tell(std::uint64_t start, std::uint64_t end, PageFate fate) {
        for (std::uint64_t page = start; page < end; page += before_.space.page_bytes) {
            sink_(page, fate);
        }
    }

    Status compare(const Extent& old_extent, const Extent& new_extent, std::uint64_t start,
                   std::uint64_t end) {
        for (std::uint64_t from = start; from < end; from += kBatchBytes) {
            PPDSM_TRY(
                compare_batch(old_extent, new_extent, from, std::min(end, from + kBatchBytes)));
        }
        return {};
    }

    Status compare_batch(const Extent& old_extent, const Extent& new_extent, std::uint64_t from,
                         std::uint64_t to) {
        const std::uint64_t page_bytes = before_.space.page_bytes;
        const std::uint64_t old_offset = old_extent.file_offset + (from - old_extent.start);
        const std::uint64_t new_offset = new_extent.file_offset + (from - new_extent.start);
        const std::string& old_name = before_.space.page_files[old_extent.file];
        const std::string& new_name = after_.space.page_files[new_extent.file];
        bool loaded = false;
        for (std::uint64_t done = 0; done < to - from; done += page_bytes) {
            std::optional<bool> equal;
            if (comparator_ != nullptr) {
                equal = comparator_({old_name, old_offset + done, page_bytes},
                                    {new_name, new_offset + done, page_bytes});
            }
            if (!equal && !loaded) {
                old_bytes_.resize(to - from);
                new_bytes_.resize(to - from);
                PPDSM_TRY(before_.source.read(old_name, old_offset, old_bytes_));
                PPDSM_TRY(after_.source.read(new_name, new_offset, new_bytes_));
                loaded = true;
            }
            if (!equal) {
                equal = std::memcmp(old_bytes_.data() + done, new_bytes_.data() + done,
                                    page_bytes) == 0;
            }
            sink_(from + done, *equal ? PageFate::kUnchanged : PageFate::kChanged);
        }
        return {};
    }

    const Side& before_;
    const Side& after_;
    const PageComparator& comparator_;
    const std::function<void(std::uint64_t, PageFate)>& sink_;
    Bytes old_bytes_;
    Bytes new_bytes_;
};

}  // namespace

Status compare_pages(const Side& before, const Side& after, const PageComparator& comparator,
                     const std::function<void(std::uint64_t address, PageFate)>& sink) {
    if (before.space.page_bytes != after.space.page_bytes) {
        return fail(Code::kUnsupported,
                    "the two checkpoints are of machines with pages of different size");
    }
    return PageWalk(before, after, comparator, sink).run();
}

}  // namespace ppdsm::images
