// Reads blocks of packs, each checked against its checksum, and keeps the last few decompressed:
// reading a blob from its start visits one block of pages and one of nodes a level over and over.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "criu-glue/store/chunk_index.h"
#include "dsm/base/files.h"
#include "dsm/base/result.h"

namespace ppdsm {

class BlockReader {
public:
    /// Keeps at most so many packs open.
    explicit BlockReader(std::size_t most_open_packs) : most_open_packs_(most_open_packs) {}
    /// Reads and decompresses one block into `raw`; `scratch` is for its own use.
    using Load = std::function<Status(Bytes& raw, Bytes& scratch)>;
    /// The pack's descriptor, opened at first use and kept.
    Result<const OwnedFd*> pack(std::uint32_t number, const std::filesystem::path& path);

    /// The bytes at `place`: of a block that is held, else of one that `load` reads. Valid until
    /// the next call.
    Result<ByteView> read(const ChunkPlace& place, const Load& load);
    /// Drops the blocks: what was read before may not be served again.
    void forget_blocks();
    /// Drops the descriptors too: packs were removed or have other numbers now.
    void forget_packs();

private:
    struct Slot {
        std::uint32_t pack = 0;
        std::uint32_t block = 0;
        std::uint64_t used = 0;  ///< 0: empty.
        Bytes raw;
    };
    Slot* find(const ChunkPlace& place);
    Slot& oldest();

    std::array<Slot, 16> slots_;
    std::uint64_t clock_ = 0;
    Bytes scratch_;
    std::vector<OwnedFd> packs_;  ///< By number; invalid: not open.
    std::size_t most_open_packs_;
    std::size_t open_packs_ = 0;
};

}  // namespace ppdsm
