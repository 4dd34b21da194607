#include "runtime/peer/mesh/warrants.h"

#include <spdlog/spdlog.h>

#include "dsm/wire/codec.h"
#include "messages_generated.h"
#include "runtime/peer/mesh/gossip_codec.h"

namespace ppdsm {

namespace {

/// "ppdsm warrant 1", a zero, the VC's id, a zero, the deployer's id, the bearer's.
Bytes signed_bytes(const Warrant& warrant) {
    std::string text = "ppdsm warrant 1";
    text += '\0';
    text += warrant.vc;
    text += '\0';
    text += as_text(warrant.deployer.bytes);
    text += as_text(warrant.bearer.bytes);
    return {text.begin(), text.end()};
}

}  // namespace

Bytes encode_warrant(const Warrant& warrant) {
    wire::WarrantT packed;
    packed.vc = warrant.vc;
    packed.deployer = bytes_of(warrant.deployer);
    packed.bearer = bytes_of(warrant.bearer);
    packed.signature = warrant.signature;
    return encode_message<wire::Warrant>(packed);
}

Result<Warrant> decode_warrant(ByteView bytes) {
    PPDSM_ASSIGN(wire::WarrantT packed, decode_message<wire::Warrant>(bytes));
    if (!is_vc_id(packed.vc)) return fail(Code::kCorrupt, "a warrant for no virtual computer");
    Warrant warrant{packed.vc, {}, {}, std::move(packed.signature)};
    PPDSM_ASSIGN(warrant.deployer, peer_id_from(packed.deployer));
    PPDSM_ASSIGN(warrant.bearer, peer_id_from(packed.bearer));
    return warrant;
}

void sign_warrant(const PeerKey& deployer, Warrant& warrant) {
    warrant.signature = deployer.sign(signed_bytes(warrant));
}

bool is_signed(const Warrant& warrant, const PublicKey& deployer) {
    return deployer.id() == warrant.deployer &&
           deployer.verifies(signed_bytes(warrant), warrant.signature);
}

Warrants::Warrants(Mesh& mesh, const Home& home, std::shared_ptr<spdlog::logger> log)
    : mesh_(mesh), home_(home), log_(std::move(log)) {
    mesh_.handle(MessageType::kWarrant, [this](const PeerId& from, const Frame& frame) {
        return on_warrant(from, frame);
    });
}

// As deployer and worker.

void Warrants::grant(const std::string& vc, const PeerId& worker) {
    Warrant warrant{vc, mesh_.self().id, worker, {}};
    sign_warrant(mesh_.key(), warrant);
    if (worker == mesh_.self().id) {
        ours_[vc] = std::move(warrant);
        return;
    }
    (void)mesh_.send(worker, Priority::kBulk, MessageType::kWarrant, 0, encode_warrant(warrant));
}

void Warrants::show(const std::string& vc, const PeerId& to) {
    const auto ours = ours_.find(vc);
    if (ours == ours_.end() || to == mesh_.self().id) return;
    if (!mesh_.is_linked(to) || !shown_by_us_.emplace(to, vc).second) return;
    (void)mesh_.send(to, Priority::kBulk, MessageType::kWarrant, 0, encode_warrant(ours->second));
}

void Warrants::admit(const std::string& vc, const PeerId& replica) {
    admitted_[vc].insert(replica);
}

Status Warrants::on_warrant(const PeerId& from, const Frame& frame) {
    PPDSM_ASSIGN(Warrant warrant, decode_warrant(frame.payload));
    const TrustEntry* deployer = mesh_.trust().find(warrant.deployer);
    if (deployer == nullptr || deployer->removed || !is_signed(warrant, deployer->key)) {
        log_->warn("vc={} {} shows a warrant that is none", warrant.vc, mesh_.describe(from));
        return {};
    }
    if (warrant.bearer == mesh_.self().id && warrant.deployer == from) {
        ours_[warrant.vc] = std::move(warrant);
        return {};
    }
    auto& shown = shown_to_us_[from];
    if (warrant.bearer != from || shown.size() >= kMaxShown) return {};
    shown[warrant.vc] = warrant.deployer;
    return {};
}

void Warrants::on_link_closed(const PeerId& peer) {
    shown_to_us_.erase(peer);
    std::erase_if(shown_by_us_, [&](const auto& each) { return each.first == peer; });
}

// As holder.

Result<std::optional<PeerId>> Warrants::deployer_of(const std::string& vc) {
    const auto known = deployers_.find(vc);
    if (known != deployers_.end()) return known->second;
    const Result<std::string> text = read_text(home_.hosted(vc).deployer(), 256);
    if (!text && text.error().code() == Code::kNotFound) return std::nullopt;
    if (!text) return fail(text.error());
    PPDSM_ASSIGN(const PeerId deployer, PeerId::parse(text->substr(0, text->find('\n'))));
    deployers_[vc] = deployer;
    return deployer;
}

Status Warrants::note_deployer(const std::string& vc, const PeerId& deployer) {
    if (deployers_.contains(vc)) return {};
    const VcPaths paths = home_.hosted(vc);
    PPDSM_TRY(make_directories(paths.directory, 0700));
    PPDSM_TRY(replace_file(paths.deployer(), as_bytes(deployer.to_string() + "\n"), 0600));
    deployers_[vc] = deployer;
    return {};
}

Status Warrants::refuse(const std::string& vc, const PeerId& peer) {
    log_->warn("vc={} {} wants to have or change what is held of it, and has nothing to do with it",
               vc, mesh_.describe(peer));
    return fail(Code::kUnsupported,
                "virtual computer " + vc + " is not for " + mesh_.describe(peer));
}

Status Warrants::may_use(const std::string& vc, const PeerId& peer) {
    if (peer == mesh_.self().id) return {};
    if (const auto found = admitted_.find(vc);
        found != admitted_.end() && found->second.contains(peer)) {
        return {};
    }
    PPDSM_ASSIGN(const std::optional<PeerId> deployer, deployer_of(vc));
    if (deployer == peer) return {};
    const auto shown = shown_to_us_.find(peer);
    if (!deployer || shown == shown_to_us_.end()) return refuse(vc, peer);
    const auto warrant = shown->second.find(vc);
    const bool is_worker = warrant != shown->second.end() && warrant->second == *deployer;
    return is_worker ? Status() : refuse(vc, peer);
}

Status Warrants::may_hold_for(const std::string& vc, const PeerId& peer) {
    PPDSM_ASSIGN(const std::optional<PeerId> known, deployer_of(vc));
    PeerId deployer = peer;  // Its own, unless it shows another's.
    if (const auto shown = shown_to_us_.find(peer); shown != shown_to_us_.end()) {
        const auto warrant = shown->second.find(vc);
        if (warrant != shown->second.end()) deployer = warrant->second;
    }
    if (known && *known != deployer) return refuse(vc, peer);
    return note_deployer(vc, deployer);
}

Status Warrants::may_order(const std::string& vc, const PeerId& peer) {
    PPDSM_ASSIGN(const std::optional<PeerId> known, deployer_of(vc));
    if (known && *known != peer) return refuse(vc, peer);
    return note_deployer(vc, peer);
}

bool Warrants::is_deployer(const std::string& vc, const PeerId& peer) {
    const Result<std::optional<PeerId>> deployer = deployer_of(vc);
    return deployer && *deployer == peer;
}

void Warrants::forget(const std::string& vc) {
    ours_.erase(vc);
    admitted_.erase(vc);
    deployers_.erase(vc);
    std::erase_if(shown_by_us_, [&](const auto& each) { return each.second == vc; });
    for (auto& [peer, shown] : shown_to_us_) shown.erase(vc);
}

}  // namespace ppdsm
