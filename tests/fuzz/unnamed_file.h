// What is read from files, for examples that have none.
#pragma once

#include <sys/mman.h>

#include <filesystem>
#include <string>

#include "dsm/base/check.h"
#include "dsm/base/files.h"

namespace ppdsm::fuzz {

/// A file that has no name on any disk.
class UnnamedFile {
public:
    explicit UnnamedFile(ByteView content = {}) : fd_(::memfd_create("format", MFD_CLOEXEC)) {
        PPDSM_CHECK(write_all(fd_, content));
    }
    /// Leads to it as long as this lives.
    [[nodiscard]] std::filesystem::path path() const {
        return "/proc/self/fd/" + std::to_string(fd_.get());
    }
    [[nodiscard]] Bytes content() const { return read_file(path()).value(); }

private:
    OwnedFd fd_;
};

}  // namespace ppdsm::fuzz
