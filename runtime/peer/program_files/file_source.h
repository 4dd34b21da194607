// Where a peer gets what it lacks of a program's files: the owner of the tree for what lies at a
// path, and anybody who has a content for its pieces. FileOwner is one in the owner's own process;
// the daemon's is one over its links.
//
// Every call returns at once and calls `done` exactly once, later, on the loop's thread; never from
// within the call. Who has gone away by then looks for himself (the callers here hold their state
// by weak pointers). Paths are those inside the sandbox: absolute, without "." and "..".
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "dsm/base/result.h"
#include "runtime/peer/program_files/file_id.h"

namespace ppdsm {

/// How a file looked in the listing it was seen in: the version of it that is asked for.
struct FileVersion {
    std::uint64_t size_bytes = 0;
    std::int64_t mtime_ns = 0;
    std::int64_t ctime_ns = 0;
    auto operator<=>(const FileVersion&) const = default;
};

struct ListQuery {
    std::string path;
    std::optional<FileId> known;  ///< The listing that the asker has.
};

struct ListAnswer {
    FileId listing;  ///< Name of the listing's bytes (criu-glue/sandbox/directory_listing.h).
    bool unchanged = false;  ///< It is `known`: no bytes.
    /// Empty, though it has changed: too long for this answer; fetch it as a content, by `listing`.
    Bytes bytes;
};

struct ContentAnswer {
    FileLayout layout;
    /// The version names this content for good; otherwise it was so young that a later change may
    /// leave the version as it is, and nobody may remember what it named.
    bool is_settled = false;
};

class FileSource {
public:
    static constexpr std::size_t kMostQueries = 256;

    FileSource() = default;
    FileSource(const FileSource&) = delete;
    FileSource& operator=(const FileSource&) = delete;
    virtual ~FileSource() = default;

    /// What the owner shows at these paths now; answers in the order of the queries, of which there
    /// are at most kMostQueries. A file that is a root has a listing too, of no entries.
    /// kNotFound: it is not there (any more), or not shown; kUnavailable: the owner is gone.
    virtual void list(std::vector<ListQuery> queries,
                      std::function<void(std::vector<Result<ListAnswer>>)> done) = 0;

    /// The content of this version of a regular file, from the owner. kNotFound: the file is
    /// another by now ("changed at home before it was fetched"); kUnavailable: the owner is gone.
    virtual void content(std::string path, FileVersion version,
                         std::function<void(Result<ContentAnswer>)> done) = 0;

    /// The pieces of a content, from anybody who has it. The answer is checked against the id by
    /// the caller. kNotFound: nobody who can be reached has it.
    virtual void layout(FileId file, std::function<void(Result<FileLayout>)> done) = 0;

    /// The bytes of a piece, from anybody who has it; checked by the caller. kNotFound: its file
    /// has changed at its owner's, and nobody else who can be reached has it.
    virtual void piece(FileId file, std::uint32_t index,
                       std::function<void(Result<Bytes>)> done) = 0;
};

}  // namespace ppdsm
