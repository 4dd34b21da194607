#include "criu-glue/images/address_space.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>

#include "criu-glue/images/flag_text.h"
#include "criu-glue/images/image_file.h"
#include "criu-glue/images/pagemap.h"
#include "criu_images.pb-c.h"

namespace ppdsm::images {
namespace {

// CRIU's status bits of a memory area.
constexpr std::uint32_t kVsyscall = 1U << 2;
constexpr std::uint32_t kVdso = 1U << 3;
constexpr std::uint32_t kHeap = 1U << 5;
constexpr std::uint32_t kFilePrivate = 1U << 6;
constexpr std::uint32_t kFileShared = 1U << 7;
constexpr std::uint32_t kAnonymousShared = 1U << 8;
constexpr std::uint32_t kAnonymousPrivate = 1U << 9;
constexpr std::uint32_t kSysvIpc = 1U << 10;
constexpr std::uint32_t kVvar = 1U << 12;
constexpr std::uint32_t kMemfd = 1U << 14;

// Many areas may map one segment of many pieces: bounds what a corrupt image can make of that.
constexpr std::size_t kMaxExtents = std::size_t{1} << 23;

class AddressSpaceReader {
public:
    AddressSpaceReader(ImageSource& source, const FileTable& files, std::uint32_t pid)
        : source_(source), files_(files), image_name_(fmt::format("mm-{}.img", pid)), pid_(pid) {}

    Result<AddressSpace> read() {
        PPDSM_ASSIGN(memory_, read_single<PpdsmImages__Memory>(source_, image_name_, Magic::kMemory,
                                                               ppdsm_images__memory__descriptor));
        space_.exe_file = memory_->exe_file;
        space_.arguments_start = memory_->arguments_start;
        space_.arguments_end = memory_->arguments_end;
        PPDSM_TRY(add_private_pages());
        std::uint64_t end = 0;
        for (std::size_t i = 0; i < memory_->n_areas; ++i) {
            const PpdsmImages__MemoryArea& area = *memory_->areas[i];
            if (area.start < end || area.end <= area.start) {
                return corrupt(image_name_, fmt::format("has an area {:#x}-{:#x} out of order",
                                                        area.start, area.end));
            }
            end = area.end;
            PPDSM_TRY(add_area(area));
        }
        PPDSM_TRY(order_extents());
        count_image_bytes();
        return std::move(space_);
    }

private:
    // A process whose memory is all in files has no page map.
    Status add_private_pages() {
        const std::string name = fmt::format("pagemap-{}.img", pid_);
        const Result<Pagemap> pagemap = read_pagemap(source_, name);
        if (!pagemap && pagemap.error().code() == Code::kNotFound) return {};
        if (!pagemap) return fail(pagemap.error());
        if (pagemap->parent_bytes != 0) {
            return fail(Code::kUnsupported,
                        name +
                            ": has pages in a parent checkpoint, which is not at hand; make "
                            "the dump without --track-mem");
        }
        space_.page_bytes = pagemap->page_bytes;
        const std::uint32_t file = add_page_file(pagemap->pages_name);
        for (const PageRun& run : pagemap->runs) {
            PPDSM_TRY(
                add_extent({run.address, run.address + run.size_bytes, run.file_offset, file}));
        }
        return {};
    }

    Status add_area(const PpdsmImages__MemoryArea& area) {
        const bool shared = (area.flags & MAP_SHARED) != 0;
        Mapping mapping;
        mapping.start = area.start;
        mapping.end = area.end;
        mapping.protection = protection_text(area.protection, shared);
        mapping.flags = map_flags_text(area.flags);
        mapping.offset_bytes = area.offset;
        PPDSM_TRY(name_mapping(area, mapping));
        if ((area.status & kMemfd) != 0 && shared) {
            const OpenFile* file = files_.find(static_cast<std::uint32_t>(area.object));
            if (file->segment) PPDSM_TRY(add_segment(area, *file->segment));
        } else if (mapping.kind == MappingKind::kSharedAnonymous) {
            PPDSM_TRY(add_segment(area, area.object));
        }
        space_.mappings.push_back(std::move(mapping));
        return {};
    }

