// The owner's side of a program's files: shows what lies below the roots of one virtual computer's
// plan, and nothing else. A path is resolved below its root's descriptor, which was opened at the
// start, without following a single link (openat2: RESOLVE_BENEATH, NO_SYMLINKS, NO_XDEV): the
// asker follows links himself, inside.
//
// A content is named by the version that its listing showed. It is hashed, then looked at again:
// when it is another by then the answer is an error. Every piece is hashed again when it is sent,
// so that no mix of two versions ever leaves here.
//
// On the loop's thread; disks are waited for by the pool's threads.
#pragma once

#include <memory>

#include "dsm/io/loop.h"
#include "runtime/peer/program_files/content_hashes.h"
#include "runtime/peer/program_files/file_source.h"
#include "runtime/peer/view_plan.h"

namespace ppdsm {

class FileOwner final : public FileSource {
public:
    /// Opens the plan's roots. `hashes`: of the home, shared by its owners.
    static Result<std::unique_ptr<FileOwner>> open(Loop& loop, const ViewPlan& plan,
                                                   std::shared_ptr<ContentHashes> hashes);
    ~FileOwner() override;  ///< Calls that are under way are not answered any more.
    FileOwner(const FileOwner&) = delete;
    FileOwner& operator=(const FileOwner&) = delete;

    void list(std::vector<ListQuery> queries,
              std::function<void(std::vector<Result<ListAnswer>>)> done) override;
    void content(std::string path, FileVersion version,
                 std::function<void(Result<ContentAnswer>)> done) override;
    /// These two: of files that content() has been asked for since open(), and listings given out;
    /// kNotFound for others: ask for the content again.
    void layout(FileId file, std::function<void(Result<FileLayout>)> done) override;
    void piece(FileId file, std::uint32_t index, std::function<void(Result<Bytes>)> done) override;

private:
    class Impl;
    explicit FileOwner(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace ppdsm
