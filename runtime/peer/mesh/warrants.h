// Who may have and change what belongs to a virtual computer. A member of the mesh that has nothing
// to do with a VC is as foreign to it as a stranger: it gets neither its generations nor what it
// was shown, and cannot end them.
//
// The deployer's word counts for its VC. It gives each worker a warrant: a signature over the VC
// and the worker's id. The worker shows it, once a link, to whom it asks something of, or gives
// something to. A holder notes on disk whose VC it is when it begins to hold it, and obeys nobody
// else from then on. Who is offered a generation may fetch it from who offered it. On the loop's
// thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "runtime/peer/home.h"
#include "runtime/peer/mesh/mesh.h"

namespace ppdsm {

struct Warrant {
    std::string vc;
    PeerId deployer;
    PeerId bearer;
    Bytes signature;
};
Bytes encode_warrant(const Warrant& warrant);
Result<Warrant> decode_warrant(ByteView bytes);
/// By the deployer's key; `warrant.signature` is set.
void sign_warrant(const PeerKey& deployer, Warrant& warrant);
[[nodiscard]] bool is_signed(const Warrant& warrant, const PublicKey& deployer);

class Warrants {
public:
    Warrants(Mesh& mesh, const Home& home, std::shared_ptr<spdlog::logger> log);
    Warrants(const Warrants&) = delete;
    Warrants& operator=(const Warrants&) = delete;

    /// As its deployer: that peer works for it.
    void grant(const std::string& vc, const PeerId& worker);
    /// Before anything is asked of that peer, or given to it, for a VC that we work for.
    void show(const std::string& vc, const PeerId& to);
    /// We offer it a generation, so it may fetch it.
    void admit(const std::string& vc, const PeerId& replica);
    void on_link_closed(const PeerId& peer);

    /// kUnsupported: it has nothing to do with that VC; said in the log, too.
    Status may_use(const std::string& vc, const PeerId& peer);
    /// Likewise, to be obeyed in what is held of the VC, here and from now on: notes whose it is.
    Status may_hold_for(const std::string& vc, const PeerId& peer);
    /// The same of an order to run it, which only its deployer gives.
    Status may_order(const std::string& vc, const PeerId& peer);
    /// Whether it is the peer whose VC this is; false when nothing of it is held here.
    [[nodiscard]] bool is_deployer(const std::string& vc, const PeerId& peer);
    void forget(const std::string& vc);

private:
    Status on_warrant(const PeerId& from, const Frame& frame);
    [[nodiscard]] Result<std::optional<PeerId>> deployer_of(const std::string& vc);
    Status note_deployer(const std::string& vc, const PeerId& deployer);
    Status refuse(const std::string& vc, const PeerId& peer);

    /// Shown on one link; a member that shows more is up to no good.
    static constexpr std::size_t kMaxShown = 4096;

    Mesh& mesh_;
    Home home_;
    std::shared_ptr<spdlog::logger> log_;
    std::map<std::string, Warrant> ours_;                          ///< By VC.
    std::set<std::pair<PeerId, std::string>> shown_by_us_;         ///< On the link that is.
    std::map<PeerId, std::map<std::string, PeerId>> shown_to_us_;  ///< The deployer, by bearer, VC.
    std::map<std::string, std::set<PeerId>> admitted_;
    std::map<std::string, PeerId> deployers_;  ///< As on disk.
};

}  // namespace ppdsm
