#include "criu-glue/images/pagemap.h"

#include <fmt/format.h>

#include "criu-glue/images/image_file.h"
#include "criu_images.pb-c.h"

namespace ppdsm::images {
namespace {

// CRIU's flags of a page map entry.
constexpr std::uint32_t kInParent = 1U << 0;
constexpr std::uint32_t kPresent = 1U << 2;

// Keeps every product and sum below 2^64.
constexpr std::uint64_t kMaxPages = std::uint64_t{1} << 44;
constexpr std::uint64_t kMaxAddress = std::uint64_t{1} << 62;

struct Entry {
    std::uint64_t address;
    std::uint64_t pages;
    bool present;
    bool in_parent;
};

Entry entry_of(const PpdsmImages__PagemapEntry& record) {
    Entry entry{};
    entry.address = record.address;
    // Later versions count in 64 bits and leave the old number for old readers.
    entry.pages = record.has_pages != 0 ? record.pages : record.short_pages;
    // Before it had flags, what was not in the parent was present.
    const std::uint32_t flags = record.has_flags != 0   ? record.flags
                                : record.in_parent != 0 ? kInParent
                                                        : kPresent;
    entry.in_parent = (flags & kInParent) != 0;
    entry.present = !entry.in_parent && (flags & kPresent) != 0;
    return entry;
}

Result<std::vector<Entry>> read_entries(RecordReader& reader, Pagemap& pagemap) {
    PPDSM_ASSIGN(const auto head,
                 reader.next<PpdsmImages__PagemapHead>(ppdsm_images__pagemap_head__descriptor));
    pagemap.pages_name = fmt::format("pages-{}.img", head->pages_id);
    std::vector<Entry> entries;
    while (!reader.at_end()) {
        PPDSM_ASSIGN(const auto record, reader.next<PpdsmImages__PagemapEntry>(
                                            ppdsm_images__pagemap_entry__descriptor));
        const Entry entry = entry_of(*record);
        if (entry.pages == 0 || entry.pages > kMaxPages || entry.address >= kMaxAddress) {
            return corrupt(reader.image_name(),
                           fmt::format("names {} pages at {:#x}", entry.pages, entry.address));
        }
        entries.push_back(entry);
    }
    return entries;
}

Result<std::uint64_t> page_size_of(ImageSource& source, const std::string& name,
                                   const std::string& pages_name, std::uint64_t pages) {
    const Result<std::uint64_t> size = source.size(pages_name);
    if (!size && size.error().code() != Code::kNotFound) return fail(size.error());
    if (!size && pages != 0) return corrupt(pages_name, "is missing; " + name + " refers to it");
    const std::uint64_t bytes = size.value_or(0);
    if (pages == 0 && bytes == 0) return 4096;
    for (const std::uint64_t page_bytes : {4096U, 16384U, 65536U}) {
        if (pages != 0 && bytes / pages == page_bytes && bytes % pages == 0) return page_bytes;
    }
    return corrupt(pages_name,
                   fmt::format("has {} bytes, but {} names {} pages", bytes, name, pages));
}

}  // namespace

Result<Pagemap> read_pagemap(ImageSource& source, const std::string& name) {
    PPDSM_ASSIGN(const Bytes bytes, load_image(source, name));
    PPDSM_ASSIGN(RecordReader reader, RecordReader::open(name, bytes, Magic::kPagemap));
    Pagemap pagemap;
    PPDSM_ASSIGN(const std::vector<Entry> entries, read_entries(reader, pagemap));
    std::uint64_t present_pages = 0;
    for (const Entry& entry : entries) {
        if (entry.present) present_pages += entry.pages;
        if (present_pages > kMaxPages) return corrupt(name, "names more pages than memory can be");
    }
    PPDSM_ASSIGN(pagemap.page_bytes, page_size_of(source, name, pagemap.pages_name, present_pages));
    std::uint64_t end = 0;
    for (const Entry& entry : entries) {
        if (entry.address < end || entry.address % pagemap.page_bytes != 0) {
            return corrupt(name, fmt::format("is out of order at {:#x}", entry.address));
        }
        const std::uint64_t size_bytes = entry.pages * pagemap.page_bytes;
        end = entry.address + size_bytes;
        if (entry.in_parent) pagemap.parent_bytes += size_bytes;
        if (!entry.present) continue;
        pagemap.runs.push_back({entry.address, size_bytes, pagemap.present_bytes});
        pagemap.present_bytes += size_bytes;
    }
    return pagemap;
}

}  // namespace ppdsm::images
