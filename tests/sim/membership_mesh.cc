#include "tests/sim/membership_mesh.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <sstream>
#include <unordered_map>
#include <utility>

#include "dsm/base/check.h"

namespace ppdsm::sim {
namespace {

constexpr std::size_t kHostPlace = 16;  ///< Of the host's number in the id.
constexpr HostId kSeed = 0;
/// As often as the daemon calls peers that it knew in an earlier life.
constexpr TimeUs kCallUs = 3 * kSecond;
/// The daemon's links give a handshake so long.
constexpr TimeUs kHandshakeUs = 5 * kSecond;

bool is_up(MemberState state) {
    return state == MemberState::kAlive || state == MemberState::kSuspect;
}

}  // namespace

PeerId peer_of(HostId host) {
    PeerId id;
    const std::uint64_t first = SeededRandom::mix(host + 1);
    std::memcpy(id.bytes.data(), &first, sizeof first);
    const HostId number = host + 1;
    std::memcpy(id.bytes.data() + kHostPlace, &number, sizeof number);
    return id;
}

HostId host_of(const PeerId& peer) {
    HostId number = 0;
    std::memcpy(&number, peer.bytes.data() + kHostPlace, sizeof number);
    return number - 1;
}

/// What runtime/peer/mesh/mesh.cc does around the core.
class MembershipMesh::Process : public Node {
public:
    Process(MembershipMesh& mesh, const Member& self)
        : mesh_(mesh), core_(self, mesh.options_.settings, SeededRandom::mix(self.instance)) {}

    void on_start(Port& port) override { call_seed(port); }
    void on_timer(Port& port) override {
        if (port.now_us() >= next_call_us_) call_seed(port);
        if (port.now_us() >= core_.next_tick_us()) return step(port, membership::Tick{});
        sleep(port);
    }
    void on_message(Port& port, HostId from, const Payload& payload) override {
        step(port, membership::Received{peer_of(from),
                                        *static_cast<const GossipMessage*>(payload.get())});
    }
    void on_link_opened(Port& port, HostId peer, std::uint64_t /*peer_instance*/,
                        bool /*dialled*/) override {
        dialling_.erase(peer);
        // Its first words; without them there is no link, and it is called again.
        if (!mesh_.simulator_.is_running(peer)) return port.close(peer);
        linked_.insert(peer);
        step(port, membership::LinkOpened{mesh_.core(peer).self()});
    }
    void on_link_closed(Port& port, HostId peer) override {
        linked_.erase(peer);
        step(port, membership::LinkClosed{peer_of(peer)});
    }
    void on_connect_failed(Port& port, HostId peer, bool refused) override {
        dialling_.erase(peer);

        if (refused) step(port, membership::ConnectRefused{peer_of(peer)});
    }
    [[nodiscard]] const Membership& core() const { return core_; }

private:
    void call_seed(Port& port) {
        next_call_us_ = port.now_us() + kCallUs;
        if (port.self() != kSeed && core_.find(peer_of(kSeed)) == nullptr) dial(port, kSeed);
        sleep(port);
    }
    void dial(Port& port, HostId host) {
        const auto dialled = dialling_.find(host);
        const bool is_waiting = dialled != dialling_.end() && port.now_us() < dialled->second;
        if (linked_.contains(host) || is_waiting) return;
        dialling_[host] = port.now_us() + kHandshakeUs;
        port.connect(host);
    }
    void step(Port& port, const membership::Event& event) {
        std::vector<membership::Effect> effects;
        core_.step(port.now_us(), event, effects);
        for (membership::Effect& effect : effects) {
            std::visit([this, &port](auto& one) { this->carry_out(port, one); }, effect);
        }
        sleep(port);
    }
    void sleep(Port& port) {
        const TimeUs tick_us = std::max(core_.next_tick_us(), port.now_us());
        port.wake_at(std::min(tick_us, next_call_us_));
    }
    static void carry_out(Port& port, membership::Send& send) {
        port.send(host_of(send.to), std::make_shared<const GossipMessage>(std::move(send.message)));
    }
    void carry_out(Port& port, const membership::Connect& connect) {
        dial(port, host_of(connect.peer));
    }
    void carry_out(Port& port, const membership::Changed& change) {
        mesh_.note(port.self(), change);
    }

