#include "criu-glue/criu/memory_probes.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>

#include "dsm/base/files.h"
#include "dsm/base/owned_fd.h"

namespace ppdsm {

namespace {

// Newer than the kernel headers of Debian 12; from Documentation/admin-guide/mm/pagemap.rst.
struct ScanArguments {
    std::uint64_t size_bytes;
    std::uint64_t flags;
    std::uint64_t start;
    std::uint64_t end;
    std::uint64_t walk_end;
    std::uint64_t regions;
    std::uint64_t regions_length;
    std::uint64_t max_pages;
    std::uint64_t category_inverted;
    std::uint64_t category_mask;
    std::uint64_t category_any_of_mask;
    std::uint64_t return_mask;
};
static_assert(sizeof(ScanArguments) == 96);
struct ScanRegion {
    std::uint64_t start;
    std::uint64_t end;
    std::uint64_t categories;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);
constexpr std::uint64_t kScanWriteProtectMatching = 1U << 0;
constexpr std::uint64_t kScanCheckAsync = 1U << 1;
constexpr std::uint64_t kPageIsWritten = 1U << 1;
constexpr std::uint64_t kFeatureUnpopulated = 1U << 13;
constexpr std::uint64_t kFeatureAsync = 1U << 15;
// Also too new for some headers: linux/userfaultfd.h.
constexpr unsigned long kUserfaultfdNew = _IO(0xAA, 0x00);
constexpr int kUserModeOnly = 1;

constexpr std::uint64_t kSoftDirtyBit = std::uint64_t{1} << 55;

std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

/// Never unmapped: the child that probes ends soon.
volatile std::uint8_t* map_pages(std::size_t count, int flags, int fd) {
    void* at = ::mmap(nullptr, count * page_bytes(), PROT_READ | PROT_WRITE, flags, fd, 0);
    return at == MAP_FAILED ? nullptr : static_cast<volatile std::uint8_t*>(at);
}

std::uint64_t address_of(const volatile std::uint8_t* at) {
    return reinterpret_cast<std::uint64_t>(at);
}

ProbeResult try_soft_dirty() {
    volatile std::uint8_t* page = map_pages(1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (page == nullptr) return absent_errno("mmap");
    *page = 1;
    const Result<OwnedFd> clear = open_file("/proc/self/clear_refs", O_WRONLY);
    if (!clear) return {false, clear.error().message()};
    if (Status cleared = write_all(*clear, as_bytes("4")); !cleared) {
        return {false, "clear the marks: " + cleared.error().message()};
    }
    const Result<OwnedFd> pagemap = open_file("/proc/self/pagemap", O_RDONLY);
    if (!pagemap) return {false, pagemap.error().message()};
    const auto marked = [&]() -> bool {
        std::uint64_t entry = 0;
        const auto offset = static_cast<off_t>(address_of(page) / page_bytes() * sizeof entry);
        return ::pread(pagemap->get(), &entry, sizeof entry, offset) == sizeof entry &&
               (entry & kSoftDirtyBit) != 0;
    };
    if (marked()) return {false, "the mark stays after clearing"};
    *page = 2;
    if (!marked()) return {false, "a write leaves no mark (kernel without CONFIG_MEM_SOFT_DIRTY)"};
    return {true, "a write after clearing leaves its mark"};
}

OwnedFd userfaultfd_by_call(int flags) {
    return OwnedFd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags)));
}

OwnedFd userfaultfd_by_device() {
    const Result<OwnedFd> device = open_file("/dev/userfaultfd", O_RDWR);
    if (!device) {
        errno = device.error().errno_value();
        return {};
    }
    return OwnedFd(::ioctl(device->get(), kUserfaultfdNew, O_CLOEXEC | O_NONBLOCK));
}

/// Empty when it worked.
std::string register_range(const OwnedFd& fd, std::uint64_t features, std::uint64_t modes,
                           const volatile std::uint8_t* at, std::size_t pages) {
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = features;
    if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) {
        return absent_errno("the features wanted are refused").detail;
    }
    uffdio_register range{};
    range.range.start = address_of(at);
    range.range.len = pages * page_bytes();
    range.mode = modes;
    if (::ioctl(fd.get(), UFFDIO_REGISTER, &range) != 0) return absent_errno("register").detail;
    return {};
}

