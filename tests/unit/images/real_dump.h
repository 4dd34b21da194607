// A process tree made for the purpose (dump_subject.cc), dumped by a real CRIU: before and after a
// known set of changes. Tree and images are gone when the object is.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "criu-glue/images/image_source.h"
#include "dsm/base/result.h"

namespace ppdsm {

/// What the machine lacks for these tests; empty when they can run.
std::string missing_for_real_dumps();

class RealDump {
public:
    RealDump();
    RealDump(const RealDump&) = delete;
    RealDump& operator=(const RealDump&) = delete;
    ~RealDump();

    /// Starts the tree and dumps it; with `changed` lets it change and dumps it again.
    Status make(bool changed);

    [[nodiscard]] std::filesystem::path before() const { return directory_ / "before"; }
    [[nodiscard]] std::filesystem::path after() const { return directory_ / "after"; }
    [[nodiscard]] std::filesystem::path files() const { return directory_ / "files"; }
    /// A number that the subject wrote down. Fails the test when there is none.
    [[nodiscard]] std::uint64_t fact(const std::string& name) const;
    [[nodiscard]] std::uint32_t number(const std::string& name) const {
        return static_cast<std::uint32_t>(fact(name));
    }

private:
    Status start();
    Status dump(const std::filesystem::path& images);
    Status wait_for_facts(const std::string& file);

    std::filesystem::path directory_;
    std::map<std::string, std::uint64_t> facts_;
    pid_t root_ = -1;
};

/// Images in memory, any of which may be replaced.
class MemorySource final : public ImageSource {
public:
    explicit MemorySource(ImageSource& original);

    Result<Bytes> load(const std::string& name) override;
    Result<std::uint64_t> size(const std::string& name) override;
    Status read(const std::string& name, std::uint64_t offset_bytes,
                std::span<std::uint8_t> into) override;
    std::vector<std::string> names() override;

    std::map<std::string, Bytes> images;
    std::uint64_t reads = 0;  ///< Calls of read().
};

}  // namespace ppdsm
