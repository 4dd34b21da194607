#include "criu-glue/files/staging.h"

#include <fcntl.h>
#include <unistd.h>

#include "criu-glue/files/copy_content.h"
#include "criu-glue/files/tree_access.h"

namespace ppdsm {

namespace {
std::string staged_name(std::uint32_t number) { return "cut-" + std::to_string(number); }
}  // namespace

Status Staging::prepare() {
    if (directory_.valid()) return {};
    PPDSM_TRY(make_directories(path_, 0700));
    PPDSM_ASSIGN(directory_, open_file(path_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    PPDSM_ASSIGN(const std::vector<std::string> names, sorted_names(directory_.get()));
    for (const std::string& name : names) {
        if (!name.starts_with("cut-")) continue;
        if (::unlinkat(directory_.get(), name.c_str(), 0) != 0) {
            return fail_errno("remove " + (path_ / name).string());
        }
    }
    return {};
}

std::uint8_t* Staging::reserve(std::uint64_t size_bytes) {
    if (size_bytes > kMemoryFileBytes) return nullptr;
    if (block_used_ + size_bytes > kBlockBytes) {
        if (blocks_.size() == kBlocks) return nullptr;
        blocks_.push_back(std::make_unique_for_overwrite<std::uint8_t[]>(kBlockBytes));
        block_used_ = 0;
    }
    std::uint8_t* place = blocks_.back().get() + block_used_;
    block_used_ += size_bytes;
    return place;
}

Result<Staging::Item> Staging::put(const OwnedFd& file, std::uint64_t size_bytes) {
    Item item;
    if (std::uint8_t* place = reserve(size_bytes); place != nullptr) {
        item.memory = place;
        while (item.size_bytes < size_bytes) {
            const ssize_t got = ::pread(file.get(), place + item.size_bytes,
                                        static_cast<std::size_t>(size_bytes - item.size_bytes),
                                        static_cast<off_t>(item.size_bytes));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return fail_errno("read");
            if (got == 0) break;
            item.size_bytes += static_cast<std::uint64_t>(got);
        }
        return item;
    }
    item.number = ++files_;
    const OwnedFd copy(::openat(directory_.get(), staged_name(item.number).c_str(),
                                O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!copy.valid()) return fail_errno("make a copy in " + path_.string());
    if (Status copied = copy_content(file, copy); !copied) {
        return fail(copied.error().within("copy to " + path_.string()));
    }
    item.size_bytes = size_bytes;
    return item;
}

Result<BlobRef> Staging::store(ChunkStore& store, const Item& item) {
    if (item.memory != nullptr) {
        return store_bytes(store, {item.memory, static_cast<std::size_t>(item.size_bytes)});
    }
    const std::string name = staged_name(item.number);
    const OwnedFd copy(::openat(directory_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!copy.valid()) return fail_errno("open " + (path_ / name).string());
    auto stored = store_file(store, copy);
    // The space is wanted back at once: the largest files come in one generation.
    if (stored) ::unlinkat(directory_.get(), name.c_str(), 0);
    return stored;
}

void Staging::clear() {
    for (; files_ > 0; --files_) ::unlinkat(directory_.get(), staged_name(files_).c_str(), 0);
    blocks_.clear();
    block_used_ = kBlockBytes;
}

}  // namespace ppdsm
