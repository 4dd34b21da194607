#include "runtime/lib/preload/images.h"

#include <elf.h>
#include <link.h>
#include <string.h>

namespace ppdsm::preload {

namespace {

using link::kBuildIdBytes;

/// One loaded image: where, and of which build. The program itself may have no build id: zeros.
struct Image {
    std::uintptr_t begin;
    std::uintptr_t end;
    std::uint8_t build_id[kBuildIdBytes];
    bool has_build_id;
};

void read_notes(const std::uint8_t* notes, std::size_t size, Image& image) {
    while (size >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) note;
        memcpy(&note, notes, sizeof note);
        const std::size_t name_bytes = (note.n_namesz + 3U) / 4 * 4;
        const std::size_t whole = sizeof note + name_bytes + (note.n_descsz + 3U) / 4 * 4;
        if (whole > size) return;
        const std::uint8_t* name = notes + sizeof note;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(name, "GNU", 4) == 0) {
            const std::size_t count = note.n_descsz < kBuildIdBytes ? note.n_descsz : kBuildIdBytes;
            memcpy(image.build_id, name + name_bytes, count);
            image.has_build_id = true;
            return;
        }
        notes += whole;
        size -= whole;
    }
}

Image describe(const dl_phdr_info& info) {
    Image image{~std::uintptr_t{0}, 0, {}, false};
    for (int i = 0; i < info.dlpi_phnum; ++i) {
        const ElfW(Phdr)& part = info.dlpi_phdr[i];
        const std::uintptr_t begin = info.dlpi_addr + part.p_vaddr;
        if (part.p_type == PT_LOAD) {
            if (begin < image.begin) image.begin = begin;
            if (begin + part.p_memsz > image.end) image.end = begin + part.p_memsz;
        } else if (part.p_type == PT_NOTE && !image.has_build_id) {
            read_notes(reinterpret_cast<const std::uint8_t*>(begin), part.p_memsz, image);
        }
    }
    // The program itself is listed first, without a name.
    if (info.dlpi_name == nullptr || info.dlpi_name[0] == 0) image.has_build_id = true;
    return image;
}

struct Search {
    std::uintptr_t address;
    link::Place place;
    bool found;
};

}  // namespace

bool find_place(const void* address, link::Place& place) {
    Search search{reinterpret_cast<std::uintptr_t>(address), {}, false};
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
            auto& wanted = *static_cast<Search*>(data);
            const Image image = describe(*info);
            if (wanted.address < image.begin || wanted.address >= image.end) return 0;
            if (!image.has_build_id) return 1;
            wanted.place.offset = wanted.address - image.begin;
            memcpy(wanted.place.build_id, image.build_id, kBuildIdBytes);
            wanted.found = true;
            return 1;
        },
        &search);
    place = search.place;
    return search.found;
}

void* find_address(const link::Place& place) {
    Search search{0, place, false};
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
            auto& wanted = *static_cast<Search*>(data);
            const Image image = describe(*info);
            if (!image.has_build_id ||
                memcmp(image.build_id, wanted.place.build_id, kBuildIdBytes) != 0) {
                return 0;
            }
            if (wanted.place.offset < image.end - image.begin) {
                wanted.address = image.begin + wanted.place.offset;
                wanted.found = true;
            }
            return 1;
        },
        &search);
    return search.found ? reinterpret_cast<void*>(search.address) : nullptr;
}

}  // namespace ppdsm::preload
