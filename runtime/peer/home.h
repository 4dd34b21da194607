// Where a peer keeps what it must not lose. One directory a virtual computer:
//   vc.json      what was asked for (VcRecord), written once
//   commits.log  the commit log: the only truth about how far it has come
//   output.log   everything the program wrote; what lies before the last commit's offset counts
//   input.log    everything the program was given (stdin, signals), before it was given it
//   refusals.log what the program asked for and did not get, by path
//   applied      with --files commit: what the last generation left at home
//   delivered    how much of output.log the front-end has had
//   manifests/   one file a generation;  chunks/  the chunk store
//   run/         the sandbox of the incarnation that runs; rebuilt, never trusted after a death
//   limits       cgroup directories of the run, a line each: what `rm` takes along
//   lock         held by the one executor;  pins  held shared by readers of generations
//   control      the executor's socket;  warden.log  for the curious
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "dsm/base/owned_fd.h"
#include "dsm/base/result.h"

namespace ppdsm {

struct VcPaths {
    std::filesystem::path directory;

    [[nodiscard]] std::string id() const { return directory.filename(); }
    [[nodiscard]] std::filesystem::path record() const { return directory / "vc.json"; }
    [[nodiscard]] std::filesystem::path commits() const { return directory / "commits.log"; }
    [[nodiscard]] std::filesystem::path output() const { return directory / "output.log"; }
    [[nodiscard]] std::filesystem::path input() const { return directory / "input.log"; }
    [[nodiscard]] std::filesystem::path refusals() const { return directory / "refusals.log"; }
    [[nodiscard]] std::filesystem::path applied() const { return directory / "applied"; }
    [[nodiscard]] std::filesystem::path delivered() const { return directory / "delivered"; }
    [[nodiscard]] std::filesystem::path manifests() const { return directory / "manifests"; }
    [[nodiscard]] std::filesystem::path manifest(std::uint64_t generation) const {
        return manifests() / std::to_string(generation);
    }
    [[nodiscard]] std::filesystem::path chunks() const { return directory / "chunks"; }
    [[nodiscard]] std::filesystem::path run() const { return directory / "run"; }
    /// The incarnation before, while its files are being taken over.
    [[nodiscard]] std::filesystem::path previous_run() const { return directory / "run.previous"; }
    [[nodiscard]] std::filesystem::path limits() const { return directory / "limits"; }
    [[nodiscard]] std::filesystem::path lock() const { return directory / "lock"; }
    [[nodiscard]] std::filesystem::path pins() const { return directory / "pins"; }
    /// Of a VC of the mesh: who runs it, and the generation that its files are written home from.
    [[nodiscard]] std::filesystem::path placement() const { return directory / "placement.json"; }
    [[nodiscard]] std::filesystem::path last_files() const { return directory / "files.json"; }
    /// Of a VC of the mesh: what it is shown of its owner's files, and what it has been shown.
    [[nodiscard]] std::filesystem::path plan() const { return directory / "plan.json"; }
    [[nodiscard]] std::filesystem::path catalog() const { return directory / "files.catalog"; }
    /// Of a program that uses ppdsm's header: what its virtual threads have asked and were told.
    [[nodiscard]] std::filesystem::path calls() const { return directory / "calls.log"; }
    /// Of a VC of another peer's: whose word counts for it.
    [[nodiscard]] std::filesystem::path deployer() const { return directory / "deployer"; }
    [[nodiscard]] std::filesystem::path control() const { return directory / "control"; }
};

class Home {
public:
    /// $PPDSM_HOME; else /var/lib/ppdsm for root, the XDG data directory for others. Made if
    /// absent.
    static Result<Home> open();
    /// The same at `directory`.
    static Result<Home> open_at(const std::filesystem::path& directory);

    [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }
    [[nodiscard]] std::filesystem::path cache() const { return directory_ / "cache"; }
    /// A VC of another deployer, or of this one as it runs here: an executor's or a replica's.
    [[nodiscard]] VcPaths hosted(const std::string& vc) const {
        return VcPaths{directory_ / "hosted" / vc};
    }

    /// A fresh directory for a new VC.
    Result<VcPaths> create_vc() const;
    /// All of them, oldest first.
    [[nodiscard]] std::vector<VcPaths> list() const;
    /// By id, by name (the newest of that name), or by a unique beginning of the id.
    [[nodiscard]] Result<VcPaths> find(const std::string& id_or_name) const;

private:
    explicit Home(std::filesystem::path directory) : directory_(std::move(directory)) {}
    [[nodiscard]] std::filesystem::path vcs() const { return directory_ / "vcs"; }
    std::filesystem::path directory_;
};

/// Whether it could be a VC's: what comes from elsewhere and becomes a path.
bool is_vc_id(const std::string& text);

/// The exclusive right to run a VC, for as long as it is held. kUnavailable: another executor has
/// it.
Result<OwnedFd> lock_vc(const VcPaths& paths);
/// While the result is held, no generation of the VC is dropped and no chunk moves: for readers
/// beside a running executor. Waits for a clean-up under way.
Result<OwnedFd> pin_generations(const VcPaths& paths);
/// The opposite, for the one who cleans up; kUnavailable while somebody reads.
Result<OwnedFd> claim_generations(const VcPaths& paths);
/// Whether some executor holds it. Looking does not get into an executor's way.
bool is_locked(const VcPaths& paths);
/// Returns when no executor holds it.
Status wait_until_unlocked(const VcPaths& paths);

}  // namespace ppdsm