    MembershipMesh& mesh_;
    Membership core_;
    std::map<HostId, TimeUs> dialling_;  ///< Until when their handshake has time.
    std::set<HostId> linked_;
    TimeUs next_call_us_ = 0;
};

MembershipMesh::MembershipMesh(std::uint64_t seed, const MeshOptions& options)
    : options_(options),
      simulator_(
          seed, options.hosts,
          [this](HostId host, std::uint64_t instance) {
              Member self;
              self.id = peer_of(host);
              self.instance = instance;
              self.name = "n" + std::to_string(host);
              return std::make_unique<Process>(*this, self);
          },
          options.network) {}

void MembershipMesh::start_all(TimeUs spread_us) {
    for (HostId host = 0; host < simulator_.host_count(); ++host) {
        const TimeUs delay_us = spread_us == 0 ? 0 : simulator_.random().between(0, spread_us);
        simulator_.at(simulator_.now_us() + delay_us, [this, host] { simulator_.start(host); });
    }
}

bool MembershipMesh::agrees() {
    for (HostId observer = 0; observer < simulator_.host_count(); ++observer) {
        if (!simulator_.is_running(observer)) continue;
        for (HostId subject = 0; subject < simulator_.host_count(); ++subject) {
            if (subject == observer) continue;
            const Member* member = core(observer).find(peer_of(subject));
            const bool is_held_alive = member != nullptr && is_up(member->state);
            if (is_held_alive != simulator_.is_running(subject)) return false;
            if (is_held_alive && (member->state != MemberState::kAlive ||
                                  member->instance != simulator_.instance(subject))) {
                return false;
            }
        }
    }
    return true;
}

bool MembershipMesh::settle(TimeUs within_us) {
    return simulator_.run_until([this] { return agrees(); }, within_us);
}

const Membership& MembershipMesh::core(HostId host) {
    PPDSM_CHECK(simulator_.is_running(host));
    return static_cast<Process*>(simulator_.node(host))->core();
}

void MembershipMesh::note(HostId observer, const membership::Changed& change) {
    const HostId subject = host_of(change.member.id);
    const bool runs =
        simulator_.is_running(subject) && simulator_.instance(subject) == change.member.instance;
    const bool is_true = change.member.state != MemberState::kDead || !runs;
    beliefs_.push_back({simulator_.now_us(), observer, subject, change.member.instance,
                        change.member.state, change.why, is_true});
}

std::optional<TimeUs> MembershipMesh::known_dead_by_all_us(HostId subject,
                                                           std::uint64_t instance) const {
    std::unordered_map<HostId, TimeUs> learned;
    for (const Belief& belief : beliefs_) {
        if (belief.subject != subject || belief.instance != instance) continue;
        if (belief.state == MemberState::kDead) {
            learned[belief.observer] = belief.at_us;
        } else {
            learned.erase(belief.observer);
        }
    }
    TimeUs last_us = 0;
    for (HostId host = 0; host < simulator_.host_count(); ++host) {
        if (host == subject || !simulator_.is_running(host)) continue;
        const auto found = learned.find(host);
        if (found == learned.end()) return std::nullopt;
        last_us = std::max(last_us, found->second);
    }
    return last_us;
}

std::vector<Belief> MembershipMesh::false_deaths() const {
    std::vector<Belief> wrong;
    std::copy_if(beliefs_.begin(), beliefs_.end(), std::back_inserter(wrong),
                 [](const Belief& belief) { return !belief.is_true; });
    return wrong;
}

std::string MembershipMesh::describe() {
    std::ostringstream text;
    for (HostId host = 0; host < simulator_.host_count() && host < 40; ++host) {
        text << "host " << host;
        if (!simulator_.is_running(host)) {
            text << " down\n";
            continue;
        }
        for (const Member* member : core(host).members()) {
            text << ' ' << host_of(member->id) << '=' << member_state_name(member->state) << '/'
                 << member->instance << '/' << member->incarnation;
        }
        text << '\n';
    }
    return text.str();
}

std::string describe(const std::vector<Belief>& beliefs) {
    std::ostringstream text;
    for (std::size_t i = 0; i < beliefs.size() && i < 60; ++i) {
        const Belief& belief = beliefs[i];
        text << belief.at_us / 1000 << " ms: " << belief.observer << " holds " << belief.subject
             << ' ' << member_state_name(belief.state) << ", " << belief.why
             << (belief.is_true ? "" : " (wrongly)") << '\n';
    }
    return text.str();
}

}  // namespace ppdsm::sim
