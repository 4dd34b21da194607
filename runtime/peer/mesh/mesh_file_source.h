// A program's files over the mesh's links: paths from their owner, contents from any peer that may
// have them, one after the other. While the owner cannot be reached its questions wait, so that a
// link that breaks or a daemon that is started again costs time only; after kPatienceUs they are
// answered by a named error.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/peer/mesh/mesh.h"
#include "runtime/peer/program_files/file_source.h"

namespace ppdsm {

class MeshFileSource final : public FileSource {
public:
    static constexpr std::int64_t kPatienceUs = 60'000'000;

    MeshFileSource(Loop& loop, Mesh& mesh, std::string vc, PeerId owner);
    ~MeshFileSource() override;
    MeshFileSource(const MeshFileSource&) = delete;
    MeshFileSource& operator=(const MeshFileSource&) = delete;

    /// Who may have contents besides the owner.
    void set_holders(std::vector<PeerId> holders);
    /// A link is open: what waited for it is asked again.
    void on_linked(const PeerId& peer);

    void list(std::vector<ListQuery> queries,
              std::function<void(std::vector<Result<ListAnswer>>)> done) override;
    void content(std::string path, FileVersion version,
                 std::function<void(Result<ContentAnswer>)> done) override;
    void layout(FileId file, std::function<void(Result<FileLayout>)> done) override;
    void piece(FileId file, std::uint32_t index, std::function<void(Result<Bytes>)> done) override;

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace ppdsm