    Status name_mapping(const PpdsmImages__MemoryArea& area, Mapping& mapping) {
        const std::uint32_t status = area.status;
        if ((status & (kVdso | kVvar | kVsyscall)) != 0) {
            mapping.kind = MappingKind::kVdso;
            mapping.name = (status & kVdso) != 0   ? "[vdso]"
                           : (status & kVvar) != 0 ? "[vvar]"
                                                   : "[vsyscall]";
        } else if ((status & kMemfd) != 0) {
            mapping.kind = MappingKind::kMemfd;
            PPDSM_TRY(name_after_file(area, mapping));
            name_kernel_file(mapping);
        } else if ((status & (kFilePrivate | kFileShared)) != 0) {
            mapping.kind = MappingKind::kFile;
            return name_after_file(area, mapping);
        } else if ((status & kSysvIpc) != 0) {
            mapping.kind = MappingKind::kSysvShared;
            mapping.name = "[sysv]";
        } else if ((status & kAnonymousShared) != 0) {
            mapping.kind = MappingKind::kSharedAnonymous;
        } else if ((status & kHeap) != 0) {
            mapping.kind = MappingKind::kHeap;
            mapping.name = "[heap]";
        } else if (area.start <= memory_->stack_start && memory_->stack_start < area.end) {
            mapping.kind = MappingKind::kStack;
            mapping.name = "[stack]";
        } else if ((status & kAnonymousPrivate) != 0) {
            mapping.kind = MappingKind::kAnonymous;
        }
        return {};
    }

    // To CRIU 4 shared anonymous and System V memory are memfds that bear the kernel's own names.
    static void name_kernel_file(Mapping& mapping) {
        if (mapping.name == "memfd:/dev/zero") {
            mapping.kind = MappingKind::kSharedAnonymous;
            mapping.name.clear();
        } else if (mapping.name.starts_with("memfd:/SYSV")) {
            mapping.kind = MappingKind::kSysvShared;
            mapping.name = "[sysv]";
        }
    }

    Status name_after_file(const PpdsmImages__MemoryArea& area, Mapping& mapping) {
        const OpenFile* file = area.object <= UINT32_MAX
                                   ? files_.find(static_cast<std::uint32_t>(area.object))
                                   : nullptr;
        if (file == nullptr) {
            return corrupt(image_name_, fmt::format("maps file {} at {:#x}, which files.img lacks",
                                                    area.object, area.start));
        }
        mapping.name = file->description;
        mapping.deleted = file->deleted;
        mapping.file_bytes = file->size_bytes;
        return {};
    }

    Status add_segment(const PpdsmImages__MemoryArea& area, std::uint64_t segment) {
        PPDSM_ASSIGN(const Pagemap* pagemap, segment_pagemap(segment));
        if (pagemap == nullptr || pagemap->runs.empty()) return {};
        const std::uint32_t file = add_page_file(pagemap->pages_name);
        const std::uint64_t length = area.end - area.start;
        if (area.offset > UINT64_MAX - length) {
            return corrupt(image_name_,
                           fmt::format("maps offset {:#x} at {:#x}", area.offset, area.start));
        }
        auto run = std::lower_bound(pagemap->runs.begin(), pagemap->runs.end(), area.offset,
                                    [](const PageRun& candidate, std::uint64_t offset) {
                                        return candidate.address + candidate.size_bytes <= offset;
                                    });
        for (; run != pagemap->runs.end() && run->address < area.offset + length; ++run) {
            const std::uint64_t from = std::max(run->address, area.offset);
            const std::uint64_t to = std::min(run->address + run->size_bytes, area.offset + length);
            const std::uint64_t start = area.start + (from - area.offset);
            PPDSM_TRY(add_extent(
                {start, start + (to - from), run->file_offset + (from - run->address), file}));
        }
        return {};
    }