ProbeResult try_userfaultfd() {
    const OwnedFd memory(::memfd_create("ppdsm-probe", MFD_CLOEXEC));
    if (!memory.valid()) return absent_errno("memfd_create");
    if (::ftruncate(memory.get(), static_cast<off_t>(page_bytes())) != 0) {
        return absent_errno("ftruncate");
    }
    volatile std::uint8_t* page = map_pages(1, MAP_SHARED, memory.get());
    if (page == nullptr) return absent_errno("mmap");

    std::string way = "system call";
    OwnedFd fd = userfaultfd_by_call(0);
    const std::string call_refused = absent_errno("system call").detail;
    if (!fd.valid()) {
        way = "/dev/userfaultfd";
        fd = userfaultfd_by_device();
    }
    if (!fd.valid()) {
        const std::string device_refused = absent_errno("/dev/userfaultfd").detail;
        const bool half = userfaultfd_by_call(kUserModeOnly).valid();
        return {false, call_refused + "; " + device_refused +
                           (half ? "; only the kind that cannot serve system calls" : "")};
    }
    std::string failure = register_range(
        fd, UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
        UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP, page,
        1);
    if (!failure.empty()) return {false, way + ": " + failure};
    return {true, "by " + way + ", with missing, minor and write-protect faults on shared memory"};
}

ProbeResult try_pagemap_scan() {
    constexpr std::size_t kPages = 4;
    constexpr std::size_t kWritten = 2;
    volatile std::uint8_t* pages = map_pages(kPages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (pages == nullptr) return absent_errno("mmap");
    const OwnedFd fd = userfaultfd_by_call(kUserModeOnly);
    if (!fd.valid()) return absent_errno("userfaultfd");
    std::string failure = register_range(fd, kFeatureAsync | kFeatureUnpopulated,
                                         UFFDIO_REGISTER_MODE_WP, pages, kPages);
    if (!failure.empty()) return {false, "asynchronous write-protection: " + failure};
    uffdio_writeprotect protect{};
    protect.range.start = address_of(pages);
    protect.range.len = kPages * page_bytes();
    protect.mode = UFFDIO_WRITEPROTECT_MODE_WP;
    if (::ioctl(fd.get(), UFFDIO_WRITEPROTECT, &protect) != 0) return absent_errno("protect");
    pages[kWritten * page_bytes()] = 1;

    const Result<OwnedFd> pagemap = open_file("/proc/self/pagemap", O_RDONLY);
    if (!pagemap) return {false, pagemap.error().message()};
    ScanRegion found[kPages] = {};
    ScanArguments arguments{};
    arguments.size_bytes = sizeof arguments;
    arguments.flags = kScanWriteProtectMatching | kScanCheckAsync;
    arguments.start = address_of(pages);
    arguments.end = arguments.start + kPages * page_bytes();
    arguments.regions = reinterpret_cast<std::uint64_t>(found);
    arguments.regions_length = kPages;
    arguments.category_mask = kPageIsWritten;
    arguments.return_mask = kPageIsWritten;
    const int regions = ::ioctl(pagemap->get(), kPagemapScan, &arguments);
    if (regions < 0) return absent_errno("PAGEMAP_SCAN");
    const std::uint64_t written = arguments.start + kWritten * page_bytes();
    if (regions != 1 || found[0].start != written || found[0].end != written + page_bytes()) {
        return {false, "PAGEMAP_SCAN does not find the page that was written"};
    }
    return {true, "finds exactly the page that was written"};
}

}  // namespace

ProbeResult probe_soft_dirty() { return probe_in_child(try_soft_dirty); }
ProbeResult probe_userfaultfd() { return probe_in_child(try_userfaultfd); }
ProbeResult probe_pagemap_scan() { return probe_in_child(try_pagemap_scan); }

}  // namespace ppdsm