    // A segment that nobody wrote to has no image.
    Result<const Pagemap*> segment_pagemap(std::uint64_t segment) {
        const auto known = segments_.find(segment);
        if (known != segments_.end()) return &known->second;
        const std::string name = fmt::format("pagemap-shmem-{}.img", segment);
        Result<Pagemap> pagemap = read_pagemap(source_, name);
        if (!pagemap && pagemap.error().code() == Code::kNotFound) return nullptr;
        if (!pagemap) return fail(pagemap.error());
        return &segments_.emplace(segment, *std::move(pagemap)).first->second;
    }

    Status add_extent(const Extent& extent) {
        if (space_.extents.size() == kMaxExtents) {
            return corrupt(image_name_, "is made of more pieces than a sound one");
        }
        space_.extents.push_back(extent);
        return {};
    }

    std::uint32_t add_page_file(const std::string& name) {
        const auto found = std::find(space_.page_files.begin(), space_.page_files.end(), name);
        if (found == space_.page_files.end()) space_.page_files.push_back(name);
        return static_cast<std::uint32_t>(
            std::find(space_.page_files.begin(), space_.page_files.end(), name) -
            space_.page_files.begin());
    }

    Status order_extents() {
        std::sort(space_.extents.begin(), space_.extents.end(),
                  [](const Extent& a, const Extent& b) { return a.start < b.start; });
        for (std::size_t i = 1; i < space_.extents.size(); ++i) {
            if (space_.extents[i].start < space_.extents[i - 1].end) {
                return corrupt(image_name_,
                               fmt::format("has the page at {:#x} twice", space_.extents[i].start));
            }
        }
        return {};
    }

    void count_image_bytes() {
        auto extent = space_.extents.begin();
        for (Mapping& mapping : space_.mappings) {
            while (extent != space_.extents.end() && extent->end <= mapping.start) ++extent;
            // An extent may reach into the next mapping: keep it for that one.
            for (auto each = extent; each != space_.extents.end() && each->start < mapping.end;
                 ++each) {
                mapping.image_bytes +=
                    std::min(each->end, mapping.end) - std::max(each->start, mapping.start);
            }
        }
    }

    ImageSource& source_;
    const FileTable& files_;
    std::string image_name_;
    std::uint32_t pid_;
    MessagePtr<PpdsmImages__Memory> memory_;
    std::map<std::uint64_t, Pagemap> segments_;
    AddressSpace space_;
};

}  // namespace

Result<AddressSpace> read_address_space(ImageSource& source, const FileTable& files,
                                        std::uint32_t pid) {
    return AddressSpaceReader(source, files, pid).read();
}

Result<std::vector<AddressRange>> read_memory(ImageSource& source, const AddressSpace& space,
                                              std::uint64_t address, std::span<std::uint8_t> into) {
    if (into.size() > UINT64_MAX - address) {
        return fail(Code::kInvalid,
                    fmt::format("no memory has {} bytes from {:#x} on", into.size(), address));
    }
    const std::uint64_t end = address + into.size();
    std::vector<AddressRange> holes;
    const auto fill_hole = [&](std::uint64_t from, std::uint64_t to) {
        if (from == to) return;
        std::fill_n(into.begin() + static_cast<std::ptrdiff_t>(from - address), to - from,
                    std::uint8_t{0});
        holes.push_back({from, to});
    };
    std::uint64_t at = address;
    auto extent = std::upper_bound(
        space.extents.begin(), space.extents.end(), address,
        [](std::uint64_t wanted, const Extent& each) { return wanted < each.end; });
    for (; extent != space.extents.end() && extent->start < end; ++extent) {
        const std::uint64_t from = std::max(extent->start, at);
        const std::uint64_t to = std::min(extent->end, end);
        fill_hole(at, from);
        PPDSM_TRY(source.read(space.page_files[extent->file],
                              extent->file_offset + (from - extent->start),
                              into.subspan(from - address, to - from)));
        at = to;
    }
    fill_hole(at, end);
    return holes;
}

}  // namespace ppdsm::images
